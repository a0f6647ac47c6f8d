"""What Vertex AI takes and answers, held against the messages of its own client.

Unknown fields are refused both ways; what the reference says beyond the messages (labels, names,
the first pool's one machine, filters) is checked by hand. It cannot prove that Google checks no
more.
"""

from __future__ import annotations

import re
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.longrunning.operations_pb2 import Operation
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_TERM = re.compile(
    r'labels\.(?P<key>[a-z][a-z0-9_-]*)=(?:"(?P<quoted>[^"]*)"|(?P<bare>[a-z0-9_-]+))'
)
_ACCOUNT = re.compile(r"[a-z0-9-]+@[a-z0-9.-]+\.gserviceaccount\.com")


class RefusedError(Exception):
    """An answer that is an error.

    Args:
        code: HTTP status.
        status: Google's name of it.
        message: For people.
        reason: Of an ErrorInfo.
    """

    def __init__(self, code: int, status: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        details = (
            [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": reason,
                    "domain": "googleapis.com",
                }
            ]
            if reason
            else []
        )
        self.body = {
            "error": {"code": code, "message": message, "status": status, "details": details}
        }


def invalid(message: str) -> RefusedError:
    return RefusedError(400, "INVALID_ARGUMENT", message)


def missing(what: str) -> RefusedError:
    return RefusedError(404, "NOT_FOUND", f"{what} is not found.")


def parsed(body: Any, message: Any) -> Any:
    """Return a message of the client's own type; unknown fields are refused."""
    made = message()
    try:
        ParseDict(body, message.pb(made))
    except ParseError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    return made


def written(message: Any) -> dict[str, Any]:
    """Return a message as REST does with ``$alt=json;enum-encoding=int``: int64 as strings."""
    protobuf = type(message).pb(message) if hasattr(type(message), "pb") else message
    return MessageToDict(protobuf, use_integers_for_enums=True)


def custom_job(body: Any) -> v1.CustomJob:
    """Return a job as it was asked for.

    Raises:
        RefusedError: It is none.
    """
    job = parsed(body, v1.CustomJob)
    _check_job(job)
    pools = job.job_spec.worker_pool_specs
    if not pools or pools[0].replica_count != 1:
        raise invalid("worker_pool_specs[0].replica_count must be 1.")
    for pool in pools:
        if not pool.container_spec.image_uri or not pool.machine_spec.machine_type:
            raise invalid("A worker pool needs an image and a machine type.")
    _check_account(job.job_spec.service_account)
    output = job.job_spec.base_output_directory.output_uri_prefix
    if not output.startswith("gs://"):
        raise invalid("base_output_directory must be in Cloud Storage.")
    return job


def batch_prediction_job(body: Any) -> v1.BatchPredictionJob:
    """Return a job as it was asked for.

    Raises:
        RefusedError: It is none.
    """
    job = parsed(body, v1.BatchPredictionJob)
    _check_job(job)
    if job.model or not job.unmanaged_container_model.container_spec.image_uri:
        raise invalid("Exactly one of model and unmanaged_container_model must be set.")
    container = job.unmanaged_container_model.container_spec
    if any("$(" in word or "$$" in word for word in (*container.command, *container.args)):
        raise invalid("A variable would be expanded in command or args.")
    if (job.input_config.instances_format, job.output_config.predictions_format) != (
        "jsonl",
        "jsonl",
    ):
        raise invalid("Instances and predictions of a custom container are jsonl here.")
    addresses = [
        *job.input_config.gcs_source.uris,
        job.output_config.gcs_destination.output_uri_prefix,
        job.unmanaged_container_model.artifact_uri,
    ]
    if len(addresses) < 3 or not all(each.startswith("gs://") for each in addresses):
        raise invalid("Instances, predictions and artifacts must be in Cloud Storage.")
    machines = job.dedicated_resources
    if not machines.machine_spec.machine_type:
        raise invalid("dedicated_resources needs a machine type.")
    if machines.starting_replica_count > machines.max_replica_count:
        raise invalid("starting_replica_count is greater than max_replica_count.")
    _check_account(job.service_account)
    return job


def _check_job(job: Any) -> None:
    if job.name or job.state or job.create_time:
        raise invalid("Output only fields are set.")
    if not 1 <= len(job.display_name) <= 128:
        raise invalid("display_name must have 1 to 128 characters.")
    check_labels(dict(job.labels))
    if job.encryption_spec.kms_key_name and "/cryptoKeys/" not in job.encryption_spec.kms_key_name:
        raise invalid("kms_key_name is no resource name of a key.")


def _check_account(account: str) -> None:
    if account and not _ACCOUNT.fullmatch(account):
        raise invalid(f"{account} is no service account.")


def check_labels(labels: dict[str, str]) -> None:
    if len(labels) > 64:
        raise invalid("There are more than 64 labels.")
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise invalid(f"Label {key}={value} is invalid.")


def check_model_id(model_id: str) -> None:
    if not _MODEL_ID.fullmatch(model_id):
        raise invalid(f"model_id {model_id} is invalid.")


def matches(wanted: str, labels: dict[str, str]) -> bool:
    """Return whether labels pass a filter: ``labels.key=value`` and ``AND``, nothing else."""
    for term in filter(None, wanted.split(" AND ")):
        match = _TERM.fullmatch(term)
        if match is None:
            raise invalid(f"Invalid filter: {term}")
        value = match["quoted"] if match["quoted"] is not None else match["bare"]
        if labels.get(match["key"]) != value:
            return False
    return True


def page(items: list[Any], query: dict[str, str], most: int) -> tuple[list[Any], str]:
    """Return one page and the token of the next."""
    token, size = query.get("pageToken", ""), int(query.get("pageSize", 0)) or most
    if token and not re.fullmatch(r"page-\d+", token):
        raise invalid("page_token is invalid.")
    start = int(token.removeprefix("page-") or 0)
    end = start + min(size, most)
    return items[start:end], f"page-{end}" if end < len(items) else ""


def operation(name: str, response: Any | None, metadata: Any) -> dict[str, Any]:
    """Return a long-running operation, done if there is a response."""
    made = Operation(name=name, done=response is not None)
    made.metadata.Pack(type(metadata).pb(metadata))
    if response is not None:
        made.response.Pack(type(response).pb(response))
    return MessageToDict(made)
