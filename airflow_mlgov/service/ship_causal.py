"""Ships waiting events to a target that takes the last arrival for the truth, as Marquez does.

While an event is under way, the one before it is read back and noted, unless the one depends on the
other. So at most the last two that the target had may not be on record, if no answer came or the
process died; they are sent again, in the same order. That does no harm: with the same last
arrivals, state, times and bound versions come out the same.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from airflow_mlgov.errors import (
    ConfigurationError,
    LineageError,
    LineageRefusedError,
    LineageUnavailableError,
)
from airflow_mlgov.records.clock import Clock
from airflow_mlgov.service.outbox import (
    Delivery,
    DeliveryState,
    LineageTarget,
    Outbox,
    OutboxEvent,
)
from airflow_mlgov.service.ship_courier import Courier, Fate, Handed
from airflow_mlgov.service.ship_order import DatasetKey, Order, Parcel, causal_order
from airflow_mlgov.service.ship_runs import plan_run
from airflow_mlgov.service.ship_sources import source_registration

DIFFERS = "It was stored, but reads back otherwise: "
"""How the reason begins of an end that the target has stored, and shows wrongly."""

_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class _Run:
    begun_at: datetime
    stored: list[Parcel]
    to_send: tuple[Parcel, ...]


@dataclass(frozen=True, slots=True)
class _Writer:
    parcel: Parcel
    delivery: Delivery | None

    @property
    def is_stored(self) -> bool:
        return self.delivery is not None and _is_stored(self.delivery)


class CausalShipping:
    """One pass after the other over what waits.

    Args:
        outbox: Where events stand.
        target: Where they go.
        clock: Where times come from.
        say: Told what people should know, a sentence at a time.
        settle_s: How long a reader waits for the writer of its input, from its arrival.
    """

    def __init__(
        self,
        outbox: Outbox,
        target: LineageTarget,
        clock: Clock,
        say: Callable[[str], None],
        settle_s: float,
    ) -> None:
        self._outbox = outbox
        self._target = target
        self._clock = clock
        self._say = say
        self._settle = timedelta(seconds=settle_s)
        self._courier = Courier()
        self._doubtful: set[int] = set()
        self._written: set[DatasetKey] = set()
        self._asked_for: set[DatasetKey] = set()
        self._known: dict[DatasetKey, list[_Writer]] = {}
        self._waiting: Mapping[int, Parcel] = {}
        self._steps = 0
        self._beside: tuple[int, ThreadPoolExecutor] | None = None
        self._check: tuple[Parcel, Future[str]] | None = None

    def ship(self, window: Sequence[OutboxEvent], go_on: Callable[[], bool]) -> int:
        """Ship what can be shipped; return how many steps that were.

        Args:
            window: Events that wait, in order of arrival.
            go_on: Asked before each event.

        Raises:
            LineageUnavailableError: The target cannot take anything now; a retry may help.
            LedgerUnavailableError: The outbox cannot be reached; a retry may help.
        """
        self._steps, self._check = 0, None
        self._asked_for.clear()
        self._known.clear()
        runs = self._runs([parcel for kept in window if (parcel := self._opened(kept))])
        waiting = [parcel for run in runs.values() for parcel in run.to_send]
        waiting.sort(key=lambda parcel: parcel.seq)
        begun = {run_id: run.begun_at for run_id, run in runs.items()}
        self._walk(causal_order(waiting, begun, self._is_written), runs, go_on)
        return self._steps

    def _opened(self, kept: OutboxEvent) -> Parcel | None:
        """Open an event; None if it was quarantined instead."""
        try:
            parcel = Parcel.of(kept)
            problem = self._target.problem(parcel.event)
        except LineageRefusedError as error:
            problem = str(error)
        if not problem:
            return parcel
        self._settled(kept.seq, DeliveryState.QUARANTINED, problem)
        return None

    def _runs(self, parcels: Sequence[Parcel]) -> dict[str, _Run]:
        """Return the runs of events that wait, whole, with what goes; note what is left out."""
        waiting: dict[str, list[Parcel]] = defaultdict(list)
        for parcel in parcels:
            waiting[parcel.run_id].append(parcel)
        runs = {}
        for run_id, known in waiting.items():
            stored, further = self._rest_of_run(run_id, {parcel.seq for parcel in known})
            plan = plan_run(stored, [*known, *further])
            for parcel, reason in plan.folded:
                self._settled(parcel.seq, DeliveryState.FOLDED, reason)
            runs[run_id] = _Run(plan.begun_at, stored, plan.to_send)
        return runs

    def _rest_of_run(self, run_id: str, known: set[int]) -> tuple[list[Parcel], list[Parcel]]:
        """Return what the target has of a run, and what else waits of it outside of the window."""
        stored, further = [], []
        for kept in self._outbox.of_run(run_id):
            if kept.seq in known:
                continue
            delivery = self._delivery(kept.seq)
            if delivery is None:
                further += [parcel for parcel in [self._opened(kept)] if parcel]
            elif _is_stored(delivery):
                stored.append(Parcel.of(kept))
        return stored, further

    def _walk(self, order: Order, runs: Mapping[str, _Run], go_on: Callable[[], bool]) -> None:
        self._waiting, held = {parcel.seq: parcel for parcel in order.parcels}, set[int]()
        for parcel in order.parcels:
            if not go_on():
                break
            if order.after[parcel.seq] & held or not self._has_sources(parcel, runs):
                held.add(parcel.seq)
                continue
            work = partial(self._hand_over, parcel, runs[parcel.run_id].stored)
            try:
                handed = self._courier.hand(parcel.seq, work)
            finally:
                self._finish_check(runs)
            held |= {each.seq for each in handed if each.fate is Fate.ASIDE}
            self._conclude(handed, runs)
        self._finish_check(runs)
        self._courier.finish()

    def _hand_over(self, parcel: Parcel, stored: Sequence[Parcel]) -> None:
        """Send an event, unless it is an end that the target turns out to have already."""
        if parcel.is_end:
            run = [*stored, parcel]
            if parcel.seq in self._doubtful and not self._difference(run):
                return
            self._doubtful.add(parcel.seq)
        self._target.send(parcel.kept.event)

    def _conclude(self, handed: Iterable[Handed], runs: Mapping[str, _Run]) -> None:
        for each in handed:
            if each.fate is Fate.ASIDE:
                continue
            parcel = self._waiting[each.seq]
            for dataset in parcel.writes:
                self._known.pop(dataset, None)
            if each.fate is Fate.REFUSED:
                self._doubtful.discard(each.seq)
                self._settled(each.seq, DeliveryState.QUARANTINED, each.reason)
                continue
            self._finish_check(runs)
            run = runs[parcel.run_id].stored
            run.append(parcel)
            if parcel.is_end:
                self._remember(parcel.writes)
            self._check = (parcel, self._thread().submit(self._checked, parcel, list(run)))

    def _thread(self) -> ThreadPoolExecutor:
        """Return the thread that checks; a process that was forked has none of its parent's."""
        if self._beside is None or self._beside[0] != os.getpid():
            self._beside = (os.getpid(), ThreadPoolExecutor(1, "lineage-check"))
        return self._beside[1]

    def _checked(self, parcel: Parcel, run: Sequence[Parcel]) -> str:
        """Note that an event is delivered; an end only if its run reads back as it was sent."""
        differs = self._difference(run) if parcel.is_end else ""
        if not differs:
            self._note(parcel.seq, DeliveryState.DELIVERED, "")
        return differs

    def _finish_check(self, runs: Mapping[str, _Run]) -> None:
        """Wait for the check that is under way; put a run right that does not read back."""
        if self._check is None:
            return
        (parcel, check), self._check = self._check, None
        for dataset in parcel.writes:
            self._known.pop(dataset, None)
        try:
            is_right = not check.result()
        except LineageUnavailableError:
            is_right = None
        if is_right:
            self._doubtful.discard(parcel.seq)
            self._steps += 1
            return
        put_right = partial(self._put_right, list(runs[parcel.run_id].stored), is_right)
        for handed in self._courier.hand(parcel.seq, put_right):
            if handed.seq == parcel.seq and handed.fate is Fate.TAKEN:
                self._doubtful.discard(parcel.seq)
                self._settled(parcel.seq, DeliveryState.DELIVERED)
            else:
                self._conclude([handed], runs)

    def _put_right(self, run: Sequence[Parcel], is_right: bool | None) -> None:
        """Send a run again, once, that does not read back as it was sent.

        Args:
            run: Its events, in order.
            is_right: Whether it does, or None if that is not known.
        """
        if is_right is None and not self._difference(run):
            return
        for parcel in run:
            self._target.send(parcel.kept.event)
        differs = self._difference(run)
        if differs:
            raise LineageRefusedError(f"{DIFFERS}{differs}")

    def _difference(self, run: Sequence[Parcel]) -> str:
        return self._target.difference([parcel.event for parcel in run])

    def _has_sources(self, parcel: Parcel, runs: Mapping[str, _Run]) -> bool:
        """Return whether the target knows all that an event reads; see to it if it does not."""
        if self._check is not None and parcel.reads & self._check[0].writes:
            self._finish_check(runs)
        missing = [dataset for dataset in sorted(parcel.reads) if not self._is_written(dataset)]
        if missing:
            self._finish_check(runs)
        ready = [self._is_settled(dataset, parcel) for dataset in missing]
        return all(ready)

    def _is_written(self, dataset: DatasetKey) -> bool:
        """Return whether the target has the end of a run that wrote a dataset."""
        if dataset in self._written:
            return True
        is_written = any(w.parcel.is_end and w.is_stored for w in self._writers(dataset))
        if is_written:
            self._remember([dataset])
        return is_written

    def _is_settled(self, dataset: DatasetKey, reader: Parcel) -> bool:
        """Return whether an event may go although no run is known to have written its input."""
        if dataset in self._asked_for:
            return False
        writers = [w for w in self._writers(dataset) if w.parcel.run_id != reader.run_id]
        ends = [w for w in writers if w.parcel.is_end]
        if any(w.delivery is None and w.parcel.seq not in self._waiting for w in ends):
            return False
        refused = [w for w in ends if w.delivery and w.delivery.state is DeliveryState.QUARANTINED]
        has_circle = any(w.delivery is None for w in ends)
        is_late = self._clock.now() - reader.kept.received_at >= self._settle
        if not (refused or has_circle or is_late):
            return False
        if not refused and not has_circle and any(w.is_stored for w in writers):
            return True  # its writer has begun, and says already that it writes it
        return self._register(dataset, reader, refused)

    def _register(
        self, dataset: DatasetKey, reader: Parcel, refused: Sequence[_Writer]
    ) -> Literal[False]:
        """Append the event that makes a dataset known; its reader goes in the next pass."""
        self._asked_for.add(dataset)
        try:
            item = source_registration(dataset, reader)
        except (ConfigurationError, LineageError) as error:
            self._settled(reader.seq, DeliveryState.QUARANTINED, str(error))
            return False
        own = [w.delivery for w in refused if w.parcel.kept.key == item.key and w.delivery]
        if own:
            why = f"Its input {dataset[1]!r} cannot be made known first. {own[0].reason}"
            self._settled(reader.seq, DeliveryState.QUARANTINED, why)
            return False
        self._outbox.append([item], self._clock.now())
        self._steps += 1
        runs = ", ".join(w.parcel.run_id for w in refused)
        why = f"run {runs} wrote it and was refused" if refused else "nobody is known to write it"
        self._say(
            f"Lineage to {self._target.name}: {dataset[0]} {dataset[1]} is registered as a source "
            f"before run {reader.run_id} reads it, since {why}."
        )
        return False

    def _writers(self, dataset: DatasetKey) -> list[_Writer]:
        if dataset not in self._known:
            self._known[dataset] = self._found_writers(dataset)
        return self._known[dataset]

    def _found_writers(self, dataset: DatasetKey) -> list[_Writer]:
        found = []
        for kept in self._outbox.of_dataset(*dataset, written=True):
            with suppress(LineageRefusedError):
                found.append(_Writer(Parcel.of(kept), self._delivery(kept.seq)))
        return found

    def _remember(self, datasets: Iterable[DatasetKey]) -> None:
        if len(self._written) > _REMEMBERED:
            self._written.clear()
        self._written.update(datasets)

    def _delivery(self, seq: int) -> Delivery | None:
        found = self._outbox.deliveries(self._target.name, after=seq - 1, limit=1)
        return next((delivery for delivery in found if delivery.seq == seq), None)

    def _note(self, seq: int, state: DeliveryState, reason: str) -> None:
        now = self._clock.now()
        self._outbox.settle([Delivery(self._target.name, seq, state, now, reason)])

    def _settled(self, seq: int, state: DeliveryState, reason: str = "") -> None:
        self._note(seq, state, reason)
        self._steps += 1
        if state is DeliveryState.QUARANTINED:
            self._say(f"Lineage to {self._target.name}: event {seq} is quarantined. {reason}")


def _is_stored(delivery: Delivery) -> bool:
    is_delivered = delivery.state is DeliveryState.DELIVERED
    return is_delivered or delivery.reason.startswith(DIFFERS)
