"""The ledger in one SQLite file, for one machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.leaf_index import index_rows
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.service.stored import (
    checked_head,
    checked_leaf,
    checked_leaves,
    hashed_leaves,
)
from airflow_mlgov.stores.sqlite.anchored import keep_anchored, read_anchored
from airflow_mlgov.stores.sqlite.disclosures import (
    delete_disclosures,
    empty_log,
    keep_disclosures,
    read_disclosures,
)
from airflow_mlgov.stores.sqlite.file import LedgerFile
from airflow_mlgov.stores.sqlite.index import (
    add_to_index,
    fill_index,
    read_about,
    read_indexed,
    read_subtrees,
)
from airflow_mlgov.stores.sqlite.outbox import keep_events

_KEPT = """
SELECT leaf, leaf_hash, NULL AS seq FROM inbox WHERE key = :key
UNION ALL SELECT leaf, leaf_hash, seq FROM entries WHERE key = :key
"""
_INBOX = "SELECT n, key, leaf, leaf_hash, received_at FROM inbox ORDER BY n"
_ADD = "INSERT INTO entries (seq, key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?, ?)"
_SIGN = "INSERT INTO checkpoints (size, note, peaks) VALUES (?, ?, ?)"
_NEWEST = "SELECT size, note, peaks FROM checkpoints ORDER BY size DESC LIMIT 1"
_ENTRIES = "SELECT seq, leaf, leaf_hash FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
_LEAVES = "SELECT seq, leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
_AT_ONCE = 256  # what stays in a processor's cache until it is hashed


class SqliteStore(LedgerFile):
    """A `LedgerStore` in a `LedgerFile`."""

    def insert(
        self,
        item: InboxItem,
        disclosures: Mapping[str, Disclosure],
        at: datetime,
        *,
        lineage: Sequence[OutboxItem] = (),
    ) -> bytes | None:
        """Acknowledge an entry durably, append its lineage to the outbox with it, and return None.

        If a leaf is kept under this key already, return that and write nothing.
        """
        with self._writing() as connection:
            kept = connection.execute(_KEPT, {"key": item.key}).fetchone()
            if kept is not None:
                return checked_leaf(kept[0], kept[1])
            connection.execute(
                "INSERT INTO inbox (key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?)",
                (item.key, item.leaf, leaf_hash(item.leaf), to_text(at)),
            )
            keep_disclosures(connection, item.key, disclosures)
            keep_events(connection, lineage, at)
            return None

    def get(self, key: str) -> tuple[bytes, int | None] | None:
        """Return the leaf kept under a key and its index (None while it waits), or None."""
        with self._reading() as connection:
            kept = connection.execute(_KEPT, {"key": key}).fetchone()
            return None if kept is None else (checked_leaf(kept[0], kept[1]), kept[2])

    def sequence(self, integrate: Callable[[TreeHead, Sequence[InboxItem]], Sequenced]) -> TreeHead:
        """Under the lock: hand head and inbox to `integrate`, store what it returns."""
        if self.waiting() == 0:
            return self.head()
        with self._writing() as connection:
            head = _head_of(connection)
            rows = connection.execute(_INBOX).fetchall()
            if not rows:
                return head  # another process was faster
            sequenced = integrate(
                head, [InboxItem(row[1], checked_leaf(row[2], row[3])) for row in rows]
            )
            places = range(head.size, sequenced.head.size)
            entries = zip(places, rows, sequenced.leaf_hashes, strict=True)
            connection.executemany(
                _ADD, [(seq, row[1], row[2], hashed, row[4]) for seq, row, hashed in entries]
            )
            index = index_rows(head, (row[2] for row in rows), sequenced)
            add_to_index(connection, places, index)
            connection.executemany("DELETE FROM inbox WHERE n = ?", [(row[0],) for row in rows])
            grown = sequenced.head
            connection.execute(_SIGN, (grown.size, grown.note, b"".join(grown.peaks)))
            return grown

    def head(self) -> TreeHead:
        """Return the newest signed head."""
        with self._reading() as connection:
            return _head_of(connection)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Return the exact leaf bytes of indices start..end-1, or as many as there are.

        Raises:
            LedgerIntegrityError: One is missing, or its bytes are not those that were kept.
        """
        return self._in_parts(_ENTRIES, checked_leaves, start, end)

    def leaf_hashes(self, start: int, end: int) -> Iterator[bytes]:
        """Return the hashes of the leaves of indices start..end-1, computed from their bytes.

        Raises:
            LedgerIntegrityError: One is missing.
        """
        return self._in_parts(_LEAVES, hashed_leaves, start, end)

    def subtrees(self, count: int) -> list[bytes]:
        """Return the roots of the first full subtrees of 256 leaves, as the index has them.

        Raises:
            LedgerIntegrityError: It does not have them.
        """
        with self._reading() as connection:
            return read_subtrees(connection, count)

    def about(self, model: str) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf of the entries in the tree that the index lists under a model."""
        after = -1
        while True:
            with self._reading() as connection:
                found = read_about(connection, model, after)
            if not found:
                return
            yield from found
            after = found[-1][0]

    def indexed(self, end: int) -> Iterator[tuple[int, str]]:
        """Yield which model the index lists entries under, in order, those below `end`."""
        for first in range(0, end, _AT_ONCE):
            with self._reading() as connection:
                rows = read_indexed(connection, first, min(end, first + _AT_ONCE))
            yield from rows

    def disclosures(self, key: str) -> dict[str, Disclosure]:
        """Return what opens the commitments of an entry, by field; empty once erased."""
        with self._reading() as connection:
            return read_disclosures(connection, key)

    def erase(self, fields: Sequence[tuple[str, str]]) -> int:
        """Delete what opens these fields, its bytes too, and return how many were there still."""
        with self._writing() as connection:
            erased = delete_disclosures(connection, fields)
        with self._reading() as connection:
            empty_log(connection, self.path)
        return erased

    def inbox(self) -> list[InboxItem]:
        """Return the acknowledged entries that are not in the tree yet, oldest first."""
        with self._reading() as connection:
            rows = connection.execute("SELECT key, leaf, leaf_hash FROM inbox ORDER BY n")
            return [InboxItem(row[0], checked_leaf(row[1], row[2])) for row in rows]

    def waiting(self) -> int:
        """Return how many acknowledged entries are not in the tree yet."""
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM inbox").fetchone()[0])

    def keep_anchored(self, anchored: Anchored) -> None:
        """Keep what an anchor gave; if something of this anchor and size is kept, that stays."""
        with self._writing() as connection:
            keep_anchored(connection, anchored)

    def anchored(self, *, newest: bool = False) -> list[Anchored]:
        """Return what anchors gave, by size and name; with `newest` only each anchor's last."""
        with self._reading() as connection:
            return read_anchored(connection, newest=newest)

    def reindex(self) -> None:
        """Make the index anew from the entries.

        Raises:
            LedgerIntegrityError: An entry is damaged or missing, and nothing was changed.
        """
        with self._writing() as connection:
            fill_index(connection)

    def _in_parts(
        self, statement: str, read: Callable[[Any, int], Iterable[bytes]], start: int, end: int
    ) -> Iterator[bytes]:
        for first in range(start, end, _AT_ONCE):
            last = min(end, first + _AT_ONCE)
            with self._reading() as connection:
                rows = connection.execute(statement, (first, last)).fetchall()
            yield from read(rows, first)
            if len(rows) < last - first:
                return


def _head_of(connection: sqlite3.Connection) -> TreeHead:
    row = connection.execute(_NEWEST).fetchone()
    if row is None:
        return TreeHead(0, (), b"")
    return checked_head(*row)
