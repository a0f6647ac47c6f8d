"""What Marquez shows of the runs of a trace, held against what the outbox has: run by run.

Marquez has no authentication, and takes the last arrival for the truth: what it shows can be
missing, altered or forged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_mlgov.errors import LineageError, LineageUnavailableError
from airflow_mlgov.lineage.marquez import MarquezClient
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.trace import Gap, NodeKind, dataset_node_id, run_node_id
from airflow_mlgov.service.sent_runs import Place, SentRun, moment_of
from airflow_mlgov.service.trace_walk import MAX_DEPTH, Walk

STATES = {"RUNNING": "RUNNING", "COMPLETE": "COMPLETED", "FAIL": "FAILED", "ABORT": "ABORTED"}
"""What Marquez calls the states of runs."""

_COMPARED = frozenset({"executionParameters", "test"})
_OURS = "mlgov_"
_TICK = timedelta(milliseconds=1)
_MOST_QUERIES = 10
_SHOWN = 120


class MarquezCheck:
    """Compares what a walk reached with a Marquez.

    Args:
        client: The Marquez.
        walk: What the outbox has.
    """

    def __init__(self, client: MarquezClient, walk: Walk) -> None:
        self._client = client
        self._walk = walk
        self._gaps: list[Gap] = []
        self._missing: set[str] = set()

    def compare(self) -> list[Gap]:
        """Return what Marquez lacks or shows differently, and what it could not be asked."""
        walk = self._walk
        sources = (walk.source_of(place) for place in walk.places)
        try:
            for run in (*walk.runs.values(), *filter(None, sources)):
                self._check_run(run)
            for place in walk.places:
                if walk.kind(place) not in {NodeKind.DATA, NodeKind.SOURCE}:
                    self._check_writers(place)
            for run in self._last_runs()[:_MOST_QUERIES]:
                self._check_upstream(run)
        except LineageUnavailableError as error:
            self._tell(f"Marquez cannot be asked, and the rest was not compared: {error}")
        return self._gaps

    def _tell(self, problem: str, node: str = "", field: str = "") -> None:
        self._gaps.append(Gap("marquez", problem, node, field))

    def _differs(self, run: SentRun, field: str, found: object, sent: object) -> None:
        """Note a field of a run that Marquez shows differently."""
        said = "nothing" if sent is None else _short(sent)
        shown = f"{field} is {_short(found)} in Marquez"
        problem = f"run {run.run_id}: {shown}, {said} was sent"
        self._tell(problem, run_node_id(run.run_id), field)

    def _check_run(self, run: SentRun) -> None:
        found = self._client.run(run.run_id)
        if found is None:
            self._missing.add(run.run_id)
            self._tell(
                f"run {run.run_id} ({run.job[1]}) is missing in Marquez, {run.state} was sent",
                run_node_id(run.run_id),
                "run",
            )
            return
        if found.get("state") != STATES[run.state]:
            self._differs(run, "state", found.get("state"), run.state)
        self._check_time(run, "start", found.get("startedAt"), run.started_at)
        self._check_time(run, "end", found.get("endedAt"), run.ended_at)
        self._check_job(run, found.get("jobVersion"))
        self._check_bound(run, "inputs", found.get("inputDatasetVersions"), run.inputs)
        if run.state != "RUNNING":
            self._check_bound(run, "outputs", found.get("outputDatasetVersions"), run.outputs)
        self._check_facets(run, found.get("facets") or {})

    def _check_time(
        self, run: SentRun, field: str, found: str | None, sent: datetime | None
    ) -> None:
        shown = moment_of(found)
        if sent is None:
            is_same = field == "start" or shown is None  # a lone end has some start there
        else:
            is_same = shown is not None and abs(shown - sent) < _TICK
        if not is_same:
            self._differs(run, field, found, to_text(sent) if sent else None)

    def _check_job(self, run: SentRun, found: Mapping[str, Any] | None) -> None:
        """Compare the job; below a parent, Marquez puts the parent's name before its own."""
        if found is None:
            return
        namespace, name = run.job
        shown = (found.get("namespace"), found.get("name"))
        if shown not in {(namespace, name), (namespace, f"{run.parent_job}.{name}")}:
            self._differs(run, "job", " ".join(map(str, shown)), " ".join(run.job))

    def _check_bound(self, run: SentRun, field: str, found: Any, sent: tuple[Place, ...]) -> None:
        versions: dict[Place, set[str]] = {}
        for each in found or ():
            bound = each["datasetVersionId"]
            place = (bound["namespace"], bound["name"])
            versions.setdefault(place, set()).add(bound["version"])
        for place in sent:
            if place not in versions:
                self._differs(run, field, f"without {place[1]}", place[1])
        for place, bound_to in versions.items():
            if place not in sent:
                self._differs(run, field, place[1], f"nothing of {place[1]}")
            elif len(bound_to) > 1:
                self._differs(run, field, f"{place[1]} in {len(bound_to)} versions", "one")

    def _check_facets(self, run: SentRun, found: Mapping[str, Any]) -> None:
        for key in sorted({*run.facets, *found}):
            is_ours = key.startswith(_OURS)
            if is_ours or (key in _COMPARED and key in run.facets):
                for field, shown, sent in _differences(key, found.get(key), run.facets.get(key)):
                    self._differs(run, field, shown, sent)

    def _check_writers(self, place: Place) -> None:
        """Name runs that wrote a record by Marquez, and of which the outbox knows nothing."""
        for version in self._client.dataset_versions(*place):
            run_id = (version.get("createdByRun") or {}).get("id")
            if run_id is not None and not self._wrote(run_id, place):
                self._tell(
                    f"run {run_id} wrote {place[1]} by Marquez, and the outbox knows nothing of it",
                    dataset_node_id(*place),
                    "writer",
                )

    def _check_upstream(self, run: SentRun) -> None:
        """Ask what an auditor would ask, and compare who produced what."""
        if run.run_id in self._missing:
            return
        try:
            reached = self._client.upstream(run.run_id, MAX_DEPTH)
        except LineageUnavailableError:
            raise
        except LineageError as error:
            self._tell(
                f"Marquez cannot answer the audit query for run {run.run_id} (HTTP 500): "
                f"{error.problem}",
                run_node_id(run.run_id),
                "upstream",
            )
            return
        found = {each["run"]["id"]: each for each in reached}
        for other in self._upstream(run):
            if other.run_id in found:
                self._check_producers(other, found[other.run_id]["inputs"])
            elif other.run_id not in self._missing:
                self._tell(
                    f"run {other.run_id} ({other.job[1]}) is not reached by Marquez's audit query "
                    f"for run {run.run_id}",
                    run_node_id(run.run_id),
                    "upstream",
                )

    def _check_producers(self, run: SentRun, inputs: list[Mapping[str, Any]]) -> None:
        for each in inputs:
            place, producer = (each["namespace"], each["name"]), each["producedByRunId"]
            if place in run.inputs and not self._wrote(producer, place):
                sent = ", ".join(writer.run_id for writer in self._walk.writers(place)) or "none"
                self._differs(run, "inputs", f"{place[1]} of run {producer}", f"that of {sent}")

    def _wrote(self, run_id: str, place: Place) -> bool:
        run = self._walk.run(run_id)
        return run is not None and place in run.outputs

    def _last_runs(self) -> list[SentRun]:
        """Return the runs of whose outputs no other run of the trace read anything."""
        read = {place for run in self._walk.runs.values() for place in run.inputs}
        return [run for run in self._walk.runs.values() if not read.intersection(run.outputs)]

    def _upstream(self, run: SentRun) -> list[SentRun]:
        """Return a run and those that it depends on, as the outbox has them."""
        found, open_runs = {run.run_id: run}, [run]
        while open_runs:
            for place in open_runs.pop().inputs:
                for writer in self._walk.writers(place):
                    if writer.run_id not in found:
                        found[writer.run_id] = writer
                        open_runs.append(writer)
        return list(found.values())


def _differences(field: str, found: Any, sent: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each field in which two facets differ, with what is found and what was sent."""
    if found == sent:
        return
    by_key = _by_key(found), _by_key(sent)
    if not isinstance(by_key[0], dict) or not isinstance(by_key[1], dict):
        yield field, found, sent
        return
    for key in sorted({*by_key[0], *by_key[1]}):
        path = field if key == "parameters" else f"{field}.{key}"
        yield from _differences(path, by_key[0].get(key), by_key[1].get(key))


def _by_key(value: Any) -> Any:
    """Return a list of named values as an object."""
    is_named = isinstance(value, list) and all(isinstance(e, dict) and "key" in e for e in value)
    return {str(each["key"]): each.get("value") for each in value} if is_named else value


def _short(value: object) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
