"""What SQLite's errors mean for a ledger: come back later, or something was altered."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from airflow_mlgov.errors import LedgerError, LedgerIntegrityError, LedgerUnavailableError

_ALTERED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
    }
)
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file, or the folder it is in, is read-only",
    sqlite3.SQLITE_BUSY: "another process held its lock for too long",
    sqlite3.SQLITE_LOCKED: "another process held its lock for too long",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "permission was denied",
    sqlite3.SQLITE_IOERR: "reading or writing failed",
}


def translation(path: Path, error: Exception) -> LedgerError:
    """Return our error for one of SQLite's or the operating system's.

    Args:
        path: The ledger's file, for the message.
        error: A `sqlite3.Error` or an `OSError`.
    """
    if not isinstance(error, sqlite3.Error):
        return LedgerUnavailableError(f"The ledger {path} cannot be used: {error}.")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _REASONS:
        return LedgerUnavailableError(
            f"The ledger {path} cannot be used: {_REASONS[code]} ({error})."
        )
    if code in _ALTERED or isinstance(error, sqlite3.DatabaseError):
        return LedgerIntegrityError(f"The ledger {path} is damaged or was altered: {error}.")
    return LedgerUnavailableError(f"The ledger {path} cannot be used: {error}.")
