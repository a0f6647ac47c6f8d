"""The outbox of lineage events in the ledger's PostgreSQL database."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from airflow_mlgov.errors import LedgerIntegrityError
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
from airflow_mlgov.stores.postgres.connections import Connection, Connections
from airflow_mlgov.stores.postgres.failures import translation
from airflow_mlgov.stores.postgres.trip import (
    BYTEA,
    BYTEA_ARRAY,
    TEXT,
    TEXT_ARRAY,
    Statement,
    array,
)

_KEEP = Statement(
    b"mlgov_keep_events",
    b"""
INSERT INTO mlgov.lineage_inbox (key, event, received_at)
SELECT given.key, given.event, $3
FROM unnest($1, $2) WITH ORDINALITY AS given (key, event, place) ORDER BY place
ON CONFLICT (key) DO NOTHING
""",
    (TEXT_ARRAY, BYTEA_ARRAY, TEXT),
)
_LOCK = "SELECT only_row FROM mlgov.lineage_numbering FOR UPDATE"
_NEW: LiteralString = "NOT EXISTS (SELECT FROM mlgov.lineage_events AS e WHERE e.key = i.key)"
# What was read is deleted, and what is left is read: no number is remembered that a late commit
# could stay below.
_INBOX = f"""
SELECT n, key, event, received_at, {_NEW} FROM mlgov.lineage_inbox AS i ORDER BY n LIMIT %s
"""  # noqa: S608
_NUMBER = """
INSERT INTO mlgov.lineage_events (seq, key, run_id, received_at, event)
VALUES (%s, %s, %s, %s, %s)
"""
_LIST = "INSERT INTO mlgov.lineage_datasets (dataset, seq) VALUES (%s, %s)"
_TAKE_OUT = "DELETE FROM mlgov.lineage_inbox WHERE n = ANY(%s)"
_NEWEST: LiteralString = "SELECT coalesce(max(seq), 0) FROM mlgov.lineage_events"
_EVENTS: LiteralString = """
SELECT e.seq, e.key, e.event, e.received_at FROM mlgov.lineage_events AS e
"""
_AFTER = f"{_EVENTS} WHERE seq > %s ORDER BY seq LIMIT %s"
_OF_RUN = f"{_EVENTS} WHERE run_id = %s ORDER BY seq"
_OF_DATASET = f"""
{_EVENTS} JOIN mlgov.lineage_datasets USING (seq) WHERE dataset = %s ORDER BY seq LIMIT %s
"""
_FLOOR: LiteralString = """
coalesce((SELECT settled_to FROM mlgov.lineage_targets WHERE target = %(target)s), 0)
"""
# The floor stands there twice, or a planner that trusts in one hash of them reads all deliveries.
_WAITS: LiteralString = f"""
e.seq > {_FLOOR} AND NOT EXISTS (
    SELECT FROM mlgov.lineage_deliveries AS d
    WHERE d.target = %(target)s AND d.seq = e.seq AND d.seq > {_FLOOR})
"""
_UNDELIVERED = f"{_EVENTS} WHERE {_WAITS} ORDER BY e.seq LIMIT %(limit)s"
_KNOW_TARGET = """
INSERT INTO mlgov.lineage_targets (target, settled_to) VALUES (%s, 0) ON CONFLICT DO NOTHING
"""
# Who settles and who unsettles wait for each other: one must not raise what the other lowers.
_LOCK_TARGET = "SELECT settled_to FROM mlgov.lineage_targets WHERE target = %s FOR UPDATE"
_SETTLE = """
INSERT INTO mlgov.lineage_deliveries (target, seq, state, at, reason) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (target, seq) DO UPDATE
SET state = excluded.state, at = excluded.at, reason = excluded.reason
"""
# Up to here all is settled, so that what was delivered long ago need not be looked at again.
_RAISE_FLOOR = f"""
UPDATE mlgov.lineage_targets SET settled_to = coalesce(
    (SELECT e.seq - 1 FROM mlgov.lineage_events AS e WHERE {_WAITS} ORDER BY e.seq LIMIT 1),
    ({_NEWEST}))
