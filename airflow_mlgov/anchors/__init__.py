"""Places outside of whoever holds database and log key; one kind a file."""

from __future__ import annotations
