"""Vertex AI's Model Registry: a version is a folder in Cloud Storage that its manifest names.

What a version is, is read from its ``artifactUri``, which nobody can change. Labels cannot say it:
Google merges those of a model, where the first upload's go, into those of each of its versions.
They are set for people and bills. What is promoted is said by aliases, of which each points to one
version at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.clouds.gcp.labels import check_tags, digest_label
from airflow_mlgov.clouds.gcp.session import CALL_S, GcpSession
from airflow_mlgov.clouds.gcp.store import bucket_of, check_writable, receive, send
from airflow_mlgov.errors import RegistryError, RegistryUnavailableError, VersionNotFoundError
from airflow_mlgov.policy.platforms_file import RegistryTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.registries.vertex.names import (
    check_alias,
    is_version,
    manifest_in,
    model_folder,
    model_id,
)
from airflow_mlgov.service.artefacts import check_directory
from airflow_mlgov.service.ports import RegistryVersion

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import Model

MANIFEST_LABEL = "mlgov-manifest"
STATUS_LABEL = "mlgov-status"
PENDING, PROMOTED = "pending", "promoted"

_UPLOAD_S = 600.0
_PAUSE_S = 2.0
_DEFAULT = "default"
_IN_PROJECT = (
    "aiplatform.models.get", "aiplatform.models.list", "aiplatform.models.update",
    "aiplatform.models.upload",
)  # fmt: skip
_IN_BUCKET = (
    "storage.objects.create", "storage.objects.delete", "storage.objects.get",
    "storage.objects.list",
)  # fmt: skip


class VertexRegistry:
    """Model versions in one project and region; see `Registry` for its methods.

    Args:
        terms: An entry of kind ``vertex``.
        sleep: Waits a number of seconds.

    Attributes:
        namespace: OpenLineage namespace of its datasets.

    Raises:
        ConfigurationError: The entry's tags cannot be labels; a retry does not help.
    """

    def __init__(
        self, terms: RegistryTerms, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        check_tags(terms)
        self._terms = terms
        self._sleep = sleep
        self._session = GcpSession(terms, RegistryError, RegistryUnavailableError)
        self.namespace = f"vertexai://{terms.account}.{terms.region}"

    def register(
        self, name: str, model_dir: Path, manifest: Manifest, tags: Mapping[str, str]
    ) -> RegistryVersion:
        """Store a model folder unchanged and register it, once for each manifest.

        Killed at any point, the next call completes the work: files stand in a folder that the
        manifest names, and a version is made when they all do. Of two tasks at once that make two
        versions both take the one with the lower number.

        Raises:
            RegistryError: Google refuses; a retry does not help.
            RegistryUnavailableError: It cannot be reached, or takes long; a retry may help.
        """
        ident, digest = model_id(name), manifest.digest
        found = self._with_manifest(name, digest)
        if found is None:
            folder = model_folder(self._terms.store, ident, digest)
            files = {file.path: model_dir / file.path for file in manifest.files}
            send(self._session, folder, files, self._terms.keys.get("model"))
            self._upload(name, self._described(name, folder, digest, tags))
            found = self._with_manifest(name, digest)
        if found is None:
            raise RegistryUnavailableError(
                f"Vertex AI took a version of model {name!r} with the manifest {digest} and does "
                "not show it yet."
            )
        if found.labels.get(MANIFEST_LABEL) != digest_label(digest):
            self._label(found, {MANIFEST_LABEL: digest_label(digest), STATUS_LABEL: PENDING})
        return self._version(name, found)

    def find(self, name: str, manifest: Digest) -> RegistryVersion:
        """Return the version with this manifest, of several the oldest.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
        """
        found = self._with_manifest(name, manifest)
        if found is None:
            raise VersionNotFoundError(
                f"{self._terms.name} has no version of model {name!r} with the manifest "
                f"{manifest}.",
                remedy="Train and register it, or look whether it was deleted in Vertex AI.",
            )
        return self._version(name, found)

    def by_alias(self, name: str, alias: str) -> RegistryVersion:
        """Return the version that an alias points to.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            ConfigurationError: Vertex AI takes no such alias; a retry does not help.
        """
        return self._version(name, self._get(name, check_alias(alias)))

    def get(self, name: str, version: str) -> RegistryVersion:
        """Return a version by Vertex AI's number.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
        """
        if not is_version(version):
            raise self._not_found(name, version)
        return self._version(name, self._get(name, version))

    def versions(self, name: str) -> Sequence[RegistryVersion]:
        """Return every version of a model, newest first; empty if there is no such model."""
        return [self._version(name, each) for each in reversed(self._all(name))]

    def fetch(self, version: RegistryVersion, into: Path) -> Path:
        """Copy the model folder to a private directory and return its path; nothing else is copied.

        What comes back is what the store holds now: compare its manifest before it is used.

        Args:
            version: From this registry.
            into: Made, or set, to mode 0700; must hold no ``model`` yet.

        Raises:
            VersionNotFoundError: The version or its files are gone; a retry does not help.
            ArtefactError: It holds links, pickles or paths that leave it; a retry does not help.
        """
        folder = self._get(version.name, version.version).artifact_uri
        if manifest_in(self._terms.store, model_id(version.name), folder) is None:
            raise RegistryError(
                f"{version.name} version {version.version} of {self._terms.name} was not "
                "registered by airflow-mlgov.",
                remedy=f"Its files are in {folder or 'no folder'}; train and register it as a "
                "governed model.",
            )
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        into.chmod(0o700)
        (into / "model").mkdir(mode=0o700)
        if not receive(self._session, folder, into / "model"):
            raise VersionNotFoundError(
                f"The files of {version.name} version {version.version} are gone from {folder}.",
                remedy="Look for an earlier generation of them in the bucket.",
            )
        check_directory(into / "model")
        return into / "model"

    def set_alias(self, version: RegistryVersion, alias: str) -> None:
        """Point an alias at a version and take it from any other; doing it twice is fine.

        Raises:
            VersionNotFoundError: There is no such version; a retry does not help.
            ConfigurationError: Vertex AI takes no such alias; a retry does not help.
            RegistryError: The alias points elsewhere afterwards; a retry does not help.
        """
        check_alias(alias)
        target = self._get(version.name, version.version)
        others = [
            each
            for each in self._all(version.name)
            if alias in each.version_aliases and each.version_id != target.version_id
        ]
        if alias not in target.version_aliases:
            self._point(target, alias, others)
        self._label(target, {STATUS_LABEL: PROMOTED})
        for other in others:
            self._relabel(other, without=alias)
        held = self._get(version.name, alias).version_id
        if held != target.version_id:
            raise RegistryError(
                f"Alias {alias!r} of model {version.name!r} points to version {held}, not to "
                f"{target.version_id}: somebody else moved it meanwhile.",
                remedy="Look who may change models in Vertex AI, and promote again.",
            )

    def unset_alias(self, version: RegistryVersion, alias: str) -> None:
        """Take an alias away from a version; fine if it does not point there.

        Raises:
            VersionNotFoundError: There is no such version; a retry does not help.
            ConfigurationError: Vertex AI takes no such alias; a retry does not help.
        """
        target = self._get(version.name, version.version)
        if check_alias(alias) in target.version_aliases:
            self._merge(target, f"-{alias}")
            self._relabel(target, without=alias)

    def check(self) -> str:
        """Ask for one model and for the store, and return a line about it, for `doctor`.

        Raises:
            RegistryError: Google refuses, or nothing may be stored.
            RegistryUnavailableError: It cannot be reached; a retry may help.
        """
        with self._session.talking("looking for models"):
            request = {"parent": self._session.location, "page_size": 1}
            self._session.models().list_models(request, timeout=CALL_S, retry=None)
        check_writable(self._session, self._terms.store)
        return f"Vertex AI answers for {self._session.location}, {self._terms.store} is writable."

    def missing_permissions(self) -> list[str]:
        """Return what who asks may not do and would have to; empty if nothing is missing.

        Raises:
            RegistryError: It cannot be asked.
            RegistryUnavailableError: Google cannot be reached; a retry may help.
        """
        with self._session.talking("asking for permissions"):
            bucket = bucket_of(self._session, self._terms.store)
            held = self._session.held(list(_IN_PROJECT)) | set(
                bucket.test_iam_permissions(list(_IN_BUCKET), timeout=CALL_S, retry=None)
            )
            return [each for each in (*_IN_PROJECT, *_IN_BUCKET) if each not in held]

    def _path(self, name: str, which: str = "") -> str:
        suffix = f"@{which}" if which else ""
        return f"{self._session.location}/models/{model_id(name)}{suffix}"

    def _get(self, name: str, which: str) -> Model:
        with self._talking(name, which):
            return self._session.models().get_model(
                name=self._path(name, which), timeout=CALL_S, retry=None
            )

    def _all(self, name: str) -> list[Model]:
        """Return every version, oldest first; none if there is no such model."""
        from google.api_core.exceptions import NotFound

        with self._session.talking(f"listing versions of model {name}"):
            try:
                listed = list(
                    self._session.models().list_model_versions(
                        name=self._path(name), timeout=CALL_S, retry=None
                    )
                )
            except NotFound:
                return []
        return sorted(listed, key=lambda each: int(each.version_id))

    def _with_manifest(self, name: str, manifest: Digest) -> Model | None:
        for each in self._all(name):
            if self._manifest(name, each) == manifest:
                return each
        return None

    def _manifest(self, name: str, found: Model) -> Digest | None:
        return manifest_in(self._terms.store, model_id(name), found.artifact_uri)

    def _described(
        self, name: str, folder: str, digest: Digest, tags: Mapping[str, str]
    ) -> dict[str, Any]:
        said = {"mlgov.manifest_sha256": str(digest), **tags}
        model: dict[str, Any] = {
            "display_name": name,
            "artifact_uri": folder,
            "container_spec": {"image_uri": self._terms.image},
            "labels": dict(self._terms.tags),
            "version_description": json.dumps(said, sort_keys=True)[:1000],
        }
        if key := self._terms.keys.get("model"):
            model["encryption_spec"] = {"kms_key_name": key}
        return model

    def _upload(self, name: str, model: dict[str, Any]) -> None:
        """Make a version: of the model that is there, or with a new one."""
        from google.api_core.exceptions import Conflict, NotFound

        request = {"parent": self._session.location, "model": model}
        older, new = {"parent_model": self._path(name)}, {"model_id": model_id(name)}
        with self._session.talking(f"registering a version of model {name}"):
            upload = self._session.models().upload_model
            try:
                made = upload({**request, **older}, timeout=CALL_S, retry=None)
            except NotFound:
                try:
                    made = upload({**request, **new}, timeout=CALL_S, retry=None)
                except Conflict:  # another task was faster
                    made = upload({**request, **older}, timeout=CALL_S, retry=None)
            self._wait(name, made.operation.name)

    def _wait(self, name: str, operation: str) -> None:
        # Not by the client's own way: over REST it asks at a path of the console's.
        deadline = time.monotonic() + _UPLOAD_S
        while not (said := self._session.vertex("GET", operation)).get("done"):
            if time.monotonic() >= deadline:
                raise RegistryUnavailableError(
                    f"Vertex AI has not ended {operation} in {_UPLOAD_S:g} seconds."
                )
            self._sleep(_PAUSE_S)
        if "error" in said:
            raise RegistryError(
                f"Vertex AI did not register a version of model {name!r}: "
                f"{said['error'].get('message')}.",
                remedy=f"Look at {operation} in project {self._terms.account}.",
            )

    def _point(self, target: Model, alias: str, others: Sequence[Model]) -> None:
        """Give a version an alias: at one stroke if Vertex AI moves it, else after taking it away.

        The reference does not say which of the two it does.
        """
        from google.api_core.exceptions import BadRequest, Conflict

        try:
            self._merge(target, alias)
        except RegistryError as error:
            if not others or not isinstance(error.__cause__, BadRequest | Conflict):
                raise
            for other in others:
                self._merge(other, f"-{alias}")
            self._merge(target, alias)

    def _merge(self, found: Model, alias: str) -> None:
        with self._session.talking(f"changing aliases of model {found.display_name}"):
            self._session.models().merge_version_aliases(
                name=f"{found.name.partition('@')[0]}@{found.version_id}",
                version_aliases=[alias],
                timeout=CALL_S,
                retry=None,
            )

    def _relabel(self, found: Model, *, without: str) -> None:
        """Say that a version is pending again, unless another alias than this one promotes it."""
        if not {*found.version_aliases} - {without, _DEFAULT}:
            self._label(found, {STATUS_LABEL: PENDING})

    def _label(self, found: Model, labels: dict[str, str]) -> None:
        """Set labels of one version, beside those that it has."""
        said = {
            "name": f"{found.name.partition('@')[0]}@{found.version_id}",
            "labels": {**dict(found.labels), **labels},
        }
        request = {"model": said, "update_mask": {"paths": ["labels"]}}
        with self._session.talking(f"labelling model {found.display_name}"):
            self._session.models().update_model(request, timeout=CALL_S, retry=None)

    @contextmanager
    def _talking(self, name: str, which: str) -> Iterator[None]:
        from google.api_core.exceptions import NotFound

        with self._session.talking(f"asking about model {name} {which}"):
            try:
                yield
            except NotFound as error:
                raise self._not_found(name, which) from error

    def _not_found(self, name: str, which: str) -> VersionNotFoundError:
        return VersionNotFoundError(
            f"{self._terms.name} has no version or alias {which!r} of model {name!r}."
        )

    def _version(self, name: str, found: Model) -> RegistryVersion:
        return RegistryVersion(
            registry="vertex",
            name=name,
            version=found.version_id,
            manifest=self._manifest(name, found),
            uri=f"{self.namespace}/{model_id(name)}/{found.version_id}",
            namespace=self.namespace,
        )
