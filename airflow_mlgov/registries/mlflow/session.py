"""Speaking to MLflow: how its client is set up, and what its errors mean."""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlgov.errors import (
    ConfigurationError,
    MlgovError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PROBE_S = 5
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",
}
_MANNERS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
_PASSING = frozenset(
    {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "INTERNAL_ERROR"}
)
_DENIED = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"})
_ENVIRONMENT_LOCK = threading.RLock()


class MlflowSession:
    """A client of one MLflow, made when it is first needed.

    Args:
        tracking_uri: ``http://host:port``, ``https://...`` or ``sqlite:////absolute/path.db``.
        registry_uri: If the registry is not where runs are tracked.
        user: For basic authentication.
        password: For basic authentication.

    Attributes:
        namespace: OpenLineage namespace, without credentials.

    Raises:
        ConfigurationError: The address is none of these; a retry does not help.
    """

    def __init__(
        self, tracking_uri: str, registry_uri: str | None, user: str | None, password: str | None
    ) -> None:
        scheme = urlsplit(tracking_uri).scheme
        if scheme not in {"http", "https", "sqlite", "postgresql", "mysql", "mssql"}:
            raise ConfigurationError(
                f"MLflow tracking URI with the scheme {scheme!r} is not supported.",
                remedy="Use http://host:port of an MLflow server, or sqlite:////absolute/path.db.",
            )
        self.namespace = _namespace(tracking_uri)
        self._tracking_uri = tracking_uri
        self._registry_uri = registry_uri or tracking_uri
        self._login = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        self._client: MlflowClient | None = None

    @contextmanager
    def talking(self, missing: str = "") -> Iterator[MlflowClient]:
        """Yield a client, its login in the environment meanwhile; translate what goes wrong.

        Args:
            missing: What to say if MLflow has not got what is asked for; empty if nothing is.

        Raises:
            VersionNotFoundError: As `missing` says; a retry does not help.
            RegistryError: MLflow refused; a retry does not help.
            RegistryUnavailableError: It cannot be reached; a retry may help.
            ConfigurationError: Its client is not installed; a retry does not help.
        """
        with _environment({**_MANNERS, **self._login}):
            try:
                if self._client is None:
                    self._client = self._connect()
                yield self._client
            except MlgovError:
                raise
            except Exception as error:
                # MLflow raises its own tree, requests', SQLAlchemy's and the artefact store's
                # driver's.
                raise self._translated(error, missing) from error

    def _connect(self) -> MlflowClient:
        # For good: MLflow's threads look again whenever they like.
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient as Client
        except ImportError as error:
            raise ConfigurationError(
                f"MLflow's client is not installed: {error}.",
                remedy="Install it with pip install 'airflow-mlgov[mlflow]'.",
            ) from error
        _probe(self._tracking_uri)
        with _one_at_a_time(self._tracking_uri):
            client = Client(self._tracking_uri, self._registry_uri)
            client.search_registered_models(max_results=1)
        return client

    def _translated(self, error: Exception, missing: str) -> MlgovError:
        code = str(getattr(error, "error_code", ""))
        what = self._without_login(str(error))
        if missing and (code in _MISSING or code == "INVALID_PARAMETER_VALUE"):
            return VersionNotFoundError(missing)
        if code in _DENIED:
            return RegistryError(
                f"MLflow at {self.namespace} refused: {what}.",
                remedy="Check login and password of the Airflow connection, and its rights.",
            )
        if code in _PASSING or (not code and isinstance(error, OSError)) or _is_database(error):
            return RegistryUnavailableError(
                f"MLflow at {self.namespace} cannot be used now: {what}.",
                remedy="Check that it runs and that this machine reaches it.",
            )
        return RegistryError(f"MLflow at {self.namespace} refused: {what}.")

    def _without_login(self, text: str) -> str:
        password = self._login["MLFLOW_TRACKING_PASSWORD"]
        text = re.sub(r"://[^/@\s]+@", "://***@", text)
        return text.replace(password, "***") if password else text


def _namespace(tracking_uri: str) -> str:
    parts = urlsplit(tracking_uri)
    if parts.scheme not in {"http", "https"}:
        return "mlflow://local"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"mlflow://{parts.hostname}:{port}"


def _database_file(tracking_uri: str) -> Path | None:
    path = tracking_uri.removeprefix("sqlite:///")
    return None if path == tracking_uri else Path(path)


def beside_database(tracking_uri: str) -> str | None:
    """Return a folder beside a SQLite database for a new experiment's files; None for others."""
    database = _database_file(tracking_uri)
    return None if database is None else str(database.absolute().with_name("mlflow-artifacts"))


def _probe(tracking_uri: str) -> None:
    """Find out in seconds whether a server is there; MLflow's own retries would take minutes."""
    import requests

    if not tracking_uri.startswith("http"):
        return
    try:
        requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=_PROBE_S)
    except requests.exceptions.SSLError:
        return  # MLflow's client has settings of its own for certificates
    except requests.RequestException as error:
        raise RegistryUnavailableError(
            f"MLflow at {_namespace(tracking_uri)} cannot be reached: {type(error).__name__}.",
            remedy="Check that it runs, and the host of the Airflow connection.",
        ) from error


def _is_database(error: Exception) -> bool:
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, SQLAlchemyError)


@contextmanager
def _one_at_a_time(tracking_uri: str) -> Iterator[None]:
    """MLflow makes the tables of a new SQLite file unguarded: two tasks at once would both fail."""
    database = _database_file(tracking_uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f".{database.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for a while, as MLflow reads its login and patience from nowhere else."""
    with _ENVIRONMENT_LOCK:
        before = {name: os.environ.get(name) for name in values}
        _set_variables({name: value for name, value in values.items() if value is not None})
        try:
            yield
        finally:
            _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
