"""Azure ML as a registry: the contract of all registries, in a workspace and in a registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import azureml_server
import pytest
from azureml_account import ACCOUNT, CONTAINER, REGISTRY, STORAGE, WORKSPACE
from azurite import azurite
from registry_contract import TAGS, RegistryContract

from airflow_mlgov.clouds.azure import arm
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.registries.azureml import AzureMlRegistry
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.ports import RegistryVersion


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arm, "_PAUSE_S", 0.01)
    with azureml_server.start() as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        yield fake


class TestInWorkspace(RegistryContract):
    @pytest.fixture
    def registry(self, azure) -> AzureMlRegistry:
        return AzureMlRegistry(azure.registry_terms())


class TestInRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, azure) -> AzureMlRegistry:
        return AzureMlRegistry(azure.registry_terms(account=REGISTRY))


@pytest.fixture(scope="module")
def emulator():
    with azurite() as port:
        yield f"http://127.0.0.1:{port}/{ACCOUNT}/{CONTAINER}/models"


class TestWithAzurite(RegistryContract):
    """Its files in Microsoft's emulator of blob storage."""

    @pytest.fixture
    def registry(self, azure, emulator: str) -> AzureMlRegistry:
        made = AzureMlRegistry(azure.registry_terms(store=emulator))
        if not made._store._client().exists():
            made._store._client().create_container()
        return made


@pytest.fixture
def registry(azure) -> AzureMlRegistry:
    return AzureMlRegistry(azure.registry_terms())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "card.json").write_text("{}")
    (path / "note.txt").write_text("a")
    return path


def register(registry: AzureMlRegistry, model: Path, text: str = "a") -> RegistryVersion:
    (model / "note.txt").write_text(text)
    return registry.register("pd", model, hash_directory(model), TAGS)


def held(azure, version: str) -> dict[str, Any]:
    return azure.resources[f"{WORKSPACE}/models/pd/versions/{version}"]["properties"]


def test_what_azure_shows_of_a_version(azure, registry, model) -> None:
    version = register(registry, model)
    digest = str(version.manifest)
    assert held(azure, "1") == {
        "modelType": "custom_model",
        "modelUri": f"{azure.registry_terms().store}/pd/{version.manifest.hex}/model",
        "stage": "Development",
        "tags": {"cost-centre": "4711", **TAGS, "mlgov.manifest_sha256": digest},
        "properties": {"mlgov.manifest_sha256": digest},
    }
    assert (version.version, version.uri) == ("1", "azureml://bank-ml.westeurope/pd/1")
    assert version.is_approved is False


def test_promotion_and_demotion_show_in_tag_and_stage(azure, registry, model) -> None:
    first, second = register(registry, model), register(registry, model, "b")
    registry.set_alias(first, "champion")
    assert registry.get("pd", "1").is_approved
    assert (held(azure, "1")["stage"], held(azure, "2")["stage"]) == ("Production", "Development")
    registry.set_alias(second, "champion")
    assert (held(azure, "1")["stage"], held(azure, "2")["stage"]) == ("Development", "Production")
    assert "mlgov.alias.champion" not in held(azure, "1")["tags"]
    registry.set_alias(second, "benchmark")
    registry.unset_alias(second, "champion")
    assert held(azure, "2")["stage"] == "Production"
    registry.unset_alias(second, "benchmark")
    assert held(azure, "2")["stage"] == "Development"
    assert held(azure, "2")["tags"]["mlgov.model"] == "retail_pd"


def test_who_approves_in_the_studio_shows(azure, registry, model) -> None:
    register(registry, model)
    held(azure, "1")["stage"] = "Production"
    (found,) = registry.versions("pd")
    assert found.is_approved


def test_an_alias_that_two_hold_is_refused_until_it_is_set_again(azure, registry, model) -> None:
    first, second = register(registry, model), register(registry, model, "b")
    registry.set_alias(first, "champion")
    held(azure, "2")["tags"]["mlgov.alias.champion"] = "true"
    with pytest.raises(RegistryError, match="versions 1, 2 of pd hold") as caught:
        registry.by_alias("pd", "champion")
    assert not isinstance(caught.value, VersionNotFoundError)
    registry.set_alias(second, "champion")
    assert registry.by_alias("pd", "champion") == registry.get("pd", "2")


def test_killed_at_any_call_the_next_one_completes(azure, registry, model) -> None:
    for good in range(6):
        text = f"model {good}"
        azure.hang_s = 0.0
        azure.fail(good, "")
        azure.fail(1, "hang")
        try:
            register(registry, model, text)
        except RegistryUnavailableError:
            register(registry, model, text)
        azure._failing.clear()
        found = [each for each in registry.versions("pd") if each.manifest]
        assert [each.version for each in found] == [str(n) for n in range(good + 1, 0, -1)]


def test_a_number_that_was_claimed_by_a_killed_task_is_used(azure, registry, model) -> None:
    digest = hash_directory(model).digest
    azure.denied.append("/versions/1")
    with pytest.raises(RegistryError, match="AuthorizationFailed"):
        register(registry, model)
    azure.denied.clear()
    other = register(registry, model, "b")
    assert other.version == "2"
    again = register(registry, model)
    assert (again.version, again.manifest) == ("1", digest)


