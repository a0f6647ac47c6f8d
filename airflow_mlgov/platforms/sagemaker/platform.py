"""Training jobs of Amazon SageMaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from airflow_mlgov.platforms.sagemaker import request, status
from airflow_mlgov.platforms.sagemaker.jobs import SageMakerJobs
from airflow_mlgov.platforms.sagemaker.permissions import needed
from airflow_mlgov.platforms.sagemaker.preflight import Asked
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.service.job_platform import TRAINING, JobHandle, JobSpec, JobStatus

_PROBE = "mlgov-check"


class SageMakerPlatform(SageMakerJobs):
    """An entry of kind ``sagemaker``; see `airflow_mlgov.service.job_platform.JobPlatform`.

    Args:
        terms: The entry.
    """

    _noun, _page, _purpose = "training", "jobs", TRAINING

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return a CreateTrainingJob request."""
        return request.render(self._terms, spec)

    def stated(self, request_: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""
        return list(request.stated(self._terms.region, request_))

    def submit(self, request_: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its name already."""
        with self._aws.talking(f"job {request_['TrainingJobName']}"):
            return self._submitted(request_)

    def fetch(self, handle: JobHandle, output_uri: str, into: Path) -> None:
        """Copy what a job wrote from its archive ``model.tar.gz`` to a folder."""
        uri = f"{output_uri}/{handle.key}/output/model.tar.gz"
        self._fetch_archive(f"What the {handle} wrote", uri, into)

    def check(self) -> str:
        """Ask for identity, a job and a write; return a line about it, for ``doctor``.

        Raises:
            PlatformError: AWS refuses, or the connection is of another account.
            PlatformUnavailableError: It cannot be reached.
        """
        terms = self._terms
        with self._aws.talking(), NamedTemporaryFile() as empty:
            who = self._aws.identity()
            self._described(_PROBE)
            self._aws.upload(Path(empty.name), f"{terms.output}/{_PROBE}", terms.keys.get("output"))
        return f"SageMaker in {terms.region} answers {who}; {terms.output} is writable."

    def missing_permissions(self) -> list[str]:
        """Return what IAM says the connection may not do of what training and scoring need.

        Raises:
            PlatformError: IAM cannot be asked.
            PlatformUnavailableError: It cannot be reached.
        """
        with self._aws.talking("permissions"):
            return self._aws.missing_permissions(needed(self._terms))

    def _asked_in(self, request_: Mapping[str, Any]) -> Asked:
        output = request_["OutputDataConfig"]
        return Asked(
            tuple(
                each["DataSource"]["S3DataSource"]["S3Uri"] for each in request_["InputDataConfig"]
            ),
            output["S3OutputPath"],
            output.get("KmsKeyId"),
            request_["ResourceConfig"].get("VolumeKmsKeyId"),
        )

    def _status(self, said: Mapping[str, Any]) -> JobStatus:
        return status.status_of(said, self._terms.region)