WHERE target = %(target)s
"""  # noqa: S608
_LOWER_FLOOR = """
UPDATE mlgov.lineage_targets SET settled_to = least(settled_to, %s) WHERE target = %s
"""
_UNSETTLE = "DELETE FROM mlgov.lineage_deliveries WHERE target = %s AND seq = ANY(%s)"
_DELIVERIES: LiteralString = """
SELECT target, seq, state, at, reason FROM mlgov.lineage_deliveries WHERE target = %s AND seq > %s
"""
_IN_ORDER: LiteralString = "ORDER BY seq LIMIT %s"
_NOT_SENT: LiteralString = (
    f"{_DELIVERIES} AND state <> 'delivered'"  # as the index over them says it
)
_WITH_STATE = {
    None: f"{_DELIVERIES} {_IN_ORDER}",
    DeliveryState.DELIVERED: f"{_DELIVERIES} AND state = 'delivered' {_IN_ORDER}",
    DeliveryState.FOLDED: f"{_NOT_SENT} AND state = 'folded' {_IN_ORDER}",
    DeliveryState.QUARANTINED: f"{_NOT_SENT} AND state = 'quarantined' {_IN_ORDER}",
}
_BACKLOG = f"""
WITH fresh AS (SELECT received_at FROM mlgov.lineage_inbox AS i WHERE {_NEW})
SELECT ({_NEWEST}), (SELECT count(*) FROM fresh),
    (SELECT min(received_at COLLATE "C") FROM (
        SELECT received_at FROM fresh
        UNION ALL SELECT e.received_at FROM mlgov.lineage_events AS e WHERE {_WAITS}) AS waiting),
    {_FLOOR} + (
        SELECT count(*) FROM mlgov.lineage_deliveries WHERE target = %(target)s AND seq > {_FLOOR}),
    count(*) FILTER (WHERE state = 'folded'), count(*) FILTER (WHERE state = 'quarantined')
