"""The ledger in one SQLite file."""

from __future__ import annotations

from airflow_mlgov.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
