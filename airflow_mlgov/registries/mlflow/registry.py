"""MLflow as a registry of model versions, spoken to through its client only.

A version is a run with one artefact folder ``package``: ``package/model`` is the training script's
folder, unchanged, and ``package/MLmodel`` beside it is for MLflow's own pages. Nothing is pickled
or loaded.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    VersionNotFoundError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.registries.mlflow.session import MlflowSession, beside_database
from airflow_mlgov.service.artefacts import check_directory, copy_directory
from airflow_mlgov.service.ports import RegistryVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MANIFEST_TAG = "mlgov.manifest_sha256"
NAME_TAG = "mlgov.registered_name"

_PACKAGE = "package"
_MODEL = "package/model"
_SOURCE = re.compile(r"runs:/(?P<run>[0-9a-zA-Z_-]+)/package/?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class MlflowRegistry:
    """Model versions in MLflow.

    Args:
        tracking_uri: ``http://host:port``, ``https://...`` or ``sqlite:////absolute/path.db``.
        registry_uri: If the registry is not where runs are tracked.
        user: For basic authentication.
        password: For basic authentication; never in an address that is shown.
        experiment: Where runs are kept; made if it does not exist.
        artifact_location: Where a new experiment keeps artefacts; the server's own place if None,
            and a folder beside the database for SQLite.

    Attributes:
        namespace: OpenLineage namespace of its datasets.

    Raises:
        ConfigurationError: The address is none of these; a retry does not help.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        registry_uri: str | None = None,
        user: str | None = None,
        password: str | None = None,
        experiment: str = "airflow-mlgov",
        artifact_location: str | None = None,
    ) -> None:
        self._session = MlflowSession(tracking_uri, registry_uri, user, password)
        self.namespace = self._session.namespace
        self._experiment = experiment
        self._artifact_location = artifact_location or beside_database(tracking_uri)

    def register(
        self, name: str, model_dir: Path, manifest: Manifest, tags: Mapping[str, str]
    ) -> RegistryVersion:
        """Store a model folder unchanged and register it, once for each manifest.

        Killed at any point, the next call completes the work; a half-written upload is never
        registered.

        Raises:
            RegistryError: MLflow refused; a retry does not help.
            RegistryUnavailableError: It cannot be reached; a retry may help.
        """
        _check_name(name)
        with self._session.talking() as client:
            _ensure_model(client, name)
            if _with_manifest(client, name, manifest.digest) is None:
                run_id = self._stored(client, name, model_dir, manifest)
                client.create_model_version(
                    name,
                    f"runs:/{run_id}/{_PACKAGE}",
                    run_id=run_id,
                    tags={**tags, MANIFEST_TAG: str(manifest.digest)},
                )
            # Of two tasks that registered it at once, both take the version with the lower number.
            return self._found(_with_manifest(client, name, manifest.digest), name, manifest.digest)

    def find(self, name: str, manifest: Digest) -> RegistryVersion:
        """Return the version with this manifest.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        _check_name(name)
        with self._session.talking() as client:
            return self._found(_with_manifest(client, name, manifest), name, manifest)

    def by_alias(self, name: str, alias: str) -> RegistryVersion:
        """Return the version that an alias points to.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        with self._session.talking(
            f"MLflow has no model {name!r} with the alias {alias!r}."
        ) as client:
            return self._version(client.get_model_version_by_alias(name, alias))

    def get(self, name: str, version: str) -> RegistryVersion:
        """Return a version by MLflow's number.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        with self._session.talking(
            f"MLflow has no version {version!r} of model {name!r}."
        ) as client:
            return self._version(client.get_model_version(name, version))

    def fetch(self, version: RegistryVersion, into: Path) -> Path:
        """Copy the model folder to a private directory and return its path; nothing else is copied.

        What comes back is what MLflow holds now: compare its manifest before it is used.

        Args:
            version: From this registry.
            into: Made, or set, to mode 0700; must hold no ``model`` yet.

        Raises:
            VersionNotFoundError: The version or its files are gone; a retry does not help.
            ArtefactError: It holds links, pickles or paths that leave it; a retry does not help.
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        label = f"{version.name} version {version.version}"
        with self._session.talking(f"MLflow has no files of model {label}.") as client:
            source = client.get_model_version(version.name, version.version).source or ""
            match = _SOURCE.fullmatch(source)
            if match is None:
                raise RegistryError(
                    f"MLflow's model {label} was not registered by airflow-mlgov.",
                    remedy=f"Its source is {source!r}; train and register it as a governed model.",
                )
            into.mkdir(mode=0o700, parents=True, exist_ok=True)
            into.chmod(0o700)
            local = _local_path(client.get_run(match["run"]).info.artifact_uri)
            if local is not None:
                copy_directory(local / _MODEL, into / "model")
            else:
                _download(client, match["run"], into)
                check_directory(into / "model")
        return into / "model"

    def set_alias(self, version: RegistryVersion, alias: str) -> None:
        """Point an alias at a version; doing it twice is fine.

        Raises:
            VersionNotFoundError: There is no such version; a retry does not help.
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        label = f"{version.name} version {version.version}"
        with self._session.talking(f"MLflow has no model {label}.") as client:
            client.get_model_version(version.name, version.version)
            client.set_registered_model_alias(version.name, alias, version.version)

    def unset_alias(self, version: RegistryVersion, alias: str) -> None:
        """Take an alias away from a version; fine if it does not point there.

        Raises:
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        with self._session.talking() as client:
            for model in client.search_registered_models(f"name = '{version.name}'"):
                if str(model.aliases.get(alias)) == version.version:
                    client.delete_registered_model_alias(version.name, alias)

    def versions(self, name: str) -> list[RegistryVersion]:
        """Return every version of a model, newest first; empty if there is no such model.

        Raises:
            RegistryUnavailableError: MLflow cannot be reached; a retry may help.
        """
        _check_name(name)
        found: list[ModelVersion] = []
        with self._session.talking() as client:
            token: str | None = None
            while token is None or token:
                page = client.search_model_versions(f"name = '{name}'", page_token=token)
                found.extend(page)
                token = page.token or ""
        return [self._version(v) for v in sorted(found, key=lambda v: -int(v.version))]

    def check(self) -> str:
        """Ask MLflow for one model and return a line about it, for `test_connection` and `doctor`.

        Raises:
            RegistryError: It refused.
            RegistryUnavailableError: It cannot be reached; a retry may help.
        """
        with self._session.talking() as client:
            client.search_registered_models(max_results=1)
        return f"MLflow answers at {self.namespace}."

    def missing_permissions(self) -> list[str]:
        """Return nothing: MLflow has no question about what one may do."""
        return []

    def _stored(self, client: MlflowClient, name: str, model_dir: Path, manifest: Manifest) -> str:
        """Return the run that holds the model folder whole, from an earlier try or a new one."""
        experiment_id = self._experiment_id(client)
        wanted = f"tags.`{MANIFEST_TAG}` = '{manifest.digest}' and tags.`{NAME_TAG}` = '{name}'"
        finished = f"{wanted} and attributes.status = 'FINISHED'"
        for run in client.search_runs([experiment_id], finished, max_results=1):
            return str(run.info.run_id)
        run = client.create_run(
            experiment_id,
            run_name=f"{name} {manifest.digest.short}",
            tags={MANIFEST_TAG: str(manifest.digest), NAME_TAG: name},
        )
        run_id = str(run.info.run_id)
        client.log_artifacts(run_id, str(model_dir), _MODEL)
        client.log_dict(run_id, _mlmodel(run_id, manifest), f"{_PACKAGE}/MLmodel")
        client.set_terminated(run_id, "FINISHED")
        return run_id

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            with _existing_is_fine():
                return str(client.create_experiment(self._experiment, self._artifact_location))
            found = client.get_experiment_by_name(self._experiment)
        if found is None or found.lifecycle_stage != "active":
            raise RegistryError(
                f"MLflow's experiment {self._experiment!r} is deleted.",
                remedy="Restore it in MLflow.",
            )
        return str(found.experiment_id)

    def _found(self, found: ModelVersion | None, name: str, manifest: Digest) -> RegistryVersion:
        if found is None:
            raise VersionNotFoundError(
                f"MLflow has no version of model {name!r} with the manifest {manifest}.",
                remedy="Train and register it, or look whether it was deleted in MLflow.",
            )
        return self._version(found)

    def _version(self, found: ModelVersion) -> RegistryVersion:
        tag = found.tags.get(MANIFEST_TAG)
        return RegistryVersion(
            registry="mlflow",
            name=found.name,
            version=str(found.version),
            manifest=_digest_or_none(tag),
            uri=f"{self.namespace}/{found.name}/{found.version}",
            namespace=self.namespace,
        )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"Registered model name {name!r} is not one that every registry can hold.",
            remedy="Use letters, digits, '_', '-' and '.' in the inventory's 'registered_name'.",
        )


