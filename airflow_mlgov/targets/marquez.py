"""Marquez, which must never see an event that it would break of.

Source:
    What Marquez 0.51 refuses, and what it stores and then cannot read back:
    `docs/explanation/lineage.md`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.lineage.marquez import MarquezClient
from airflow_mlgov.lineage.names import DatasetName, check_job_name
from airflow_mlgov.service.outbox import TERMINAL, Event

MAX_EVENT_BYTES = 1_000_000
"""What the door before a Marquez takes (``deploy/nginx``).

Ours are below 50 kB. A large DAG's START by Airflow's provider is not, and without it the DAG's
runs would stand in the graph without colour.
"""

_STATES = {"COMPLETE": "COMPLETED", "FAIL": "FAILED", "ABORT": "ABORTED"}
_KINDS = {"START", "RUNNING", "OTHER", *TERMINAL}
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_NAMESPACE_OF_JOB = "a-job"  # any name that is right where only the namespace is looked at


class MarquezTarget:
    """Hands events to a Marquez, and reads runs back.

    Args:
        name: What the settings call it.
        client: Where it answers.
    """

    binds_on_arrival = True

    def __init__(self, name: str, client: MarquezClient) -> None:
        self._name = name
        self._client = client

    @property
    def name(self) -> str:
        """What the settings call it."""
        return self._name

    def problem(self, event: Event) -> str:
        """Say why Marquez must not get an event, and the remedy; empty if it may."""
        return next(_problems(event), "")

    def send(self, event: bytes) -> None:
        """Post an event; Marquez has stored it when this returns."""
        self._client.post(event)

    def difference(self, events: Sequence[Event]) -> str:
        """Read a finished run back and say what differs; empty if nothing does.

        Looked at are its state, its beginning and end, and that each input is bound to one version.
        """
        run_id = events[-1]["run"]["runId"]
        found = self._client.run(run_id)
        if found is None:
            return f"run {run_id} is not there."
        return "; ".join(_differences(events, found))


def _differences(events: Sequence[Event], found: Mapping[str, Any]) -> Iterator[str]:
    last = events[-1]
    wanted = _STATES[last["eventType"]]
    if found["state"] != wanted:
        yield f"its state is {found['state']}, not {wanted}"
    started = next((e["eventTime"] for e in events if e["eventType"] == "START"), None)
    if started is not None and not _same_moment(found["startedAt"], started):
        yield f"it began at {found['startedAt']}, not {started}"
    if not _same_moment(found["endedAt"], last["eventTime"]):
        yield f"it ended at {found['endedAt']}, not {last['eventTime']}"
    bound = Counter(
        (each["datasetVersionId"]["namespace"], each["datasetVersionId"]["name"])
        for each in found["inputDatasetVersions"]
    )
    sent = {(each["namespace"], each["name"]) for e in events for each in e.get("inputs") or ()}
    for dataset in sorted(sent | bound.keys()):
        if bound[dataset] != 1 or dataset not in sent:
            yield f"{bound[dataset]} versions of input {' '.join(dataset)} are bound" + (
                "" if dataset in sent else ", which was not sent"
            )


def _same_moment(found: Any, sent: str) -> bool:
    # Marquez keeps microseconds, and rounds what is finer.
    try:
        return abs(_moment(str(found)) - _moment(sent)) <= timedelta(microseconds=1)
    except ValueError:
        return False


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _problems(event: Event) -> Iterator[str]:
    try:
        yield from _problems_of_text(event)
        yield from _problems_of_run(event)
        yield from _problems_of_job(event)
        for side in ("inputs", "outputs"):
            for dataset in event.get(side) or ():
                yield from _problems_of_dataset(dataset, side)
    except ConfigurationError as error:
        yield f"{error} Marquez would refuse it, or break of it."
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        yield f"It is no run event of OpenLineage ({type(error).__name__}: {error})."


def _problems_of_text(event: Event) -> Iterator[str]:
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_EVENT_BYTES:
        yield (
            f"It has {size} bytes; Marquez gets at most {MAX_EVENT_BYTES}. Leave out of its facets "
            "what is long ([openlineage] include_full_task_info, disable_source_code)."
        )
    if not _is_unicode(text) or ("\\u0000" in text and any("\0" in t for t in _texts(event))):
        yield "A text in it holds a NUL or is no Unicode, which its database cannot store."
    for key in ("producer", "schemaURL"):
        if not _is_text(event, key):
            yield f"It has no {key}."


def _problems_of_run(event: Event) -> Iterator[str]:
    if event["eventType"] not in _KINDS:
        yield f"Its eventType is {event['eventType']!r}, which is none of OpenLineage's."
    yield from _times({"eventTime": event["eventTime"]})
    run, facets = event["run"], event["run"].get("facets") or {}
    if not _is_uuid(run["runId"]):
        yield f"Its runId {run['runId']!r} is no UUID; Marquez would make another of it."
    times = facets.get("nominalTime") or {}
    yield from _times({key: times[key] for key in times if key.startswith("nominal")})
    parent = facets.get("parent")
    if parent is not None:
        for each in (parent, parent.get("root") or parent):
            _check_job(each["job"])
            if not _is_uuid(each["run"]["runId"]):
                yield f"The runId {each['run']['runId']!r} in its parent facet is no UUID."


def _problems_of_job(event: Event) -> Iterator[str]:
    _check_job(event["job"])
    facets = event["job"].get("facets") or {}
    kind = facets.get("jobType")
    if kind is not None and not (
        _is_text(kind, "processingType") and _is_text(kind, "integration")
    ):
        yield "Its jobType facet lacks processingType or integration."
    yield from _documentation(facets, "job")


def _problems_of_dataset(dataset: Mapping[str, Any], side: str) -> Iterator[str]:
    DatasetName(dataset["namespace"], dataset["name"])
    facets = dataset.get("facets") or {}
    yield from _documentation(facets, f"dataset {dataset['name']!r} of its {side}")
    for other in (facets.get("symlinks") or {}).get("identifiers") or ():
        DatasetName(other["namespace"], other["name"])
        if not _is_text(other, "type"):
            yield f"A symlink of {dataset['name']!r} has no type."


def _documentation(facets: Mapping[str, Any], what: str) -> Iterator[str]:
    said = facets.get("documentation")
    if said is not None and not _is_text(said, "description"):
        yield f"The documentation facet of its {what} has no description."


def _check_job(job: Mapping[str, Any]) -> None:
    DatasetName(job["namespace"], _NAMESPACE_OF_JOB)
    check_job_name(job["name"])


def _times(named: Mapping[str, Any]) -> Iterator[str]:
    for key, value in named.items():
        if not isinstance(value, str) or not _TIME.fullmatch(value) or not _is_moment(value):
            yield f"Its {key} {value!r} is no full RFC 3339 time, such as 2026-01-31T12:00:00Z."


def _is_moment(text: str) -> bool:
    try:
        _moment(text)
    except ValueError:
        return False
    return True


def _is_uuid(text: Any) -> bool:
    try:
        return bool(str(UUID(text)) == text.lower())
    except (AttributeError, TypeError, ValueError):
        return False


def _is_text(facet: Mapping[str, Any], key: str) -> bool:
    said = facet.get(key)
    return isinstance(said, str) and bool(said.strip())


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
