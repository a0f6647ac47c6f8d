"""Makes the index over the entries anew."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.ledger.view import label_of
from airflow_mlgov.service.stored import checked_leaves
from airflow_mlgov.stores.postgres.connections import Connection

# No round of sequencing may add to either table meanwhile.
_LOCK = "SELECT only_row FROM mlgov.sequencing FOR UPDATE"
_CLEAR = ("DELETE FROM mlgov.models", "DELETE FROM mlgov.subtrees")
_ENTRIES_FROM = """
SELECT seq, leaf, leaf_hash FROM mlgov.entries WHERE seq >= %s ORDER BY seq LIMIT %s
"""
_AT_ONCE = 1_000


def fill_index(connection: Connection) -> None:
    """Make the index anew from the entries, within a transaction and in little memory.

    Raises:
        LedgerIntegrityError: An entry is damaged or missing; a retry does not help.
    """
    for statement in (_LOCK, *_CLEAR):
        connection.execute(statement)
    grown = append_leaves((), 0, _listed(connection))
    with connection.cursor().copy("COPY mlgov.subtrees (n, hash) FROM STDIN") as copy:
        for row in grown.subtrees:
            copy.write_row(row)


def _listed(connection: Connection) -> Iterator[bytes]:
    """List each entry under its model, and yield its hash."""
    first = 0
    while rows := connection.execute(_ENTRIES_FROM, (first, _AT_ONCE)).fetchall():
        leaves = list(checked_leaves(rows, first))
        with connection.cursor().copy("COPY mlgov.models (seq, model) FROM STDIN") as copy:
            for seq, leaf in enumerate(leaves, first):
                copy.write_row((seq, label_of(leaf)))
        yield from map(leaf_hash, leaves)
        first += len(rows)
