from __future__ import annotations

import pytest

URL = "AIRFLOW__API__BASE_URL"
BASE = "https://airflow.example.com"


@pytest.fixture(autouse=True)
def address(monkeypatch):
    monkeypatch.setenv(URL, f"{BASE}/")


def test_nothing_waits(airflow, governed):
    ended = airflow("inbox")
    assert (ended.code, ended.out, ended.err.strip()) == (0, "", "Nothing waits.")
    assert airflow("inbox", "--output", "json").json == [{"requests": [], "findings": []}]


def test_for_everybody(airflow, governed):
    governed.ask()
    ended = airflow("inbox", "--output", "plain")
    assert "model_owner (1): olivia, independent_validator (1): victor" in ended.out
    assert f"{BASE}/dags/retail_pd/runs/run-1/tasks/gate/required_actions" in ended.out
    assert "you" not in ended.out.split()


def test_for_one(airflow, governed):
    request = governed.ask()
    assert "asked" in airflow("inbox", "--user", "olivia", "--output", "plain").out.split()
    assert "asked" not in airflow("inbox", "--user", "erin", "--output", "plain").out.split()
    governed.answer(request, "olivia")
    ended = airflow("inbox", "--user", "olivia", "--output", "plain")
    assert "approve 2026-06-01T12:00:01.000Z" in ended.out
    (found,) = airflow("inbox", "--user", "victor", "--output", "json").json
    (asked,) = found["requests"]
    assert asked["waits_for_you"] == "True"
    assert asked["request_sha256"] == str(request.digest)
    assert asked["evidence_at"] == f"{BASE}/mlgov/requests/{request.digest}"


def test_findings_that_are_due(airflow, governed):
    governed.open_finding("medium")
    governed.clock.moment = governed.clock.moment.replace(month=7)
    ended = airflow("inbox", "--user", "olivia", "--output", "plain")
    assert "F-00000001" in ended.out
    assert airflow("inbox", "--user", "victor").err.strip() == "Nothing waits."


def test_one_model(airflow, governed):
    governed.ask()
    assert len(airflow("inbox", "--model", "retail_pd", "--output", "json").json) == 1
    ended = airflow("inbox", "--model", "unknown")
    assert ended.code == 64
    assert "'unknown' is not in the inventory" in ended.err


def test_without_an_address_paths_are_shown(airflow, governed, monkeypatch):
    monkeypatch.delenv(URL)
    request = governed.ask()
    (found,) = airflow("inbox", "--output", "json").json
    assert found["requests"][0]["evidence_at"] == f"/mlgov/requests/{request.digest}"
