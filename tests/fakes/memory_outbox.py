"""An outbox in memory, for one process.

It proves nothing about durability, other processes, late commits, a shipper that dies, or speed
with many events: what it keeps is what it was given, in the order of the calls.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from airflow_mlgov.records.clock import from_text, to_text
from airflow_mlgov.service.outbox import Backlog, Delivery, DeliveryState, OutboxEvent, OutboxItem
from airflow_mlgov.service.outbox_rows import (
    check_numbered,
    checked_delivery,
    checked_target,
    dataset_key,
    delivery_row,
    found_by,
)


class MemoryOutbox:
    """An `Outbox` of dictionaries under one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._inbox: dict[str, tuple[bytes, datetime]] = {}
        self._events: list[OutboxEvent] = []
        self._keys: set[str] = set()
        self._deliveries: dict[tuple[str, int], Delivery] = {}
        self._shipping: set[str] = set()

    def append(self, items: Sequence[OutboxItem], at: datetime) -> None:
        with self._lock:
            for item in items:
                if item.key not in self._keys:
                    self._inbox.setdefault(item.key, (item.event, _stored(at)))

    def take(self) -> int:
        with self._lock:
            taken = [
                OutboxEvent(seq, key, event, at)
                for seq, (key, (event, at)) in enumerate(self._inbox.items(), len(self._events) + 1)
            ]
            self._events += taken
            self._keys |= self._inbox.keys()
            self._inbox.clear()
            return len(taken)

    def events(self, after: int, limit: int) -> list[OutboxEvent]:
        with self._lock:
            return self._events[after:][:limit]

    def of_run(self, run_id: str) -> list[OutboxEvent]:
        with self._lock:
            return [event for event in self._events if found_by(event.event).run_id == run_id]

    def of_dataset(
        self, namespace: str, name: str, *, written: bool = False, limit: int | None = None
    ) -> list[OutboxEvent]:
        key = dataset_key(namespace, name, written=written)
        with self._lock:
            return [e for e in self._events if key in found_by(e.event).datasets][:limit]

    def undelivered(self, target: str, limit: int) -> list[OutboxEvent]:
        with self._lock:
            waiting = [e for e in self._events if (target, e.seq) not in self._deliveries]
            return waiting[:limit]

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            check_numbered(deliveries, len(self._events))
            for delivery in deliveries:
                kept = checked_delivery(delivery_row(delivery))
                self._deliveries[kept.target, kept.seq] = kept

    def deliveries(
        self, target: str, state: DeliveryState | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Delivery]:
        with self._lock:
            return [
                delivery
                for (name, seq), delivery in sorted(self._deliveries.items())
                if name == target and seq > after and state in (None, delivery.state)
            ][:limit]

    def unsettle(self, target: str, seqs: Sequence[int]) -> int:
        with self._lock:
            gone = [self._deliveries.pop((target, seq), None) for seq in seqs]
            return sum(delivery is not None for delivery in gone)

    def backlog(self, target: str) -> Backlog:
        with self._lock:
            waiting = [event.received_at for event in self.undelivered(target, len(self._events))]
            waiting += [at for _, at in self._inbox.values()]
            states = [d.state for (name, _), d in self._deliveries.items() if name == target]
            return Backlog(
                waiting=len(waiting),
                oldest_at=min(waiting, default=None),
                delivered=states.count(DeliveryState.DELIVERED),
                folded=states.count(DeliveryState.FOLDED),
                quarantined=states.count(DeliveryState.QUARANTINED),
            )

    @contextmanager
    def shipping(self, target: str) -> Iterator[bool]:
        checked_target(target)
        with self._lock:
            is_mine = target not in self._shipping
            self._shipping.add(target)
        try:
            yield is_mine
        finally:
            if is_mine:
                with self._lock:
                    self._shipping.discard(target)


def _stored(moment: datetime) -> datetime:
    """Return a moment as databases keep it."""
    return from_text(to_text(moment))
