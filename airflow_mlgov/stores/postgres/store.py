"""The ledger in PostgreSQL: writers on many machines, one round of sequencing at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.leaf_index import index_rows
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.service.stored import (
    checked_anchored,
    checked_disclosure,
    checked_head,
    checked_leaf,
    checked_leaves,
    checked_subtrees,
    hashed_leaves,
)
from airflow_mlgov.stores.postgres.connections import UNDONE, Connection, Connections
from airflow_mlgov.stores.postgres.outbox import arrays_of
from airflow_mlgov.stores.postgres.trip import (
    BYTEA,
    BYTEA_ARRAY,
    TEXT,
    TEXT_ARRAY,
    Statement,
    array,
)

_KEPT = """
SELECT leaf, leaf_hash, NULL::bigint AS seq FROM mlgov.inbox WHERE key = %(key)s
UNION ALL SELECT leaf, leaf_hash, seq FROM mlgov.entries WHERE key = %(key)s
"""
_PUT = b"""
WITH put AS (
    INSERT INTO mlgov.inbox (key, leaf, leaf_hash, received_at)
    SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM mlgov.entries WHERE key = $1)
    ON CONFLICT (key) DO NOTHING RETURNING key),
shown AS (
    INSERT INTO mlgov.disclosures (key, field, salt, value)
    SELECT put.key, d.field, d.salt, d.value
    FROM put, unnest($5, $6, $7) AS d (field, salt, value))
"""
_PUT_TYPES = (TEXT, BYTEA, BYTEA, TEXT, TEXT_ARRAY, BYTEA_ARRAY, BYTEA_ARRAY)
_ACKNOWLEDGE = Statement(b"mlgov_acknowledge", _PUT + b"SELECT FROM put", _PUT_TYPES)
_ACKNOWLEDGE_WITH_LINEAGE = Statement(
    b"mlgov_acknowledge_with_lineage",
    _PUT
    + b""",
told AS (
    INSERT INTO mlgov.lineage_inbox (key, event, received_at)
    SELECT given.key, given.event, $4
    FROM put, unnest($8, $9) WITH ORDINALITY AS given (key, event, place) ORDER BY place
    ON CONFLICT (key) DO NOTHING)
SELECT FROM put
""",
    (*_PUT_TYPES, TEXT_ARRAY, BYTEA_ARRAY),
)
# Divides by zero. The inbox is looked into only if the entries have the key, whatever the planner
# has heard of the size of either.
_FAIL_IF_IN_BOTH = Statement(
    b"mlgov_fail_if_in_both",
    b"""
