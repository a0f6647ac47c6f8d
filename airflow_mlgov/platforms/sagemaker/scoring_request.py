"""A batch transform job as SageMaker is asked for it, and what such a request states.

Two calls make one job: CreateModel says what runs, as whom and in which network; CreateTransformJob
says on what. SageMaker sends each file whole to the container, one after the other and once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import takewhile
from math import ceil
from typing import Any

from airflow_mlgov.clouds.aws import split_uri
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.platforms.sagemaker.preflight import Asked
from airflow_mlgov.platforms.sagemaker.request import (
    SPEC_VARIABLE,
    customers,
    key_of,
    network_of,
    tags_of,
)
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobSpec

MODEL, JOB = "CreateModel", "CreateTransformJob"

_FILES = "MLGOV_FILES"
"""Variable that carries how many files there are: SageMaker has a time for each, none for a job."""
_DATA = "MLGOV_DATA"
"""Variable that carries under which address they are: a request names the manifest only."""

_MB = 1_000_000
_MOST_MB = 100
_MOST_SECONDS = 3600
_MOST_NAME = 63
_MOST_URI = 1024
_MOST_IMAGE = 255


def render(terms: PlatformTerms, spec: JobSpec) -> dict[str, Any]:
    """Return the requests CreateModel and CreateTransformJob, each under its name.

    A payload is a file, and SageMaker takes at most 100 MB of it in one piece. If there is a longer
    one, the request asks for no limit (``MaxPayloadInMB`` is 0): then all are sent in chunks.

    SageMaker ends no transform job after a time. It ends the work on each file, at the latest after
    an hour, so that what the job may take is divided by the number of files.

    Raises:
        ConfigurationError: No role, more than one machine, files in two buckets or of the same
            name, or longer names than fit.
    """
    _check_limits(terms, spec)
    return {MODEL: _model(terms, spec), JOB: _job(terms, spec)}


def stated(region: str, request: Mapping[str, Any]) -> Iterator[Stated]:
    """Yield what a request says about the subjects of controls.

    Args:
        region: Of the API that it is sent to: a request names none.
        request: From `render`.
    """
    model, job = request[MODEL], request[JOB]
    output, resources = job["TransformOutput"], job["TransformResources"]
    yield Stated("region", "region of the API", region)
    # The package with the model is stored with the key of the output: a request names no other.
    for subject in ("key.output", "key.model"):
        yield Stated(subject, f"{JOB}.TransformOutput.KmsKeyId", customers(output.get("KmsKeyId")))
    volume = customers(resources.get("VolumeKmsKeyId"))
    yield Stated("key.volume", f"{JOB}.TransformResources.VolumeKmsKeyId", volume)
    has_vpc, isolated = "VpcConfig" in model, model["EnableNetworkIsolation"]
    yield Stated("network.private", f"{MODEL}.VpcConfig", has_vpc)
    yield Stated("network.public", f"{MODEL}.VpcConfig", not (has_vpc or isolated))
    yield Stated("network.isolated", f"{MODEL}.EnableNetworkIsolation", isolated)
    machines, field = resources["InstanceCount"], f"{JOB}.TransformResources.InstanceCount"
    alone = f"{field} (one machine has no traffic to another)"
    yield Stated("network.encrypted", alone, machines == 1)
    yield Stated("identity", f"{MODEL}.ExecutionRoleArn", model["ExecutionRoleArn"])
    yield _hours(job)
    yield Stated("instances", field, machines)
    yield Stated("spot", f"{JOB}.TransformResources (it has no spot machines)", value=False)
    for name, part in request.items():
        yield Stated("tags", f"{name}.Tags", {each["Key"]: each["Value"] for each in part["Tags"]})
    image = model["PrimaryContainer"]["Image"]
    yield Stated("image", f"{MODEL}.PrimaryContainer.Image", image)


def asked_in(request: Mapping[str, Any]) -> Asked:
    """Return what a request says of stores and keys."""
    job = request[JOB]
    output = job["TransformOutput"]
    return Asked(
        (
            request[MODEL]["PrimaryContainer"]["ModelDataUrl"],
            job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
            job["Environment"][_DATA],
        ),
        output["S3OutputPath"],
        output.get("KmsKeyId"),
        job["TransformResources"].get("VolumeKmsKeyId"),
    )


def package_uri(spec: JobSpec) -> str:
    """Return where a job's package is stored, as the archive that SageMaker wants."""
    return f"{spec.code_uri.rstrip('/')}/model.tar.gz"


def manifest_uri(spec: JobSpec) -> str:
    """Return where the list of a job's files is stored."""
    return f"{spec.code_uri.rstrip('/')}/inputs-{Digest.of(manifest(spec)).short}.json"


