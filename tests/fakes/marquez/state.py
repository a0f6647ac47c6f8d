"""What Marquez stores of an event, in the order and with the mistakes of the real one."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

NAMESPACE = re.compile(r"[a-zA-Z:;=/0-9_.@+-]{1,1024}")
STATES = {"complete": "COMPLETED", "abort": "ABORTED", "fail": "FAILED"}
DONE = frozenset(STATES.values())

Name = tuple[str, str]


class BadNameError(Exception):
    """The model of a name is refused half-way: 400, and what was stored so far stays."""


@dataclass
class Facet:
    kind: str
    key: str
    value: Any
    run_id: str
    at: datetime


@dataclass(eq=False)
class DatasetVersion:
    dataset: Dataset
    version: str
    schema_version: str
    run_id: str | None
    created_at: datetime
    row: str = field(default_factory=lambda: str(uuid.uuid4()))
    fields: dict[str, Any] = field(default_factory=dict)
    facets: list[Facet] = field(default_factory=list)


@dataclass(eq=False)
class Dataset:
    namespace: str
    name: str
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    current: DatasetVersion | None = None
    versions: list[DatasetVersion] = field(default_factory=list)
    is_deleted: bool = False


@dataclass
class JobVersion:
    version: str
    row: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(eq=False)
class Job:
    namespace: str
    name: str
    simple_name: str
    parent: Job | None
    created_at: datetime
    updated_at: datetime
    location: str | None = None
    description: str | None = None
    current_run: str | None = None
    version: JobVersion | None = None
    inputs: set[Name] = field(default_factory=set)
    outputs: set[Name] = field(default_factory=set)
    facets: list[Facet] = field(default_factory=list)
    is_hidden: bool = False
    row: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(eq=False)
class Run:
    id: str
    job: Job
    created_at: datetime
    updated_at: datetime
    state: str
    args: dict[str, str]
    started_at: datetime | None = None
    ended_at: datetime | None = None
    version: JobVersion | None = None
    inputs: list[DatasetVersion] = field(default_factory=list)
    facets: list[Facet] = field(default_factory=list)


@dataclass
class Namespace:
    name: str
    created_at: datetime
    description: str | None = None
    is_hidden: bool = False


class State:
    """The tables; callers hold a lock."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        said = (
            "The default global namespace for dataset, job, and run metadata not belonging to a "
            "user-specified namespace."
        )
        self.raw: list[dict[str, Any]] = []
        self.namespaces = {"default": Namespace("default", now, said)}
        self.datasets: dict[Name, Dataset] = {}
        self.jobs: dict[Name, Job] = {}
        self.runs: dict[str, Run] = {}
        self.job_versions: dict[str, JobVersion] = {}
        self._wrote: dict[str, list[DatasetVersion]] = {}

    @property
    def is_poisoned(self) -> bool:
        """A namespace is kept that cannot be made into a model: lists fail for good."""
        return not all(map(NAMESPACE.fullmatch, self.namespaces))

    def apply(self, event: Mapping[str, Any]) -> None:
        """Store an event; a name that is refused leaves half of it."""
        self.raw.append(dict(event))
        at = moment(event["eventTime"])
        kind = event["eventType"]
        inputs, outputs = event.get("inputs") or [], event.get("outputs") or []
        namespace = self._namespace(clean(event["job"]["namespace"]), at)
        for each in inputs:
            check_name(each["namespace"], each["name"])
        run_id = run_uuid(event["run"]["runId"])
        job = self._job_of(event, namespace.name, run_id, at)
        run = self._run_of(event, run_id, job, at)
        _add_facets(job.facets, "job", event["job"].get("facets"), run_id, at)
        if not inputs:
            job.inputs = set()
        for each in inputs:
            bound = self._dataset(each, at, run_id, is_input=True)
            if bound not in run.inputs:
                run.inputs.append(bound)
        if not outputs:
            job.outputs = set()
        wrote = self._wrote.setdefault(run_id, [])
        for each in outputs:
            made = self._dataset(each, at, run_id, is_input=False)
            if made not in wrote:
                wrote.append(made)
        if state_of(kind) in DONE:
            self._end(run, job, outputs)
        if kind.lower() == "complete":
            for written in self.outputs_of(run_id):
                written.dataset.current = written
                written.dataset.updated_at = datetime.now(UTC)

    def outputs_of(self, run_id: str) -> list[DatasetVersion]:
        return [each for each in self._wrote.get(run_id, ()) if each.run_id == run_id]

    def unique_datasets(self) -> list[Dataset]:
        return list({id(each): each for each in self.datasets.values()}.values())

    def set_state(self, run: Run, state: str) -> None:
        """What POST of a run's state does, for anybody."""
        run.state, run.updated_at = state, datetime.now(UTC)
        if state in DONE:
            run.ended_at = run.updated_at
        else:
            run.started_at = run.updated_at

    def _namespace(self, name: str, at: datetime) -> Namespace:
        found = self.namespaces.setdefault(name, Namespace(name, at))
        found.is_hidden = False
        return found

    def _job_of(self, event: Mapping[str, Any], namespace: str, run_id: str, at: datetime) -> Job:
        job, facets = event["job"], event["job"].get("facets") or {}
        parent = ((event["run"].get("facets") or {}).get("parent")) or None
        above = self._parent(event, parent, namespace, at) if parent else None
        name = job["name"]
        simple = name.removeprefix(f"{above.name}.") if above else name
        if above is not None:
            name = f"{above.name}.{simple}"
        found = self.jobs.get((namespace, name))
        if found is None:
            found = Job(namespace, name, simple, above, at, at)
            self.jobs[namespace, name] = found
        found.updated_at, found.is_hidden = at, False
        found.parent = above or found.parent
        found.current_run = above.current_run if above else run_id
        found.description = (facets.get("documentation") or {}).get("description")
        found.location = (facets.get("sourceCodeLocation") or {}).get("url")
        return found

    def _parent(
        self, event: Mapping[str, Any], facet: Mapping[str, Any], namespace: str, at: datetime
    ) -> Job:
        """Return the parent's job: made in the child's namespace, with the child's first state."""
        name = facet["job"]["name"]
        if name == event["job"]["name"]:
            name = name.rpartition(".")[0] or name
        run_id = run_uuid(facet["run"]["runId"])
        known = self.runs.get(run_id)
        if known is not None:
            if (known.job.namespace, known.job.name) == (facet["job"]["namespace"], name):
                return known.job
            run_id = name_uuid(facet["job"]["namespace"], name, run_id)
        job = self.jobs.get((namespace, name))
        if job is None:
            job = self.jobs[namespace, name] = Job(namespace, name, name, None, at, at)
        job.updated_at, job.is_hidden, job.current_run = at, False, run_id
        self._set_run(run_id, job, event["eventType"], {}, at)
        return job

    def _run_of(self, event: Mapping[str, Any], run_id: str, job: Job, at: datetime) -> Run:
        facets = event["run"].get("facets") or {}
        run = self._set_run(run_id, job, event["eventType"], _args(facets), at)
        _add_facets(run.facets, "run", facets, run_id, at)
        return run

    def _set_run(self, run_id: str, job: Job, kind: str, args: dict[str, str], at: datetime) -> Run:
        """The last arrival decides the state; the job stays the one that came first."""
        state = state_of(kind)
        run = self.runs.get(run_id)
        if run is None:
            run = self.runs[run_id] = Run(run_id, job, at, at, state, args)
        run.state, run.updated_at = state, at
        if state in DONE:
            run.ended_at = at
        else:
            run.started_at = at
        return run

    def _dataset(
        self, said: Mapping[str, Any], at: datetime, run_id: str, *, is_input: bool
    ) -> DatasetVersion:
        facets = said.get("facets") or {}
        self._namespace(said["namespace"], at)
        namespace = self._namespace(clean(said["namespace"]), at).name
        key = (namespace, said["name"])
        dataset = self.datasets.get(key)
        if dataset is None:
            dataset = self.datasets[key] = Dataset(*key, created_at=at, updated_at=at)
        for alias in (facets.get("symlinks") or {}).get("identifiers") or []:
            self._namespace(alias["namespace"], at)
            self.datasets.setdefault((alias["namespace"], alias["name"]), dataset)
        dataset.updated_at = at
        dataset.description = (facets.get("documentation") or {}).get("description")
        dataset.is_deleted = _lifecycle(facets).lower() == "drop"
        fields = (facets.get("schema") or {}).get("fields") or []
        version = dataset.current if is_input else None
        if version is None:
            version = _version(dataset, said, run_id, at, is_input=is_input)
        version.fields.update({each["name"]: each for each in fields})
        if is_input and dataset.current is None:
            dataset.current = version
        _add_facets(version.facets, "dataset", facets, run_id, at)
        kind = "input" if is_input else "output"
        _add_facets(version.facets, kind, said.get(f"{kind}Facets"), run_id, at)
        return version

    def _end(self, run: Run, job: Job, outputs: list[Mapping[str, Any]]) -> None:
        """Make the version of the job, and the edges of the graph."""
        for each in outputs:
            check_name(each["namespace"], each["name"])
        read = {(each.dataset.namespace, each.dataset.name) for each in run.inputs}
        wrote = {(w.dataset.namespace, w.dataset.name) for w in self.outputs_of(run.id)}
        version = name_uuid(job.namespace, job.name, sorted(read), sorted(wrote), job.location)
        run.version = self.job_versions.setdefault(version, JobVersion(version))
        job.version = run.version
        job.inputs, job.outputs = read, wrote


