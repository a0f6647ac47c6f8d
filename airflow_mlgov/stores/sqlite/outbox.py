"""The outbox of lineage events in the ledger's SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

from airflow_mlgov.records.clock import to_text
from airflow_mlgov.service.outbox import Backlog, Delivery, DeliveryState, OutboxEvent, OutboxItem
from airflow_mlgov.service.outbox_rows import (
    check_numbered,
    checked_backlog,
    checked_delivery,
    checked_event,
    checked_target,
    dataset_key,
    delivery_row,
    found_by,
)
from airflow_mlgov.stores.sqlite.file import LedgerFile
from airflow_mlgov.stores.sqlite.file_lock import try_file_lock

_KEEP = """
INSERT INTO lineage_inbox (key, event, received_at) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING
"""
_NEW = "NOT EXISTS (SELECT 1 FROM lineage_events AS e WHERE e.key = i.key)"
_INBOX = f"SELECT n, key, event, received_at, {_NEW} FROM lineage_inbox AS i ORDER BY n LIMIT ?"  # noqa: S608
_NUMBER = """
INSERT INTO lineage_events (seq, key, run_id, received_at, event) VALUES (?, ?, ?, ?, ?)
"""
_LIST = "INSERT INTO lineage_datasets (dataset, seq) VALUES (?, ?)"
_NEWEST = "SELECT coalesce(max(seq), 0) FROM lineage_events"
_EVENTS = "SELECT e.seq, e.key, e.event, e.received_at FROM lineage_events AS e "
_AFTER = f"{_EVENTS} WHERE seq > ? ORDER BY seq LIMIT ?"
_OF_RUN = f"{_EVENTS} WHERE run_id = ? ORDER BY seq"
_OF_DATASET = f"{_EVENTS} JOIN lineage_datasets USING (seq) WHERE dataset = ? ORDER BY seq LIMIT ?"
_FLOOR = """
coalesce((SELECT settled_to FROM lineage_targets WHERE target = :target), 0)
"""
_WAITS = f"""
e.seq > {_FLOOR} AND NOT EXISTS (
    SELECT 1 FROM lineage_deliveries AS d WHERE d.target = :target AND d.seq = e.seq)
"""  # noqa: S608
_UNDELIVERED = f"{_EVENTS} WHERE {_WAITS} ORDER BY e.seq LIMIT :limit"
_SETTLE = """
INSERT INTO lineage_deliveries (target, seq, state, at, reason) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (target, seq) DO UPDATE
SET state = excluded.state, at = excluded.at, reason = excluded.reason
"""
# Up to here all is settled, so that what was delivered long ago need not be looked at again.
_RAISE_FLOOR = f"""
INSERT OR REPLACE INTO lineage_targets (target, settled_to) SELECT :target, coalesce(
    (SELECT e.seq - 1 FROM lineage_events AS e WHERE {_WAITS} ORDER BY e.seq LIMIT 1),
    ({_NEWEST}))
"""  # noqa: S608
_LOWER_FLOOR = "UPDATE lineage_targets SET settled_to = min(settled_to, ?) WHERE target = ?"
_UNSETTLE = "DELETE FROM lineage_deliveries WHERE target = ? AND seq = ?"
_DELIVERIES = """
SELECT target, seq, state, at, reason FROM lineage_deliveries WHERE target = ? AND seq > ?
"""
_IN_ORDER = "ORDER BY seq LIMIT ?"
_NOT_SENT = f"{_DELIVERIES} AND state <> 'delivered'"  # as the index over them says it
_WITH_STATE = {
    None: f"{_DELIVERIES} {_IN_ORDER}",
    DeliveryState.DELIVERED: f"{_DELIVERIES} AND state = 'delivered' {_IN_ORDER}",
    DeliveryState.FOLDED: f"{_NOT_SENT} AND state = 'folded' {_IN_ORDER}",
    DeliveryState.QUARANTINED: f"{_NOT_SENT} AND state = 'quarantined' {_IN_ORDER}",
}
_BACKLOG = f"""
WITH fresh AS (SELECT received_at FROM lineage_inbox AS i WHERE {_NEW})
SELECT ({_NEWEST}), (SELECT count(*) FROM fresh),
    (SELECT min(received_at) FROM (
        SELECT received_at FROM fresh
        UNION ALL SELECT e.received_at FROM lineage_events AS e WHERE {_WAITS})),
    {_FLOOR} + (
        SELECT count(*) FROM lineage_deliveries WHERE target = :target AND seq > {_FLOOR}),
    count(*) FILTER (WHERE state = 'folded'), count(*) FILTER (WHERE state = 'quarantined')