def test_numbers_that_others_made_are_left_alone(azure, registry, model) -> None:
    path = f"{WORKSPACE}/models/pd/versions"
    for number, shown in (("7", False), ("latest-one", False), ("9", True)):
        properties = {"modelUri": "azureml://elsewhere", "isArchived": shown}
        azure.resources[f"{path}/{number}"] = {
            "id": f"{path}/{number}", "name": number, "type": "Microsoft.x",
            "properties": properties,
        }  # fmt: skip
    version = register(registry, model)
    assert version.version == "10"
    assert [each.version for each in registry.versions("pd")] == ["10", "9", "7", "latest-one"]
    assert registry.get("pd", "7").manifest is None
    with pytest.raises(RegistryError, match="was not registered by airflow-mlgov"):
        registry.fetch(registry.get("pd", "7"), model.parent / "private")


def test_a_version_that_is_listed_late_is_not_written_again(
    azure, registry, model, monkeypatch
) -> None:
    version = register(registry, model)
    registry.set_alias(version, "champion")
    with monkeypatch.context() as late:
        late.setattr(registry, "_all", lambda _: iter(()))
        assert register(registry, model) == version
    assert registry.by_alias("pd", "champion") == version


@pytest.mark.parametrize("at", ["elsewhere", "same place"])
def test_a_number_that_somebody_takes_meanwhile_is_told(at: str, azure, registry, model) -> None:
    ours = f"{azure.registry_terms().store}/pd/{hash_directory(model).digest.hex}/model"
    uri = ours if at == "same place" else "https://elsewhere.example/model"

    def takes_it(path: str) -> None:
        azure.resources.setdefault(
            path,
            {
                "id": path, "name": "1", "type": "Microsoft.x",
                "properties": {
                    "modelUri": uri,
                    "properties": {"mlgov.manifest_sha256": f"sha256:{'0' * 64}"},
                },
            },
        )  # fmt: skip

    azure.before_put = takes_it
    with pytest.raises(RegistryError):
        register(registry, model)
    azure.before_put = None
    assert register(registry, model).version == "2"


def test_what_the_store_has_lost_or_gained_shows(azure, registry, model, tmp_path) -> None:
    version = register(registry, model)
    blobs = azure.blobs.of(ACCOUNT, CONTAINER)
    name = next(name for name in blobs if name.endswith("card.json"))
    blobs[name].data = b"[]"
    fetched = registry.fetch(version, tmp_path / "changed")
    assert hash_directory(fetched).digest != version.manifest
    blobs[name.replace("card.json", "evil.pkl")] = blobs[name]
    with pytest.raises(ArtefactError, match="evil"):
        registry.fetch(version, tmp_path / "gained")
    blobs.clear()
    with pytest.raises(VersionNotFoundError, match="has no files"):
        registry.fetch(version, tmp_path / "lost")


def test_a_link_is_never_registered(registry, model) -> None:
    (model / "link").symlink_to("/etc/passwd")
    manifest_of = model.parent / "copy"
    shutil.copytree(model, manifest_of, ignore=lambda *_: ["link"])
    with pytest.raises(ArtefactError, match="link"):
        registry.register("pd", model, hash_directory(manifest_of), TAGS)


@pytest.mark.parametrize("name", ["1pd", "p.d", "p d", "", "../x", "a" * 129])
def test_names_that_azure_cannot_hold(name: str, registry, model) -> None:
    with pytest.raises(ConfigurationError, match="not one that Azure ML can hold"):
        registry.register(name, model, hash_directory(model), TAGS)


@pytest.mark.parametrize("how", ["throttle", "500", "expired"])
def test_what_passes_may_be_retried(how: str, azure, registry, model) -> None:
    register(registry, model)
    azure.fail(1, how)
    with pytest.raises(RegistryUnavailableError, match="Registry azure_models"):
        registry.by_alias("pd", "champion")


def test_a_key_is_not_taken_silently(azure) -> None:
    with pytest.raises(ConfigurationError, match="cannot be told 'keys'"):
        AzureMlRegistry(azure.registry_terms(keys={"model": "k"}))


def test_doctor_sees_account_and_store(azure, registry) -> None:
    assert registry.check().startswith("Azure ML answers as azureml://bank-ml.westeurope")
    nowhere = AzureMlRegistry(azure.registry_terms(account=WORKSPACE.replace("bank", "no")))
    with pytest.raises(RegistryError, match="there is no /subscriptions"):
        nowhere.check()


@pytest.mark.parametrize(
    ("account", "action"),
    [(WORKSPACE, "workspaces/models/versions/write"), (REGISTRY, "registries/assets/write")],
)
def test_missing_permissions_are_named(account: str, action: str, azure) -> None:
    registry = AzureMlRegistry(azure.registry_terms(account=account))
    everything = azure.permissions[WORKSPACE]
    azure.permissions[account] = everything
    assert registry.missing_permissions() == []
    azure.permissions[account] = [{"actions": ["*/read"]}]
    azure.permissions[STORAGE] = [{"dataActions": ["*"], "notDataActions": ["*/blobs/delete"]}]
    writing, deleting = registry.missing_permissions()
    assert writing == f"Microsoft.MachineLearningServices/{action} on {account}"
    assert deleting.endswith(f"/blobs/delete on {STORAGE}")
    azure.denied.append("Authorization")
    with pytest.raises(RegistryError):
        registry.missing_permissions()
