"""What is begun anew ends what was never ended; ids are those that the provider makes."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.openlineage.utils.utils import (
    build_dag_run_ol_run_id,
    build_task_instance_ol_run_id,
)
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, Run, RunEvent, RunState

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.listeners.superseded import endings
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.stores.sqlite import SqliteOutbox

DATE = "2026-06-01T00:00:00+00:00"
AT = datetime.fromisoformat(DATE)
RUN = {"dag_id": "retail_pd", "run_id": "run-1", "logical_date": DATE}
NOW = datetime(2026, 6, 2, tzinfo=UTC)


@pytest.fixture
def outbox(tmp_path) -> SqliteOutbox:
    return SqliteOutbox(tmp_path / "ledger.db")


def task_id(number: int, map_index: int = -1) -> str:
    return build_task_instance_ol_run_id("retail_pd", "gate", number, AT, map_index)


def dag_id(number: int) -> str:
    return build_dag_run_ol_run_id("retail_pd", AT, number)


def event(run_id: str, state: str, minute: int, facets: dict[str, Any]) -> dict[str, Any]:
    return {
        "eventType": state,
        "eventTime": f"2026-06-01T10:{minute:02}:00+00:00",
        "run": {"runId": run_id, "facets": facets},
        "job": {"namespace": "bank", "name": "retail_pd.gate", "facets": {}},
        "inputs": [{"namespace": "file", "name": "/data.csv"}],
        "outputs": [],
        "producer": "urn:test",
    }


def of_task(number: int, state: str, minute: int, map_index: int = -1) -> dict[str, Any]:
    instance = {"try_number": number} | ({} if map_index < 0 else {"map_index": map_index})
    about = {"dagRun": RUN, "task": {"task_id": "gate"}, "taskInstance": instance}
    return event(task_id(number, map_index), state, minute, {"airflow": about})


def of_dag(number: int, state: str, minute: int) -> dict[str, Any]:
    about = {"dagRun": RUN | {"clear_number": number}}
    return event(dag_id(number), state, minute, {"airflowDagRun": about})


def put(outbox: SqliteOutbox, *events: dict[str, Any]) -> None:
    outbox.append([OutboxItem.of(each) for each in events], NOW)
    outbox.take()


def told(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(each["run"]["runId"], each["eventType"], each["eventTime"]) for each in events]


def test_a_try_that_never_ended_ends_when_the_next_begins(outbox):
    put(outbox, of_task(1, "START", 0))
    later = of_task(2, "START", 9)
    (end,) = endings(later, outbox)
    assert told([end]) == [(task_id(1), "ABORT", later["eventTime"])]
    assert end["inputs"] == of_task(1, "START", 0)["inputs"]
    put(outbox, end, later)
    assert endings(of_task(3, "START", 10), outbox)[0]["run"]["runId"] == task_id(2)


def test_a_dag_run_that_was_cleared_twice_before_its_end_is_ended_once(outbox):
    put(outbox, of_dag(0, "START", 0))
    assert told(endings(of_dag(2, "START", 9), outbox)) == [
        (dag_id(0), "ABORT", "2026-06-01T10:09:00+00:00")
    ]


def test_what_has_ended_never_began_or_is_another_instance_is_left_alone(outbox):
    put(outbox, of_task(1, "START", 0), of_task(1, "FAIL", 1))
    put(outbox, of_task(1, "START", 0, map_index=1))
    put(outbox, of_dag(0, "START", 0), of_dag(0, "COMPLETE", 1))
    assert endings(of_task(2, "START", 9), outbox) == []
    assert endings(of_task(2, "START", 9, map_index=0), outbox) == []
    assert len(endings(of_task(2, "START", 9, map_index=1), outbox)) == 1
    assert endings(of_dag(1, "START", 9), outbox) == []
    assert endings(of_task(1, "START", 9), outbox) == []


def test_an_end_that_nobody_has_numbered_yet_is_one(outbox):
    put(outbox, of_dag(0, "START", 0))
    outbox.append([OutboxItem.of(of_dag(0, "FAIL", 1))], NOW)
    assert endings(of_dag(1, "START", 2), outbox) == []


def test_who_may_not_number_goes_by_what_is_numbered(outbox, monkeypatch):
    def refuse() -> int:
        raise ConfigurationError("The role may not.")

    put(outbox, of_task(1, "START", 0))
    monkeypatch.setattr(outbox, "take", refuse)
    assert len(endings(of_task(2, "START", 9), outbox)) == 1


def test_only_a_start_begins_anything(outbox):
    put(outbox, of_task(1, "START", 0))
    assert endings(of_task(2, "COMPLETE", 9), outbox) == []
    assert endings(event(str(uuid.uuid4()), "START", 9, {}), outbox) == []


def test_the_transport_keeps_the_end_before_the_start(outbox, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR", str(tmp_path / "spool"))
    put(outbox, of_task(1, "START", 0))
    said = of_task(2, "START", 9)
    transport = {"type": "airflow_mlgov.listeners.outbox_transport.OutboxTransport"}
    OpenLineageClient(config={"transport": transport}).emit(
        RunEvent(
            eventType=RunState.START,
            eventTime=said["eventTime"],
            run=Run(task_id(2), facets=said["run"]["facets"]),
            job=Job("bank", "retail_pd.gate"),
            inputs=[InputDataset("file", "/data.csv")],
        )
    )
    outbox.take()
    kept = [json.loads(each.event) for each in outbox.events(1, 10)]
    assert [(e["run"]["runId"], e["eventType"]) for e in kept] == [
        (task_id(1), "ABORT"),
        (task_id(2), "START"),
    ]
