"""Runs as the outbox tells of them: what was read and written, how it ended, and what was stated.

An event may come from any task and any tool, so nothing in it is relied on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from airflow_mlgov.lineage.names import NAMESPACE
from airflow_mlgov.records.trace import NodeKind
from airflow_mlgov.service.outbox import TERMINAL, Event

Place: TypeAlias = tuple[str, str]
"""Namespace and name of a dataset or job, whatever they hold."""

_BY_SUBTYPE = {
    "APPROVAL": NodeKind.APPROVAL,
    "APPROVAL_REQUEST": NodeKind.REQUEST,
    "BREAK_GLASS": NodeKind.BREAK_GLASS,
    "DATA_VALIDATION": NodeKind.REPORT,
    "DENIAL": NodeKind.DENIAL,
    "ENDPOINT": NodeKind.ENDPOINT,
    "VALIDATION_REPORT": NodeKind.REPORT,
}
_BY_PART = {
    "approval": NodeKind.APPROVAL,
    "breakglass": NodeKind.BREAK_GLASS,
    "denial": NodeKind.DENIAL,
    "endpoint": NodeKind.ENDPOINT,
    "report": NodeKind.REPORT,
    "request": NodeKind.REQUEST,
}


@dataclass(frozen=True, slots=True)
class SentRun:
    """A run up to the first event that ends it.

    Attributes:
        run_id: Its id.
        job: Namespace and name of its job.
        state: ``COMPLETE``, ``FAIL`` or ``ABORT``; ``RUNNING`` if nothing ended it.
        started_at: Time of its first START; None if there was none.
        ended_at: Time of what ended it.
        inputs: What it read, each once, in the order in which it was named.
        outputs: What its end says that it wrote.
        written: Facets of each output.
        facets: About the run; of a facet that was sent twice, the last.
        job_facets: About the job.
        came_later: Type of an event that came after the end and says otherwise; empty if none.
    """

    run_id: str
    job: Place
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    written: Mapping[Place, Mapping[str, Any]] = field(default_factory=dict)
    facets: Mapping[str, Any] = field(default_factory=dict)
    job_facets: Mapping[str, Any] = field(default_factory=dict)
    came_later: str = ""

    @property
    def is_registration(self) -> bool:
        """Whether it says no more than that a source exists."""
        kind = self.job_facets.get("jobType")
        return isinstance(kind, dict) and kind.get("jobType") == "SOURCE" and not self.inputs

    @property
    def at(self) -> datetime | None:
        """When it ended, or began."""
        return self.ended_at or self.started_at

    @property
    def parent_job(self) -> str:
        """Name of the job that started it; empty if none is stated."""
        parent = self.facets.get("parent")
        return _text(_get(parent, "job"), "name")

    @property
    def task(self) -> tuple[str, str, str, int] | None:
        """DAG, run, task and map index by Airflow's own facet; None without it."""
        said = self.facets.get("airflow")
        dag_run, task = _get(said, "dagRun"), _get(said, "task")
        index = _get(_get(said, "taskInstance"), "map_index")
        named = _text(dag_run, "dag_id"), _text(dag_run, "run_id"), _text(task, "task_id")
        return (*named, index if isinstance(index, int) else -1) if all(named) else None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it states of a decision: our own facet, or else the run's parameters."""
        own = self.facets.get("mlgov_approval")
        if isinstance(own, dict):
            return own
        listed = _listed(_get(self.facets.get("executionParameters"), "parameters"))
        return {_text(each, "key"): _get(each, "value") for each in listed}

    @classmethod
    def of(cls, events: Sequence[Event]) -> SentRun:
        """Return the run that events tell of.

        Args:
            events: All of one run, in the order in which they came; at least one.
        """
        types = [_text(event, "eventType") for event in events]
        end = next((i for i, each in enumerate(types) if each in TERMINAL), None)
        told = events if end is None else events[: end + 1]
        later = [] if end is None else [each for each in types[end + 1 :] if each in TERMINAL]
        starts = (event for event, each in zip(told, types, strict=False) if each == "START")
        last = told[-1]
        outputs = {} if end is None else _datasets(last, "outputs")
        return cls(
            run_id=_text(_get(last, "run"), "runId"),
            job=(_text(_get(last, "job"), "namespace"), _text(_get(last, "job"), "name")),
            state="RUNNING" if end is None else types[end],
            started_at=_time(next(starts, None)),
            ended_at=None if end is None else _time(last),
            inputs=tuple({place: None for event in told for place in _datasets(event, "inputs")}),
            outputs=tuple(outputs),
            written=outputs,
            facets=_merged(_get(_get(event, "run"), "facets") for event in told),
            job_facets=_merged(_get(_get(event, "job"), "facets") for event in told),
            came_later=next((each for each in later if each != types[end or 0]), ""),
        )


def kind_of(place: Place, facets: Mapping[str, Any]) -> NodeKind:
    """Return what a dataset is: as its writer states it, or else as its name says."""
    said = facets.get("datasetType")
    sub_type = _text(said, "subType")
    if sub_type in _BY_SUBTYPE:
        return _BY_SUBTYPE[sub_type]
    if _text(said, "datasetType") == "MODEL":
        return NodeKind.MODEL
    if place[0] == NAMESPACE:
        parts = place[1].split("/")
        found = [_BY_PART[part] for part in parts[1:-1] if part in _BY_PART]
        if found:
            return found[0]
    return NodeKind.DATA


def digest_of(facets: Mapping[str, Any]) -> str:
    """Return the digest that a dataset's writer states; empty if none."""
    return _text(facets.get("version"), "datasetVersion")


def moment_of(text: Any) -> datetime | None:
    """Return a time that somebody wrote; None if it is none."""
    with suppress(TypeError, ValueError):
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    return None


def _datasets(event: Event, side: str) -> dict[Place, Mapping[str, Any]]:
    found: dict[Place, Mapping[str, Any]] = {}
    for each in _listed(_get(event, side)):
        place = (_text(each, "namespace"), _text(each, "name"))
        facets = _get(each, "facets")
        if all(place):
            found[place] = facets if isinstance(facets, dict) else {}
    return found


def _merged(facets: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in facets:
        found |= each if isinstance(each, dict) else {}
    return found


def _time(event: Event | None) -> datetime | None:
    return None if event is None else moment_of(_get(event, "eventTime"))


def _text(value: Any, name: str) -> str:
    found = _get(value, name)
    return found if isinstance(found, str) else ""


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
