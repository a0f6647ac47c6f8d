"""Where model versions live, one registry a file."""

from __future__ import annotations
