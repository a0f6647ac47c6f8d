"""Model versions in an Azure ML workspace or registry.

The files lie in a folder of the entry's own store, unchanged; a version points to it. Azure has no
aliases: a version holds one by a tag, and is in the stage ``Production`` while it holds any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_mlgov.clouds.azure import (
    STORE_DATA_ACTIONS,
    Arm,
    AzureSession,
    BlobStore,
    Kinds,
    missing_rights,
    storage_id,
)
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.policy.platforms_file import RegistryTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.artefacts import check_directory
from airflow_mlgov.service.ports import RegistryVersion

MANIFEST = "mlgov.manifest_sha256"
"""Property, and tag, with the manifest's digest; the property is believed: nobody can alter it."""
ALIAS = "mlgov.alias."
"""Begins the name of a tag that is an alias."""
HELD, FREE = "Production", "Development"
"""Stage of a version that holds an alias, and of one that holds none."""
_ML = "Microsoft.MachineLearningServices"
ACTIONS = {
    "workspaces": (
        f"{_ML}/workspaces/read",
        f"{_ML}/workspaces/models/versions/read",
        f"{_ML}/workspaces/models/versions/write",
    ),
    "registries": (
        f"{_ML}/registries/read",
        f"{_ML}/registries/assets/read",
        f"{_ML}/registries/assets/write",
    ),
}
"""On the account, by what it is."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_TRIES = 20


class AzureMlRegistry:
    """Model versions of a workspace, or of a registry that several workspaces share.

    Args:
        terms: An entry of kind ``azureml``.

    Attributes:
        namespace: OpenLineage namespace of its datasets.

    Raises:
        ConfigurationError: The entry's store is no folder of a blob container, or it names a key.
    """

    def __init__(self, terms: RegistryTerms) -> None:
        if terms.keys:
            raise ConfigurationError(
                f"{terms.file}:{terms.line}: a version in Azure ML cannot be told 'keys'.",
                remedy="Leave it out: keys belong to workspace and storage account.",
            )
        self._terms = terms
        place = terms.account.rpartition("/")[2]
        self.namespace = f"azureml://{place}.{terms.region}"
        kinds = Kinds(RegistryError, RegistryUnavailableError)
        session = AzureSession(f"Registry {terms.name}", terms.connection, terms.endpoint, kinds)
        self._arm = Arm(session)
        self._store = BlobStore(session, terms.store)

    def register(
        self, name: str, model_dir: Path, manifest: Manifest, tags: Mapping[str, str]
    ) -> RegistryVersion:
        """Store a model folder unchanged and register it, once for each manifest.

        Killed at any point, the next call completes the work; of two calls at once both take the
        same version. It is in the stage ``Development``: nobody has approved it.

        Raises:
            RegistryError: Azure refused; a retry does not help.
            RegistryUnavailableError: It cannot be reached; a retry may help.
        """
        _check_name(name)
        check_directory(model_dir)
        found = self._with_manifest(name, manifest.digest)
        if found is not None:
            return found
        folder = f"{name}/{manifest.digest.hex}/model"
        for file in manifest.files:
            self._store.upload(f"{folder}/{file.path}", model_dir / file.path)
        version = self._number(name, manifest.digest)
        if (taken := self._arm.get(self._path(name, version))) is not None:
            return self._mine(self._version(name, taken), manifest.digest)
        self._arm.put(
            self._path(name, version),
            {
                "properties": {
                    "modelType": "custom_model",
                    "modelUri": self._store.url_of(folder),
                    "stage": FREE,
                    "tags": {**self._terms.tags, **tags, MANIFEST: str(manifest.digest)},
                    "properties": {MANIFEST: str(manifest.digest)},
                }
            },
        )
        return self._mine(self.get(name, version), manifest.digest)

    def find(self, name: str, manifest: Digest) -> RegistryVersion:
        """Return the version with this manifest.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        _check_name(name)
        found = self._with_manifest(name, manifest)
        if found is None:
            raise VersionNotFoundError(
                f"Registry {self._terms.name} has no version of {name} with manifest {manifest}.",
                remedy="Train and register it, or look whether it was deleted there.",
            )
        return found

    def by_alias(self, name: str, alias: str) -> RegistryVersion:
        """Return the version that holds an alias.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            RegistryError: Several do, which is nobody's intention; a retry does not help.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        _check_name(name)
        holders = [self._version(name, each) for each in self._all(name) if _holds(each, alias)]
        if len(holders) > 1:
            numbers = ", ".join(each.version for each in holders)
            raise RegistryError(
                f"Registry {self._terms.name}: versions {numbers} of {name} hold the alias "
                f"{alias}.",
                remedy="Promote the approved one again: that takes it from the others.",
            )
        if not holders:
            raise VersionNotFoundError(
                f"Registry {self._terms.name}: no version of {name} holds the alias {alias}."
            )
        return holders[0]

    def get(self, name: str, version: str) -> RegistryVersion:
        """Return a version by its number.

        Raises:
            VersionNotFoundError: There is none; a retry does not help.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        _check_name(name)
        return self._version(name, self._read(name, version))

    def fetch(self, version: RegistryVersion, into: Path) -> Path:
        """Copy the model folder to a private directory and return its path; nothing else is copied.

        What comes back is what the store holds now: compare its manifest before it is used.

        Args:
            version: From this registry.
            into: Made, or set, to mode 0700; must hold no ``model`` yet.

        Raises:
            VersionNotFoundError: The version or its files are gone; a retry does not help.
            ArtefactError: It holds links, pickles or paths that leave it, or is cut short.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        label = f"{version.name} version {version.version}"
        found = self._read(version.name, version.version)
        uri = str(found.get("properties", {}).get("modelUri") or "")
        if not uri.startswith(f"{self._store.url}/"):
            raise RegistryError(
                f"Registry {self._terms.name}: {label} was not registered by airflow-mlgov.",
                remedy=f"Its files are at {uri!r}; train and register it as a governed model.",
            )
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        into.chmod(0o700)
        target = into / "model"
        target.mkdir(mode=0o700)
        self._store.download(uri, target)
        if not any(target.iterdir()):
            raise VersionNotFoundError(f"Registry {self._terms.name}: {label} has no files: {uri}.")
        check_directory(target)
        return target

    def set_alias(self, version: RegistryVersion, alias: str) -> None:
        """Point an alias at a version, and at no other; doing it twice is fine.

        The new holder is marked first. Killed before the old one has lost it, two hold it, which
        `by_alias` refuses until the next call completes the work.

        Raises:
            VersionNotFoundError: There is no such version; a retry does not help.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        self._change(version.name, self._read(version.name, version.version), alias, held=True)
        for other in list(self._all(version.name)):
            if other["name"] != version.version:
                self._change(version.name, other, alias, held=False)

    def unset_alias(self, version: RegistryVersion, alias: str) -> None:
        """Take an alias away from a version; fine if it does not hold it.

        A version that holds none goes back to the stage ``Development``, where it came from. It is
        not archived: it stays what a rollback may return to.

        Raises:
            VersionNotFoundError: There is no such version; a retry does not help.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        self._change(version.name, self._read(version.name, version.version), alias, held=False)

    def versions(self, name: str) -> Sequence[RegistryVersion]:
        """Return every version of a model, newest first; empty if there is no such model."""
        _check_name(name)
        found = [self._version(name, each) for each in self._all(name)]
        return sorted(found, key=lambda each: _order(each.version), reverse=True)

    def check(self) -> str:
        """Return a line for ``airflow mlgov doctor``: Azure answers, the store is writable.

        Raises:
            RegistryError: Something of it is not so; a retry does not help.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        if self._arm.get(self._terms.account) is None:
            raise RegistryError(
                f"Registry {self._terms.name}: there is no {self._terms.account}.",
                remedy="Correct 'account' in the platform file, or the rights of the connection.",
            )
        self._store.probe("mlgov-check")
        return f"Azure ML answers as {self.namespace}; store is writable."

    def missing_permissions(self) -> list[str]:
        """Return what the connection's identity may not do and has to; empty for nothing.

        Raises:
            RegistryError: It cannot be asked.
            RegistryUnavailableError: Azure cannot be reached; a retry may help.
        """
        account = self._terms.account
        kind = "registries" if "/registries/" in account else "workspaces"
        store = storage_id(self._arm.get(account) or {}, account, self._store)
        return [
            *missing_rights(self._arm, account, ACTIONS[kind]),
            *missing_rights(self._arm, store, (), STORE_DATA_ACTIONS),
        ]

    def _path(self, name: str, version: str) -> str:
        return f"{self._terms.account}/models/{name}/versions/{version}"

    def _all(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield every version, archived ones too."""
        path = f"{self._terms.account}/models/{name}/versions"
        return self._arm.each(path, "&listViewType=All")

    def _read(self, name: str, version: str) -> dict[str, Any]:
        found = self._arm.get(self._path(name, version))
        if found is None:
            raise VersionNotFoundError(
                f"Registry {self._terms.name} has no version {version} of model {name}."
            )
        return found

    def _with_manifest(self, name: str, manifest: Digest) -> RegistryVersion | None:
        """Return the oldest version with a manifest."""
        mine = [each for each in self.versions(name) if each.manifest == manifest]
        return mine[-1] if mine else None

    def _number(self, name: str, manifest: Digest) -> str:
        """Return a version number that is this manifest's alone.

        A ``PUT`` of a number that is taken would change somebody else's version. So a number is
        claimed first, by a blob that only one call can make.
        """
        for _ in range(_TRIES):
            versions = self.versions(name)
            for each in versions:
                if each.manifest == manifest:
                    return each.version
            used = {each.version for each in versions}
            claimed = self._store.names(f"{name}/versions")
            for number in claimed:
                if number not in used and self._claimed_by(name, number) == str(manifest):
                    return number
            numbers = [int(each) for each in {*used, *claimed} if _NUMBER.fullmatch(each)]
            free = str(max(numbers, default=0) + 1)
            if self._store.claim(f"{name}/versions/{free}", str(manifest).encode()):
                return free
        raise RegistryUnavailableError(
            f"Registry {self._terms.name}: others take every version number of {name}."
        )

    def _mine(self, version: RegistryVersion, manifest: Digest) -> RegistryVersion:
        if version.manifest != manifest:
            raise RegistryError(
                f"Registry {self._terms.name}: {version.uri} was made by somebody else meanwhile.",
                remedy="Start this task again; versions of governed models are made by "
                "airflow-mlgov only.",
            )
        return version

    def _claimed_by(self, name: str, number: str) -> str:
        path = self._store.name_of(f"{name}/versions/{number}")
        return self._store.read(path).decode(errors="replace")

    def _change(self, name: str, found: Mapping[str, Any], alias: str, *, held: bool) -> None:
        before = found["properties"]
        tags = dict(before.get("tags") or {})
        if held:
            tags[ALIAS + alias] = "true"
        else:
            tags.pop(ALIAS + alias, None)
        stage = HELD if any(tag.startswith(ALIAS) for tag in tags) else FREE
        if not held and tags == (before.get("tags") or {}):
            return
        if tags != before.get("tags") or stage != before.get("stage"):
            changed = {**before, "tags": tags, "stage": stage}
            changed.pop("provisioningState", None)
            self._arm.put(self._path(name, str(found["name"])), {"properties": changed})

    def _version(self, name: str, found: Mapping[str, Any]) -> RegistryVersion:
        version = str(found["name"])
        properties = found.get("properties", {}).get("properties") or {}
        return RegistryVersion(
            registry="azureml",
            name=name,
            version=version,
            manifest=_digest_or_none(properties.get(MANIFEST)),
            uri=f"{self.namespace}/{name}/{version}",
            namespace=self.namespace,
            is_approved=found.get("properties", {}).get("stage") == HELD,
        )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"Registered model name {name!r} is not one that Azure ML can hold.",
            remedy="Use letters, digits, '_' and '-' in the inventory's 'registered_name', and "
            "begin it with a letter.",
        )


def _holds(found: Mapping[str, Any], alias: str) -> bool:
    return ALIAS + alias in (found.get("properties", {}).get("tags") or {})


def _order(version: str) -> tuple[int, str]:
    return (int(version) if _NUMBER.fullmatch(version) else 0, version)


def _digest_or_none(text: str | None) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except ArtefactError:
        return None  # somebody else's property of this name: no version of ours