def manifest(spec: JobSpec) -> bytes:
    """Return the list of a job's files as SageMaker reads it: a prefix, then what stands there."""
    folder = _folder(spec)
    names = sorted(uri.removeprefix(folder) for uri in spec.inputs.values())
    return json.dumps([{"prefix": folder}, *names]).encode()


def base_name(uri: str) -> str:
    """Return the last part of an address."""
    return uri.rpartition("/")[2]


def _model(terms: PlatformTerms, spec: JobSpec) -> dict[str, Any]:
    return {
        "ModelName": spec.key,
        "PrimaryContainer": {
            "Image": terms.image,
            "ModelDataUrl": package_uri(spec),
            "Environment": {SPEC_VARIABLE: str(spec.spec)},
        },
        "ExecutionRoleArn": terms.identity,
        "EnableNetworkIsolation": terms.network.isolated,
        "Tags": tags_of(terms, spec),
        **network_of(terms),
    }


def _job(terms: PlatformTerms, spec: JobSpec) -> dict[str, Any]:
    files = len(spec.inputs)
    listed = {"S3DataType": "ManifestFile", "S3Uri": manifest_uri(spec)}
    return {
        "TransformJobName": spec.key,
        "ModelName": spec.key,
        "MaxConcurrentTransforms": 1,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": max(1, min(_MOST_SECONDS, spec.timeout_s // files)),
            "InvocationsMaxRetries": 0,
        },
        "MaxPayloadInMB": _payload_mb(spec),
        "BatchStrategy": "SingleRecord",
        "Environment": {
            SPEC_VARIABLE: str(spec.spec), _FILES: str(files), _DATA: _folder(spec),
        },
        "TransformInput": {
            "DataSource": {"S3DataSource": listed},
            "ContentType": "application/octet-stream",
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": spec.output_uri,
            "AssembleWith": "None",
            **key_of("KmsKeyId", terms.keys.get("output")),
        },
        "TransformResources": {
            "InstanceType": terms.instance.type,
            "InstanceCount": terms.instance.count,
            **key_of("VolumeKmsKeyId", terms.keys.get("volume")),
        },
        "Tags": tags_of(terms, spec),
    }  # fmt: skip


def _folder(spec: JobSpec) -> str:
    """Return the folder that all files of a job are in, at most a whole bucket."""
    folders = [uri.split("/")[:-1] for uri in spec.inputs.values()]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False))
    return "/".join(parts[0] for parts in shared) + "/"


def _payload_mb(spec: JobSpec) -> int:
    longest = max(1, *(ceil(size / _MB) for size in spec.sizes.values()))
    return longest if longest <= _MOST_MB else 0


def _hours(job: Mapping[str, Any]) -> Stated:
    files, config = int(job["Environment"][_FILES]), job["ModelClientConfig"]
    tries = 1 + config["InvocationsMaxRetries"]
    hours = files * tries * config["InvocationsTimeoutInSeconds"] / 3600
    field = f"{JOB}.ModelClientConfig.InvocationsTimeoutInSeconds for each of {files} files"
    return Stated("hours", field, hours)


def _check_limits(terms: PlatformTerms, spec: JobSpec) -> None:
    problem = next(_problems(terms, spec), "")
    if problem:
        raise ConfigurationError(
            f"{terms.name}: {problem}",
            remedy="Correct the platform's entry, or what is scored.",
        )


def _problems(terms: PlatformTerms, spec: JobSpec) -> Iterator[str]:
    if not terms.identity:
        yield "SageMaker needs the role that a job has, 'identity'."
    if terms.instance.count != 1:
        yield "files are scored on one machine: of more, each would hold a model of its own."
    if spec.inputs.keys() != spec.sizes.keys() or not spec.inputs:
        yield "there is nothing to score, or not every file has a size."
    if len(spec.key) > _MOST_NAME:
        yield f"Name {spec.key!r} is longer than SageMaker's {_MOST_NAME} characters."
    if len(terms.image) > _MOST_IMAGE:
        yield f"Image {terms.image!r} is longer than SageMaker's {_MOST_IMAGE} characters."
    yield from _problems_of_files(spec)


def _problems_of_files(spec: JobSpec) -> Iterator[str]:
    uris = sorted(spec.inputs.values())
    for uri in uris:
        if not uri.startswith("s3://") or not base_name(uri):
            yield f"{uri} is no file in S3."
    buckets = sorted({split_uri(uri)[0] for uri in uris})
    if len(buckets) > 1:
        yield (
            f"SageMaker reads the files of a job from one bucket, and these are in "
            f"{', '.join(buckets)}."
        )
    names = [base_name(uri) for uri in uris]
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield f"two files are called {name}, and SageMaker names scores by that."
    for uri in (*uris, spec.output_uri, package_uri(spec), manifest_uri(spec)):
        if len(uri) > _MOST_URI:
            yield f"{uri!r} is longer than SageMaker's {_MOST_URI} characters."