FROM mlgov.lineage_deliveries WHERE target = %(target)s AND state <> 'delivered'
"""  # noqa: S608
# A host that is gone holds the right for a minute and a half, not for hours; one that is busy with
# a slow target holds it however long the server lets other sessions idle.
_HOLD = """
SELECT pg_try_advisory_lock(%s), set_config('tcp_keepalives_idle', '60', false),
    set_config('tcp_keepalives_interval', '10', false),
    set_config('tcp_keepalives_count', '3', false),
    (SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout')
"""
_AT_ONCE = 500


class PostgresOutbox:
    """An `Outbox` in a migrated PostgreSQL database.

    Args:
        url: ``postgresql://user:password@host:port/database``; never repeated in a message.
        timeout_s: How long to wait for a connection, and for a lock, in seconds, at least 1.

    Raises:
        ConfigurationError: It is no such URL; a retry does not help.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self._connections = Connections(url, timeout_s=timeout_s)

    def append(self, items: Sequence[OutboxItem], at: datetime) -> None:
        """Keep events durably, all or none; a key that is kept already changes nothing."""
        if items:
            self._connections.one_trip((_KEEP, (*arrays_of(items), to_text(at).encode())))

    def take(self) -> int:
        """Number what was appended, oldest first, and return how many events that were.

        Who appends need not wait for it; a late commit gets a later number.
        """
        taken, is_done = 0, False
        while not is_done:
            with self._connections.transaction() as connection:
                if connection.execute("SELECT FROM mlgov.lineage_inbox LIMIT 1").rowcount == 0:
                    return taken
                if connection.execute(_LOCK).fetchone() is None:
                    raise LedgerIntegrityError(
                        "The row that whoever numbers lineage events locks was removed."
                    )
                rows = connection.execute(_INBOX, (_AT_ONCE,)).fetchall()
                taken += _number(connection, [row for row in rows if row[4]])
                connection.execute(_TAKE_OUT, ([row[0] for row in rows],))
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
        return self._events(_OF_DATASET, (key, limit))

    def undelivered(self, target: str, limit: int) -> list[OutboxEvent]:
        """Return numbered events that have no delivery at a target, in order."""
        return self._events(_UNDELIVERED, {"target": target, "limit": limit})

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Note what became of events, in place of what was noted before."""
        targets = sorted({delivery.target for delivery in deliveries})
        with self._connections.transaction() as connection:
            for target in targets:
                connection.execute(_KNOW_TARGET, (target,))
                connection.execute(_LOCK_TARGET, (target,))
            check_numbered(deliveries, _newest(connection))
            connection.cursor().executemany(_SETTLE, list(map(delivery_row, deliveries)))
            for target in targets:
                connection.execute(_RAISE_FLOOR, {"target": target})

    def deliveries(
        self, target: str, state: DeliveryState | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Delivery]:
        """Return what became of events at a target, by number."""
        with self._connections.transaction() as connection:
            rows = connection.execute(_WITH_STATE[state], (target, after, limit)).fetchall()
        return [checked_delivery(row) for row in rows]

    def unsettle(self, target: str, seqs: Sequence[int]) -> int:
        """Forget what became of events, so that they wait again; return how many there were."""
        if not seqs:
            return 0
        with self._connections.transaction() as connection:
            connection.execute(_LOWER_FLOOR, (min(seqs) - 1, target))
            return connection.execute(_UNSETTLE, (target, list(seqs))).rowcount

    def backlog(self, target: str) -> Backlog:
        """Return how a target stands."""
        with self._connections.transaction() as connection:
            row = connection.execute(_BACKLOG, {"target": target}).fetchone()
        return checked_backlog(row or ())

    @contextmanager
    def shipping(self, target: str) -> Iterator[bool]:
        """Hold the right to ship to a target while inside; yields False, at once, if it is taken.

        It is an advisory lock of a session of its own: the server frees it with the session, which
        ends with this process, whatever children it has forked meanwhile.
        """
        key = hashlib.sha256(f"airflow-mlgov ships to {checked_target(target)}".encode()).digest()
        session = self._connections.own_session()
        _HELD.add(session)
        try:
            try:
                row = session.execute(_HOLD, (int.from_bytes(key[:8], signed=True),)).fetchone()
            except psycopg.Error as error:
                raise translation(error) from error
            yield bool(row and row[0])
        finally:
            _HELD.discard(session)
            with suppress(psycopg.Error):
                session.close()

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        self._connections.close()

    def _events(self, statement: LiteralString, values: Any) -> list[OutboxEvent]:
        with self._connections.transaction() as connection:
            rows = connection.execute(statement, values, binary=True).fetchall()
        return [checked_event(row) for row in rows]


def arrays_of(items: Sequence[OutboxItem]) -> tuple[bytes, bytes]:
    """Return keys and events as the server takes arrays of them."""
    keys = array(TEXT, [item.key.encode() for item in items])
    return keys, array(BYTEA, [item.event for item in items])


def _number(connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
    found = [found_by(row[2]) for row in rows]
    numbered = list(enumerate(zip(rows, found, strict=True), _newest(connection) + 1))
    cursor = connection.cursor()
    cursor.executemany(
        _NUMBER, [(seq, row[1], each.run_id, row[3], row[2]) for seq, (row, each) in numbered]
    )
    cursor.executemany(
        _LIST, [(dataset, seq) for seq, (_, each) in numbered for dataset in each.datasets]
    )
    return len(rows)


def _newest(connection: Connection) -> int:
    row = connection.execute(_NEWEST).fetchone()
    return int(row[0]) if row else 0


_HELD: set[Connection] = set()
"""Sessions that a child must not keep when this process dies, nor end by closing them."""


def _leave_to_parent() -> None:
    for session in _HELD:
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), session.pgconn.socket)
    _HELD.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
