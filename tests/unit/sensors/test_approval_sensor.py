"""The sensor on a real ledger, run as Airflow's task runner runs it."""

from __future__ import annotations

import importlib.util
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_mlgov import ApprovalSensor, wiring
from airflow_mlgov.errors import ApprovalDeniedError, LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.stop import stop_model
from airflow_mlgov.triggers.approval import ApprovalTrigger

TESTS = Path(__file__).resolve().parents[2]


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


service = load("sensor_world", TESTS / "unit" / "service" / "conftest.py")
world, candidate = service.world, service.candidate
least_assurance = pytest.fixture(lambda: "L1")


@pytest.fixture(autouse=True)
def opened(candidate, monkeypatch):
    monkeypatch.setattr(wiring, "open_governance", lambda: candidate.gov)


def sensor(**changes) -> ApprovalSensor:
    arguments = {"task_id": "wait", "model": "retail_pd", "poke_interval": 0.01, "timeout": 1}
    return ApprovalSensor(dag=DAG("scoring", schedule=None), **(arguments | changes))


def context():
    return {"ti": SimpleNamespace(get_first_reschedule_date=lambda _context: None)}


def run(**changes):
    return sensor(**changes).execute(context())


def deferred(one: ApprovalSensor) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        one.execute(context())
    return caught.value


def woken(one: ApprovalSensor, parked: TaskDeferred, problem: str = ""):
    """Go on as the worker does once the trigger has fired."""
    event = {"event": {"problem": problem}}
    return one.resume_execution(parked.method_name, {**parked.kwargs, **event}, context())


def approved(world):
    request = world.ask()
    world.approve(request)
    return request


def denied(world) -> None:
    with pytest.raises(ApprovalDeniedError):
        world.answer(world.ask(), "victor", Choice.REJECT)


@pytest.mark.parametrize("deferrable", [True, False])
def test_returns_what_was_approved_for_templates(candidate, deferrable):
    request = approved(candidate)
    assert run(deferrable=deferrable) == {
        "model": "retail_pd",
        "version": str(candidate.version),
        "target": "production",
        "request": str(request.digest),
        "expires_at": "2027-06-01T12:00:02.000Z",
    }
    assert run(deferrable=deferrable, version=str(candidate.version))["version"]
    assert run(deferrable=deferrable, version="")["version"], "a template that gave nothing"


def test_defers_to_the_trigger_of_the_same_question(candidate):
    candidate.ask()
    version = str(candidate.version)
    one = sensor(deferrable=True, version=version, alias="champion", poke_interval=7, timeout=90)
    parked = deferred(one)
    expected = ApprovalTrigger(
        model="retail_pd",
        target="production",
        version=version,
        alias="champion",
        poke_interval=7.0,
    )
    assert parked.trigger.serialize() == expected.serialize()
    assert timedelta(seconds=80) < parked.timeout <= timedelta(seconds=90)


def test_counts_for_itself_when_it_is_woken(candidate):
    request = candidate.ask()
    one = sensor(deferrable=True)
    parked = deferred(one)
    candidate.approve(request)
    assert woken(one, parked)["request"] == str(request.digest)


def test_an_event_alone_lets_nobody_through(candidate):
    """Whoever can write to Airflow's database can forge one; it waits on, and not for longer."""
    candidate.ask()
    one = sensor(deferrable=True, timeout=0.4)
    parked = deferred(one)
    with pytest.raises(TaskDeferred) as again:
        woken(one, parked)
    assert again.value.timeout < parked.timeout
    assert again.value.kwargs == parked.kwargs
    time.sleep(0.4)
    with pytest.raises(AirflowSensorTimeout, match=r"0\.4 seconds"):
        woken(one, again.value)


def test_is_told_what_the_triggerer_found_wrong(candidate):
    candidate.ask()
    one = sensor(deferrable=True)
    with pytest.raises(AirflowFailException, match="does not verify"):
        woken(one, deferred(one), "ledger.integrity: it does not verify")


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("ended", ["denied", "expired", "stopped"])
def test_fails_at_once_if_waiting_is_of_no_use(candidate, deferrable, ended):
    if ended == "denied":
        denied(candidate)
    else:
        approved(candidate)
    if ended == "expired":
        candidate.clock.moment += timedelta(days=366)
    if ended == "stopped":
        stop_model(candidate.gov, "retail_pd", "nonsense", Person("zoe", "zoe"))
    with pytest.raises(AirflowFailException, match="what to do: ") as caught:
        run(deferrable=deferrable)
    assert {"denied": "rejected", "expired": "[expiry]", "stopped": "[stopped]"}[ended] in str(
        caught.value
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_soft_fail_skips_instead(candidate, deferrable):
    denied(candidate)
    with pytest.raises(AirflowSkipException):
        run(deferrable=deferrable, soft_fail=True)


def test_soft_fail_skips_when_it_is_woken_too(candidate):
    one = sensor(deferrable=True, soft_fail=True)
    parked = deferred(one)
    denied(candidate)
    with pytest.raises(AirflowSkipException):
        woken(one, parked)


def test_pokes_until_people_have_decided(candidate, monkeypatch):
    request, looks = candidate.ask(), []
    real = ApprovalSensor.poke

    def poke(self, context):
        looks.append(real(self, context))
        if len(looks) == 3:
            candidate.approve(request)
        return looks[-1]

    monkeypatch.setattr(ApprovalSensor, "poke", poke)
    assert run(deferrable=False, timeout=60)["request"] == str(request.digest)
    assert len(looks) == 4


def test_pokes_no_longer_than_its_timeout(candidate):
    candidate.ask()
    with pytest.raises(AirflowSensorTimeout):
        run(deferrable=False, timeout=0.05)


def test_reschedules(candidate):
    request = candidate.ask()
    with pytest.raises(AirflowRescheduleException):
        run(deferrable=False, mode="reschedule", poke_interval=60)
    candidate.approve(request)
    assert run(deferrable=False, mode="reschedule")["request"] == str(request.digest)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_ledger_that_is_away_is_asked_again(candidate, monkeypatch, deferrable):
    request = approved(candidate)
    view, failures = candidate.gov.ledger.view, [LedgerUnavailableError("gone")]
    monkeypatch.setattr(
        candidate.gov.ledger, "view", lambda: view() if not failures else fail(failures.pop())
    )
    one = sensor(deferrable=deferrable, timeout=60)
    found = woken(one, deferred(one)) if deferrable else one.execute(context())
    assert found["request"] == str(request.digest)
    assert failures == []


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_ledger_that_does_not_verify_fails_it(candidate, monkeypatch, deferrable):
    approved(candidate)
    monkeypatch.setattr(
        candidate.gov.ledger, "view", lambda: fail(LedgerIntegrityError("an entry was altered"))
    )
    with pytest.raises(AirflowFailException, match="an entry was altered"):
        run(deferrable=deferrable)


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "unknown"}, "'unknown' is not in the inventory"),
        ({"target": "moon"}, "may not be promoted to 'moon'"),
        ({"version": "None"}, "None"),
    ],
)
def test_says_what_is_wrong_with_its_arguments(candidate, changes, said):
    with pytest.raises(AirflowFailException, match=said):
        run(**changes)


def test_waits_for_the_promotion_if_an_alias_is_named(candidate):
    approved(candidate)
    one = sensor(deferrable=True, alias="champion")
    parked = deferred(one)
    promote(candidate.gov, candidate.registry, candidate.use(), candidate.version)
    assert woken(one, parked)["version"] == str(candidate.version)


def test_every_argument_that_names_something_is_a_template():
    assert set(ApprovalSensor.template_fields) == {"model", "target", "version", "alias"}
