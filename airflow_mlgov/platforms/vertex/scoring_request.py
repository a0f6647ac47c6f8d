"""A BatchPredictionJob as it is asked of Vertex AI, and what it says about subjects of controls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_mlgov.platforms.vertex.request import failure_uri, labels_of
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service import container_bootstrap
from airflow_mlgov.service.container import ENTRY_FILE, entry_archive
from airflow_mlgov.service.container_vertex import VERB
from airflow_mlgov.service.job_platform import JobSpec

INSTANCES_FILE = "instances.jsonl"

_JOB = "batchPredictionJob"
_RESOURCES = f"{_JOB}.dedicatedResources"
_PORT = 8080
_HEALTH, _PREDICT = "/health", "/predict"


def render(terms: PlatformTerms, location: str, spec: JobSpec) -> dict[str, Any]:
    """Return the request of CreateBatchPredictionJob, in the names of its REST interface."""
    job: dict[str, Any] = {
        "displayName": spec.key,
        "labels": labels_of(terms, spec),
        "unmanagedContainerModel": {
            "artifactUri": spec.code_uri,
            "containerSpec": _container(terms, spec),
        },
        "inputConfig": {
            "instancesFormat": "jsonl",
            "gcsSource": {"uris": [f"{instances_folder(spec)}/{INSTANCES_FILE}"]},
        },
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": spec.output_uri},
        },
        # One machine and one file at a time: it scores what it is sent one after the other.
        "dedicatedResources": {
            "machineSpec": {"machineType": terms.instance.type},
            "startingReplicaCount": 1,
            "maxReplicaCount": 1,
        },
        "manualBatchTuningParameters": {"batchSize": 1},
    }
    if terms.identity:
        job["serviceAccount"] = terms.identity
    if key := terms.keys.get("volume"):
        job["encryptionSpec"] = {"kmsKeyName": key}
    return {"parent": location, _JOB: job}


def stated(request: Mapping[str, Any]) -> Sequence[Stated]:
    """Return what a request says about the subjects of controls.

    Network and time limit stand in no field of a batch prediction job, so a pack that demands them
    refuses it. What a bucket decides, and isolation, is left to the preflight.
    """
    job = request[_JOB]
    resources = job["dedicatedResources"]
    key = job.get("encryptionSpec", {}).get("kmsKeyName")
    image = job["unmanagedContainerModel"]["containerSpec"]["imageUri"]
    return [
        Stated("region", "parent", request["parent"].rpartition("/")[2]),
        Stated("key.volume", f"{_JOB}.encryptionSpec.kmsKeyName", key),
        Stated("network.private", f"{_JOB}.network (Vertex AI has no such field)", None),
        Stated(
            "network.encrypted",
            _JOB,
            unknown="Vertex AI sends the files' addresses to the container from machines of its "
            "own, and cannot be told to encrypt",
        ),
        Stated("identity", f"{_JOB}.serviceAccount", job.get("serviceAccount")),
        Stated("hours", f"{_JOB}.timeout (Vertex AI has no such field)", None),
        Stated("instances", f"{_RESOURCES}.maxReplicaCount", resources["maxReplicaCount"]),
        # Spot machines are for other resources: those of a batch cannot be asked for as such.
        Stated("spot", _RESOURCES, False),
        Stated("tags", f"{_JOB}.labels", job.get("labels")),
        Stated("image", f"{_JOB}.unmanagedContainerModel.containerSpec.imageUri", image),
    ]


def instances_folder(spec: JobSpec) -> str:
    """Return the folder with what Vertex AI reads the files' addresses from, beside the output."""
    return f"{spec.output_uri}.job"


def instances(spec: JobSpec) -> bytes:
    """Return what Vertex AI sends to the container, one line for each file, sorted by name."""
    lines = [{"name": name, "uri": spec.inputs[name]} for name in sorted(spec.inputs)]
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines).encode()


def _container(terms: PlatformTerms, spec: JobSpec) -> dict[str, Any]:
    args = [
        f"{spec.code_uri}/{ENTRY_FILE}", Digest.of(entry_archive()).hex,
        VERB, "--package", spec.code_uri, "--spec-sha256", spec.spec.hex,
        "--output", spec.output_uri, "--failure", failure_uri(spec.output_uri),
    ]  # fmt: skip
    if key := terms.keys.get("output"):
        args += ["--key", key]
    program = Path(container_bootstrap.__file__).read_text(encoding="utf-8")
    return {
        "imageUri": terms.image,
        "command": ["python", "-c", program],
        "args": args,
        "ports": [{"containerPort": _PORT}],
        "predictRoute": _PREDICT,
        "healthRoute": _HEALTH,
    }
