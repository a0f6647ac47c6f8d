"""Model versions in Vertex AI: registered once, promoted, demoted, fetched, against the fake."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import vertex_server
from registry_contract import RegistryContract

from airflow_mlgov.clouds.gcp.labels import digest_label, label_digest
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.lineage.assets import sanitize_uri
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.registries.vertex import VertexRegistry
from airflow_mlgov.registries.vertex import registry as module
from airflow_mlgov.registries.vertex.names import model_id
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.ports import Registry, RegistryVersion

TAGS = {"mlgov.model": "retail_pd", "mlgov.run_id": "scheduled__2026-11-01"}
NAME = "retail_pd"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[vertex_server.VertexFake]:
    with vertex_server.start() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def registry(fake) -> VertexRegistry:
    return VertexRegistry(fake.registry_terms(), sleep=lambda _: None)


class TestContract(RegistryContract):
    @pytest.fixture
    def registry(self, fake) -> VertexRegistry:
        return VertexRegistry(fake.registry_terms(), sleep=lambda _: None)


def model(tmp_path: Path, text: str = "{}") -> Path:
    folder = tmp_path / f"model-{text.strip('{}')}"
    (folder / "trees").mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(text)
    (folder / "trees" / "0.txt").write_text("leaf")
    (folder / ".dot").write_text("counts")
    return folder


def registered(registry: Registry, tmp_path: Path, text: str = "{}") -> RegistryVersion:
    folder = model(tmp_path, text)
    return registry.register(NAME, folder, hash_directory(folder), TAGS)


def stored(fake, number: str = "1"):
    return fake.models.versions[f"{vertex_server._LOCATION}/models/{NAME}"][int(number) - 1]


def labels(fake, number: str) -> dict[str, str]:
    return dict(stored(fake, number).labels)


def test_a_version_is_its_folder_unchanged(fake, registry, tmp_path: Path) -> None:
    version = registered(registry, tmp_path)
    manifest = hash_directory(model(tmp_path))
    assert (version.registry, version.name, version.version) == ("vertex", NAME, "1")
    assert version.manifest == manifest.digest
    assert version.uri == "vertexai://bank-models.europe-west3/retail_pd/1"
    assert version.uri.startswith(f"{version.namespace}/")
    from urllib.parse import urlsplit

    assert sanitize_uri(urlsplit(version.uri)).geturl() == version.uri
    path = registry.fetch(version, tmp_path / "into")
    assert hash_directory(path) == manifest
    assert stat.S_IMODE((tmp_path / "into").stat().st_mode) == 0o700
    assert list((tmp_path / "into").iterdir()) == [path]


def test_the_request_says_what_the_entry_does(fake, registry, tmp_path: Path) -> None:
    version = registered(registry, tmp_path)
    made = stored(fake)
    folder = f"gs://bank-mlgov/models/retail_pd/{version.manifest.hex}/model"
    assert (made.display_name, made.artifact_uri) == (NAME, folder)
    assert made.container_spec.image_uri == vertex_server.IMAGE
    assert made.encryption_spec.kms_key_name == vertex_server.KEY
    assert str(version.manifest) in made.version_description
    assert labels(fake, "1") == {
        "cost-centre": "risk",
        "mlgov-manifest": digest_label(version.manifest),
        "mlgov-status": "pending",
    }
    assert list(made.version_aliases) == ["default"]


def test_the_same_manifest_is_the_same_version(fake, registry, tmp_path: Path) -> None:
    first = registered(registry, tmp_path)
    other = registered(registry, tmp_path, '{"b": 1}')
    again = registered(VertexRegistry(fake.registry_terms()), tmp_path)
    assert (first, other.version) == (again, "2")
    assert [each.version for each in registry.versions(NAME)] == ["2", "1"]
    assert registry.find(NAME, other.manifest) == other
    assert registry.get(NAME, "2") == other
    with pytest.raises(VersionNotFoundError, match="no version of model 'retail_pd' with"):
        registry.find(NAME, Digest.of(b"other"))


def test_labels_of_the_first_version_say_nothing_of_the_second(fake, registry, tmp_path) -> None:
    """Labels of a model are merged into each version's: a manifest read from there is another's."""
    registered(registry, tmp_path)
    name = f"{vertex_server._LOCATION}/models/{NAME}"
    fake.models.labels[name]["mlgov-manifest"] = digest_label(Digest.of(b"other"))
    other = registered(registry, tmp_path, '{"b": 1}')
    assert labels(fake, "2")["mlgov-manifest"] == digest_label(other.manifest)
    assert len({each.manifest for each in registry.versions(NAME)}) == 2


def test_versions_come_from_all_pages(fake, registry, tmp_path: Path) -> None:
    fake.models.page_most = 1
    made = [registered(registry, tmp_path, f'{{"n": {n}}}') for n in range(3)]
    assert list(registry.versions(NAME)) == made[::-1]
    assert registry.versions("unknown") == []


def test_killed_in_between_it_is_completed(fake, registry, tmp_path, monkeypatch) -> None:
    class KilledError(Exception):
        pass

    def killed(*_args, **_kwargs):
        raise KilledError

    for step in ("_upload", "_wait", "_label"):
        with monkeypatch.context() as patch:
            patch.setattr(module.VertexRegistry, step, killed)
            with pytest.raises(KilledError):
                registered(registry, tmp_path)
    version = registered(registry, tmp_path)
    assert (version.version, len(registry.versions(NAME))) == ("1", 1)
    assert labels(fake, "1")["mlgov-status"] == "pending"


def test_two_tasks_at_once_take_the_older_version(fake, tmp_path: Path) -> None:
    barrier = threading.Barrier(2)
    taken: list[RegistryVersion] = []

    def register() -> None:
        registry = VertexRegistry(fake.registry_terms(), sleep=lambda _: None)
        upload = registry._upload
        registry._upload = lambda *args: (barrier.wait(10), upload(*args))
        taken.append(registry.register(NAME, folder, manifest, TAGS))

    folder = model(tmp_path)
    manifest = hash_directory(folder)
    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [each.version for each in taken] == ["1", "1"]


def test_a_slow_upload_is_waited_for_and_a_failed_one_is_said(fake, tmp_path: Path) -> None:
    waits: list[float] = []
    registry = VertexRegistry(fake.registry_terms(), sleep=waits.append)
    fake.models.slow = 3
    assert registered(registry, tmp_path).version == "1"
    assert len(waits) == 3
    fake.models.operation_error = "Image not found"
    with pytest.raises(RegistryError, match="Image not found"):
        registered(registry, tmp_path, '{"b": 1}')


def test_an_upload_that_does_not_end_may_be_tried_again(
    fake, registry, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_UPLOAD_S", 0.0)
    fake.models.slow = 10
    with pytest.raises(RegistryUnavailableError, match="has not ended"):
        registered(registry, tmp_path)


@pytest.mark.parametrize("moves", [True, False])
def test_an_alias_points_to_one_version_only(fake, registry, tmp_path, moves) -> None:
    fake.models.alias_moves = moves
    first, second = registered(registry, tmp_path), registered(registry, tmp_path, '{"b": 1}')
    with pytest.raises(VersionNotFoundError, match="'champion'"):
        registry.by_alias(NAME, "champion")
    for _ in range(2):
        registry.set_alias(first, "champion")
    assert sum(path.endswith(":mergeVersionAliases") for _, path, _, _ in fake.requests) == 1
    assert registry.by_alias(NAME, "champion") == first
    assert labels(fake, "1")["mlgov-status"] == "promoted"
    registry.set_alias(second, "champion")
    assert registry.by_alias(NAME, "champion") == second
    assert [labels(fake, n)["mlgov-status"] for n in "12"] == ["pending", "promoted"]
    assert list(stored(fake, "1").version_aliases) == ["default"]
    registry.unset_alias(first, "champion")  # it does not point there
    assert registry.by_alias(NAME, "champion") == second
    registry.unset_alias(second, "champion")
    assert labels(fake, "2")["mlgov-status"] == "pending"
    with pytest.raises(VersionNotFoundError):
        registry.by_alias(NAME, "champion")


def test_a_version_with_two_aliases_stays_promoted_with_one(fake, registry, tmp_path) -> None:
    version = registered(registry, tmp_path)
    registry.set_alias(version, "champion")
    registry.set_alias(version, "shadow-2")
    registry.unset_alias(version, "champion")
    assert labels(fake, "1")["mlgov-status"] == "promoted"
    assert registry.by_alias(NAME, "shadow-2") == version


def test_an_alias_that_is_moved_in_the_console_is_seen(fake, registry, tmp_path) -> None:
    first, second = registered(registry, tmp_path), registered(registry, tmp_path, '{"b": 1}')
    registry.set_alias(first, "champion")
    name = f"{vertex_server._LOCATION}/models/{NAME}"
    fake.models.merge_aliases(f"{name}@2", {"versionAliases": ["champion"]})
    assert registry.by_alias(NAME, "champion") == second


def test_an_alias_that_somebody_moves_meanwhile_is_said(
    fake, registry, tmp_path, monkeypatch
) -> None:
    first, _ = registered(registry, tmp_path), registered(registry, tmp_path, '{"b": 1}')
    label, name = registry._label, f"{vertex_server._LOCATION}/models/{NAME}"

    def moved(*args):
        fake.models.merge_aliases(f"{name}@2", {"versionAliases": ["champion"]})
        label(*args)

    monkeypatch.setattr(registry, "_label", moved)
    with pytest.raises(RegistryError, match="points to version 2, not to 1"):
        registry.set_alias(first, "champion")


@pytest.mark.parametrize("alias", ["", "c", "Champion", "prod_eu", "1", "2nd", "a-", "a" * 129])
def test_an_alias_that_does_not_fit_is_one_clear_error(fake, registry, tmp_path, alias) -> None:
    version = registered(registry, tmp_path)
    for call in (
        lambda: registry.set_alias(version, alias),
        lambda: registry.unset_alias(version, alias),
        lambda: registry.by_alias(NAME, alias),
    ):
        with pytest.raises(ConfigurationError, match="takes no alias"):
            call()


@pytest.mark.parametrize("version", ["champion", "default", "0", "2", "", "1@1"])
def test_a_version_that_is_none_is_not_found(registry, tmp_path, version) -> None:
    registry.set_alias(registered(registry, tmp_path), "champion")
    with pytest.raises(VersionNotFoundError):
        registry.get(NAME, version)


def test_a_version_of_somebody_else_has_no_manifest_and_is_not_fetched(
    fake, registry, tmp_path
) -> None:
    mine = registered(registry, tmp_path)
    foreign = {
        "displayName": "x",
        "artifactUri": "gs://elsewhere/model",
        "containerSpec": {"imageUri": "x"},
        "labels": {"mlgov-manifest": digest_label(mine.manifest)},
    }
    name = f"{vertex_server._LOCATION}/models/{NAME}"
    fake.models.upload(vertex_server._LOCATION, {"parentModel": name, "model": foreign})
    other = registry.get(NAME, "2")
    assert (other.manifest, registry.find(NAME, mine.manifest)) == (None, mine)
    with pytest.raises(RegistryError, match="was not registered by airflow-mlgov"):
        registry.fetch(other, tmp_path / "into")


def test_files_that_are_gone_changed_or_linked(fake, registry, tmp_path: Path) -> None:
    version = registered(registry, tmp_path)
    prefix = f"models/retail_pd/{version.manifest.hex}/model"
    blob = fake.bucket().blob(f"{prefix}/model.json")
    blob.upload_from_string(b"[]")
    changed = registry.fetch(version, tmp_path / "changed")
    assert hash_directory(changed).digest != version.manifest
    # What is put back by registering again is what was approved.
    registered(registry, tmp_path)
    blob.metadata = {"gcsfuse_symlink_target": "/etc/passwd"}
    blob.upload_from_string(b"")
    with pytest.raises(ArtefactError, match="symbolic link"):
        registry.fetch(version, tmp_path / "linked")
    for each in fake.bucket().list_blobs(prefix=prefix):
        each.delete()
    with pytest.raises(VersionNotFoundError, match="are gone"):
        registry.fetch(version, tmp_path / "gone")


def test_a_pickle_is_not_taken(fake, registry, tmp_path: Path) -> None:
    version = registered(registry, tmp_path)
    prefix = f"models/retail_pd/{version.manifest.hex}/model"
    fake.bucket().blob(f"{prefix}/more.pkl").upload_from_string(b"\x80\x04.")
    with pytest.raises(ArtefactError, match="pickle"):
        registry.fetch(version, tmp_path / "into")


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("throttle", RegistryUnavailableError),
        ("500", RegistryUnavailableError),
        ("hang", RegistryUnavailableError),
        ("expired", RegistryUnavailableError),
    ],
)
def test_trouble_is_told_as_it_is(fake, registry, tmp_path, how, kind) -> None:
    version = registered(registry, tmp_path)
    fake.hang_s = 0.01
    for call in (
        lambda: registry.versions(NAME),
        lambda: registry.get(NAME, "1"),
        lambda: registry.set_alias(version, "champion"),
    ):
        fake.fail(1, how)
        with pytest.raises(kind, match="gcp-models: bank-models"):
            call()
    assert registry.get(NAME, "1") == version


def test_a_check_says_what_is_missing(fake, registry) -> None:
    assert registry.check().endswith("europe-west3, gs://bank-mlgov/models is writable.")
    assert registry.missing_permissions() == []
    fake.lacking = {"aiplatform.models.upload"}
    assert registry.missing_permissions() == ["aiplatform.models.upload"]


def test_ids_fit_and_no_two_names_share_one() -> None:
    import re

    names = ["retail_pd", "Retail.PD", "retail-pd", "retail.pd", "9lives", "_x" * 9, "A" * 128]
    names += ["-.-".strip("-"), "a" * 64]
    ids = [model_id(name) for name in names if re.match(r"[A-Za-z0-9]", name)]
    assert model_id("retail_pd") == "retail_pd"
    assert len(set(ids)) == len(ids)
    for each in ids:
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", each)
    with pytest.raises(ConfigurationError, match="not one that every registry can hold"):
        model_id("../x")


def test_a_digest_is_whole_in_a_label() -> None:
    digest = Digest.of(b"x")
    assert label_digest(digest_label(digest)) == digest
    assert len(digest_label(digest)) == 52
    for broken in (None, "", "abc", digest_label(digest)[:-2], digest_label(digest) + "aa", "é"):
        assert label_digest(broken) is None


def test_tags_that_are_no_labels_are_refused(fake) -> None:
    with pytest.raises(ConfigurationError, match=r"platforms\.yaml:20.*CostCentre"):
        VertexRegistry(fake.registry_terms(tags={"CostCentre": "x"}))