def _ensure_model(client: MlflowClient, name: str) -> None:
    with _existing_is_fine():
        client.create_registered_model(name)


@contextmanager
def _existing_is_fine() -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _with_manifest(client: MlflowClient, name: str, manifest: Digest) -> ModelVersion | None:
    wanted = f"name = '{name}' and tag.`{MANIFEST_TAG}` = '{manifest}'"
    found = [v for v in client.search_model_versions(wanted) if v.status == "READY"]
    return min(found, key=lambda version: int(version.version), default=None)


def _mlmodel(run_id: str, manifest: Manifest) -> dict[str, Any]:
    flavor = {"data": "model", "manifest_sha256": str(manifest.digest)}
    return {"artifact_path": _PACKAGE, "flavors": {"airflow_mlgov": flavor}, "run_id": run_id}


def _download(client: MlflowClient, run_id: str, into: Path) -> None:
    paths = list(_list_files(client, run_id, _MODEL))
    if not paths:
        raise VersionNotFoundError(f"MLflow holds no files of run {run_id}.")
    for path in paths:
        target = into / PurePosixPath(path).relative_to(_PACKAGE)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            Path(client.download_artifacts(run_id, path, scratch)).rename(target)


def _list_files(client: MlflowClient, run_id: str, folder: str) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        path = PurePosixPath(entry.path)
        if path.parent != PurePosixPath(folder) or ".." in path.parts or "\\" in entry.path:
            raise ArtefactError(f"MLflow lists a model file {entry.path!r} outside of {folder!r}.")
        if entry.is_dir:
            yield from _list_files(client, run_id, entry.path)
        else:
            yield entry.path


def _local_path(artifact_uri: str) -> Path | None:
    parts = urlsplit(artifact_uri)
    return Path(unquote(parts.path)) if parts.scheme in {"", "file"} else None


def _digest_or_none(text: str | None) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except ArtefactError:
        return None  # somebody else's tag, or one changed by hand: no version of ours
