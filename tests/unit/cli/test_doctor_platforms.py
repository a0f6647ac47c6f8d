"""What doctor says of platforms and registries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_mlgov import wiring
from airflow_mlgov.cli.doctor_platforms import diagnose_platforms
from airflow_mlgov.errors import (
    ConfigurationError,
    PlatformError,
    PlatformUnavailableError,
    RegistryError,
    RegistryUnavailableError,
)

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "platforms.md"
GOOD = PAGE.read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]


class Account:
    """A platform or registry that answers as it is told; others ask the vendors' own."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.problem: Exception | None = None
        self.missing: list[str] = []
        self.unasked: Exception | None = None

    def check(self) -> str:
        if self.problem:
            raise self.problem
        return self.who

    def missing_permissions(self) -> list[str]:
        if self.unasked:
            raise self.unasked
        return self.missing


@pytest.fixture
def registry() -> Account:
    return Account("SageMaker Model Registry answers; the store is writable.")


@pytest.fixture
def jobs(configure, tmp_path, monkeypatch, registry) -> Account:
    made = Account("account 123456789012 as role/mlgov")
    (tmp_path / "platforms.yaml").write_text(
        GOOD.replace("/opt/venvs/credit/bin/python", sys.executable)
    )
    configure(platforms_path=tmp_path / "platforms.yaml")
    monkeypatch.setattr(wiring, "open_jobs", lambda terms: made)
    monkeypatch.setattr(wiring, "open_registry", lambda name: registry)
    return made


def said() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for each in diagnose_platforms():
        found.setdefault(each.check, []).append((each.state, each.detail))
    return found


def test_all_is_well(jobs, registry) -> None:
    assert said() == {
        "platform local": [("ok", "the worker's own interpreter")],
        "platform house": [("ok", sys.executable)],
        "platform frankfurt": [("ok", "account 123456789012 as role/mlgov")],
        "registry frankfurt-models": [("ok", registry.who)],
    }


def test_without_a_file_there_is_local(configure) -> None:
    configure()
    assert said() == {"platform local": [("ok", "the worker's own interpreter")]}


def test_a_file_that_cannot_be_read_is_one_line(jobs, tmp_path) -> None:
    (tmp_path / "platforms.yaml").write_text("version: 3\n")
    assert list(said()) == ["platform file"]


def test_an_interpreter_that_is_not_there(jobs, tmp_path) -> None:
    (tmp_path / "platforms.yaml").write_text(GOOD)
    assert said()["platform house"] == [("wrong", "there is no /opt/venvs/credit/bin/python")]


@pytest.mark.parametrize("error", [PlatformError("refused"), PlatformUnavailableError("away")])
def test_a_connection_that_does_not_work_spoils_no_other_row(jobs, registry, error) -> None:
    jobs.problem = error
    rows = said()
    assert rows["platform frankfurt"] == [("wrong", error.problem)]
    assert rows["registry frankfurt-models"] == [("ok", registry.who)]


ENTRIES = ["platform frankfurt", "registry frankfurt-models"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_permissions_that_are_missing_are_named(jobs, registry, entry) -> None:
    asked = jobs if entry.startswith("platform") else registry
    asked.missing = ["sagemaker:StopTrainingJob", "kms:Decrypt"]
    for name, rows in said().items():
        wrong = [("wrong", "we may not: sagemaker:StopTrainingJob, kms:Decrypt")]
        assert rows[1:] == (wrong if name == entry else [])
    remedies = [each.remedy for each in diagnose_platforms() if each.state == "wrong"]
    assert remedies == ["docs/how-to/train-on-aws.md has the whole list."]


@pytest.mark.parametrize("error", [PlatformError, RegistryError])
@pytest.mark.parametrize("entry", ENTRIES)
def test_permissions_that_could_not_be_looked_at_are_a_remark(jobs, registry, entry, error) -> None:
    asked = jobs if entry.startswith("platform") else registry
    asked.unasked = error("iam:SimulatePrincipalPolicy is not allowed")
    state, detail = said()[entry][1]
    assert state == "remark"
    assert "iam:SimulatePrincipalPolicy" in detail


def test_a_registry_that_is_away(jobs, registry) -> None:
    registry.problem = RegistryUnavailableError("away")
    assert said()["registry frankfurt-models"] == [("wrong", "away")]


def test_a_registry_that_cannot_be_opened(jobs, monkeypatch) -> None:
    def broken(name: str) -> None:
        raise ConfigurationError(f"{name} has no connection")

    monkeypatch.setattr(wiring, "open_registry", broken)
    assert said()["registry frankfurt-models"] == [("wrong", "frankfurt-models has no connection")]
