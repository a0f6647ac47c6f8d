"""The command, on a ledger of the service's tests and an Airflow that says what it is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from folder_registry import FolderRegistry

from airflow_mlgov import wiring
from airflow_mlgov.cli.api_server import TOKEN_VARIABLE
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.airflow_records import Step
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.wiring import registries


@pytest.fixture
def told(governed, monkeypatch):
    from conftest_of_service import ToldAirflow

    made = ToldAirflow(governed.clock)
    monkeypatch.setattr("airflow_mlgov.hooks.airflow_api.AirflowApi", lambda *_: made)
    monkeypatch.setenv(TOKEN_VARIABLE, "a-token")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.com")
    return made


def test_nothing_is_said_differently(governed, told, airflow):
    ended = airflow("reconcile", "--output", "json")
    assert ended.code == 0
    (said,) = ended.json
    (entry,) = governed.kinds("reconciled")
    assert (said["found"], said["unchecked"], said["entry"]) == ([], [], str(entry.index))
    assert said["airflow"] == "3.3.2"
    assert airflow("reconcile").err.endswith("Nothing is said differently.\n")


def test_what_is_said_differently_ends_with_1(governed, told, airflow):
    governed.ask()
    told.tell("gate", Step.GATE, "success")
    ended = airflow("reconcile", "--output", "json")
    assert ended.code == 1
    (found,) = ended.json[0]["found"]
    assert (found["state"], found["severity"], found["test"]) == ("new", "high", "reconcile.gate")
    assert found["version"] == str(governed.version)
    again = airflow("reconcile", "--model", "retail_pd")
    assert again.code == 1
    assert found["finding"] in again.out
    listed = airflow("finding", "list", "--output", "json")
    assert [row["finding"] for row in listed.json] == [found["finding"]]


def test_a_job_whose_platform_is_not_in_the_file_any_more_is_not_taken_for_right(
    governed, told, airflow
):
    body = {"job": "mlgov-1", "platform": "frankfurt", "passed": True}
    digest = str(Digest.of(b"request"))
    rest = {"request_sha256": digest, "policy_sha256": digest, "controls": []}
    draft = EntryDraft("job.examined", "retail_pd", None, {**body, **rest}, ("mlgov-1",))
    governed.gov.ledger.append(draft)
    governed.clock.moment += timedelta(hours=1)
    ended = airflow("reconcile", "--output", "json")
    assert ended.code == 1
    (said,) = ended.json[0]["unchecked"]
    assert said.startswith("Job mlgov-1 on platform frankfurt: ")


def test_a_finding_on_a_model_is_listed_without_a_version(governed, told, airflow):
    told.tell("score", Step.SCORING, "success", fields={"model": "retail_pd"})
    told.dag_id = "unknown"
    told.tell("score", Step.SCORING, "success")
    assert airflow("reconcile").code == 1
    listed = airflow("finding", "list", "--output", "json").json
    assert sorted((row["model"], row["version"] == "") for row in listed) == [
        ("", True),
        ("retail_pd", False),
    ]


def test_an_airflow_that_is_away_is_an_error(governed, told, airflow):
    told.down_after = 0
    ended = airflow("reconcile")
    assert ended.code == 1
    assert "Could not be compared: Airflow: Airflow cannot be reached" in ended.err


def test_an_alias_is_put_back_only_when_asked(governed, told, airflow):
    from airflow_mlgov.service.promote import promote

    governed.clock.moment = SystemClock().now()
    governed.approve(governed.ask())
    promote(governed.gov, governed.registry, governed.use())
    governed.train('{"points": [7]}')
    governed.registry.aliases["retail_pd", "champion"] = "2"
    told.tell("gate", Step.GATE, "success")
    assert airflow("reconcile").code == 1
    assert governed.registry.aliases["retail_pd", "champion"] == "2"
    ended = airflow("reconcile", "--repair-alias", "--output", "json")
    assert ended.json[0]["found"][0]["repair"] == "repaired: it points to version 1 again"
    assert governed.registry.aliases["retail_pd", "champion"] == "1"


def test_several_registries_are_compared(governed, told, airflow, monkeypatch, tmp_path):
    elsewhere = FolderRegistry(tmp_path / "elsewhere", "folder://elsewhere")
    opened = {"mlflow_default": governed.registry, "here": governed.registry, "there": elsewhere}
    monkeypatch.setattr("airflow_mlgov.wiring.registries.open_registry", opened.__getitem__)
    monkeypatch.setattr(wiring, "open_registries", registries.open_registries)
    governed.train()
    (version,) = governed.registry.held
    elsewhere.held.append(version)
    elsewhere.aliases["retail_pd", "champion"] = version.version  # of which no promotion knows
    assert airflow("reconcile").code == 0
    assert airflow("reconcile", "--registry", "here").code == 0
    ended = airflow("reconcile", "--registry", "here", "--registry", "there", "--output", "json")
    assert ended.code == 1
    (found,) = ended.json[0]["found"]
    assert found["test"] == "reconcile.alias"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "is no moment"),
        (("--since", "2999-01-01"), "is in the future"),
        (("--model", "nobody"), "is not in the inventory"),
        (("--url", "ftp://x"), "is no address of an api-server"),
    ],
)
def test_what_cannot_be_asked(governed, told, airflow, arguments, said):
    ended = airflow("reconcile", *arguments)
    assert ended.code == 64
    assert said in ended.err
    assert governed.kinds("reconciled") == []


def test_without_a_token(governed, told, airflow, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE)
    ended = airflow("reconcile")
    assert (ended.code, "no token in" in ended.err) == (64, True)


def test_from_when_on(governed, told, airflow):
    (said,) = airflow("reconcile", "--since", "2026-05-01", "--output", "json").json
    assert said["since"] == "2026-05-01T00:00:00.000Z"
