"""What anchors gave for checkpoints: kept beside the ledger, so that it goes into bundles."""

from __future__ import annotations

import sqlite3

from airflow_mlgov.records.clock import to_text
from airflow_mlgov.service.ports import Anchored
from airflow_mlgov.service.stored import checked_anchored

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
    row = (anchored.anchor, anchored.kind, anchored.size, anchored.note, anchored.data)
    connection.execute(_KEEP, (*row, to_text(anchored.at)))


def read_anchored(connection: sqlite3.Connection, *, newest: bool) -> list[Anchored]:
    """Return the rows, or the newest of each anchor.

    Raises:
        LedgerIntegrityError: A row is malformed: it was altered.
    """
    rows = connection.execute(_READ_NEWEST if newest else _READ)
    return [checked_anchored(row) for row in rows]
