"""Custom jobs of Vertex AI.

Vertex numbers jobs by itself and takes no name of the client's choice: a job is found by its label
``mlgov-key``. Of several with one label, which two tries at once can make, the oldest counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.clouds.gcp.labels import check_tags, label_digest
from airflow_mlgov.clouds.gcp.session import CALL_S, GcpSession
from airflow_mlgov.clouds.gcp.store import (
    bucket_of,
    check_writable,
    first_in,
    read_start,
    receive,
    send,
)
from airflow_mlgov.errors import (
    ArtefactError,
    MlgovError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.vertex import request as requests
from airflow_mlgov.platforms.vertex.logs import log_lines
from airflow_mlgov.platforms.vertex.preflight import preflight
from airflow_mlgov.platforms.vertex.status import ENDED, status_of
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState, JobStatus

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import CustomJob

_VISIBLE_S = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
_IN_PROJECT = (
    "aiplatform.customJobs.create",
    "aiplatform.customJobs.get",
    "aiplatform.customJobs.list",
    "aiplatform.customJobs.cancel",
    "logging.logEntries.list",
)
_IN_BUCKET = (
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
)


class VertexPlatform:
    """Jobs in one project and region; see `JobPlatform` for its methods.

    Args:
        terms: An entry of kind ``vertex``.
        sleep: Waits a number of seconds.

    Raises:
        ConfigurationError: The entry says what Vertex AI cannot be told; a retry does not help.
    """

    kind = "vertex"

    def __init__(
        self, terms: PlatformTerms, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        requests.check_terms(terms)
        check_tags(terms)
        self._terms = terms
        self._sleep = sleep
        self._session = GcpSession(terms, PlatformError, PlatformUnavailableError)

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

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return the request of CreateCustomJob, in the names of its REST interface."""
        return requests.render(self._terms, self._session.location, spec)

    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""
        return requests.stated(request)

    def preflight(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what the job's bucket says; what no one can be asked is stated as unknown."""
        output = request["customJob"]["jobSpec"]["baseOutputDirectory"]["outputUriPrefix"]
        return preflight(self._session, output)

    def find(self, key: str) -> JobHandle | None:
        """Return the oldest job with this key; None if Vertex shows none."""
        found = self._with_key(key)
        return self._handle(found[0], key) if found else None

    def submit(self, request: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its key already.

        After it was made, jobs are listed until it is shown: of several with its key the oldest is
        returned, and the others are cancelled.
        """
        self._refuse_several(request)
        key = request["customJob"]["displayName"]
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
                job = self._session.jobs().get_custom_job(
                    name=handle.native_id, timeout=CALL_S, retry=None
                )
            except NotFound as error:
                return JobStatus(JobState.MISSING, "NOT_FOUND", error.message)
            status = status_of(job)
        said = self._said(job) if status.state is JobState.FAILED else ""
        return replace(status, reason=f"{status.reason} {said}".strip()) if said else status

    def cancel(self, handle: JobHandle) -> None:
        """Ask for a job's end; one that has ended or is gone is fine."""
        from google.api_core.exceptions import BadRequest, NotFound

        with self._session.talking(f"cancelling {handle}"):
            jobs = self._session.jobs()
            try:
                jobs.cancel_custom_job(name=handle.native_id, timeout=CALL_S, retry=None)
            except NotFound:
                return
            except BadRequest:
                if self.poll(handle).state not in ENDED:
                    raise

    def log_lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what a job has written to Cloud Logging since a cursor, and the next cursor."""
        with self._session.talking(f"reading the log of {handle}"):
            return log_lines(self._session, handle.native_id.rpartition("/")[2], cursor)

    def fetch(self, handle: JobHandle, output_uri: str, into: Path) -> None:
        """Copy what a job wrote to a private folder, each file with its size and checksum compared.

        Raises:
            ArtefactError: There is nothing, or there are links or paths that leave the folder.
        """
        if not receive(self._session, output_uri, into):
            raise ArtefactError(
                f"Nothing stands in {output_uri}, where {handle} was to write.",
                remedy="Look at its log, and whether its service account may write there.",
            )

    def check(self) -> str:
        """Ask for one job and for the bucket, and return a line about it, for `doctor`.

        Raises:
            PlatformError: Google refuses, or nothing may be stored in the bucket.
            PlatformUnavailableError: It cannot be reached; a retry may help.
        """
        with self._session.talking("looking for jobs"):
            self._listed("", page_size=1)
        check_writable(self._session, self._terms.output)
        return f"Vertex AI answers for {self._session.location}, {self._terms.output} is writable."

    def missing_permissions(self) -> list[str]:
        """Return what who asks may not do and would have to; empty if nothing is missing.

        Raises:
            PlatformError: It cannot be asked.
            PlatformUnavailableError: Google cannot be reached; a retry may help.
        """
        with self._session.talking("asking for permissions"):
            held = self._session.held(list(_IN_PROJECT))
            bucket = bucket_of(self._session, self._terms.output)
            held |= set(bucket.test_iam_permissions(list(_IN_BUCKET), timeout=CALL_S, retry=None))
            missing = [each for each in (*_IN_PROJECT, *_IN_BUCKET) if each not in held]
            account = self._terms.identity
            if account and not self._session.may_act_as(account):
                missing.append(f"iam.serviceAccounts.actAs on {account}")
            return missing

    def _said(self, job: CustomJob) -> str:
        """Return why the container says that it failed; nothing if it did not come to say it."""
        output = job.job_spec.base_output_directory.output_uri_prefix
        try:
            return read_start(self._session, requests.failure_uri(output))
        except MlgovError:
            return ""

    def _refuse_several(self, request: Mapping[str, Any]) -> None:
        count = requests.machines(request)
        if count > 1:
            raise PlatformError(
                f"{self.name} would run {count} machines, which would all write one output.",
                remedy="A training script runs on one machine: leave out 'instance.count'.",
            )

    def _created(self, request: Mapping[str, Any]) -> CustomJob:
        from google.cloud.aiplatform_v1 import CustomJob
        from google.protobuf.json_format import ParseDict, ParseError

        job = CustomJob()
        try:
            ParseDict(request["customJob"], CustomJob.pb(job))
        except ParseError as error:
            raise PlatformError(
                f"{self.name}: the request is none that Vertex AI has: {error}."
            ) from error
        with self._session.talking(f"submitting {job.display_name}"):
            return self._session.jobs().create_custom_job(
                parent=request["parent"], custom_job=job, timeout=CALL_S, retry=None
            )

    def _shown(self, key: str, mine: CustomJob) -> list[CustomJob]:
        """Return the jobs with a key, oldest first, once ours is shown; or when that takes long.

        A listing that fails now changes nothing: the job is there, and is found by its key.
        """
        found: list[CustomJob] = []
        for pause_s in _VISIBLE_S:
            try:
                found = self._with_key(key)
            except MlgovError:
                return [mine]
            if any(job.name == mine.name for job in found):
                return found
            self._sleep(pause_s)
        return sorted([mine, *found], key=_age)

    def _with_key(self, key: str) -> list[CustomJob]:
        with self._session.talking(f"looking for job {key}"):
            found = self._listed(f'labels.{requests.KEY_LABEL}="{key}"')
        return sorted(found, key=_age)

    def _listed(self, wanted: str, page_size: int = 100) -> list[CustomJob]:
        from google.cloud.aiplatform_v1 import ListCustomJobsRequest

        asked = ListCustomJobsRequest(
            parent=self._session.location, filter=wanted, page_size=page_size
        )
        answer = self._session.jobs().list_custom_jobs(asked, timeout=CALL_S, retry=None)
        return list(answer) if wanted else list(next(iter(answer.pages)).custom_jobs)

    def _handle(self, job: CustomJob, key: str) -> JobHandle:
        terms = self._terms
        return JobHandle(
            platform=self.name,
            key=key,
            native_id=job.name,
            console_url="https://console.cloud.google.com/vertex-ai/locations/"
            f"{terms.region}/training/{job.name.rpartition('/')[2]}?project={terms.account}",
            spec=label_digest(job.labels.get(requests.SPEC_LABEL)),
        )


def _age(job: CustomJob) -> tuple[float, str]:
    made = job.create_time
    return (made.timestamp() if made else 0.0, job.name)
