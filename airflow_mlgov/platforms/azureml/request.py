"""What Azure ML is asked for one job: a datastore, an environment and a command job.

Pure. A job of Azure ML names a datastore of its workspace, not an address, and an environment, not
an image. Both are named here by a digest of what they hold, so that who renders a request need ask
nobody, and two deployments make the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.clouds.azure import BlobStore
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import Network, PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container import entry_command
from airflow_mlgov.service.container_scoring import score_command
from airflow_mlgov.service.job_platform import JobSpec

SPEC_PROPERTY = "mlgov.spec_sha256"
"""Property of a job that holds the digest of its specification: a tag can be altered, this not."""
FAILURE_FILE = "reason.txt"

_ENVIRONMENT = "mlgov"
_CODE, _OUTPUT, _FAILURE = "mlgov_code", "mlgov_output", "mlgov_failure"
_GUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_PLACE = re.compile(r"\$\{\{(?:inputs|outputs)\.[a-z][a-z0-9_]*\}\}")
_PLAIN = re.compile(r"[A-Za-z0-9_./=:-]*")
_TIMEOUT = re.compile(r"PT(\d+)S")


@dataclass(frozen=True, slots=True)
class Work:
    """What a job's container does.

    Attributes:
        inputs: Addresses of files by name of the input: ``[a-z][a-z0-9_]*``.
        command: Arguments, with places such as ``${{inputs.name}}`` for paths.
    """

    inputs: Mapping[str, str]
    command: list[str]


def training_work(spec: JobSpec) -> Work:
    """Return what a container that trains does."""
    command = entry_command(
        code=_input(_CODE),
        spec_sha256=spec.spec,
        inputs={name: _input(name) for name in spec.inputs},
        output=_output(_OUTPUT),
        failure=f"{_output(_FAILURE)}/{FAILURE_FILE}",
    )
    return Work(spec.inputs, command)


def scoring_work(spec: JobSpec) -> Work:
    """Return what a container that scores does; file names become names that Azure takes."""
    inputs = {f"data_{number}": name for number, name in enumerate(sorted(spec.inputs))}
    command = score_command(
        package=_input(_CODE),
        spec_sha256=spec.spec,
        data={name: _input(each) for each, name in inputs.items()},
        output=_output(_OUTPUT),
        failure=f"{_output(_FAILURE)}/{FAILURE_FILE}",
    )
    return Work({each: spec.inputs[name] for each, name in inputs.items()}, command)


def check_terms(terms: PlatformTerms) -> None:
    """Refuse an entry that no job can be made of.

    Raises:
        ConfigurationError: It names a registry in place of a workspace, an identity that is no
            client id, or a network or key, which a job of Azure ML cannot be told.
    """
    for name, said in (("network", terms.network != Network()), ("keys", bool(terms.keys))):
        if said:
            raise ConfigurationError(
                f"{terms.file}:{terms.line}: a job of Azure ML cannot be told {name!r}.",
                remedy="Leave it out: it belongs to workspace, cluster and storage account, which "
                "are asked for it.",
            )
    if "/workspaces/" not in terms.account:
        raise ConfigurationError(
            f"{terms.file}:{terms.line}: {terms.account} is no workspace, and jobs run in one.",
            remedy="Write the resource id of the workspace as 'account'.",
        )
    if terms.identity and not _GUID.fullmatch(terms.identity):
        raise ConfigurationError(
            f"{terms.file}:{terms.line}: identity {terms.identity!r} is no client id.",
            remedy="Write the client id of a user-assigned managed identity.",
        )


def render(terms: PlatformTerms, store: BlobStore, spec: JobSpec, work: Work) -> dict[str, Any]:
    """Return what Azure ML is asked: the bodies of its requests, by resource."""
    environment = {
        "name": _ENVIRONMENT,
        "version": Digest.of(terms.image.encode()).hex[:20],
        "body": {"properties": {"image": terms.image, "osType": "Linux"}},
    }
    environment_id = (
        f"{terms.account}/environments/{environment['name']}/versions/{environment['version']}"
    )
    job = {
        **_job(terms, store, spec, work), "environmentId": environment_id, **_machines(terms)
    }  # fmt: skip
    return {
        "datastore": {"name": datastore_name(store), "body": _datastore(store)},
        "environment": environment,
        "job": {"name": spec.key, "body": {"properties": job}},
    }


def _job(terms: PlatformTerms, store: BlobStore, spec: JobSpec, work: Work) -> dict[str, Any]:
    def uri(url: str) -> str:
        return f"azureml://datastores/{datastore_name(store)}/paths/{store.path_of(url)}"

    inputs = {
        name: {"jobInputType": "uri_file", "uri": uri(url), "mode": "Download"}
        for name, url in sorted(work.inputs.items())
    }
    inputs[_CODE] = {
        "jobInputType": "uri_folder", "uri": uri(spec.code_uri), "mode": "Download"
    }  # fmt: skip
    return {
        "jobType": "Command",
        "displayName": spec.key,
        "experimentName": spec.labels.get("mlgov-model", "mlgov"),
        "command": command_line(work.command),
        "inputs": inputs,
        "outputs": {
            _OUTPUT: _folder(uri(spec.output_uri)),
            _FAILURE: _folder(uri(f"{spec.output_uri}-failure")),
        },
        "limits": {"jobLimitsType": "Command", "timeout": f"PT{spec.timeout_s}S"},
        "tags": {**terms.tags, **spec.labels},
        "properties": {SPEC_PROPERTY: str(spec.spec)},
    }


def _machines(terms: PlatformTerms) -> dict[str, Any]:
    instance = terms.instance
    asked: dict[str, Any] = {"resources": {"instanceCount": instance.count}}
    if instance.compute:
        asked["computeId"] = f"{terms.account}/computes/{instance.compute}"
    else:
        asked["resources"]["instanceType"] = instance.type
        asked["queueSettings"] = {"jobTier": "Spot" if instance.spot else "Standard"}
    if terms.identity:
        asked["identity"] = {"identityType": "Managed", "clientId": terms.identity}
    return asked


def _input(name: str) -> str:
    return f"${{{{inputs.{name}}}}}"


def _output(name: str) -> str:
    return f"${{{{outputs.{name}}}}}"


def command_line(command: list[str]) -> str:
    """Return a command as Azure ML's shell reads it, each argument in quotes.

    Azure ML puts a path in the place of ``${{inputs.name}}``, or a variable that holds it; between
    double quotes both are one argument.

    Raises:
        ConfigurationError: An argument holds what would mean something to a shell.
    """
    for argument in command:
        if not _PLAIN.fullmatch(_PLACE.sub("", argument)):
            raise ConfigurationError(f"{argument!r} cannot be an argument of an Azure ML job.")
    return " ".join(f'"{argument}"' for argument in command)


def datastore_name(store: BlobStore) -> str:
    """Return the name of the datastore that stands for a container."""
    place = f"{store.protocol}://{store.account}.{store.suffix}/{store.container}"
    return f"mlgov_{Digest.of(place.encode()).hex[:16]}"


def _datastore(store: BlobStore) -> dict[str, Any]:
    return {
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": store.account,
            "containerName": store.container,
            "endpoint": store.suffix,
            "protocol": store.protocol,
            "credentials": {"credentialsType": "None"},
            "serviceDataAccessAuthIdentity": "None",
        }
    }


def _folder(uri: str) -> dict[str, str]:
    return {"jobOutputType": "uri_folder", "uri": uri, "mode": "ReadWriteMount"}


def failure_path(job: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return datastore and path of the file in which a job says why it failed; None for none."""
    uri = str(job.get("outputs", {}).get(_FAILURE, {}).get("uri", ""))
    match = re.fullmatch(r"azureml://datastores/([^/]+)/paths/(.+)", uri)
    return (match[1], f"{match[2].rstrip('/')}/{FAILURE_FILE}") if match else None


def stated(request: Mapping[str, Any]) -> list[Stated]:
    """Return what a request says about the subjects of controls."""
    job = request["job"]["body"]["properties"]
    resources = job["resources"]
    timeout = _TIMEOUT.fullmatch(job["limits"]["timeout"])
    said = [
        Stated("identity", "properties.identity.clientId", job.get("identity", {}).get("clientId")),
        Stated("hours", "properties.limits.timeout", int(timeout[1]) / 3600 if timeout else None),
        Stated("instances", "properties.resources.instanceCount", resources["instanceCount"]),
        Stated("tags", "properties.tags", job["tags"]),
        Stated(
            "image",
            "environment properties.image",
            request["environment"]["body"]["properties"]["image"],
        ),
        _traffic(resources["instanceCount"]),
    ]
    if "computeId" not in job:
        tier = job["queueSettings"]["jobTier"]
        said.append(Stated("spot", "properties.queueSettings.jobTier", tier == "Spot"))
    return said


def _traffic(machines: int) -> Stated:
    field = "properties.resources.instanceCount"
    if machines == 1:
        return Stated("network.encrypted", f"{field} (one machine has no traffic to another)", True)
    reason = "Azure ML has no setting for it"
    return Stated("network.encrypted", field, unknown=reason)
