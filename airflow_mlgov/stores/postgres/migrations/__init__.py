"""Alembic's folder: `env.py`, and one file in `versions/` for each change to the tables."""

from __future__ import annotations
