"""What anchors gave for checkpoints: kept beside the ledger, so that it goes into bundles."""

from __future__ import annotations

import sqlite3

from airflow_mlgov.records.clock import to_text
from airflow_mlgov.service.ports import Anchored
from airflow_mlgov.service.stored import checked_anchored

_TABLE = """
CREATE TABLE IF NOT EXISTS anchored (
    anchor TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, note BLOB NOT NULL,
    data BLOB NOT NULL, at TEXT NOT NULL, PRIMARY KEY (size, anchor)) WITHOUT ROWID
"""
_IS_THERE = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'anchored'"
_KEEP = """
INSERT INTO anchored (anchor, kind, size, note, data, at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_READ = "SELECT anchor, kind, size, note, data, at FROM anchored ORDER BY size, anchor"
_READ_NEWEST = """
SELECT anchor, kind, size, note, data, at FROM anchored AS a
WHERE size = (SELECT max(size) FROM anchored WHERE anchor = a.anchor) ORDER BY size, anchor
"""


def keep_anchored(connection: sqlite3.Connection, anchored: Anchored) -> None:
    """Add a row, within a transaction, unless there is one of this anchor and size."""
    # Files that were made before there were anchors get the table when it is first needed.
    connection.execute(_TABLE)
    row = (anchored.anchor, anchored.kind, anchored.size, anchored.note, anchored.data)
    connection.execute(_KEEP, (*row, to_text(anchored.at)))


def read_anchored(connection: sqlite3.Connection, *, newest: bool) -> list[Anchored]:
    """Return the rows, or the newest of each anchor.

    Raises:
        LedgerIntegrityError: A row is malformed: it was altered.
    """
    if not connection.execute(_IS_THERE).fetchone()[0]:
        return []
    rows = connection.execute(_READ_NEWEST if newest else _READ)
    return [checked_anchored(row) for row in rows]
