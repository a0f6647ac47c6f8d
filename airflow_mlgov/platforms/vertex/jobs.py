"""What Vertex AI's custom jobs and batch prediction jobs have in common.

Vertex numbers jobs by itself and takes no name of the client's choice: a job is found by its label
``mlgov-key``. Of several with one label, which two tries at once can make, the oldest counts.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_mlgov.clouds.gcp.labels import check_tags, label_digest
from airflow_mlgov.clouds.gcp.session import CALL_S, GcpSession
from airflow_mlgov.clouds.gcp.store import first_in, read_start, send
from airflow_mlgov.errors import MlgovError, PlatformError, PlatformUnavailableError
from airflow_mlgov.platforms.vertex import request as requests
from airflow_mlgov.platforms.vertex.logs import log_lines
from airflow_mlgov.platforms.vertex.preflight import preflight
from airflow_mlgov.platforms.vertex.status import ENDED
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState, JobStatus

_VISIBLE_S = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)


@dataclass(frozen=True, slots=True)
class VertexKind:
    """A kind of job, in Google's words.

    Attributes:
        message: Type of its message: ``CustomJob``.
        method: As methods of the client of jobs end, and their argument: ``custom_job``.
        field: Where it stands in our request: ``customJob``.
        page: Where the console shows it.
        purpose: As `JobHandle.purpose`.
    """

    message: str
    method: str
    field: str
    page: str
    purpose: str


class VertexJobs(ABC):
    """Jobs of one kind in one project and region; see `Jobs` for its methods.

    Args:
        terms: An entry of kind ``vertex``.
        sleep: Waits a number of seconds.

    Raises:
        ConfigurationError: The entry says what Vertex AI cannot be told; a retry does not help.
    """

    kind = "vertex"
    native: VertexKind

    def __init__(
        self, terms: PlatformTerms, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        requests.check_terms(terms)
        check_tags(terms)
        self._terms = terms
        self._sleep = sleep
        self._session = GcpSession(terms, PlatformError, PlatformUnavailableError)

    @abstractmethod
    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return the request, in the names of Vertex AI's REST interface."""

    @abstractmethod
    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""

    @abstractmethod
    def _output_asked(self, request: Mapping[str, Any]) -> str:
        """Return the folder that a request says the job writes to."""

    @abstractmethod
    def _output_of(self, job: Any) -> str:
        """Return the folder that a job writes to."""

    @abstractmethod
    def _status_of(self, job: Any) -> JobStatus:
        """Return how a job stands."""

    @property
    def name(self) -> str:
        """Entry of the platform file."""
        return self._terms.name

    def stage(self, folder: str, files: Mapping[str, Path]) -> str:
        """Store files beneath the output location; what is there already is not sent again."""
        uri = self.output_uri(folder)
        send(self._session, uri, files, self._terms.keys.get("output"))
        return uri

    def output_uri(self, folder: str) -> str:
        """Return the URI of a folder beneath the output location."""
        return f"{self._terms.output}/{folder}"

    def first_object(self, uri: str) -> str | None:
        """Return the URI of something under a folder's URI; None if there is nothing."""
        return first_in(self._session, uri)

    def preflight(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what the job's bucket says; what no one can be asked is stated as unknown."""
        return preflight(self._session, self._output_asked(request))

    def find(self, key: str) -> JobHandle | None:
        """Return the oldest job with this key; None if Vertex shows none."""
        found = self._with_key(key)
        return self._handle(found[0], key) if found else None

    def submit(self, request: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its key already.

        After it was made, jobs are listed until it is shown: of several with its key the oldest is
        returned, and the others are cancelled.
        """
        key = request[self.native.field]["displayName"]
        found = self._with_key(key) or self._shown(key, self._created(request))
        for younger in found[1:]:
            if younger.labels.get(requests.SPEC_LABEL) == found[0].labels.get(requests.SPEC_LABEL):
                self.cancel(self._handle(younger, key))
        return self._handle(found[0], key)

    def poll(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands, by asking for it under its resource name."""
        from google.api_core.exceptions import NotFound

        with self._session.talking(f"asking about {handle}"):
            try:
                job = self._called("get", name=handle.native_id)
            except NotFound as error:
                return JobStatus(JobState.MISSING, "NOT_FOUND", error.message)
            status = self._status_of(job)
        said = self._said(job) if status.state is JobState.FAILED else ""
        return replace(status, reason=f"{status.reason} {said}".strip()) if said else status

    def cancel(self, handle: JobHandle) -> None:
        """Ask for a job's end; one that has ended or is gone is fine."""
        from google.api_core.exceptions import BadRequest, NotFound

        with self._session.talking(f"cancelling {handle}"):
            try:
                self._called("cancel", name=handle.native_id)
            except NotFound:
                return
            except BadRequest:
                if self.poll(handle).state not in ENDED:
                    raise

    def log_lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what a job has written to Cloud Logging since a cursor, and the next cursor."""
        with self._session.talking(f"reading the log of {handle}"):
            return log_lines(self._session, handle.native_id.rpartition("/")[2], cursor)

    def _said(self, job: Any) -> str:
        """Return why the container says that it failed; nothing if it did not come to say it."""
        try:
            return read_start(self._session, requests.failure_uri(self._output_of(job)))
        except MlgovError:
            return ""

    def _called(self, verb: str, **said: Any) -> Any:
        method = getattr(self._session.jobs(), f"{verb}_{self.native.method}")
        return method(**said, timeout=CALL_S, retry=None)

    def _created(self, request: Mapping[str, Any]) -> Any:
        from google.cloud import aiplatform_v1
        from google.protobuf.json_format import ParseDict, ParseError

        message = getattr(aiplatform_v1, self.native.message)
        job = message()
        try:
            ParseDict(request[self.native.field], message.pb(job))
        except ParseError as error:
            raise PlatformError(
                f"{self.name}: the request is none that Vertex AI has: {error}."
            ) from error
        with self._session.talking(f"submitting {job.display_name}"):
            return self._called("create", parent=request["parent"], **{self.native.method: job})

    def _shown(self, key: str, mine: Any) -> list[Any]:
        """Return the jobs with a key, oldest first, once ours is shown; or when that takes long.

        A listing that fails now changes nothing: the job is there, and is found by its key.
        """
        found: list[Any] = []
        for pause_s in _VISIBLE_S:
            try:
                found = self._with_key(key)
            except MlgovError:
                return [mine]
            if any(job.name == mine.name for job in found):
                return found
            self._sleep(pause_s)
        return sorted([mine, *found], key=_age)

    def _with_key(self, key: str) -> list[Any]:
        with self._session.talking(f"looking for job {key}"):
            found = list(self._listed(f'labels.{requests.KEY_LABEL}="{key}"'))
        return sorted(found, key=_age)

    def _listed(self, wanted: str, page_size: int = 100) -> Any:
        """Return the client's own listing, which asks for one page after the other."""
        from google.cloud import aiplatform_v1

        asked = getattr(aiplatform_v1, f"List{self.native.message}sRequest")(
            parent=self._session.location, filter=wanted, page_size=page_size
        )
        listing = getattr(self._session.jobs(), f"list_{self.native.method}s")
        return listing(asked, timeout=CALL_S, retry=None)

    def _handle(self, job: Any, key: str) -> JobHandle:
        terms = self._terms
        return JobHandle(
            platform=self.name,
            key=key,
            native_id=job.name,
            console_url=f"https://console.cloud.google.com/vertex-ai/locations/{terms.region}/"
            f"{self.native.page}/{job.name.rpartition('/')[2]}?project={terms.account}",
            spec=label_digest(job.labels.get(requests.SPEC_LABEL)),
            purpose=self.native.purpose,
        )


def _age(job: Any) -> tuple[float, str]:
    made = job.create_time
    return (made.timestamp() if made else 0.0, job.name)
