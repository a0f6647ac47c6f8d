"""The sensor on a real outbox."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_mlgov import LineageDeliveredSensor, wiring
from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.sensors import lineage_delivered
from airflow_mlgov.service.outbox import Delivery, DeliveryState, OutboxItem
from airflow_mlgov.stores.sqlite import SqliteOutbox

DAG_RUN = str(uuid.UUID(int=7))


@pytest.fixture
def outbox(tmp_path, monkeypatch) -> SqliteOutbox:
    made = SqliteOutbox(tmp_path / "ledger.db")
    monkeypatch.setattr(wiring, "open_outbox", lambda: made)
    names = "airflow_mlgov.wiring.lineage.lineage_target_names"
    monkeypatch.setattr(names, lambda: ["marquez", "folder"])
    monkeypatch.setattr(lineage_delivered, "_root_of", lambda _instance: DAG_RUN)
    return made


def put(outbox: SqliteOutbox, number: int, at: datetime, parent: str = "") -> int:
    facets: dict[str, Any] = {"parent": {"run": {"runId": parent}}} if parent else {}
    event = {
        "eventType": "COMPLETE",
        "eventTime": "2026-01-02T00:00:00Z",
        "run": {"runId": str(uuid.UUID(int=number)), "facets": facets},
        "job": {"namespace": "bank", "name": f"dag.task{number}"},
    }
    outbox.append([OutboxItem.of(event)], at)
    outbox.take()
    return len(outbox.events(0, 100))


def settle(outbox: SqliteOutbox, seq: int, target: str, state: str, reason: str = "") -> None:
    outbox.settle([Delivery(target, seq, DeliveryState(state), datetime.now(UTC), reason)])


def run(first_reschedule_at: datetime | None = None, **changes: Any) -> Any:
    arguments = {"task_id": "delivered", "poke_interval": 0.01, "timeout": 0.05} | changes
    sensor = LineageDeliveredSensor(dag=DAG("scoring", schedule=None), **arguments)
    instance = SimpleNamespace(get_first_reschedule_date=lambda _context: first_reschedule_at)
    return sensor.execute({"ti": instance})


def test_nothing_to_wait_for(outbox):
    assert run()["targets"] == ["marquez", "folder"]


def test_it_waits_for_each_target_that_it_was_told_of(outbox):
    seq = put(outbox, 1, datetime.now(UTC) - timedelta(seconds=1))
    settle(outbox, seq, "marquez", "delivered")
    with pytest.raises(AirflowSensorTimeout):
        run()
    assert run(target="marquez")["targets"] == ["marquez"]
    settle(outbox, seq, "folder", "folded")
    assert run()["targets"] == ["marquez", "folder"]


def test_what_comes_later_is_not_waited_for_and_a_new_process_does_not_begin_anew(outbox):
    put(outbox, 1, datetime.now(UTC) + timedelta(seconds=60))
    assert run()
    put(outbox, 2, datetime.now(UTC) - timedelta(seconds=10))
    began_at = datetime.now(UTC) - timedelta(seconds=20)
    assert run(first_reschedule_at=began_at, timeout=60)


def test_what_is_refused_of_this_dag_run_fails_at_once(outbox):
    other = put(outbox, 1, datetime.now(UTC), parent=str(uuid.UUID(int=8)))
    for target in ("marquez", "folder"):
        settle(outbox, other, target, "quarantined", "too large")
    assert run()
    own = put(outbox, 2, datetime.now(UTC), parent=DAG_RUN)
    settle(outbox, own, "folder", "quarantined", "too large")
    with pytest.raises(AirflowFailException, match=r"folder .*COMPLETE of dag.task2: too large"):
        run(timeout=60)


def test_a_name_that_no_target_has_is_told_apart(outbox):
    with pytest.raises(AirflowFailException, match=r"(?s)'marques'.*marquez, folder"):
        run(target="marques")


def test_a_store_that_is_away_is_asked_again(outbox, monkeypatch):
    answers = iter([LedgerUnavailableError("away"), None])
    real = outbox.backlog

    def backlog(target: str) -> Any:
        problem = next(answers, None)
        if problem:
            raise problem
        return real(target)

    monkeypatch.setattr(outbox, "backlog", backlog)
    assert run(timeout=60)