SELECT 1 / (seq - seq) FROM mlgov.entries
WHERE key = $1 AND (SELECT true FROM mlgov.inbox WHERE inbox.key = entries.key)
""",
    (TEXT,),
)
_ERASE = "DELETE FROM mlgov.disclosures WHERE key = %s AND field = %s"
_LOCK = "SELECT only_row FROM mlgov.sequencing FOR UPDATE"
_INBOX = "SELECT n, key, leaf, leaf_hash, received_at FROM mlgov.inbox ORDER BY n"
_ADD = """
INSERT INTO mlgov.entries (seq, key, leaf, leaf_hash, received_at) VALUES (%s, %s, %s, %s, %s)
"""
# A row of the index that stands there already is nobody's evidence, and must not hold up a round.
_LIST = """
INSERT INTO mlgov.models (seq, model) VALUES (%s, %s)
ON CONFLICT (seq) DO UPDATE SET model = excluded.model
"""
_KEEP_SUBTREE = """
INSERT INTO mlgov.subtrees (n, hash) VALUES (%s, %s)
ON CONFLICT (n) DO UPDATE SET hash = excluded.hash
"""
_TAKE_OUT = "DELETE FROM mlgov.inbox WHERE n = ANY(%s)"
_SIGN = "INSERT INTO mlgov.checkpoints (size, note, peaks) VALUES (%s, %s, %s)"
_NEWEST = "SELECT size, note, peaks FROM mlgov.checkpoints ORDER BY size DESC LIMIT 1"
_ENTRIES = """
SELECT seq, leaf, leaf_hash FROM mlgov.entries WHERE seq >= %s AND seq < %s ORDER BY seq
"""
_KEEP_ANCHORED = """
INSERT INTO mlgov.anchored (anchor, kind, size, note, data, at) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (size, anchor) DO NOTHING
"""
_ANCHORED = """
SELECT anchor, kind, size, note, data, at FROM mlgov.anchored ORDER BY size, anchor COLLATE "C"
"""
_NEWEST_ANCHORED = """
SELECT anchor, kind, size, note, data, at FROM mlgov.anchored AS a
WHERE size = (SELECT max(size) FROM mlgov.anchored WHERE anchor = a.anchor)
ORDER BY size, anchor COLLATE "C"
"""
_LEAVES = "SELECT seq, leaf FROM mlgov.entries WHERE seq >= %s AND seq < %s ORDER BY seq"
_SUBTREES = "SELECT n, hash FROM mlgov.subtrees WHERE n < %s ORDER BY n"
_INDEXED = "SELECT seq, model FROM mlgov.models WHERE seq >= %s AND seq < %s ORDER BY seq"
_ABOUT = """
SELECT seq, leaf, leaf_hash FROM mlgov.models JOIN mlgov.entries USING (seq)
WHERE model = %s AND seq > %s ORDER BY seq LIMIT %s
"""
_AT_ONCE = 1_000


class PostgresStore:
    """A `LedgerStore` in a migrated PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:port/database``; never repeated in a message.
        timeout_s: How long to wait for a connection, and for a lock, in seconds, at least 1.

    Raises:
        ConfigurationError: It is no such URL; a retry does not help.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self._connections = Connections(url, timeout_s=timeout_s)

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
        key, shown = item.key.encode(), disclosures.values()
        row: tuple[bytes, ...] = (
            key,
            item.leaf,
            leaf_hash(item.leaf),
            to_text(at).encode(),
            array(TEXT, [name.encode() for name in disclosures]),
            array(BYTEA, [disclosure.salt for disclosure in shown]),
            array(BYTEA, [canonical_bytes(disclosure.value) for disclosure in shown]),
        )
        try:
            # Looked for once more: a round may have moved this key out of the inbox after the
            # first statement had begun, and before our row went in. While ours is there, none
            # can bring the key into the tree.
            put, _ = self._connections.one_trip(
                (_ACKNOWLEDGE_WITH_LINEAGE, (*row, *arrays_of(lineage)))
                if lineage
                else (_ACKNOWLEDGE, row),
                (_FAIL_IF_IN_BOTH, (key,)),
            )
            if put.command_tuples:
                return None
        except UNDONE:
            pass
        # One statement over both tables sees the key in one of them, whatever moves meanwhile.
        kept = self.get(item.key)
        if kept is None:
            raise LedgerIntegrityError(
                "The store refuses an entry and keeps none under its key: it was altered."
            )
        return kept[0]

    def get(self, key: str) -> tuple[bytes, int | None] | None:
        """Return the leaf kept under a key and its index (None while it waits), or None."""
        with self._connections.transaction() as connection:
            kept = connection.execute(_KEPT, {"key": key}).fetchone()
        return None if kept is None else (checked_leaf(kept[0], kept[1]), kept[2])

    def sequence(self, integrate: Callable[[TreeHead, Sequence[InboxItem]], Sequenced]) -> TreeHead:
        """Under the lock: hand head and inbox to `integrate`, store what it returns."""
        if self.waiting() == 0:
            return self.head()
        with self._connections.transaction() as connection:
            if connection.execute(_LOCK).fetchone() is None:
                raise LedgerIntegrityError("The row that rounds of sequencing lock was removed.")
            head = _head_of(connection)
            rows = connection.execute(_INBOX).fetchall()
            if not rows:
                return head  # another process was faster
            sequenced = integrate(
                head, [InboxItem(row[1], checked_leaf(row[2], row[3])) for row in rows]
            )
            places = range(head.size, sequenced.head.size)
            entries = zip(places, rows, sequenced.leaf_hashes, strict=True)
            cursor = connection.cursor()
            cursor.executemany(
                _ADD, [(seq, row[1], row[2], hashed, row[4]) for seq, row, hashed in entries]
            )
            index = index_rows(head, (row[2] for row in rows), sequenced)
            cursor.executemany(_LIST, list(zip(places, index.models, strict=True)))
            if index.subtrees:
                cursor.executemany(_KEEP_SUBTREE, index.subtrees)
            connection.execute(_TAKE_OUT, ([row[0] for row in rows],))
            grown = sequenced.head
            connection.execute(_SIGN, (grown.size, grown.note, b"".join(grown.peaks)))
            return grown

    def head(self) -> TreeHead:
        """Return the newest signed head."""
        with self._connections.transaction() as connection:
            return _head_of(connection)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the exact leaf bytes of indices start..end-1, or as many as there are.

        Raises:
            LedgerIntegrityError: One is missing, or its bytes are not those that were kept.
        """
        for first in range(start, end, _AT_ONCE):
            last = min(end, first + _AT_ONCE)
            with self._connections.transaction() as connection:
                rows = connection.execute(_ENTRIES, (first, last)).fetchall()
            yield from checked_leaves(rows, first)
            if len(rows) < last - first:
                return

    def leaf_hashes(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the hashes of the leaves of indices start..end-1, computed from their bytes.

        Raises:
            LedgerIntegrityError: One is missing.
        """
        for first in range(start, end, _AT_ONCE):
            last = min(end, first + _AT_ONCE)
            with self._connections.transaction() as connection:
                rows = connection.execute(_LEAVES, (first, last)).fetchall()
            yield from hashed_leaves(rows, first)
            if len(rows) < last - first:
                return

    def subtrees(self, count: int) -> list[bytes]:
        """Return the roots of the first full subtrees of 256 leaves, as the index has them.

        Raises:
            LedgerIntegrityError: It does not have them.
        """
        with self._connections.transaction() as connection:
            rows = connection.execute(_SUBTREES, (count,)).fetchall()
        return checked_subtrees(rows, count)

    def about(self, model: str) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf of the entries in the tree that the index lists under a model."""
        after = -1
        while True:
            with self._connections.transaction() as connection:
                rows = connection.execute(_ABOUT, (model, after, _AT_ONCE)).fetchall()
            if not rows:
                return
            yield from ((seq, checked_leaf(leaf, hashed)) for seq, leaf, hashed in rows)
            after = rows[-1][0]

    def indexed(self, end: int) -> Iterator[tuple[int, str]]:
        """Yield which model the index lists entries under, in order, those below `end`."""
        for first in range(0, end, _AT_ONCE):
            last = min(end, first + _AT_ONCE)
            with self._connections.transaction() as connection:
                rows = connection.execute(_INDEXED, (first, last)).fetchall()
            yield from ((seq, model) for seq, model in rows)

    def disclosures(self, key: str) -> dict[str, Disclosure]:
        """Return what opens the commitments of an entry, by field; empty once erased."""
        with self._connections.transaction() as connection:
            rows = connection.execute(
                "SELECT field, salt, value FROM mlgov.disclosures WHERE key = %s", (key,)
            ).fetchall()
        return {name: checked_disclosure(salt, value) for name, salt, value in rows}

    def erase(self, fields: Sequence[tuple[str, str]]) -> int:
        """Delete what opens these fields, and return how many were there still.

        Only the tables' owner may. Dead rows are written over by a copy of the table without them;
        the server's write-ahead log keeps them until it is recycled, and archives of it longer.
        """
        with self._connections.transaction() as connection:
            erased = sum(connection.execute(_ERASE, field).rowcount for field in fields)
        self._connections.outside_transaction("VACUUM (FULL) mlgov.disclosures")
        return erased

    def inbox(self) -> list[InboxItem]:
        """Return the acknowledged entries that are not in the tree yet, oldest first."""
        with self._connections.transaction() as connection:
            rows = connection.execute(_INBOX).fetchall()
        return [InboxItem(row[1], checked_leaf(row[2], row[3])) for row in rows]

    def waiting(self) -> int:
        """Return how many acknowledged entries are not in the tree yet."""
        with self._connections.transaction() as connection:
            row = connection.execute("SELECT count(*) FROM mlgov.inbox").fetchone()
        return int(row[0]) if row else 0

    def keep_anchored(self, anchored: Anchored) -> None:
        """Keep what an anchor gave; if something of this anchor and size is kept, that stays."""
        row = (anchored.anchor, anchored.kind, anchored.size, anchored.note, anchored.data)
        with self._connections.transaction() as connection:
            connection.execute(_KEEP_ANCHORED, (*row, to_text(anchored.at)))

    def anchored(self, *, newest: bool = False) -> list[Anchored]:
        """Return what anchors gave, by size and name; with `newest` only each anchor's last."""
        with self._connections.transaction() as connection:
            rows = connection.execute(_NEWEST_ANCHORED if newest else _ANCHORED).fetchall()
        return [checked_anchored(row) for row in rows]

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        self._connections.close()


def _head_of(connection: Connection) -> TreeHead:
    row = connection.execute(_NEWEST).fetchone()
    return TreeHead(0, (), b"") if row is None else checked_head(*row)
