"""The walk from a thing back to what it was made of, over the events in the outbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from airflow_mlgov.records.trace import Gap, NodeKind, dataset_node_id, run_node_id
from airflow_mlgov.service.outbox import TERMINAL, Outbox, OutboxEvent
from airflow_mlgov.service.sent_runs import Place, SentRun, digest_of, kind_of

MAX_DEPTH = 100
"""Runs in a row that are walked back."""

MAX_RUNS = 2_000
"""Runs that one trace holds."""

WRITERS = 100
"""Events that wrote one thing, the first ones, that are looked at."""

READERS = 1_000
"""Events that read one thing, the first ones, that are looked at."""

_NOTHING: Mapping[Place, int] = MappingProxyType({})


class Walk:
    """Goes back over runs whose end names a thing as output, to what they read, and so on.

    Every look-up is by the outbox's indices. A circle is walked once.

    Args:
        outbox: Where events are read.
        on_record: Things of which the ledger tells, with the index of the entry.

    Attributes:
        places: Datasets that were reached, in that order.
        runs: Runs that were reached, in that order, by id.
        order: Ids of all nodes, in the order in which they were reached.
        gaps: What is missing.
    """

    def __init__(self, outbox: Outbox, on_record: Mapping[Place, int] = _NOTHING) -> None:
        self._outbox = outbox
        self._on_record = on_record
        self.places: dict[Place, None] = {}
        self.runs: dict[str, SentRun] = {}
        self.order: dict[str, None] = {}
        self.gaps: list[Gap] = []
        self._writers: dict[Place, list[SentRun]] = {}
        self._registered: dict[Place, SentRun] = {}
        self._read: dict[str, SentRun | None] = {}

    def back_from_runs(self, run_ids: Iterable[str]) -> None:
        """Walk back from runs.

        Raises:
            LedgerUnavailableError: The outbox cannot be read; a retry may help.
        """
        for run in map(self.run, run_ids):
            if run is not None and run.run_id not in self.runs:
                self.back_from(self._through(run))

    def back_from(self, places: Iterable[Place]) -> None:
        """Walk back from datasets.

        Raises:
            LedgerUnavailableError: The outbox cannot be read; a retry may help.
        """
        frontier = deque((place, 0) for place in places)
        while frontier:
            place, depth = frontier.popleft()
            if place in self.places:
                continue
            self.places[place] = None
            self.order[dataset_node_id(*place)] = None
            for writer in self._found_writers(place):
                if writer.run_id in self.runs:
                    continue
                if depth >= MAX_DEPTH or len(self.runs) >= MAX_RUNS:
                    self._stop(place)
                    return
                frontier.extend((read, depth + 1) for read in self._through(writer))

    def run(self, run_id: str) -> SentRun | None:
        """Return a run; None if the outbox has nothing of it."""
        if run_id not in self._read:
            events = [kept.decoded() for kept in self._outbox.of_run(run_id)]
            self._read[run_id] = SentRun.of(events) if events else None
        return self._read[run_id]

    def readers(self, place: Place) -> tuple[list[SentRun], bool]:
        """Return the runs that read a dataset, and whether those are all.

        They are told of by their events about it alone, the first `READERS` of these.
        """
        kept = self._outbox.of_dataset(*place, limit=READERS)
        by_run: dict[str, list[Any]] = {}
        for event in (each.decoded() for each in kept):
            by_run.setdefault(event["run"]["runId"], []).append(event)
        runs = [SentRun.of(events) for events in by_run.values()]
        return [run for run in runs if place in run.inputs], len(kept) < READERS

    def writers(self, place: Place) -> Sequence[SentRun]:
        """Return the runs that wrote a dataset that was reached; none of a source."""
        return self._writers.get(place, ())

    def source_of(self, place: Place) -> SentRun | None:
        """Return the run that registered a dataset, if no other wrote it."""
        return None if self.writers(place) else self._registered.get(place)

    def facets(self, place: Place) -> Mapping[str, Any]:
        """Return the facets of a dataset that was reached, as its writer states them."""
        for run in (*self.writers(place), *filter(None, [self.source_of(place)])):
            return run.written[place]
        return {}

    def digest(self, place: Place) -> str:
        """Return the digest of a dataset that was reached; empty if its writer states none."""
        return digest_of(self.facets(place))

    def kind(self, place: Place) -> NodeKind:
        """Return what a dataset that was reached is."""
        found = kind_of(place, self.facets(place))
        is_source = found is NodeKind.DATA and self.source_of(place) is not None
        return NodeKind.SOURCE if is_source else found

    def tell(self, problem: str, node: str, field: str = "") -> None:
        """Note something that the outbox lacks or says twice."""
        self.gaps.append(Gap("outbox", problem, node, field))

    def _through(self, run: SentRun) -> Sequence[Place]:
        """Note a run, and return what it read."""
        node = run_node_id(run.run_id)
        self.runs[run.run_id] = run
        self.order[node] = None
        if run.came_later:
            self.tell(
                f"run {run.run_id} ({run.job[1]}): {run.came_later} came after {run.state}: it was "
                "changed by hand, or forged",
                node,
                "state",
            )
        return run.inputs

    def _found_writers(self, place: Place) -> list[SentRun]:
        kept = self._outbox.of_dataset(*place, written=True, limit=WRITERS)
        runs = [self.run(run_id) for run_id in _ended(kept)]
        wrote = [run for run in runs if run is not None and place in run.outputs]
        self._writers[place] = [run for run in wrote if not run.is_registration]
        registered = [run for run in wrote if run.is_registration]
        if registered:
            # Each of its readers registers a source: the first one says it all.
            self._registered[place] = registered[0]
        self._check_writers(place, is_registered=bool(registered), is_cut=len(kept) == WRITERS)
        return self._writers[place]

    def _check_writers(self, place: Place, *, is_registered: bool, is_cut: bool) -> None:
        wrote, node = self._writers[place], dataset_node_id(*place)
        kind = self.kind(place)
        if not wrote and not is_registered and kind is not NodeKind.BREAK_GLASS:
            entry = self._on_record.get(place)
            known = (
                "" if entry is None else f", though it is on record as entry {entry} of the ledger"
            )
            self.tell(f"no run in the outbox wrote {place[1]}{known}", node)
        if kind is NodeKind.MODEL and len(wrote) > 1:
            ids = ", ".join(run.run_id for run in wrote)
            self.tell(f"{place[1]} was written by more than one run: {ids}", node)
        if is_cut and wrote:
            self.tell(f"only the first {WRITERS} events that wrote {place[1]} were read", node)

    def _stop(self, place: Place) -> None:
        self.tell(
            f"the walk ended at {place[1]}: {MAX_DEPTH} runs in a row, or {MAX_RUNS} in all, are "
            "its limit",
            dataset_node_id(*place),
        )


def _ended(kept: Iterable[OutboxEvent]) -> list[str]:
    """Return the ids of the runs that events end, each once."""
    events = (event.decoded() for event in kept)
    return list(dict.fromkeys(e["run"]["runId"] for e in events if e.get("eventType") in TERMINAL))
