"""What the outbox alone says of delivery."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_mlgov.errors import LineageError
from airflow_mlgov.service.delivery import quarantined, refused_of, waits_from_before
from airflow_mlgov.service.outbox import Delivery, DeliveryState, OutboxItem
from airflow_mlgov.stores.sqlite import SqliteOutbox

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAG_RUN = str(uuid.UUID(int=1))


def event(number: int, parent: dict[str, Any] | None = None) -> dict[str, Any]:
    facets = {} if parent is None else {"parent": parent}
    return {
        "eventType": "COMPLETE",
        "eventTime": "2026-01-02T00:00:00+00:00",
        "run": {"runId": str(uuid.UUID(int=number)), "facets": facets},
        "job": {"namespace": "bank", "name": f"job.{number}"},
    }


@pytest.fixture
def outbox(tmp_path) -> SqliteOutbox:
    return SqliteOutbox(tmp_path / "ledger.db")


def put(outbox: SqliteOutbox, *events: dict[str, Any], at: datetime = NOW) -> None:
    outbox.append([OutboxItem.of(each) for each in events], at)
    outbox.take()


def settle(outbox: SqliteOutbox, seq: int, state: DeliveryState, reason: str = "") -> None:
    outbox.settle([Delivery("marquez", seq, state, NOW, reason)])


def test_what_came_after_the_moment_is_not_waited_for(outbox):
    assert not waits_from_before(outbox, "marquez", NOW)
    put(outbox, event(1))
    put(outbox, event(2), at=NOW + timedelta(seconds=1))
    assert waits_from_before(outbox, "marquez", NOW)
    settle(outbox, 1, DeliveryState.DELIVERED)
    assert not waits_from_before(outbox, "marquez", NOW)
    assert waits_from_before(outbox, "marquez", NOW + timedelta(seconds=1))


def test_an_event_that_nobody_has_numbered_yet_is_waited_for(outbox):
    outbox.append([OutboxItem.of(event(1))], NOW)
    assert waits_from_before(outbox, "marquez", NOW)


def test_a_dag_run_is_told_what_is_refused_of_it_and_of_nothing_else(outbox):
    own, task, grandchild = 1, 2, 3
    of_run = {"run": {"runId": DAG_RUN}, "job": {"namespace": "bank", "name": "dag"}}
    of_gate = {
        "run": {"runId": str(uuid.UUID(int=9))},
        "job": {"namespace": "bank", "name": "dag.gate"},
        "root": of_run,
    }
    put(outbox, event(own), event(task, of_run), event(grandchild, of_gate), event(4))
    for seq in (1, 2, 3, 4):
        settle(outbox, seq, DeliveryState.QUARANTINED, f"reason {seq}")
    assert refused_of(outbox, "marquez", DAG_RUN) == [
        "COMPLETE of job.1: reason 1",
        "COMPLETE of job.2: reason 2",
        "COMPLETE of job.3: reason 3",
    ]
    assert refused_of(outbox, "folder", DAG_RUN) == []
    assert [delivery.seq for delivery, _ in quarantined(outbox, "marquez")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run": {"runId": "x"}}, "run.runId is not a UUID"),
        ({"run": None}, "run.runId is not a UUID"),
        ({"eventType": "END"}, "eventType is not one of"),
        ({"eventTime": "2026-01-02T00:00:00"}, "eventTime is not a date and time with its offset"),
        ({"eventTime": "yesterday"}, "eventTime is not"),
        ({"job": {"namespace": "bank", "name": ""}}, "job.namespace or job.name is empty"),
        ({"job": None}, "job.namespace or job.name is empty"),
    ],
)
def test_what_is_no_event_of_a_run_is_not_kept(change, said):
    with pytest.raises(LineageError, match=said):
        OutboxItem.of(event(1) | change)


def test_the_same_event_has_the_same_key_whatever_else_it_says():
    first, again = event(1), event(1) | {"producer": "urn:other"}
    assert OutboxItem.of(first).key == OutboxItem.of(again).key
    for change in ({"eventType": "START"}, {"eventTime": "2026-01-02T00:00:01Z"}):
        assert OutboxItem.of(first | change).key != OutboxItem.of(first).key
