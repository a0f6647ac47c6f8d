"""Opens a ledger's file that the settings do not name: a copy, a backup, somebody else's."""

from __future__ import annotations

from pathlib import Path

from airflow_mlgov.service.ports import LedgerStore


def open_ledger_file(path: Path) -> LedgerStore:
    """Return the store in a SQLite file, for reading only; nothing is made or changed.

    Args:
        path: The file; relative to the working directory if it is not absolute.

    Raises:
        ConfigurationError: There is no such file (when it is first read).
    """
    from airflow_mlgov.stores.sqlite import SqliteStore

    return SqliteStore(path.absolute(), read_only=True)