def _version(
    dataset: Dataset, said: Mapping[str, Any], run_id: str, at: datetime, *, is_input: bool
) -> DatasetVersion:
    """Return a new version of a dataset, or the one that the same run wrote with that schema."""
    facets = said.get("facets") or {}
    fields = (facets.get("schema") or {}).get("fields") or []
    schema = sorted((each["name"], each.get("type")) for each in fields)
    source = (facets.get("dataSource") or {}).get("name", "default")
    version = name_uuid(said["namespace"], source, said["name"], _lifecycle(facets), schema, run_id)
    producer = None if is_input else run_id
    for known in dataset.versions:
        if known.version == version:
            known.run_id = producer
            return known
    schema_version = name_uuid(dataset.namespace, dataset.name, schema)
    made = DatasetVersion(dataset, version, schema_version, producer, at)
    dataset.versions.append(made)
    return made


def _lifecycle(facets: Mapping[str, Any]) -> str:
    return str((facets.get("lifecycleStateChange") or {}).get("lifecycleStateChange") or "")


def _args(facets: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    nominal, parent = facets.get("nominalTime"), facets.get("parent")
    if nominal:
        found["nominal_start_time"] = str(nominal["nominalStartTime"])
        if nominal.get("nominalEndTime"):
            found["nominal_end_time"] = str(nominal["nominalEndTime"])
    if parent:
        found["run_id"] = parent["run"]["runId"]
        found["name"] = parent["job"]["name"]
        found["namespace"] = parent["job"]["namespace"]
    return found


def _add_facets(
    kept: list[Facet], kind: str, facets: Mapping[str, Any] | None, run_id: str, at: datetime
) -> None:
    kept += [Facet(kind, key, value, run_id, at) for key, value in (facets or {}).items()]


def state_of(kind: str) -> str:
    return STATES.get(kind.lower(), "RUNNING")


def clean(namespace: str) -> str:
    """How the real one writes a namespace that it does not like, in some of its tables."""
    return re.sub(r"[^a-z:;=/A-Z0-9\-_.@+]", "_", namespace)


def check_name(namespace: str, name: str) -> None:
    if not NAMESPACE.fullmatch(namespace) or not name.strip():
        raise BadNameError


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def run_uuid(run_id: str) -> str:
    """A run id that is no UUID becomes one."""
    try:
        return str(uuid.UUID(run_id))
    except ValueError:
        digest = hashlib.md5(run_id.encode(), usedforsecurity=False).digest()
        return str(uuid.UUID(bytes=digest, version=3))


def name_uuid(*parts: Any) -> str:
    return str(uuid.uuid3(uuid.NAMESPACE_URL, json.dumps(parts)))
