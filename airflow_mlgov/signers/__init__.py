"""Keys that sign, one kind of key a file."""

from __future__ import annotations
