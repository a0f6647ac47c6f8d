"""Command jobs of an Azure ML workspace, by its REST API.

Azure's provider for Airflow has nothing for Azure ML, and ``azure-ai-ml`` asks for libraries that
do not go with it; so credentials come from the provider's connection, and requests are our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from airflow_mlgov.clouds.azure import Arm, AzureSession, BlobStore, Kinds, storage_id
from airflow_mlgov.errors import ArtefactError, PlatformError, PlatformUnavailableError
from airflow_mlgov.platforms.azureml import request as requests
from airflow_mlgov.platforms.azureml.logs import JobLog
from airflow_mlgov.platforms.azureml.preflight import (
    STORAGE_API,
    key_of_storage,
    place,
    preflight,
)
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState, JobStatus

_STATES = {
    "NotStarted": JobState.QUEUED,
    "Queued": JobState.QUEUED,
    "Provisioning": JobState.QUEUED,
    "Starting": JobState.QUEUED,
    "Preparing": JobState.QUEUED,
    "Running": JobState.RUNNING,
    "Finalizing": JobState.RUNNING,
    "NotResponding": JobState.RUNNING,
    "CancelRequested": JobState.CANCELLING,
    "Completed": JobState.SUCCEEDED,
    "Failed": JobState.FAILED,
    "Canceled": JobState.CANCELLED,
    "Paused": JobState.PAUSED,
}
_STUDIO = "https://ml.azure.com"
_REASON_BYTES = 1000


class AzureMlJobs:
    """Jobs of an Azure ML workspace, whatever their containers do.

    Args:
        terms: An entry of kind ``azureml``.

    Raises:
        ConfigurationError: The entry names no workspace, store or identity that can be.
    """

    kind = "azureml"
    purpose: ClassVar[str]
    """Of a `JobHandle`."""

    def __init__(self, terms: PlatformTerms) -> None:
        requests.check_terms(terms)
        self.name = terms.name
        self._terms = terms
        kinds = Kinds(PlatformError, PlatformUnavailableError)
        session = AzureSession(f"Platform {terms.name}", terms.connection, terms.endpoint, kinds)
        self._arm = Arm(session)
        self._store = BlobStore(session, terms.output)
        self._log = JobLog(self._arm, session, terms.account)

    def stage(self, folder: str, files: Mapping[str, Path]) -> str:
        """Store files beneath the entry's output location; see the port."""
        url = self._store.url_of(folder)
        self._store.send(url, files)
        return url

    def output_uri(self, folder: str) -> str:
        """Return the address of a folder beneath the entry's output location."""
        return self._store.url_of(folder)

    def first_object(self, uri: str) -> str | None:
        """Return the address of something beneath a folder; None if nothing is there."""
        return self._store.first(uri)

    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls; see the port."""
        return requests.stated(request)

    def preflight(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Ask workspace, compute cluster and storage account; see the port."""
        del request
        return preflight(self._arm, self._terms, self._store)

    def find(self, key: str) -> JobHandle | None:
        """Return the job of this name, running or ended; None if the workspace shows none."""
        found = self._arm.get(self._path(key))
        return None if found is None else self._handle(key, found)

    def submit(self, request: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its name.

        ``PUT`` of a name that is there would change the tags of what may be somebody else's job:
        it is looked for first. Of two that start at once, the later ``PUT`` finds the first's job.
        """
        job = request["job"]
        found = self._arm.get(self._path(job["name"]))
        if found is None:
            self._ensure(request)
            found = self._arm.put(self._path(job["name"]), job["body"])
        return self._handle(job["name"], found)

    def poll(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands; see the port."""
        found = self._arm.get(self._path(handle.native_id))
        if found is None:
            return JobStatus(JobState.MISSING, "NotFound")
        job = found.get("properties", {})
        native = str(job.get("status"))
        state = _STATES.get(native, JobState.UNKNOWN)
        if not state.ended:
            reason = "the job's machine does not answer" if native == "NotResponding" else ""
            return JobStatus(state, native, reason)
        reason = self._reason(job) if state is JobState.FAILED else ""
        started, ended = (_time(job, name) for name in ("StartTimeUtc", "EndTimeUtc"))
        seconds = (ended - started).total_seconds() if started and ended else None
        return JobStatus(state, native, reason, seconds, self._facts(job, started, ended))

    def cancel(self, handle: JobHandle) -> None:
        """Ask Azure to end a job; one that has ended or is gone is fine."""
        try:
            self._arm.post(f"{self._path(handle.native_id)}/cancel")
        except PlatformUnavailableError:
            raise
        except PlatformError:
            state = self.poll(handle).state  # refused, as it is for one that has ended
            if not state.ended and state not in {JobState.MISSING, JobState.CANCELLING}:
                raise

    def log_lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what the job has written since a cursor; see `JobLog`."""
        return self._log.lines(handle, cursor)

    def _rendered(self, spec: JobSpec, work: requests.Work) -> dict[str, Any]:
        """Return the bodies of ``PUT jobs/{id}`` and of the two resources that it names."""
        return requests.render(self._terms, self._store, spec, work)

    def _receive(self, url: str, into: Path, what: str) -> None:
        """Copy everything beneath an address to an empty private folder.

        Raises:
            ArtefactError: Nothing is there, it is cut short, or it holds paths that leave the
                folder; a retry does not help.
        """
        self._store.download(url, into)
        if not any(into.iterdir()):
            raise ArtefactError(
                f"Nothing stands at {url}, where {what}.",
                remedy="Look who deleted it there; then start a new run.",
            )

    def _path(self, key: str) -> str:
        return f"{self._terms.account}/jobs/{key}"

    def _ensure(self, request: Mapping[str, Any]) -> None:
        """Make environment and datastore that a job names, unless they are there."""
        environment = request["environment"]
        path = f"environments/{environment['name']}/versions/{environment['version']}"
        self._ensure_one(path, environment["body"], ("image",))
        datastore = request["datastore"]
        names = ("datastoreType", "accountName", "containerName")
        self._ensure_one(f"datastores/{datastore['name']}", datastore["body"], names)

    def _ensure_one(self, path: str, body: Mapping[str, Any], names: Sequence[str]) -> None:
        path = f"{self._terms.account}/{path}"
        found = self._arm.get(path) or self._arm.put(path, body)
        asked, got = body["properties"], found.get("properties", {})
        for name in names:
            if got.get(name) != asked[name]:
                raise PlatformError(
                    f"Platform {self.name}: {path} has {name} {got.get(name)!r}, and not "
                    f"{asked[name]!r}: somebody made or changed it.",
                    remedy="Delete it; it is made again with the next job.",
                )

    def _handle(self, key: str, found: Mapping[str, Any]) -> JobHandle:
        job = found.get("properties", {})
        studio = (job.get("services") or {}).get("Studio") or {}
        url = f"{_STUDIO}/runs/{key}?wsid={self._terms.account}"
        try:
            spec = Digest.parse(str((job.get("properties") or {}).get(requests.SPEC_PROPERTY)))
        except ArtefactError:
            spec = None
        address = str(studio.get("endpoint") or url)
        return JobHandle(self.name, key, key, address, spec, self.purpose)

    def _reason(self, job: Mapping[str, Any]) -> str:
        """Return what the container left as its reason; the resource manager gives none."""
        found = requests.failure_path(job)
        if found is None or found[0] != requests.datastore_name(self._store):
            return ""
        try:
            said = self._store.read(found[1], most=_REASON_BYTES)
        except PlatformUnavailableError:
            raise
        except PlatformError as error:
            return f"its reason cannot be read: {error.problem}"
        return said.decode(errors="replace").strip()

    def _facts(
        self, job: Mapping[str, Any], started: datetime | None, ended: datetime | None
    ) -> dict[str, Any]:
        workspace = self._known(self._terms.account)
        environment = self._known(str(job.get("environmentId") or "/"))
        account = storage_id(workspace, self._terms.account, self._store)
        facts = {
            "image": environment.get("properties", {}).get("image"),
            "region": place(workspace.get("location")),
            "key": key_of_storage(self._known(account, api=STORAGE_API)),
            "identity": (job.get("identity") or {}).get("clientId"),
            "instance": (job.get("resources") or {}).get("instanceType") or job.get("computeId"),
            "started_at": started and started.isoformat(),
            "ended_at": ended and ended.isoformat(),
        }
        return {name: value for name, value in facts.items() if value}

    def _known(self, path: str, **api: str) -> Mapping[str, Any]:
        """Return a resource; nothing if it may not be read, which is no reason to stop."""
        try:
            return self._arm.get(path, **api) or {}
        except PlatformUnavailableError:
            raise
        except PlatformError:
            return {}


def _time(job: Mapping[str, Any], name: str) -> datetime | None:
    """Return a time of the job's properties; Azure writes it without a zone, and means UTC."""
    text = str((job.get("properties") or {}).get(name) or "")
    try:
        return datetime.fromisoformat(f"{text.removesuffix('Z').partition('+')[0]}+00:00")
    except ValueError:
        return None
