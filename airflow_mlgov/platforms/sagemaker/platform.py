"""Training jobs of Amazon SageMaker. A job's name is its key, so there cannot be two."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.clouds.aws import Aws, code_of, console_of, partition_of, says, split_uri
from airflow_mlgov.errors import (
    ArtefactError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.sagemaker import logs, preflight, request, status
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState, JobStatus
from airflow_mlgov.service.model_archive import unpack

_GB = 1024**3
_LATE_LOOKS = 5
_LATE_PAUSE_S = 1.0
_PROBE = "mlgov-check"


class SageMakerPlatform:
    """An entry of kind ``sagemaker``; see `airflow_mlgov.service.job_platform.JobPlatform`.

    Args:
        terms: The entry.
    """

    kind = "sagemaker"

    def __init__(self, terms: PlatformTerms) -> None:
        self._terms = terms
        self._aws = Aws(
            terms.name,
            terms.connection,
            terms.account,
            terms.region,
            terms.endpoint,
            PlatformError,
            PlatformUnavailableError,
        )

    @property
    def name(self) -> str:
        """Entry of the platform file."""
        return self._terms.name

    def stage(self, folder: str, files: Mapping[str, Path]) -> str:
        """Store files beneath the output location; one that is there in its size stays."""
        uri = self.output_uri(folder)
        with self._aws.talking(f"folder {uri}"):
            for name, file in sorted(files.items()):
                target = f"{uri}/{name}"
                if not self._aws.has_size(target, file.stat().st_size):
                    self._aws.upload(file, target, self._terms.keys.get("output"))
        return uri

    def output_uri(self, folder: str) -> str:
        """Return the URI of a folder beneath the output location."""
        return f"{self._terms.output}/{folder}"

    def first_object(self, uri: str) -> str | None:
        """Return the URI of something that stands under a folder's URI."""
        with self._aws.talking(f"folder {uri}"):
            return self._aws.first_object(uri)

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return a CreateTrainingJob request."""
        return request.render(self._terms, spec)

    def stated(self, request_: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""
        return list(request.stated(self._terms.region, request_))

    def preflight(self, request_: Mapping[str, Any]) -> Sequence[Stated]:
        """Ask for region, encryption and publicity of the buckets, and whose the keys are."""
        return list(preflight.preflight(self._aws, request_))

    def find(self, key: str) -> JobHandle | None:
        """Return the job with this key."""
        with self._aws.talking(f"job {key}"):
            said = self._described(key)
        return self._handle(said) if said else None

    def submit(self, request_: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its name already."""
        from botocore.exceptions import ClientError

        key = str(request_["TrainingJobName"])
        with self._aws.talking(f"job {key}"):
            try:
                made = self._aws.client("sagemaker").create_training_job(**request_)
            except ClientError as error:
                if code_of(error) != "ResourceInUse":
                    raise
            else:
                return self._handle(
                    {"TrainingJobName": key, "TrainingJobArn": made["TrainingJobArn"], **request_}
                )
            for _ in range(_LATE_LOOKS):
                if said := self._described(key):
                    return self._handle(said)
                time.sleep(_LATE_PAUSE_S)
        raise PlatformUnavailableError(
            f"{self.name}, job {key}: SageMaker has a job of this name, and does not show it yet.",
            remedy="A retry finds it.",
        )

    def poll(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands."""
        with self._aws.talking(str(handle)):
            said = self._described(handle.key)
        if said is None:
            return JobStatus(JobState.MISSING, "not shown")
        return status.status_of(said, self._terms.region)

    def cancel(self, handle: JobHandle) -> None:
        """Ask SageMaker to stop a job; one that has ended or is gone is fine."""
        from botocore.exceptions import ClientError

        with self._aws.talking(str(handle)):
            try:
                self._aws.client("sagemaker").stop_training_job(TrainingJobName=handle.key)
            except ClientError as error:
                if code_of(error) not in {"ValidationException", "ResourceNotFound"}:
                    raise
                said = self._described(handle.key)
                if said and not status.status_of(said, self._terms.region).state.ended:
                    raise

    def log_lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what the job has written since a cursor, from CloudWatch Logs."""
        with self._aws.talking(f"output of {handle}"):
            return logs.log_lines(self._aws.client("logs"), handle.key, cursor)

    def fetch(self, handle: JobHandle, output_uri: str, into: Path) -> None:
        """Copy what a job wrote from its archive ``model.tar.gz`` to a folder."""
        uri = f"{output_uri}/{handle.key}/output/model.tar.gz"
        with TemporaryDirectory(prefix="mlgov-sagemaker-") as scratch:
            archive = Path(scratch, "model.tar.gz")
            with self._aws.talking(f"{handle}, {uri}"):
                found = self._aws.download(uri, archive)
            try:
                if not found:
                    archive.touch()  # which is cut short
                unpack(archive, into, self._terms.instance.disk_gb * _GB)
            except ArtefactError as error:
                raise ArtefactError(
                    f"What the {handle} wrote cannot be used: {uri}: {error.problem}",
                    remedy="Look who can write there; then start a new run.",
                ) from error

    def check(self) -> str:
        """Ask for identity, a job and a write; return a line about it, for ``doctor``.

        Raises:
            PlatformError: AWS refuses, or the connection is of another account.
            PlatformUnavailableError: It cannot be reached.
        """
        bucket, prefix = split_uri(self._terms.output)
        key = self._terms.keys.get("output")
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
        with self._aws.talking():
            who = self._aws.identity()
            self._described(_PROBE)
            self._aws.client("s3").put_object(
                Bucket=bucket, Key=f"{prefix}/{_PROBE}".lstrip("/"), Body=b"", **extra
            )
        return f"SageMaker in {self._terms.region} answers {who}; {self._terms.output} is writable."

    def missing_permissions(self) -> list[str]:
        """Return what IAM says the connection may not do of what this platform needs.

        Raises:
            PlatformError: IAM cannot be asked.
            PlatformUnavailableError: It cannot be reached.
        """
        terms, partition = self._terms, partition_of(self._terms.region)
        place = f"{partition}:%s:{terms.region}:{terms.account}"
        bucket, prefix = split_uri(terms.output)
        needed = {
            f"arn:{place % 'sagemaker'}:training-job/mlgov-*": [
                "sagemaker:AddTags", "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob",
            ],
            f"arn:{partition}:s3:::{bucket}": [
                "s3:GetBucketLocation", "s3:GetBucketPublicAccessBlock",
                "s3:GetEncryptionConfiguration", "s3:ListBucket",
            ],
            f"arn:{partition}:s3:::{bucket}/{f'{prefix}/*'.lstrip('/')}": [
                "s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject",
            ],
            f"arn:{place % 'logs'}:log-group:/aws/sagemaker/TrainingJobs:*": [
                "logs:DescribeLogStreams", "logs:GetLogEvents",
            ],
        }  # fmt: skip
        if terms.identity:
            needed[terms.identity] = ["iam:PassRole"]
        for key in sorted({each for each in terms.keys.values() if each.startswith("arn:")}):
            needed[key] = [
                "kms:CreateGrant",
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:GenerateDataKey",
            ]
        with self._aws.talking("permissions"):
            return self._aws.missing_permissions(needed)

    def _described(self, key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            said = self._aws.client("sagemaker").describe_training_job(TrainingJobName=key)
        except ClientError as error:
            # AWS answers ValidationException to a name that it does not know, and to others.
            is_missing = code_of(error) == "ResourceNotFound" or (
                code_of(error) == "ValidationException" and says(error, "not found", "not find")
            )
            if is_missing:
                return None
            raise
        return dict(said)

    def _handle(self, said: Mapping[str, Any]) -> JobHandle:
        region, key = self._terms.region, str(said["TrainingJobName"])
        carried = said.get("Environment", {}).get(request.SPEC_VARIABLE)
        try:
            spec = Digest.parse(carried) if carried else None
        except ArtefactError:
            spec = None  # somebody else's
        console = f"{console_of(region)}/sagemaker/home?region={region}#/jobs/{key}"
        return JobHandle(self.name, key, said["TrainingJobArn"], console, spec)
