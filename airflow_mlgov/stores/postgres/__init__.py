"""Ledger and outbox in a PostgreSQL database; each is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlgov.stores.postgres.outbox import PostgresOutbox
    from airflow_mlgov.stores.postgres.store import PostgresStore

__all__ = ["PostgresOutbox", "PostgresStore"]

if not TYPE_CHECKING:  # else a name that is misspelt would be Any

    def __getattr__(name: str) -> Any:
        """Load a store when it is first used: who appends an event needs no ledger."""
        if name == "PostgresOutbox":
            from airflow_mlgov.stores.postgres.outbox import PostgresOutbox

            return PostgresOutbox
        if name == "PostgresStore":
            from airflow_mlgov.stores.postgres.store import PostgresStore

            return PostgresStore
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
