from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov import wiring
from airflow_mlgov.errors import RegistryUnavailableError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.stop import revoke_approval, stop_model


@pytest.fixture
def promoted(governed):
    request = governed.ask()
    governed.approve(request)
    promote(governed.gov, governed.registry, governed.use(), governed.version)
    return governed


def test_before_anything_is_in_use(airflow, governed) -> None:
    ended = airflow("status", "retail_pd", "--output", "json")
    assert ended.code == 0
    (found,) = ended.json
    assert found["model"]["tier"] == "1"
    assert found["model"]["policy"] == "retail_credit"
    assert found["version"]["manifest_sha256"] is None
    assert found["version"]["usable"] == "False"
    assert found["approval"] is None
    assert (found["open_findings"], found["waiting"]) == ([], [])


def test_what_waits_for_whom(airflow, governed) -> None:
    request = governed.ask()
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    waits = {row["seat"]: row["waits_for"] for row in found["waiting"]}
    # erin sits on the validators' seat, and she asked for this and develops it
    assert waits == {"model_owner": ["olivia"], "independent_validator": ["victor"]}
    assert {row["request_sha256"] for row in found["waiting"]} == {str(request.digest)}
    governed.answer(request, "olivia")
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert [row["seat"] for row in found["waiting"]] == ["independent_validator"]


def test_each_reason_to_stay_out_counts_alone(airflow, governed) -> None:
    governed.ask(requester=Person("victor", "victor"))
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    waits = {row["seat"]: row["waits_for"] for row in found["waiting"]}
    assert waits["independent_validator"] == []  # victor asked, erin developed


def test_the_version_in_use_and_what_it_rests_on(airflow, promoted) -> None:
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert found["version"]["manifest_sha256"] == str(promoted.version)
    assert found["version"]["usable"] == "True"
    approval = found["approval"]
    assert approval["state"] == "consumed"
    assert [(s["seat"], s["user"], s["assurance"]) for s in approval["seats"]] == [
        ("model_owner", "olivia", "L1"),
        ("independent_validator", "victor", "L1"),
    ]
    assert approval["consumed_by"]["task_id"] == "promote"
    assert approval["granted_at"][:10] == "2026-06-01"
    assert approval["expires_at"][:10] == "2027-06-01"
    assert found["waiting"] == []


def test_an_expired_approval(airflow, promoted) -> None:
    promoted.clock.moment += timedelta(days=366)
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert found["approval"]["state"] == "expired"
    assert found["version"]["usable"] == "False"
    assert "[expiry]" in found["version"]["why_not"]


def test_a_revoked_approval(airflow, promoted) -> None:
    (asked,) = promoted.kinds("approval.requested")
    request, victor = Digest.parse(asked.body["request_sha256"]), Person("victor", "victor")
    revoke_approval(promoted.gov, request, "wrong cut-off", victor)
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert found["approval"]["state"] == "revoked"
    assert "[revoked]" in found["version"]["why_not"]


def test_a_stopped_model(airflow, promoted) -> None:
    stop_model(promoted.gov, "retail_pd", "it scores nonsense", Person("zoe", "zoe"))
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert found["version"]["usable"] == "False"
    assert "[stopped]" in found["version"]["why_not"]


def test_looking_puts_nothing_on_record(airflow, promoted) -> None:
    promoted.clock.moment += timedelta(days=366)
    before = promoted.gov.ledger.checkpoint().size
    airflow("status", "retail_pd")
    assert promoted.gov.ledger.checkpoint().size == before


def test_open_findings(airflow, promoted) -> None:
    promoted.open_finding("medium")
    promoted.clock.moment += timedelta(days=40)
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    (finding,) = found["open_findings"]
    assert finding["finding"] == "F-00000001"
    assert (finding["severity"], finding["owner"]) == ("medium", "olivia")
    assert (finding["overdue"], finding["in_use"]) == ("True", "True")


def test_for_people(airflow, promoted) -> None:
    ended = airflow("status", "retail_pd")
    assert ended.code == 0
    for said in ("Approval", "Seats", "olivia", "victor", "consumed", str(promoted.version)):
        assert said in ended.out


def test_an_unreachable_registry_is_told_last(airflow, governed, monkeypatch) -> None:
    class Gone:
        def by_alias(self, name: str, alias: str):
            raise RegistryUnavailableError("MLflow does not answer.", remedy="Start it.")

    monkeypatch.setattr(wiring, "open_registry", lambda conn_id: Gone())
    governed.ask()
    ended = airflow("status", "retail_pd", "--output", "json")
    assert ended.code == 1
    assert "MLflow does not answer" in ended.err
    assert len(ended.json[0]["waiting"]) == 2
    assert ended.json[0]["version"]["version"] == "unknown: MLflow does not answer."


def test_unknown_model_and_target(airflow, governed) -> None:
    ended = airflow("status", "nope")
    assert (ended.code, "retail_pd" in ended.err) == (64, True)
    ended = airflow("status", "retail_pd", "--target", "moon")
    assert (ended.code, "Its targets are: production" in ended.err) == (64, True)
