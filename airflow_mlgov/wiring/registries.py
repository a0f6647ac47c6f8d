"""Opens the registry that an Airflow connection describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platforms_file import RegistryTerms
from airflow_mlgov.wiring.platforms import missing_extra, platforms_file

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlgov.registries.mlflow import MlflowRegistry
    from airflow_mlgov.service.ports import Registry


def open_registry(name: str) -> Registry:
    """Return a registry by its name.

    Args:
        name: Entry of the platform file, or else an Airflow connection of type ``mlflow``.

    Raises:
        ConfigurationError: There is none of this name, its connection is missing or malformed, or
            the extra is not installed; a retry does not help.
        DocumentError: The platform file is malformed; a retry does not help.
    """
    terms = platforms_file().registries.get(name)
    if terms is None:
        return open_mlflow(_connection(name))
    try:
        return _opened(terms)
    except ImportError as error:
        raise missing_extra(terms, error) from error


def open_registries(names: str | Sequence[str]) -> list[Registry]:
    """Return several registries by their names, in their order; of a single name that one."""
    return [open_registry(name) for name in ([names] if isinstance(names, str) else names)]


def _opened(terms: RegistryTerms) -> Registry:
    if terms.kind == "sagemaker":
        from airflow_mlgov.registries.sagemaker import SageMakerRegistry

        return SageMakerRegistry(terms)
    if terms.kind == "vertex":
        from airflow_mlgov.registries.vertex import VertexRegistry

        return VertexRegistry(terms)
    if terms.kind == "azureml":
        from airflow_mlgov.registries.azureml import AzureMlRegistry

        return AzureMlRegistry(terms)
    return open_mlflow(_connection(terms.connection))


def open_mlflow(connection: Connection) -> MlflowRegistry:
    """Return the MLflow registry that a connection describes.

    Args:
        connection: Its extra holds ``tracking_uri``, or its host is one, or host, port and schema
            (``http`` or ``https``) make one. Login and password go to the server as basic
            authentication.

    Raises:
        ConfigurationError: It describes none, or the extra ``mlflow`` is not installed.
    """
    from airflow_mlgov.registries.mlflow import MlflowRegistry

    extra = connection.extra_dejson
    return MlflowRegistry(
        str(extra.get("tracking_uri") or _from_host(connection)),
        registry_uri=extra.get("registry_uri"),
        user=connection.login or None,
        password=connection.password or None,
        experiment=str(extra.get("experiment") or "airflow-mlgov"),
        artifact_location=extra.get("artifact_location"),
    )


def _connection(conn_id: str) -> Connection:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection: Connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"There is neither a registry {conn_id!r} in the platform file nor an Airflow "
            "connection of this name.",
            remedy="Add a connection of type mlflow whose host is the tracking URI of your MLflow "
            "server, or name it under 'registries' in the file in [mlgov] platforms_path.",
        ) from error
    if connection.conn_type != "mlflow":
        raise ConfigurationError(
            f"Airflow connection {conn_id!r} is of type {connection.conn_type!r}.",
            remedy="Use a connection of type mlflow.",
        )
    return connection


def _from_host(connection: Connection) -> str:
    host = connection.host or ""
    if not host:
        raise ConfigurationError(
            f"Airflow connection {connection.conn_id!r} names no MLflow server.",
            remedy='Write its tracking URI as host, or as "tracking_uri" in the extra.',
        )
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    has_port = urlsplit(host).port is not None if host.startswith("http") else True
    return host if has_port or not connection.port else f"{host.rstrip('/')}:{connection.port}"
