"""What SageMaker's training and batch transform jobs share: a name is a key, so there is one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

from airflow_mlgov.clouds.aws import Aws, code_of, console_of, says
from airflow_mlgov.errors import (
    ArtefactError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.sagemaker import logs, preflight
from airflow_mlgov.platforms.sagemaker.preflight import Asked
from airflow_mlgov.platforms.sagemaker.request import SPEC_VARIABLE
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobHandle, JobState, JobStatus
from airflow_mlgov.service.model_archive import unpack

_Shown = TypeVar("_Shown")

GB = 1024**3

_STOPPED = frozenset({JobState.CANCELLING, JobState.MISSING})
_LATE_LOOKS = 5
_LATE_PAUSE_S = 1.0


class SageMakerJobs(ABC):
    """Jobs of one kind; see `airflow_mlgov.service.job_platform.Jobs`.

    Args:
        terms: An entry of kind ``sagemaker``.
    """

    kind = "sagemaker"

    _noun: ClassVar[str]
    """Of the kind of jobs, in the API's names: ``training``."""
    _page: ClassVar[str]
    """Of such jobs in the console."""
    _purpose: ClassVar[str]

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
                self._store(file, f"{uri}/{name}")
        return uri

    def output_uri(self, folder: str) -> str:
        """Return the URI of a folder beneath the output location."""
        return f"{self._terms.output}/{folder}"

    def first_object(self, uri: str) -> str | None:
        """Return the URI of something that stands under a folder's URI."""
        with self._aws.talking(f"folder {uri}"):
            return self._aws.first_object(uri)

    def preflight(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Ask for region, encryption and publicity of the buckets, and whose the keys are."""
        return preflight.preflight(self._aws, self._asked_in(request))

    def find(self, key: str) -> JobHandle | None:
        """Return the job with this key."""
        with self._aws.talking(f"job {key}"):
            said = self._described(key)
        return self._handle(said) if said else None

    def poll(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands."""
        with self._aws.talking(str(handle)):
            said = self._described(handle.key)
            return self._status(said) if said else JobStatus(JobState.MISSING, "not shown")

    def cancel(self, handle: JobHandle) -> None:
        """Ask SageMaker to stop a job; one that has ended or is gone is fine."""
        from botocore.exceptions import ClientError

        with self._aws.talking(str(handle)):
            try:
                self._call("stop", **{self._field("Name"): handle.key})
            except ClientError as error:
                if code_of(error) not in {"ValidationException", "ResourceNotFound"}:
                    raise
                said = self._described(handle.key)
                state = self._status(said).state if said else JobState.MISSING
                if state not in _STOPPED and not state.ended:
                    raise

    def log_lines(self, handle: JobHandle, cursor: str | None) -> tuple[list[str], str | None]:
        """Return what the job has written since a cursor, from CloudWatch Logs."""
        group = f"/aws/sagemaker/{self._field('s')}"
        with self._aws.talking(f"output of {handle}"):
            return logs.log_lines(self._aws.client("logs"), group, handle.key, cursor)

    @abstractmethod
    def _asked_in(self, request: Mapping[str, Any]) -> Asked:
        """Return what a rendered request says of stores and keys."""

    @abstractmethod
    def _status(self, said: Mapping[str, Any]) -> JobStatus:
        """Return how a job stands that is described; only within `Aws.talking`."""

    def _submitted(self, request: Mapping[str, Any]) -> JobHandle:
        """Start the job, or return the one that has its name; only within `Aws.talking`."""
        from botocore.exceptions import ClientError

        key = str(request[self._field("Name")])
        try:
            made = self._call("create", **request)
        except ClientError as error:
            if code_of(error) != "ResourceInUse":
                raise
        else:
            return self._handle({**request, **made})
        return self._handle(self._late(f"job {key}", lambda: self._described(key)))

    def _late(self, what: str, look: Callable[[], _Shown | None]) -> _Shown:
        """Return what SageMaker says it has, and may not show yet."""
        for _ in range(_LATE_LOOKS):
            if (found := look()) is not None:
                return found
            time.sleep(_LATE_PAUSE_S)
        raise PlatformUnavailableError(
            f"{self.name}, {what}: SageMaker has one of this name, and does not show it yet.",
            remedy="A retry finds it.",
        )

    def _described(self, key: str) -> dict[str, Any] | None:
        return self._unless_missing(lambda: self._call("describe", **{self._field("Name"): key}))

    @staticmethod
    def _unless_missing(ask: Callable[[], Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return SageMaker's answer; None if it knows no such name."""
        from botocore.exceptions import ClientError

        try:
            return dict(ask())
        except ClientError as error:
            # AWS answers ValidationException to a name that it does not know, and to others.
            is_missing = code_of(error) == "ResourceNotFound" or (
                code_of(error) == "ValidationException" and says(error, "not found", "not find")
            )
            if is_missing:
                return None
            raise

    def _call(self, verb: str, **arguments: Any) -> Mapping[str, Any]:
        client = self._aws.client("sagemaker")
        said: Mapping[str, Any] = getattr(client, f"{verb}_{self._noun}_job")(**arguments)
        return said

    def _field(self, end: str) -> str:
        return f"{self._noun.title()}Job{end}"

    def _handle(self, said: Mapping[str, Any]) -> JobHandle:
        region, key = self._terms.region, str(said[self._field("Name")])
        carried = said.get("Environment", {}).get(SPEC_VARIABLE)
        try:
            spec = Digest.parse(carried) if carried else None
        except ArtefactError:
            spec = None  # somebody else's
        console = f"{console_of(region)}/sagemaker/home?region={region}#/{self._page}/{key}"
        return JobHandle(self.name, key, said[self._field("Arn")], console, spec, self._purpose)

    def _store(self, file: Path, uri: str) -> None:
        """Store a file unless it is there in its size; only within `Aws.talking`."""
        if not self._aws.has_size(uri, file.stat().st_size):
            self._aws.upload(file, uri, self._terms.keys.get("output"))

    def _fetch_archive(self, what: str, uri: str, into: Path) -> None:
        """Copy the files of an archive to a folder.

        Raises:
            ArtefactError: As `unpack`, or there is no such archive.
        """
        with TemporaryDirectory(prefix="mlgov-sagemaker-") as scratch:
            archive = Path(scratch, "model.tar.gz")
            with self._aws.talking(f"{what}, {uri}"):
                found = self._aws.download(uri, archive)
            try:
                if not found:
                    archive.touch()  # which is cut short
                unpack(archive, into, self._terms.instance.disk_gb * GB)
            except ArtefactError as error:
                raise ArtefactError(
                    f"{what} cannot be used: {uri}: {error.problem}",
                    remedy="Look who can write there; then start a new run.",
                ) from error
