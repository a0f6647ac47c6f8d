"""The resource manager: writes that go on after their answer, and pages."""

from __future__ import annotations

from collections.abc import Iterator

import azureml_server
import pytest
from azureml_account import CONNECTION, REGISTRY, WORKSPACE

from airflow_mlgov.clouds.azure import Arm, AzureSession, Kinds, arm
from airflow_mlgov.errors import RegistryError, RegistryUnavailableError

MODEL = {"properties": {"modelUri": "https://bank.blob.core.windows.net/c/m"}}


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[azureml_server.FakeAzure]:
    monkeypatch.setattr(arm, "_PAUSE_S", 0.01)
    with azureml_server.start() as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def manager(azure: azureml_server.FakeAzure) -> Arm:
    kinds = Kinds(RegistryError, RegistryUnavailableError)
    return Arm(AzureSession("Registry azure", CONNECTION, azure.url, kinds))


def test_a_write_is_waited_for(azure: azureml_server.FakeAzure, manager: Arm) -> None:
    azure.provisioning = ["Creating", "Creating", "Succeeded"]
    made = manager.put(f"{REGISTRY}/models/pd/versions/1", MODEL)
    assert made["properties"]["provisioningState"] == "Succeeded"


@pytest.mark.parametrize("state", ["Failed", "Canceled"])
def test_a_write_that_fails_later_is_told(
    state: str, azure: azureml_server.FakeAzure, manager: Arm
) -> None:
    azure.provisioning = ["Creating", state]
    with pytest.raises(RegistryError, match=f"operation is {state}") as caught:
        manager.put(f"{REGISTRY}/models/pd/versions/1", MODEL)
    assert not caught.value.retryable


def test_a_write_that_never_ends_is_given_up(
    azure: azureml_server.FakeAzure, manager: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm, "_PATIENCE_S", 0.1)
    azure.provisioning = ["Creating"]
    with pytest.raises(RegistryUnavailableError, match="not finished"):
        manager.put(f"{REGISTRY}/models/pd/versions/1", MODEL)


def test_a_collection_is_read_page_by_page(azure: azureml_server.FakeAzure, manager: Arm) -> None:
    path = f"{WORKSPACE}/models/pd/versions"
    for number in range(5):
        manager.put(f"{path}/{number}", MODEL)
    assert [each["name"] for each in manager.each(path)] == ["0", "1", "2", "3", "4"]
    assert sum(asked[1] == path for asked in azure.requests) == 3


def test_a_page_on_another_server_gets_no_token(
    azure: azureml_server.FakeAzure, manager: Arm
) -> None:
    path = f"{WORKSPACE}/models/pd/versions"
    for number in range(3):
        manager.put(f"{path}/{number}", MODEL)
    azure.pages_at = f"{azure.url}.elsewhere.example"
    with pytest.raises(RegistryError, match="another server"):
        list(manager.each(path))


def test_an_answer_that_is_no_json_is_told(
    azure: azureml_server.FakeAzure, manager: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azureml_replies import Reply

    monkeypatch.setattr(azure, "answer", lambda *_: Reply(200, b"<html>"))
    with pytest.raises(RegistryError, match="no JSON"):
        manager.get(WORKSPACE)
