"""In which order waiting events go to a target that takes the last arrival for the truth.

A dataset's versions follow from the order of arrival: whoever reads has to come after the end of
the run that wrote what it read, and before the end of the run that writes the next version.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from airflow_mlgov.errors import LineageRefusedError
from airflow_mlgov.service.outbox import TERMINAL, Event, OutboxEvent

DatasetKey: TypeAlias = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """An event, as far as its order depends on it.

    Attributes:
        kept: As it stands in the outbox.
        event: Decoded.
        run_id: Its run.
        kind: ``START``, ``RUNNING``, ``COMPLETE`` ...
        at: When it happened.
        reads: Its inputs.
        writes: Its outputs.
    """

    kept: OutboxEvent
    event: Event
    run_id: str
    kind: str
    at: datetime
    reads: frozenset[DatasetKey]
    writes: frozenset[DatasetKey]

    @classmethod
    def of(cls, kept: OutboxEvent) -> Parcel:
        """Open an event.

        Raises:
            LineageRefusedError: It is none of OpenLineage; a retry does not help.
        """
        try:
            event = kept.decoded()
            return cls(
                kept,
                event,
                run_id=_text(event["run"]["runId"]),
                kind=_text(event["eventType"]),
                at=_time(event["eventTime"]),
                reads=_datasets(event.get("inputs")),
                writes=_datasets(event.get("outputs")),
            )
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise LineageRefusedError(
                f"It is no run event of OpenLineage ({type(error).__name__}: {error}).",
                remedy="Whoever appended it has to make another.",
            ) from error

    @property
    def seq(self) -> int:
        """Its number in the outbox."""
        return self.kept.seq

    @property
    def is_end(self) -> bool:
        """Whether it ends its run."""
        return self.kind in TERMINAL


@dataclass(frozen=True, slots=True)
class Order:
    """An order of events.

    Attributes:
        parcels: In order.
        after: Numbers of those that an event waits for, by its own number.
    """

    parcels: tuple[Parcel, ...]
    after: Mapping[int, frozenset[int]]


def causal_order(
    parcels: Sequence[Parcel],
    begun: Mapping[str, datetime],
    is_written: Callable[[DatasetKey], bool],
) -> Order:
    """Return the order in which events can go.

    In order of arrival as far as causes allow, but that a reader lets something else go between it
    and what it waited for. Where causes run in a circle, what came in first goes first.

    Args:
        parcels: Those that wait, in order of arrival; of each run at most one START and one end.
        begun: When each run began.
        is_written: Whether the target has had the end of a run that wrote a dataset.
    """
    within = {(end.seq, start.seq) for end, start in _starts_of_ends(parcels)}
    edges = within | set(_between_runs(parcels, begun, is_written))
    return _sorted({parcel.seq: parcel for parcel in parcels}, edges, within)


def _starts_of_ends(parcels: Sequence[Parcel]) -> Iterator[tuple[Parcel, Parcel]]:
    starts = {parcel.run_id: parcel for parcel in parcels if not parcel.is_end}
    for parcel in parcels:
        if parcel.is_end and parcel.run_id in starts:
            yield parcel, starts[parcel.run_id]


def _between_runs(
    parcels: Sequence[Parcel],
    begun: Mapping[str, datetime],
    is_written: Callable[[DatasetKey], bool],
) -> Iterator[tuple[int, int]]:
    """Yield (later, earlier) for what is read and written."""
    touched: dict[DatasetKey, list[Parcel]] = defaultdict(list)
    written: set[DatasetKey] = set()
    for parcel in parcels:
        if parcel.is_end:
            written |= parcel.writes
        for dataset in parcel.reads | (parcel.writes if parcel.is_end else frozenset()):
            touched[dataset].append(parcel)
    for dataset in written:
        writers = [p for p in touched[dataset] if p.is_end and dataset in p.writes]
        readers = [p for p in touched[dataset] if dataset in p.reads]
        for later, earlier in _of_dataset(writers, readers, begun, has_version=is_written(dataset)):
            if later.run_id != earlier.run_id:
                yield later.seq, earlier.seq


def _of_dataset(
    writers: Sequence[Parcel],
    readers: Sequence[Parcel],
    begun: Mapping[str, datetime],
    *,
    has_version: bool,
) -> Iterator[tuple[Parcel, Parcel]]:
    """Walk along a dataset's versions; a run reads what there was when it began."""
    moments = [((writer.at, 0, writer.seq), writer) for writer in writers]
    moments += [((begun[reader.run_id], 1, reader.seq), reader) for reader in readers]
    last: Parcel | None = None
    since: list[Parcel] = []
    for (_, reads, _), parcel in sorted(moments, key=lambda moment: moment[0]):
        if not reads:
            for earlier in ([last] if last else []) + since:
                yield parcel, earlier
            last, since = parcel, []
        elif last is None and not has_version:
            # Nothing was there when it began: clocks differ, and it read the first version.
            yield parcel, min(writers, key=lambda writer: (writer.at, writer.seq))
        else:
            since.append(parcel)
            if last is not None:
                yield parcel, last


def _sorted(
    parcels: Mapping[int, Parcel], edges: Iterable[tuple[int, int]], firm: set[tuple[int, int]]
) -> Order:
    unmet: dict[int, set[int]] = {seq: set() for seq in parcels}
    behind: dict[int, set[int]] = defaultdict(set)
    for later, earlier in edges:
        unmet[later].add(earlier)
        behind[earlier].add(later)
    after = {seq: set(needed) for seq, needed in unmet.items()}
    ready = sorted(seq for seq, needed in unmet.items() if not needed)
    order: list[Parcel] = []
    readers: list[int] = []
    while unmet:
        if not ready and not readers:
            later, earlier = _weakest(unmet, firm)
            after[later].discard(earlier)
            behind[earlier].discard(later)
            ready += _met(unmet, later, earlier)
            continue
        seq = heapq.heappop(ready or readers)
        del unmet[seq]
        order.append(parcels[seq])
        for each in readers:
            heapq.heappush(ready, each)
        found = [each for later in behind[seq] for each in _met(unmet, later, seq)]
        # Somebody else first: what was just written is being read back meanwhile.
        readers = sorted(each for each in found if (each, seq) not in firm)
        for each in found:
            if (each, seq) in firm:
                heapq.heappush(ready, each)
    return Order(tuple(order), {seq: frozenset(needed) for seq, needed in after.items()})


def _met(unmet: dict[int, set[int]], later: int, earlier: int) -> list[int]:
    unmet[later].discard(earlier)
    return [] if unmet[later] else [later]


def _weakest(unmet: Mapping[int, set[int]], firm: set[tuple[int, int]]) -> tuple[int, int]:
    """Return what to give up of a circle: what the event waits for that came in first."""
    path: dict[int, None] = {}
    at = min(unmet)
    while at not in path:
        path[at] = None
        at = min(unmet[at])
    walked = list(path)
    circle = walked[walked.index(at) :]
    around = zip(circle, [*circle[1:], circle[0]], strict=True)
    return min(edge for edge in around if edge not in firm)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("text is missing")
    return value


def _time(value: Any) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _datasets(listed: Any) -> frozenset[DatasetKey]:
    return frozenset((_text(each["namespace"]), _text(each["name"])) for each in listed or ())
