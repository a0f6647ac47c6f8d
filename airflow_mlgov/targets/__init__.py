"""Where lineage events go, one kind of place a file."""

from __future__ import annotations
