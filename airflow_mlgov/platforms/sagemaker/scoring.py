"""Batch transform jobs of Amazon SageMaker: a model of the job's own name, and files sent to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.clouds.aws import code_of, says
from airflow_mlgov.errors import ArtefactError, DataError, PlatformError
from airflow_mlgov.platforms.sagemaker import scoring_request, status
from airflow_mlgov.platforms.sagemaker.jobs import GB, SageMakerJobs
from airflow_mlgov.platforms.sagemaker.preflight import Asked
from airflow_mlgov.platforms.sagemaker.scoring_request import (
    JOB,
    MODEL,
    base_name,
    manifest,
    manifest_uri,
    package_uri,
)
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.service.container_scoring import scores_name
from airflow_mlgov.service.job_platform import (
    SCORING,
    JobHandle,
    JobSpec,
    JobStatus,
    StoredFile,
)
from airflow_mlgov.service.model_archive import pack_files

_SUFFIX = ".out"


class SageMakerScoring(SageMakerJobs):
    """An entry of kind ``sagemaker``; see `airflow_mlgov.service.job_platform.ScoringPlatform`.

    A job's Model stays when the job has ended: it is the record of what ran, and costs nothing.

    Args:
        terms: The entry.
    """

    _noun, _page, _purpose = "transform", "transform-jobs", SCORING

    def stage_package(self, spec: JobSpec, files: Mapping[str, Path]) -> None:
        """Store the package as ``model.tar.gz``, and beside it the list of what is scored."""
        with (
            TemporaryDirectory(prefix="mlgov-sagemaker-") as scratch,
            self._aws.talking(f"folder {spec.code_uri}"),
        ):
            archive, listed = Path(scratch, "model.tar.gz"), Path(scratch, "inputs.json")
            pack_files(files, archive)
            listed.write_bytes(manifest(spec))
            self._store(archive, package_uri(spec))
            self._store(listed, manifest_uri(spec))

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return a CreateModel and a CreateTransformJob request."""
        return scoring_request.render(self._terms, spec)

    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""
        return list(scoring_request.stated(self._terms.region, request))

    def submit(self, request: Mapping[str, Any]) -> JobHandle:
        """Make the model and start the job, or return the one that has its name already.

        Raises:
            PlatformError: There is a model of this name that is another; a retry does not help.
        """
        with self._aws.talking(f"job {request[JOB]['TransformJobName']}"):
            self._make_model(request[MODEL])
            return self._submitted(request[JOB])

    def fetch_package(self, spec: JobSpec, into: Path) -> None:
        """Copy back what was staged from the archive ``model.tar.gz``."""
        self._fetch_archive(f"The package of job {spec.key}", package_uri(spec), into)

    def fetch_scores(self, handle: JobHandle, spec: JobSpec, into: Path) -> Mapping[str, str]:
        """Copy the scores of each input: SageMaker names them by the input, with ``.out``.

        In which folder beneath the output it puts them is not documented for a list of files, so
        that they are told by their last names, which are different.
        """
        with self._aws.talking(f"scores of {handle}"):
            stands = self._aws.sizes(spec.output_uri)
            found = {uri: size for uri, size in stands.items() if uri.endswith(_SUFFIX)}
            uris = self._matched(handle, spec, found)
            for name, uri in sorted(uris.items()):
                target = into / scores_name(name)
                if not self._aws.download(uri, target) or target.stat().st_size != found[uri]:
                    raise _unusable(handle, f"{uri} changed or went while it was fetched")
        return uris

    def located(self, uri: str) -> Sequence[StoredFile]:
        """Return an object of S3; of a URI that ends in ``/``, all beneath it."""
        if not uri.startswith("s3://"):
            raise DataError(
                f"{self.name}: {uri} is no address in S3.",
                remedy="Name a file s3://bucket/key, or a folder s3://bucket/prefix/.",
            )
        with self._aws.talking(uri):
            uris = sorted(self._aws.sizes(uri)) if uri.endswith("/") else [uri]
            heads = {each: self._aws.head(each) for each in uris}
        gone = [each for each, head in heads.items() if head is None]
        if gone or not heads:
            raise DataError(f"{self.name}: there is nothing at {gone[0] if gone else uri}.")
        return [
            StoredFile(each, int(head["ContentLength"]), _version(head))
            for each, head in heads.items()
            if head is not None
        ]

    def _asked_in(self, request: Mapping[str, Any]) -> Asked:
        return scoring_request.asked_in(request)

    def _status(self, said: Mapping[str, Any]) -> JobStatus:
        # Image and role stand at the model, and are asked for once, of a job that made something.
        is_done = said["TransformJobStatus"] == "Completed"
        model = self._described_model(said["ModelName"]) if is_done else None
        return status.transform_status_of(said, self._terms.region, model or {})

    def _make_model(self, request: Mapping[str, Any]) -> None:
        """Make the model; one that an earlier try made is fine if it is the same in every part."""
        from botocore.exceptions import ClientError

        name = str(request["ModelName"])
        try:
            self._aws.client("sagemaker").create_model(**request)
        except ClientError as error:
            if code_of(error) != "ValidationException" or not says(error, "already exist"):
                raise
        else:
            return
        stands = self._late(f"model {name}", lambda: self._described_model(name))
        other = [part for part in _other_parts(request, stands) if part != "Tags"]  # not shown
        if other:
            raise PlatformError(
                f"{self.name}: the name {name} is taken by somebody else's model "
                f"{stands['ModelArn']}: {', '.join(other)} differ. Nothing was started.",
                remedy="Look who made it, and delete it. A new run of the DAG takes another name.",
            )

    def _described_model(self, name: str) -> dict[str, Any] | None:
        client = self._aws.client("sagemaker")
        return self._unless_missing(lambda: client.describe_model(ModelName=name))

    def _matched(
        self, handle: JobHandle, spec: JobSpec, found: Mapping[str, int]
    ) -> dict[str, str]:
        """Return the URI of each input's scores, by the input's name."""
        by_name: dict[str, list[str]] = {}
        for uri in sorted(found):
            by_name.setdefault(base_name(uri), []).append(uri)
        wanted = {f"{base_name(uri)}{_SUFFIX}": name for name, uri in spec.inputs.items()}
        missing = sorted(wanted.keys() - by_name.keys())
        extra = sorted(uri for name in by_name.keys() - wanted.keys() for uri in by_name[name])
        twice = [uris for name, uris in by_name.items() if name in wanted and len(uris) > 1]
        if missing:
            raise _unusable(handle, f"there is no {missing[0]} under {spec.output_uri}")
        if extra:
            raise _unusable(handle, f"there is {extra[0]}, which is of no file of the job")
        if twice:
            raise _unusable(handle, f"{' and '.join(twice[0])} are of the same file")
        if sum(found.values()) > (limit := self._terms.instance.disk_gb * GB):
            raise _unusable(handle, f"they are longer than {limit} bytes together")
        return {wanted[name]: uris[0] for name, uris in by_name.items()}


def _other_parts(asked: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """Return the fields of a model in which what stands there is not what is asked for."""
    return [field for field, value in asked.items() if not _is_in(value, said.get(field))]


def _is_in(asked: Any, said: Any) -> bool:
    """Return whether an answer holds what was asked for; AWS adds fields of its own."""
    if isinstance(asked, Mapping):
        return isinstance(said, Mapping) and not _other_parts(asked, said)
    if isinstance(asked, list):
        return isinstance(said, list) and sorted(asked) == sorted(said)
    return bool(asked == said) or (asked is False and said is None)


def _unusable(handle: JobHandle, problem: str) -> ArtefactError:
    return ArtefactError(
        f"The scores of the {handle} cannot be used: {problem}.",
        remedy="Look who can write there; then start a new run.",
    )


def _version(head: Mapping[str, Any]) -> str:
    """Return what S3 calls these bytes; ``null`` is the version of a bucket that keeps none."""
    version = head.get("VersionId")
    return str(version if version and version != "null" else head["ETag"].strip('"'))
