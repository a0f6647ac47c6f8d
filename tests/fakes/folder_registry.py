"""A registry in a folder.

It keeps model folders and aliases as MLflow's adapter does. It cannot prove anything about MLflow's
own API, its errors or its concurrency: `tests/integration/test_mlflow_registry.py` does.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from airflow_mlgov.errors import VersionNotFoundError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.ports import RegistryVersion


class FolderRegistry:
    def __init__(self, root: Path, namespace: str = "folder://registry") -> None:
        self.root = root
        self.namespace = namespace
        self.approved_by_hand: set[tuple[str, str]] = set()
        self.held: list[RegistryVersion] = []
        self.aliases: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self.fail_next_alias: Exception | None = None

    def register(
        self, name: str, model_dir: Path, manifest: Manifest, tags: Mapping[str, str]
    ) -> RegistryVersion:
        with self._lock:
            return self._registered(name, model_dir, manifest)

    def _registered(self, name: str, model_dir: Path, manifest: Manifest) -> RegistryVersion:
        for known in self.held:
            if (known.name, known.manifest) == (name, manifest.digest):
                return known
        number = str(len(self.held) + 1)
        shutil.copytree(model_dir, self.folder(name, number))
        version = RegistryVersion(
            "folder",
            name,
            number,
            manifest.digest,
            f"{self.namespace}/{name}/{number}",
            self.namespace,
        )
        self.held.append(version)
        return version

    def folder(self, name: str, version: str) -> Path:
        return self.root / name / version / "model"

    def find(self, name: str, manifest: Digest) -> RegistryVersion:
        return self._first(name, lambda v: v.manifest == manifest, f"manifest {manifest}")

    def by_alias(self, name: str, alias: str) -> RegistryVersion:
        return self.get(name, self.aliases.get((name, alias), f"alias {alias}"))

    def get(self, name: str, version: str) -> RegistryVersion:
        return self._first(name, lambda v: v.version == version, version)

    def fetch(self, version: RegistryVersion, into: Path) -> Path:
        self.get(version.name, version.version)
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        into.chmod(0o700)
        return Path(shutil.copytree(self.folder(version.name, version.version), into / "model"))

    def set_alias(self, version: RegistryVersion, alias: str) -> None:
        if self.fail_next_alias:
            error, self.fail_next_alias = self.fail_next_alias, None
            raise error
        self.get(version.name, version.version)
        self.aliases[version.name, alias] = version.version

    def unset_alias(self, version: RegistryVersion, alias: str) -> None:
        if self.aliases.get((version.name, alias)) == version.version:
            del self.aliases[version.name, alias]

    def versions(self, name: str) -> list[RegistryVersion]:
        return [
            replace(version, is_approved=(name, version.version) in self.approved_by_hand or None)
            for version in reversed(self.held)
            if version.name == name
        ]

    def check(self) -> str:
        return f"{self.namespace} answers."

    def missing_permissions(self) -> list[str]:
        return []

    def _first(self, name, wanted, what) -> RegistryVersion:
        for version in self.held:
            if version.name == name and wanted(version):
                return version
        raise VersionNotFoundError(f"Folder registry has no {what} of {name}.")
