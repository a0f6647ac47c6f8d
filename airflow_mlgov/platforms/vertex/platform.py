"""Custom jobs of Vertex AI, which train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.clouds.gcp.session import CALL_S
from airflow_mlgov.clouds.gcp.store import bucket_of, check_writable, receive
from airflow_mlgov.errors import ArtefactError, PlatformError
from airflow_mlgov.platforms.vertex import request as requests
from airflow_mlgov.platforms.vertex.jobs import VertexJobs, VertexKind
from airflow_mlgov.platforms.vertex.status import training_status
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.service.job_platform import TRAINING, JobHandle, JobSpec, JobStatus

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import CustomJob

_VERBS = ("create", "get", "list", "cancel")
_IN_PROJECT = (
    *(f"aiplatform.{jobs}.{verb}" for jobs in ("customJobs", "batchPredictionJobs")
      for verb in _VERBS),
    "logging.logEntries.list",
)  # fmt: skip
_IN_BUCKET = (
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
)


class VertexPlatform(VertexJobs):
    """Custom jobs in one project and region; see `JobPlatform` for its methods."""

    native = VertexKind("CustomJob", "custom_job", "customJob", "training", TRAINING)

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return the request of CreateCustomJob, in the names of its REST interface."""
        return requests.render(self._terms, self._session.location, spec)

    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""
        return requests.stated(request)

    def submit(self, request: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its key already; see `VertexJobs.submit`."""
        count = requests.machines(request)
        if count > 1:
            raise PlatformError(
                f"{self.name} would run {count} machines, which would all write one output.",
                remedy="A training script runs on one machine: leave out 'instance.count'.",
            )
        return super().submit(request)

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
            next(iter(self._listed("", page_size=1).pages))
        check_writable(self._session, self._terms.output)
        return f"Vertex AI answers for {self._session.location}, {self._terms.output} is writable."

    def missing_permissions(self) -> list[str]:
        """Return what who asks may not do and would have to, to train and to score.

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

    def _output_asked(self, request: Mapping[str, Any]) -> str:
        output = request["customJob"]["jobSpec"]["baseOutputDirectory"]["outputUriPrefix"]
        return str(output)

    def _output_of(self, job: CustomJob) -> str:
        return str(job.job_spec.base_output_directory.output_uri_prefix)

    def _status_of(self, job: CustomJob) -> JobStatus:
        return training_status(job)
