"""One use case a file, and the ports that the outside implements."""

from __future__ import annotations
