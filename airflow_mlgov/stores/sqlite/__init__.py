"""The ledger and the outbox in one SQLite file; each is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlgov.stores.sqlite.outbox import SqliteOutbox
    from airflow_mlgov.stores.sqlite.store import SqliteStore

__all__ = ["SqliteOutbox", "SqliteStore"]

if not TYPE_CHECKING:  # else a name that is misspelt would be Any

    def __getattr__(name: str) -> Any:
        """Load a store when it is first used: who appends an event needs no ledger."""
        if name == "SqliteOutbox":
            from airflow_mlgov.stores.sqlite.outbox import SqliteOutbox

            return SqliteOutbox
        if name == "SqliteStore":
            from airflow_mlgov.stores.sqlite.store import SqliteStore

            return SqliteStore
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
