"""Where training runs, one platform a file."""

from __future__ import annotations
