"""What Marquez answers about its tables, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from marquez.state import (
    Dataset,
    DatasetVersion,
    Facet,
    Job,
    Name,
    Namespace,
    Run,
    State,
    moment,
)

Json = dict[str, Any]

_HIDDEN_FROM = datetime(2030, 1, 1, tzinfo=UTC)


class BrokenError(Exception):
    """The real one fails at this: 500 with an id of the error."""


def namespace_view(namespace: Namespace) -> Json:
    return {
        "name": namespace.name,
        "createdAt": stamp(namespace.created_at),
        "updatedAt": stamp(namespace.created_at),
        "ownerName": "anonymous",
        "description": namespace.description,
        "isHidden": namespace.is_hidden,
    }


def run_view(state: State, run: Run) -> Json:
    duration = None
    if run.started_at and run.ended_at:
        duration = round((run.ended_at - run.started_at).total_seconds() * 1000)
    return {
        "id": run.id,
        "createdAt": stamp(run.created_at),
        "updatedAt": stamp(run.updated_at),
        "nominalStartTime": None,
        "nominalEndTime": None,
        "state": run.state,
        "startedAt": stamp(run.started_at),
        "endedAt": stamp(run.ended_at),
        "durationMs": duration,
        "args": run.args,
        "jobVersion": run.version
        and {
            "namespace": run.job.namespace,
            "name": run.job.name,
            "version": run.version.version,
        },
        "inputDatasetVersions": [_bound(each, "input", run.id) for each in run.inputs],
        "outputDatasetVersions": [
            _bound(each, "output", run.id) for each in state.outputs_of(run.id)
        ],
        "facets": merged(run.facets),
    }


def dataset_view(dataset: Dataset) -> Json:
    current = dataset.current
    return {
        **_graph_dataset(dataset),
        "currentVersion": current and current.row,
        "columnLineage": None,
        "facets": _dataset_facets(current) if current else {},
        "deleted": dataset.is_deleted,
    }


def version_view(state: State, version: DatasetVersion) -> Json:
    dataset = version.dataset
    maker = state.runs.get(version.run_id or "")
    return {
        **_named(dataset),
        "createdAt": stamp(version.created_at),
        "version": version.row,
        "namespace": dataset.namespace,
        "sourceName": "default",
        "fields": _fields(version),
        "tags": [],
        "lifecycleState": "",
        "description": dataset.description,
        "currentSchemaVersion": version.schema_version,
        "createdByRun": run_view(state, maker) if maker else None,
        "facets": _dataset_facets(version),
    }


def job_view(state: State, job: Job) -> Json:
    latest = _latest_runs(state, job)
    found = _named_job(job)
    return {
        **found,
        "latestRun": latest[0] if latest else None,
        "latestRuns": latest,
        "facets": merged(job.facets),
        "currentVersion": job.version and job.version.row,
        "labels": [],
        "tags": [],
    }


def runs_of(state: State, job: Job) -> list[Json]:
    runs = [run for run in state.runs.values() if run.job is job]
    runs.sort(key=lambda run: run.created_at, reverse=True)
    return [run_view(state, run) for run in runs]


def upstream(state: State, run_id: str, depth: int) -> Json:
    """The audit query: fails for good if anything reached was read before it was written."""
    level, reached = {run_id}, {}
    for steps in range(depth + 1):
        reached |= {each: steps for each in level if each in state.runs and each not in reached}
        made = {read.run_id for each in level for read in _inputs(state, each)}
        level = {each for each in made if each is not None} - level
    runs = [state.runs[each] for each in reached]
    runs.sort(key=lambda run: (reached[run.id], run.job.name))
    return {"runs": [_upstream_run(run) for run in runs]}


def events(state: State, limit: int, offset: int) -> Json:
    """Raw events, the latest first; those from 2030 on are hidden, and counted."""
    shown = [each for each in state.raw if moment(each["eventTime"]) < _HIDDEN_FROM]
    shown.sort(key=lambda each: moment(each["eventTime"]), reverse=True)
    page = [_raw(each) for each in shown[offset : offset + limit]]
    return {"totalCount": len(state.raw), "events": page}


def node(node_id: str) -> list[str]:
    """Split a node's id as the real one does: not at a colon before a slash or a digit."""
    return re.split(r":(?!/|\d)", node_id, maxsplit=2)


def lineage(state: State, start: Dataset | Job, depth: int) -> Json:
    """The graph around a node: jobs that share datasets, whichever way, ``depth`` hops away."""
    jobs = [each for each in state.jobs.values() if not each.is_hidden]
    if isinstance(start, Dataset):
        key = (start.namespace, start.name)
        near = [each for each in jobs if key in each.outputs | each.inputs]
        near.sort(key=lambda job: (key in job.outputs, job.updated_at), reverse=True)
        level = near[:1]
    else:
        key, level = None, [start]
    reached: list[Job] = []
    for _ in range(depth + 1):
        reached += level
        touched = {name for job in level for name in job.inputs | job.outputs}
        level = [job for job in jobs if job not in reached and touched & (job.inputs | job.outputs)]
    names = {name for job in reached for name in job.inputs | job.outputs} | ({key} - {None})
    nodes = [_dataset_node(state.datasets[name], reached) for name in names]
    nodes += [_job_node(state, job) for job in reached]
    return {"graph": sorted(nodes, key=lambda each: str(each["id"]))}


def merged(facets: Iterable[Facet]) -> Json:
    """Facets by the time of their events; the later one replaces the whole."""
    return {each.key: each.value for each in sorted(facets, key=lambda each: each.at)}


