"""The ledger in a PostgreSQL database of its own."""

from __future__ import annotations

from airflow_mlgov.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
