"""What opens commitments: read strictly, and deleted so that its bytes are gone from the files."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.stored import checked_disclosure


def keep_disclosures(
    connection: sqlite3.Connection, key: str, disclosures: Mapping[str, Disclosure]
) -> None:
    """Add what opens the commitments of an entry, by field, within a transaction."""
    connection.executemany(
        "INSERT INTO disclosures (key, field, salt, value) VALUES (?, ?, ?, ?)",
        [(key, name, d.salt, canonical_bytes(d.value)) for name, d in disclosures.items()],
    )


def read_disclosures(connection: sqlite3.Connection, key: str) -> dict[str, Disclosure]:
    """Return what opens the commitments of an entry, by field.

    Raises:
        LedgerIntegrityError: A row is malformed: it was altered.
    """
    rows = connection.execute(
        "SELECT field, salt, value FROM disclosures WHERE key = ?", (key,)
    ).fetchall()
    return {_text(name): checked_disclosure(salt, value) for name, salt, value in rows}


def delete_disclosures(connection: sqlite3.Connection, fields: Sequence[tuple[str, str]]) -> int:
    """Delete rows by key and field, within a transaction, and return how many there were.

    The table is written anew: pages that were split keep copies of rows in their gaps, which
    ``secure_delete`` does not reach by deleting a row, and does by dropping the table. What older
    frames of the write-ahead log hold goes with `empty_log`.
    """
    statement = "DELETE FROM disclosures WHERE key = ? AND field = ?"
    deleted = sum(connection.execute(statement, field).rowcount for field in fields)
    if deleted:
        (table,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'disclosures'"
        ).fetchone()
        connection.execute(table.replace("disclosures", "disclosures_kept", 1))
        connection.execute(
            "INSERT INTO disclosures_kept SELECT * FROM disclosures ORDER BY key, field"
        )
        connection.execute("DROP TABLE disclosures")
        connection.execute("ALTER TABLE disclosures_kept RENAME TO disclosures")
    return deleted


def empty_log(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the write-ahead log into the database and cut it to nothing.

    Raises:
        LedgerUnavailableError: Somebody read an older state all the while; a retry may help.
    """
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise LedgerUnavailableError(
            f"What was erased from {path} still stands in its write-ahead log: another process "
            "reads it.",
            remedy="Run the same again; if that does not help, end what has the ledger open.",
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise LedgerIntegrityError("A disclosure's field in the store is not text: it was altered.")
    return value
