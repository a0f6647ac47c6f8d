"""What every registry must do. A vendor's tests subclass it and give the fixture `registry`."""

from __future__ import annotations

import dataclasses
import json
import stat
import threading
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from airflow_mlgov.errors import VersionNotFoundError
from airflow_mlgov.lineage import assets
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.ports import Registry

TAGS = {"mlgov.model": "retail_pd", "mlgov.variant": "candidate"}


class RegistryContract:
    @pytest.fixture
    def registry(self) -> Registry:
        raise NotImplementedError

    @pytest.fixture
    def name(self) -> str:
        """A registered name that no other test uses, and that every registry can hold."""
        return f"pd-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        """A model unlike that of any other test."""
        path = tmp_path / "model"
        (path / "nested" / "deeper").mkdir(parents=True)
        (path / "scorecard.json").write_text(json.dumps({"made_in": str(tmp_path)}))
        (path / "nested" / "deeper" / "bins.json").write_text("[]")
        (path / "nested" / "weights with space é.bin").write_bytes(bytes(range(256)) * 99)
        (path / ".note").write_text("dot-files count")
        (path / "empty.txt").touch()
        return path

    @staticmethod
    def _register(registry: Registry, name: str, model: Path, text: str = ""):
        if text:
            (model / "scorecard.json").write_text(text)
        return registry.register(name, model, hash_directory(model), TAGS)

    def test_a_model_goes_in_and_comes_out_unchanged(self, registry, name, model, tmp_path) -> None:
        manifest = hash_directory(model)
        version = self._register(registry, name, model)
        assert (version.name, version.manifest) == (name, manifest.digest)
        assert registry.find(name, manifest.digest) == version
        assert registry.get(name, version.version) == version

        private = tmp_path / "private"
        fetched = registry.fetch(version, private)
        assert hash_directory(fetched) == manifest
        assert list(private.iterdir()) == [fetched] == [private / "model"]
        assert stat.S_IMODE(private.stat().st_mode) == 0o700

    def test_a_folder_that_is_there_becomes_private(self, registry, name, model, tmp_path) -> None:
        version = self._register(registry, name, model)
        (tmp_path / "open").mkdir(mode=0o755)
        registry.fetch(version, tmp_path / "open")
        assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700

    def test_its_address_is_that_of_a_dataset(self, registry, name, model) -> None:
        version = self._register(registry, name, model)
        assert version.uri == f"{version.namespace}/{name}/{version.version}"
        parts = urlsplit(version.uri)
        if parts.scheme in assets._FORMS:
            assert assets.sanitize_uri(parts).geturl() == version.uri

    def test_the_same_manifest_again_is_the_same_version(self, registry, name, model) -> None:
        first = self._register(registry, name, model)
        assert self._register(registry, name, model) == first
        other = self._register(registry, name, model, "another")
        assert other.version != first.version
        assert registry.find(name, first.manifest) == first

    def test_two_tasks_at_once_take_one_version(self, registry, name, model) -> None:
        together, found = threading.Barrier(2), []

        def register() -> None:
            together.wait()
            found.append(self._register(registry, name, model))

        tasks = [threading.Thread(target=register) for _ in range(2)]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join(120)
        assert len(found) == 2
        assert found[0] == found[1] == registry.find(name, found[0].manifest)

    def test_one_model_under_two_names_is_two_versions(self, registry, name, model) -> None:
        here, there = (self._register(registry, each, model) for each in (name, f"{name}b"))
        assert here != there
        assert registry.versions(name) == [here]
        assert registry.versions(f"{name}b") == [there]

    def test_versions_are_listed_newest_first(self, registry, name, model) -> None:
        assert list(registry.versions(name)) == []
        made = [self._register(registry, name, model, text) for text in ("one", "two", "three")]
        assert list(registry.versions(name)) == made[::-1]

    def test_an_alias_moves(self, registry, name, model) -> None:
        first = self._register(registry, name, model)
        second = self._register(registry, name, model, "second")
        for version in (first, first, second, first):
            registry.set_alias(version, "champion")
            assert registry.by_alias(name, "champion") == version

    def test_aliases_do_not_disturb_each_other(self, registry, name, model) -> None:
        first = self._register(registry, name, model)
        second = self._register(registry, name, model, "second")
        for version, alias in ((first, "champion"), (first, "benchmark"), (second, "champion")):
            registry.set_alias(version, alias)
        assert registry.by_alias(name, "champion") == second
        assert registry.by_alias(name, "benchmark") == first
        registry.unset_alias(first, "benchmark")
        assert registry.by_alias(name, "champion") == second

    def test_an_alias_is_taken_away_from_where_it_points_only(self, registry, name, model) -> None:
        first = self._register(registry, name, model)
        second = self._register(registry, name, model, "second")
        registry.set_alias(second, "champion")
        registry.unset_alias(first, "champion")
        assert registry.by_alias(name, "champion") == second
        for _ in range(2):
            registry.unset_alias(second, "champion")
            with pytest.raises(VersionNotFoundError):
                registry.by_alias(name, "champion")
        registry.set_alias(second, "champion")
        assert registry.by_alias(name, "champion") == second

    def test_what_is_not_there_is_not_found(self, registry, name, model, tmp_path) -> None:
        version = self._register(registry, name, model)
        gone = dataclasses.replace(version, version="99")
        calls = (
            lambda: registry.find(name, Digest.of(b"other")),
            lambda: registry.find(f"{name}-none", Digest.of(b"other")),
            lambda: registry.get(name, "99"),
            lambda: registry.get(name, "latest"),
            lambda: registry.get(f"{name}-none", "1"),
            lambda: registry.by_alias(name, "nobody"),
            lambda: registry.by_alias(f"{name}-none", "champion"),
            lambda: registry.set_alias(gone, "champion"),
            lambda: registry.fetch(gone, tmp_path / "gone"),
        )
        for call in calls:
            with pytest.raises(VersionNotFoundError):
                call()