def stamp(at: datetime | None) -> str | None:
    """A time as Java writes it."""
    if at is None:
        return None
    digits = f".{at.microsecond:06}" if at.microsecond else ""
    digits = digits.removesuffix("000")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") + digits + "Z"


def _inputs(state: State, run_id: str) -> list[DatasetVersion]:
    return state.runs[run_id].inputs if run_id in state.runs else []


def _upstream_run(run: Run) -> Json:
    if any(each.run_id is None for each in run.inputs):
        raise BrokenError
    return {
        "job": {
            "namespace": run.job.namespace,
            "name": run.job.name,
            "version": run.version and run.version.row,
        },
        "run": {
            "id": run.id,
            "start": stamp(run.started_at),
            "end": stamp(run.ended_at),
            "status": run.state,
        },
        "inputs": [
            {
                "namespace": each.dataset.namespace,
                "name": each.dataset.name,
                "version": each.version,
                "producedByRunId": each.run_id,
            }
            for each in run.inputs
        ],
    }


def _bound(version: DatasetVersion, kind: str, run_id: str) -> Json:
    facets = [each for each in version.facets if each.kind == kind and each.run_id == run_id]
    name = _name(version.dataset) | {"version": version.version}
    return {"datasetVersionId": name, "facets": merged(facets)}


def _dataset_facets(version: DatasetVersion) -> Json:
    return merged(each for each in version.facets if each.kind != "output")


def _name(what: Dataset | Job) -> Json:
    return {"namespace": what.namespace, "name": what.name}


def _names(names: Iterable[Name]) -> list[Json]:
    return [{"namespace": namespace, "name": name} for namespace, name in sorted(names)]


def _named(dataset: Dataset) -> Json:
    return {
        "id": _name(dataset),
        "type": "DB_TABLE",
        "name": dataset.name,
        "physicalName": dataset.name,
    }


def _fields(version: DatasetVersion | None) -> list[Json]:
    return [
        {
            "name": each["name"],
            "type": each.get("type"),
            "tags": [],
            "description": each.get("description"),
        }
        for each in (version.fields.values() if version else ())
    ]


def _graph_dataset(dataset: Dataset) -> Json:
    return {
        **_named(dataset),
        "createdAt": stamp(dataset.created_at),
        "updatedAt": stamp(dataset.updated_at),
        "namespace": dataset.namespace,
        "sourceName": "default",
        "fields": _fields(dataset.current),
        "tags": [],
        "lastModifiedAt": None,
        "description": dataset.description,
        "lastLifecycleState": "",
    }


def _named_job(job: Job) -> Json:
    return {
        "id": _name(job),
        "type": "BATCH",
        "name": job.name,
        "simpleName": job.simple_name,
        "parentJobName": job.parent and job.parent.name,
        "parentJobUuid": job.parent and job.parent.row,
        "createdAt": stamp(job.created_at),
        "updatedAt": stamp(job.updated_at),
        "namespace": job.namespace,
        "inputs": _names(job.inputs),
        "outputs": _names(job.outputs),
        "location": job.location,
        "description": job.description,
    }


def _latest_runs(state: State, job: Job) -> list[Json]:
    return runs_of(state, job)[:10]


def _edges(pairs: Iterable[tuple[str, str]]) -> list[Json]:
    return [{"origin": origin, "destination": end} for origin, end in sorted(pairs)]


def _dataset_node(dataset: Dataset, jobs: list[Job]) -> Json:
    key, own = (dataset.namespace, dataset.name), f"dataset:{dataset.namespace}:{dataset.name}"
    return {
        "id": own,
        "type": "DATASET",
        "data": _graph_dataset(dataset),
        "inEdges": _edges((_job_id(job), own) for job in jobs if key in job.outputs),
        "outEdges": _edges((own, _job_id(job)) for job in jobs if key in job.inputs),
    }


def _job_id(job: Job) -> str:
    return f"job:{job.namespace}:{job.name}"


def _job_node(state: State, job: Job) -> Json:
    own = _job_id(job)
    run = state.runs.get(job.current_run or "")
    data = _named_job(job) | {
        "currentRunUuid": job.current_run,
        "latestRun": run_view(state, run) if run else None,
    }
    return {
        "id": own,
        "type": "JOB",
        "data": data,
        "inEdges": _edges((f"dataset:{ns}:{name}", own) for ns, name in job.inputs),
        "outEdges": _edges((own, f"dataset:{ns}:{name}") for ns, name in job.outputs),
    }


def _raw(event: Json) -> Json:
    """An event as it comes back: with what its classes have and it did not say."""
    run, job = event["run"], event["job"]
    return {
        "eventType": event["eventType"],
        "eventTime": stamp(moment(event["eventTime"])),
        "run": run | {"facets": _filled(run.get("facets"), "nominalTime", "parent")},
        "job": job
        | {
            "facets": _filled(
                job.get("facets"), "documentation", "sourceCodeLocation", "sql", "jobType"
            )
        },
        "inputs": [_raw_dataset(each) for each in event.get("inputs") or []],
        "outputs": [_raw_dataset(each) for each in event.get("outputs") or []],
        "producer": event.get("producer"),
        "schemaURL": event.get("schemaURL"),
    }


def _raw_dataset(said: Json) -> Json:
    return {
        "namespace": said["namespace"],
        "name": said["name"],
        "facets": _filled(
            said.get("facets"),
            "documentation",
            "schema",
            "lifecycleStateChange",
            "dataSource",
            "columnLineage",
            "symlinks",
        ),
        "inputFacets": said.get("inputFacets"),
        "outputFacets": said.get("outputFacets"),
    }


def _filled(facets: Json | None, *typed: str) -> Json | None:
    return None if facets is None else dict.fromkeys(typed) | facets
