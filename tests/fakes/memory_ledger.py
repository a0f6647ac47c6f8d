"""A ledger in memory, for one process.

It proves nothing about durability, other processes, stopped servers or damaged rows: what it keeps
is what it was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.leaf_index import index_rows
from airflow_mlgov.service.outbox import Outbox, OutboxItem
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.service.stored import checked_subtrees


class MemoryLedger:
    """A `LedgerStore` of dictionaries under one lock.

    Args:
        outbox: Where lineage goes that is given with an entry; None if there is never any.
    """

    def __init__(self, outbox: Outbox | None = None) -> None:
        self._outbox = outbox
        self._lock = threading.RLock()
        self._inbox: dict[str, InboxItem] = {}
        self._entries: list[InboxItem] = []
        self._models: list[str] = []
        self._subtrees: list[tuple[int, bytes]] = []
        self._index: dict[str, int] = {}
        self._disclosures: dict[str, dict[str, Disclosure]] = {}
        self._head = TreeHead(0, (), b"")
        self._anchored: dict[tuple[int, str], Anchored] = {}

    def insert(
        self,
        item: InboxItem,
        disclosures: Mapping[str, Disclosure],
        at: datetime,
        *,
        lineage: Sequence[OutboxItem] = (),
    ) -> bytes | None:
        with self._lock:
            kept = self.get(item.key)
            if kept is not None:
                return kept[0]
            if len(item.leaf) > 16_384:
                raise LedgerIntegrityError("An entry is too long.")
            self._inbox[item.key] = item
            self._disclosures[item.key] = dict(disclosures)
            if lineage:
                assert self._outbox is not None
                self._outbox.append(lineage, at)
            return None

    def get(self, key: str) -> tuple[bytes, int | None] | None:
        with self._lock:
            if key in self._inbox:
                return self._inbox[key].leaf, None
            index = self._index.get(key)
            return None if index is None else (self._entries[index].leaf, index)

    def sequence(self, integrate: Callable[[TreeHead, Sequence[InboxItem]], Sequenced]) -> TreeHead:
        with self._lock:
            items = list(self._inbox.values())
            if not items:
                return self._head
            sequenced = integrate(self._head, items)
            places = zip(
                range(self._head.size, sequenced.head.size),
                items,
                sequenced.leaf_hashes,
                strict=True,
            )
            index = index_rows(self._head, (item.leaf for item in items), sequenced)
            indices = {item.key: place for place, item, _ in places}
            self._entries += items
            self._models += index.models
            self._subtrees += index.subtrees
            self._index |= indices
            self._inbox.clear()
            self._head = sequenced.head
            return self._head

    def head(self) -> TreeHead:
        with self._lock:
            return self._head

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        with self._lock:
            kept = self._entries[start:end]
        yield from (item.leaf for item in kept)

    def leaf_hashes(self, start: int, end: int) -> Iterator[bytes]:
        yield from map(leaf_hash, self.leaves(start, end))

    def subtrees(self, count: int) -> list[bytes]:
        with self._lock:
            return checked_subtrees(self._subtrees[:count], count)

    def about(self, model: str) -> Iterator[tuple[int, bytes]]:
        for index, listed in self.indexed(len(self._models)):
            if listed == model:
                yield index, self._entries[index].leaf

    def indexed(self, end: int) -> Iterator[tuple[int, str]]:
        with self._lock:
            yield from list(enumerate(self._models[:end]))

    def disclosures(self, key: str) -> dict[str, Disclosure]:
        with self._lock:
            return dict(self._disclosures.get(key, {}))

    def erase(self, fields: Sequence[tuple[str, str]]) -> int:
        with self._lock:
            gone = [self._disclosures.get(key, {}).pop(name, None) for key, name in fields]
            return sum(disclosure is not None for disclosure in gone)

    def inbox(self) -> list[InboxItem]:
        with self._lock:
            return list(self._inbox.values())

    def waiting(self) -> int:
        with self._lock:
            return len(self._inbox)

    def keep_anchored(self, anchored: Anchored) -> None:
        with self._lock:
            self._anchored.setdefault((anchored.size, anchored.anchor), anchored)

    def anchored(self, *, newest: bool = False) -> list[Anchored]:
        with self._lock:
            every = [self._anchored[key] for key in sorted(self._anchored)]
        last = {item.anchor: item for item in every}
        return [item for item in every if not newest or last[item.anchor] is item]
