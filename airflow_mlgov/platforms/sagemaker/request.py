"""A training job as SageMaker is asked for it, and what such a request states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.service.container import entry_command
from airflow_mlgov.service.job_platform import JobSpec

SPEC_VARIABLE = "MLGOV_SPEC"
"""Variable of the container that carries the digest of ``spec.json``: DescribeTrainingJob shows it,
and does not show tags."""

_CODE = "mlgov-code"  # inputs have no hyphen
_DATA = "/opt/ml/input/data"
_MOST_CHANNELS = 20
_MOST_CHARACTERS = 256
_MOST_NAME = 64


def render(terms: PlatformTerms, spec: JobSpec) -> dict[str, Any]:
    """Return a CreateTrainingJob request.

    Raises:
        ConfigurationError: No role, more than one machine, or more or longer inputs than fit.
    """
    command = entry_command(
        code=f"{_DATA}/{_CODE}",
        spec_sha256=spec.spec,
        inputs={name: f"{_DATA}/{name}" for name in spec.inputs},
        output="/opt/ml/model",
        failure="/opt/ml/output/failure",
    )
    _check_limits(terms, spec, command)
    return {
        "TrainingJobName": spec.key,
        "AlgorithmSpecification": {
            "TrainingImage": terms.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": command[:2],
            "ContainerArguments": command[2:],
        },
        "RoleArn": terms.identity,
        "InputDataConfig": [
            _channel(_CODE, f"{spec.code_uri.rstrip('/')}/"),
            *(_channel(name, uri) for name, uri in sorted(spec.inputs.items())),
        ],
        "OutputDataConfig": {
            "S3OutputPath": spec.output_uri,
            **key_of("KmsKeyId", terms.keys.get("output")),
        },
        "ResourceConfig": _machines(terms),
        "StoppingCondition": _limits(terms, spec),
        "EnableNetworkIsolation": terms.network.isolated,
        "EnableInterContainerTrafficEncryption": terms.network.encrypted,
        "EnableManagedSpotTraining": terms.instance.spot,
        "Environment": {SPEC_VARIABLE: str(spec.spec)},
        "Tags": tags_of(terms, spec),
        **network_of(terms),
    }


def stated(region: str, request: Mapping[str, Any]) -> Iterator[Stated]:
    """Yield what a request says about the subjects of controls.

    Args:
        region: Of the API that it is sent to: a request names none.
        request: From `render`.
    """
    output, resources = request["OutputDataConfig"], request["ResourceConfig"]
    stop = request["StoppingCondition"]
    key = customers(output.get("KmsKeyId"))
    has_vpc = "VpcConfig" in request
    yield Stated("region", "region of the API", region)
    yield Stated("key.output", "OutputDataConfig.KmsKeyId", key)
    # The model is the job's output, and SageMaker has no other key for it.
    yield Stated("key.model", "OutputDataConfig.KmsKeyId", key)
    volume = customers(resources.get("VolumeKmsKeyId"))
    yield Stated("key.volume", "ResourceConfig.VolumeKmsKeyId", volume)
    yield Stated("network.private", "VpcConfig", has_vpc)
    isolated = request["EnableNetworkIsolation"]
    yield Stated("network.public", "VpcConfig", not (has_vpc or isolated))
    yield Stated("network.isolated", "EnableNetworkIsolation", isolated)
    encrypted = request["EnableInterContainerTrafficEncryption"]
    yield Stated("network.encrypted", "EnableInterContainerTrafficEncryption", encrypted)
    yield Stated("identity", "RoleArn", request["RoleArn"])
    for limit in stop:
        yield Stated("hours", f"StoppingCondition.{limit}", stop[limit] / 3600)
    yield Stated("instances", "ResourceConfig.InstanceCount", resources["InstanceCount"])
    yield Stated("spot", "EnableManagedSpotTraining", request["EnableManagedSpotTraining"])
    yield Stated("tags", "Tags", {each["Key"]: each["Value"] for each in request["Tags"]})
    image = request["AlgorithmSpecification"]["TrainingImage"]
    yield Stated("image", "AlgorithmSpecification.TrainingImage", image)


def customers(key: str | None) -> str | None:
    """Return a key's id unless it is one of AWS's own."""
    return None if not key or "alias/aws/" in key else key


def key_of(field: str, value: str | None) -> dict[str, str]:
    """Return a key under its field; nothing if there is none."""
    return {field: value} if value else {}


def network_of(terms: PlatformTerms) -> dict[str, Any]:
    """Return the network of the customer's that a job runs in; nothing if there is none."""
    network = terms.network
    if not (network.subnets or network.security_groups):
        return {}
    groups, subnets = list(network.security_groups), list(network.subnets)
    return {"VpcConfig": {"SecurityGroupIds": groups, "Subnets": subnets}}


def tags_of(terms: PlatformTerms, spec: JobSpec) -> list[dict[str, str]]:
    """Return the tags of whatever a job makes."""
    ours = {"mlgov-key": spec.key, "mlgov-spec": str(spec.spec)}
    tags = {**spec.labels, **terms.tags, **ours}
    return [{"Key": name, "Value": value} for name, value in sorted(tags.items())]


def _machines(terms: PlatformTerms) -> dict[str, Any]:
    return {
        "InstanceType": terms.instance.type,
        "InstanceCount": terms.instance.count,
        "VolumeSizeInGB": terms.instance.disk_gb,
        **key_of("VolumeKmsKeyId", terms.keys.get("volume")),
    }


def _limits(terms: PlatformTerms, spec: JobSpec) -> dict[str, int]:
    run = {"MaxRuntimeInSeconds": spec.timeout_s}
    return {**run, "MaxWaitTimeInSeconds": spec.timeout_s} if terms.instance.spot else run


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def _check_limits(terms: PlatformTerms, spec: JobSpec, command: list[str]) -> None:
    problem = "" if terms.identity else "SageMaker needs the role that a job has, 'identity'."
    if len(spec.inputs) >= _MOST_CHANNELS:
        problem = f"SageMaker takes {_MOST_CHANNELS - 1} inputs, and these are {len(spec.inputs)}."
    if terms.instance.count != 1:
        problem = "a script runs on one machine: of more, all would write one output."
    for name in spec.inputs:
        if len(name) > _MOST_NAME:
            problem = f"Input {name!r} is longer than SageMaker's {_MOST_NAME} characters."
    for word in command:
        if len(word) > _MOST_CHARACTERS:
            problem = f"{word!r} is longer than SageMaker's {_MOST_CHARACTERS} characters."
    if problem:
        raise ConfigurationError(
            f"{terms.name}: {problem}",
            remedy="Correct the platform's entry, or the training's inputs.",
        )
