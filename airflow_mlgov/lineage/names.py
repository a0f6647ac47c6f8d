"""What datasets and jobs are called, in a form that every OpenLineage backend can store.

Things that other tools know too (files, buckets, tables) carry the names of the OpenLineage
specification, so that graphs meet. Things that only governance knows stand in the namespace
``mlgov``. A name stands for one immutable thing: what can be written twice carries the first 12
hexadecimal characters of its digest.

Source:
    OpenLineage naming specification (datasets, jobs). What Marquez 0.51 breaks on:
    `docs/explanation/lineage.md`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.digest import Digest

NAMESPACE = "mlgov"
"""Namespace of the records that only governance knows."""

_NAMESPACE = re.compile(r"[a-zA-Z:;=/0-9_.@+-]{1,1024}")
_DEFAULT_PORTS = {"mysql": 3306, "oracle": 1521, "postgres": 5432, "trino": 8080}
"""A table's namespace states the port, so that one table has one name."""


@dataclass(frozen=True, slots=True, order=True)
class DatasetName:
    """A dataset's name, checked when it is made.

    Attributes:
        namespace: ASCII letters, digits and ``:;=/_.@+-``, at most 1,024 of them, no ARN.
        name: Not empty, no NUL, valid UTF-8; no leading digit if the namespace holds a colon.

    Raises:
        ConfigurationError: Marquez could not store it, or would answer 500 from then on; a retry
            does not help.
    """

    namespace: str
    name: str

    def __post_init__(self) -> None:
        _check_namespace(self.namespace)
        _check_name(self.namespace, self.name)


def check_job_name(name: str) -> str:
    """Return a job's name unchanged if every backend can store it.

    Raises:
        ConfigurationError: Empty, not ASCII, or with control characters; a retry does not help.
    """
    if not name.strip() or not name.isascii() or not name.isprintable():
        raise ConfigurationError(
            f"{name!r} cannot be the name of an OpenLineage job.",
            remedy="Use printable ASCII characters in the ids of DAGs and tasks.",
        )
    return name


def snapshot(uri: str, digest: Digest | None) -> DatasetName:
    """Return the name of data as it was at one moment.

    Args:
        uri: Path, or URI of a file, an object in a bucket, or a table
            (``postgres://host:5432/db.schema.table``).
        digest: Of its content; None for what has none (a table that was not fetched), which then is
            known by its place only.

    Raises:
        ConfigurationError: The place cannot be named; a retry does not help.
    """
    try:
        namespace, name = _place(uri)
    except ValueError as error:
        raise ConfigurationError(f"{uri!r} is no place that data can stand in: {error}.") from error
    return DatasetName(namespace, f"{name}@{digest.short}" if digest else name)


def _place(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    if len(parts.scheme) <= 1 or (parts.scheme == "file" and parts.netloc in {"", "localhost"}):
        path = unquote(parts.path) if parts.scheme == "file" else uri
        return "file", str(Path(path).absolute())
    if parts.scheme == "https" and ".blob." in parts.netloc:
        container, _, name = unquote(parts.path).lstrip("/").partition("/")
        return f"wasbs://{container}@{parts.netloc}", name
    if parts.netloc:
        return _namespace_of(parts), _name_of(parts)
    return parts.scheme, unquote(parts.path)


def model_version(namespace: str, name: str, version: str) -> DatasetName:
    """Return the name of a model version in its registry: what differs comes first.

    Args:
        namespace: The registry's (``mlflow://host:port``).
        name: Registered model.
        version: The registry's own number.
    """
    return DatasetName(namespace, f"{name}/{version}")


def data_report(dataset: str, evidence: Digest) -> DatasetName:
    """Return the name of the result of validating data."""
    return DatasetName(NAMESPACE, f"{dataset}/report/{evidence.short}")


def validation_report(model: str, version: str, evidence: Digest) -> DatasetName:
    """Return the name of a validation report; validating again makes another one."""
    return DatasetName(NAMESPACE, f"{model}/{version}/report/{evidence.short}")


def request_record(model: str, version: str, request: Digest) -> DatasetName:
    """Return the name of the record of a request for approval."""
    return DatasetName(NAMESPACE, f"{model}/{version}/request/{request.short}")


def approval_record(model: str, version: str, request: Digest) -> DatasetName:
    """Return the name of the record that grants a request; a version can be approved twice."""
    return DatasetName(NAMESPACE, f"{model}/{version}/approval/{request.short}")


def break_glass_record(model: str, version: str, emergency: Digest) -> DatasetName:
    """Return the name of the record that somebody used a version without an approval."""
    return DatasetName(NAMESPACE, f"{model}/{version}/breakglass/{emergency.short}")


def denial_record(model: str, version: str, request: Digest) -> DatasetName:
    """Return the name of the record that denies a request."""
    return DatasetName(NAMESPACE, f"{model}/{version}/denial/{request.short}")


def endpoint_revision(model: str, version: str, target: str, request: Digest) -> DatasetName:
    """Return the name of what a promotion puts into use; its request is used only once."""
    return DatasetName(NAMESPACE, f"{model}/{version}/endpoint/{target}/{request.short}")


def register_job(source: DatasetName) -> str:
    """Return the job that registers a source: ``register.<last part of its name>.<8 hex>``.

    The digits tell sources in different places apart; a new snapshot of one source is a new run of
    the same job.
    """
    place, _, _ = source.name.rpartition("@")
    place = place or source.name
    distinct = Digest.of(f"{source.namespace}\n{place}".encode())
    return check_job_name(f"register.{quote(PurePosixPath(place).name)}.{distinct.hex[:8]}")


def approval_run_id(request: Digest, part: str) -> str:
    """Return the run id of a request or a decision: always the same for the same request.

    Args:
        request: Digest of the request.
        part: ``request`` or ``decide``.
    """
    return str(uuid5(NAMESPACE_URL, f"urn:airflow-mlgov:{part}:{request}"))


def _check_namespace(namespace: str) -> None:
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(
            f"{namespace!r} cannot be the namespace of an OpenLineage dataset.",
            remedy="Use 1 to 1,024 ASCII letters, digits and :;=/_.@+- in the address.",
        )
    if namespace.lower().startswith("arn:"):
        raise ConfigurationError(
            f"{namespace!r} is an ARN; as a namespace it would break Marquez's lists for good.",
            remedy="Name the account and region instead (sagemaker://region.account).",
        )


def _check_name(namespace: str, name: str) -> None:
    if not name.strip() or "\0" in name:
        raise ConfigurationError(
            f"{name!r} cannot be the name of an OpenLineage dataset: empty, or with a NUL."
        )
    if ":" in namespace and name[0].isdigit():
        raise ConfigurationError(
            f"{name!r} in {namespace!r} begins with a digit, which Marquez takes for a port.",
            remedy="Register the model under a name that begins with a letter.",
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{name!r} is not valid Unicode and cannot be the name of a dataset."
        ) from error


def _namespace_of(parts: SplitResult) -> str:
    authority = parts.netloc.rpartition("@")[2]
    port = _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else None
    return f"{parts.scheme}://{authority}:{port}" if port else f"{parts.scheme}://{authority}"


def _name_of(parts: SplitResult) -> str:
    name = unquote(parts.path).lstrip("/")
    if parts.scheme == "postgres" and name.count(".") == 1:
        database, table = name.split(".")
        return f"{database}.public.{table}"
    return name
