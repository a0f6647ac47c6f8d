"""A CustomJob as it is asked of Vertex AI, and what it says about the subjects of controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlgov.clouds.gcp.labels import digest_label
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.service.container import entry_command
from airflow_mlgov.service.job_platform import JobSpec

KEY_LABEL = "mlgov-key"
SPEC_LABEL = "mlgov-spec"

_SPEC = "customJob.jobSpec"


def check_terms(terms: PlatformTerms) -> None:
    """Refuse what an entry says and Vertex AI cannot be told.

    Raises:
        ConfigurationError: There is such a thing; a retry does not help.
    """
    network = terms.network
    said = {
        "network.subnets": network.subnets,
        "network.security_groups": network.security_groups,
        "network.isolated": network.isolated,
        "network.encrypted": network.encrypted,
        "instance.compute": terms.instance.compute,
    }
    for key, value in said.items():
        if value:
            raise ConfigurationError(
                f"{terms.file}:{terms.line}: a job of Vertex AI cannot be told {key!r}, which "
                f"{terms.name} names.",
                remedy="Leave it out: 'network.name' puts a job into a network, and a perimeter of "
                "VPC Service Controls shuts it in.",
            )


def render(terms: PlatformTerms, location: str, spec: JobSpec) -> dict[str, Any]:
    """Return the request of CreateCustomJob, in the names of its REST interface."""
    job: dict[str, Any] = {
        "displayName": spec.key,
        "labels": labels_of(terms, spec),
        "jobSpec": {
            "workerPoolSpecs": _pools(terms, spec),
            "scheduling": {
                "timeout": f"{spec.timeout_s}s",
                "strategy": "SPOT" if terms.instance.spot else "STANDARD",
                # A second run would find what the first has written, and be paid for.
                "disableRetries": True,
            },
            "baseOutputDirectory": {"outputUriPrefix": spec.output_uri},
            **_network(terms),
        },
    }
    if terms.identity:
        job["jobSpec"]["serviceAccount"] = terms.identity
    if key := terms.keys.get("volume"):
        job["encryptionSpec"] = {"kmsKeyName": key}
    return {"parent": location, "customJob": job}


def stated(request: Mapping[str, Any]) -> Sequence[Stated]:
    """Return what a request says about the subjects of controls.

    What a bucket decides (keys and region of what is stored, publicity), and what no request can
    say (isolation), is left to the preflight.
    """
    job = request["customJob"]
    spec = job["jobSpec"]
    pools, scheduling = spec["workerPoolSpecs"], spec.get("scheduling", {})
    private = spec.get("network") or spec.get("pscInterfaceConfig", {}).get("networkAttachment")
    timeout = str(scheduling.get("timeout", "")).removesuffix("s")
    key = job.get("encryptionSpec", {}).get("kmsKeyName")
    images = sorted({pool["containerSpec"]["imageUri"] for pool in pools})
    return [
        Stated("region", "parent", request["parent"].rpartition("/")[2]),
        Stated("key.volume", "customJob.encryptionSpec.kmsKeyName", key),
        Stated("network.private", f"{_SPEC}.network", True if private else None),
        _encrypted(machines(request)),
        Stated("identity", f"{_SPEC}.serviceAccount", spec.get("serviceAccount")),
        Stated("hours", f"{_SPEC}.scheduling.timeout", float(timeout) / 3600 if timeout else None),
        Stated("instances", f"{_SPEC}.workerPoolSpecs.replicaCount", machines(request)),
        Stated("spot", f"{_SPEC}.scheduling.strategy", _spot(scheduling)),
        Stated("tags", "customJob.labels", job.get("labels")),
        *(
            Stated("image", f"{_SPEC}.workerPoolSpecs.containerSpec.imageUri", image)
            for image in images
        ),
    ]


def labels_of(terms: PlatformTerms, spec: JobSpec) -> dict[str, str]:
    """Return a job's labels: the entry's and the job's own, and those by which it is found."""
    return {
        **terms.tags,
        **spec.labels,
        KEY_LABEL: spec.key,
        SPEC_LABEL: digest_label(spec.spec),
    }


def failure_uri(output_uri: str) -> str:
    """Return the object in which a job says why it failed, beside what it writes."""
    return f"{output_uri}.failure"


def machines(request: Mapping[str, Any]) -> int:
    """Return how many machines a request asks for."""
    pools = request["customJob"]["jobSpec"]["workerPoolSpecs"]
    return sum(int(pool["replicaCount"]) for pool in pools)


def _pools(terms: PlatformTerms, spec: JobSpec) -> list[dict[str, Any]]:
    """Return the pools of machines; the first of them must hold exactly one."""
    counts = [1, terms.instance.count - 1] if terms.instance.count > 1 else [1]
    return [_pool(terms, spec, count) for count in counts]


def _pool(terms: PlatformTerms, spec: JobSpec, count: int) -> dict[str, Any]:
    program, *args = entry_command(
        code=_mounted(spec.code_uri),
        spec_sha256=spec.spec,
        inputs={name: _mounted(uri) for name, uri in spec.inputs.items()},
        output=_mounted(spec.output_uri),
        failure=_mounted(failure_uri(spec.output_uri)),
    )
    return {
        "machineSpec": {"machineType": terms.instance.type},
        "replicaCount": count,
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": max(terms.instance.disk_gb, 100)},
        "containerSpec": {"imageUri": terms.image, "command": [program], "args": args},
    }


def _network(terms: PlatformTerms) -> dict[str, Any]:
    name = terms.network.name
    if "/networkAttachments/" in name:
        return {"pscInterfaceConfig": {"networkAttachment": name}}
    return {"network": name} if name else {}


def _encrypted(count: int) -> Stated:
    """Return what is known of traffic between machines: one machine has none."""
    field = f"{_SPEC}.workerPoolSpecs.replicaCount"
    unknown = "" if count == 1 else f"there are {count}, and Vertex AI cannot be told to encrypt"
    return Stated("network.encrypted", field, True if count == 1 else None, unknown)


def _spot(scheduling: Mapping[str, Any]) -> bool | None:
    """Return whether machines may be taken back; None where a request does not say so."""
    return {"SPOT": True, "STANDARD": False}.get(scheduling.get("strategy", ""))


def _mounted(uri: str) -> str:
    """Return where Vertex AI shows a stored object to a container."""
    return f"/gcs/{uri.removeprefix('gs://')}"
