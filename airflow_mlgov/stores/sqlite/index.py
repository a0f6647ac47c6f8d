"""The index over the entries of a ledger's file: written, read, and made anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.ledger.view import label_of
from airflow_mlgov.service.leaf_index import IndexRows
from airflow_mlgov.service.stored import checked_leaf, checked_leaves, checked_subtrees

# A row that stands there already is nobody's evidence, and must not hold up a round.
_LIST = "INSERT OR REPLACE INTO models (seq, model) VALUES (?, ?)"
_KEEP_SUBTREE = "INSERT OR REPLACE INTO subtrees (n, hash) VALUES (?, ?)"
_SUBTREES = "SELECT n, hash FROM subtrees WHERE n < ? ORDER BY n"
_INDEXED = "SELECT seq, model FROM models WHERE seq >= ? AND seq < ? ORDER BY seq"
_ABOUT = """
SELECT seq, leaf, leaf_hash FROM models JOIN entries USING (seq)
WHERE model = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_ENTRIES_FROM = "SELECT seq, leaf, leaf_hash FROM entries WHERE seq >= ? ORDER BY seq LIMIT ?"
_AT_ONCE = 1_000


def add_to_index(connection: sqlite3.Connection, places: Sequence[int], rows: IndexRows) -> None:
    """Put into the index what a round of sequencing adds, within its transaction."""
    connection.executemany(_LIST, zip(places, rows.models, strict=True))
    connection.executemany(_KEEP_SUBTREE, rows.subtrees)


def read_subtrees(connection: sqlite3.Connection, count: int) -> list[bytes]:
    """Return the roots of the first full subtrees.

    Raises:
        LedgerIntegrityError: The index lacks one; a retry does not help.
    """
    return checked_subtrees(connection.execute(_SUBTREES, (count,)).fetchall(), count)


def read_about(connection: sqlite3.Connection, model: str, after: int) -> list[tuple[int, bytes]]:
    """Return the next thousand entries listed under a model after an index; fewer if that is all.

    Raises:
        LedgerIntegrityError: The bytes of one are not those that were kept.
    """
    rows = connection.execute(_ABOUT, (model, after, _AT_ONCE)).fetchall()
    return [(seq, checked_leaf(leaf, hashed)) for seq, leaf, hashed in rows]


def read_indexed(connection: sqlite3.Connection, first: int, last: int) -> list[tuple[int, str]]:
    """Return which models the entries first..last-1 are listed under."""
    return connection.execute(_INDEXED, (first, last)).fetchall()


def fill_index(connection: sqlite3.Connection) -> None:
    """Make the index anew from the entries, within a transaction and in little memory.

    Raises:
        LedgerIntegrityError: An entry is damaged or missing; a retry does not help.
    """
    connection.execute("DELETE FROM models")
    connection.execute("DELETE FROM subtrees")
    grown = append_leaves((), 0, _listed(connection))
    connection.executemany(_KEEP_SUBTREE, grown.subtrees)


def _listed(connection: sqlite3.Connection) -> Iterator[bytes]:
    """List each entry under its model, and yield its hash."""
    first = 0
    while rows := connection.execute(_ENTRIES_FROM, (first, _AT_ONCE)).fetchall():
        leaves = list(checked_leaves(rows, first))
        listed = [(seq, label_of(leaf)) for seq, leaf in enumerate(leaves, first)]
        connection.executemany(_LIST, listed)
        yield from map(leaf_hash, leaves)
        first += len(rows)