FROM lineage_deliveries WHERE target = :target AND state <> 'delivered'
"""  # noqa: S608
_AT_ONCE = 500


class SqliteOutbox(LedgerFile):
    """An `Outbox` in a `LedgerFile`."""

    def append(self, items: Sequence[OutboxItem], at: datetime) -> None:
        """Keep events durably, all or none; a key that is kept already changes nothing."""
        with self._writing() as connection:
            keep_events(connection, items, at)

    def take(self) -> int:
        """Number what was appended, oldest first, and return how many events that were.

        Under the file's lock, which is let go now and then for those who append.
        """
        taken, is_done = 0, False
        while not is_done:
            with self._reading() as connection:
                if connection.execute("SELECT 1 FROM lineage_inbox LIMIT 1").fetchone() is None:
                    return taken
            with self._writing() as connection:
                rows = connection.execute(_INBOX, (_AT_ONCE,)).fetchall()
                taken += _number(connection, [row for row in rows if row[4]])
                connection.executemany(
                    "DELETE FROM lineage_inbox WHERE n = ?", [(row[0],) for row in rows]
                )
            is_done = len(rows) < _AT_ONCE
        return taken

    def events(self, after: int, limit: int) -> list[OutboxEvent]:
        """Return numbered events after a number, in order."""
        return self._events(_AFTER, (after, limit))

    def of_run(self, run_id: str) -> list[OutboxEvent]:
        """Return the numbered events of a run, in order."""
        return self._events(_OF_RUN, (run_id,))

    def of_dataset(
        self, namespace: str, name: str, *, written: bool = False, limit: int | None = None
    ) -> list[OutboxEvent]:
        """Return the numbered events that have a dataset as input or output, in order."""
        key = dataset_key(namespace, name, written=written)
        return self._events(_OF_DATASET, (key, -1 if limit is None else limit))

    def undelivered(self, target: str, limit: int) -> list[OutboxEvent]:
        """Return numbered events that have no delivery at a target, in order."""
        return self._events(_UNDELIVERED, {"target": target, "limit": limit})

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Note what became of events, in place of what was noted before."""
        with self._writing() as connection:
            check_numbered(deliveries, connection.execute(_NEWEST).fetchone()[0])
            connection.executemany(_SETTLE, map(delivery_row, deliveries))
            for target in {delivery.target for delivery in deliveries}:
                connection.execute(_RAISE_FLOOR, {"target": target})

    def deliveries(
        self, target: str, state: DeliveryState | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Delivery]:
        """Return what became of events at a target, by number."""
        with self._reading() as connection:
            rows = connection.execute(_WITH_STATE[state], (target, after, limit))
            return [checked_delivery(row) for row in rows]

    def unsettle(self, target: str, seqs: Sequence[int]) -> int:
        """Forget what became of events, so that they wait again; return how many there were."""
        if not seqs:
            return 0
        with self._writing() as connection:
            connection.execute(_LOWER_FLOOR, (min(seqs) - 1, target))
            return sum(connection.execute(_UNSETTLE, (target, seq)).rowcount for seq in seqs)

    def backlog(self, target: str) -> Backlog:
        """Return how a target stands."""
        with self._reading() as connection:
            row = connection.execute(_BACKLOG, {"target": target}).fetchone()
        return checked_backlog(row)

    @contextmanager
    def shipping(self, target: str) -> Iterator[bool]:
        """Hold the right to ship to a target while inside; yields False, at once, if it is taken.

        It is a lock on ``<file>.ship-<target>.lock``, which the kernel frees when the process dies.
        """
        name = f"{self.path.name}.ship-{checked_target(target)}.lock"
        with ExitStack() as held:
            with self._translated():
                self._connection()  # makes the folder
                is_mine = held.enter_context(try_file_lock(self.path.with_name(name)))
            yield is_mine

    def _events(self, statement: str, values: Any) -> list[OutboxEvent]:
        with self._reading() as connection:
            return [checked_event(row) for row in connection.execute(statement, values)]


def keep_events(connection: sqlite3.Connection, items: Sequence[OutboxItem], at: datetime) -> None:
    """Add events to the inbox, within a transaction."""
    received_at = to_text(at)
    connection.executemany(_KEEP, [(item.key, item.event, received_at) for item in items])


def _number(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> int:
    (newest,) = connection.execute(_NEWEST).fetchone()
    found = [found_by(event) for _, _, event, *_ in rows]
    numbered = list(enumerate(zip(rows, found, strict=True), newest + 1))
    connection.executemany(
        _NUMBER, [(seq, row[1], each.run_id, row[3], row[2]) for seq, (row, each) in numbered]
    )
    connection.executemany(
        _LIST, [(dataset, seq) for seq, (_, each) in numbered for dataset in each.datasets]
    )
    return len(rows)
