"""The outbox as reconcile reads it, with the ids that the provider gives."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.hooks import lineage_outbox
from airflow_mlgov.hooks.lineage_outbox import LineageOutbox, open_lineage_records
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.outbox import OutboxItem

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from memory_outbox import MemoryOutbox

DATED = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
BEGUN = datetime(2026, 6, 2, tzinfo=UTC)
TASK = Source("daily", "r", "batch.score", 3, 2)
TRANSPORT = '{"type": "airflow_mlgov.listeners.outbox_transport.OutboxTransport"}'


def run_id(task=TASK) -> str:
    return OpenLineageAdapter.build_task_instance_run_id(
        task.dag_id, task.task_id, task.try_number, DATED, task.map_index
    )


def event(number: int = 0, kind: str = "COMPLETE", **changes: Any) -> dict[str, Any]:
    governed = {"model": "retail_pd", "role": "use"} | changes.pop("governed", {})
    airflow = {
        "dagRun": {"run_id": "r"},
        "task": {"task_id": "batch.score"},
        "taskInstance": {"try_number": 2, "map_index": 3},
    } | changes.pop("airflow", {})
    facets = {
        "parent": {"run": {"runId": "x"}, "job": {"namespace": "bank", "name": "daily"}},
        "airflow": airflow,
        "mlgov_governed": governed,
    }
    facets = {
        name: value for name, value in facets.items() if name not in changes.get("without", ())
    }
    return {
        "eventType": kind,
        "eventTime": (BEGUN + timedelta(seconds=number)).isoformat(),
        "run": {"runId": run_id(), "facets": facets},
        "job": {"namespace": "bank", "name": "daily.batch.score"},
        "producer": "urn:x",
    }


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


def keep(outbox, *events, at=BEGUN) -> None:
    outbox.append([OutboxItem.of(each) for each in events], at)


def test_a_try_is_known_by_the_id_that_the_provider_gives_it(outbox):
    keep(outbox, event(kind="START"))
    lineage = LineageOutbox(outbox)
    first, until = lineage.span()
    assert first == BEGUN
    assert datetime.now(UTC) - until < timedelta(minutes=1)
    assert lineage.is_told(TASK, DATED) is True
    assert lineage.is_told(TASK, DATED + timedelta(days=1)) is False
    assert lineage.is_told(Source("daily", "r", "batch.score", 3, 1), DATED) is False


def test_an_empty_outbox_says_nothing(outbox):
    lineage = LineageOutbox(outbox)
    assert lineage.span() is None
    assert list(lineage.ends(BEGUN)) == []


def test_where_only_the_shipper_may_number_what_came_last_is_left_alone(outbox, monkeypatch):
    for number in range(11):
        keep(outbox, event(number), at=BEGUN + timedelta(hours=number))
    outbox.take()

    def refused() -> int:
        raise LedgerUnavailableError("permission denied")

    monkeypatch.setattr(outbox, "take", refused)
    assert LineageOutbox(outbox).span() == (BEGUN, BEGUN + timedelta(hours=10, minutes=-5))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 40])
def test_ends_are_those_kept_since(outbox, monkeypatch, count):
    monkeypatch.setattr(lineage_outbox, "PAGE", 4)
    for number in range(count):
        keep(outbox, event(number), at=BEGUN + timedelta(hours=number))
    for since in {0, 1, count // 2, count - 1, count}:
        found = list(LineageOutbox(outbox).ends(BEGUN + timedelta(hours=since)))
        assert [each.at for each in found] == [
            BEGUN + timedelta(hours=number) for number in range(since, count)
        ]


def test_an_end_says_which_try_of_which_task(outbox):
    keep(outbox, event(), event(1, airflow={"taskInstance": {"try_number": 1}}))
    mapped, single = LineageOutbox(outbox).ends(BEGUN)
    assert (mapped.task, mapped.model, mapped.role) == (TASK, "retail_pd", "use")
    assert (single.task.map_index, single.task.try_number) == (-1, 1)


@pytest.mark.parametrize(
    "other",
    [
        event(kind="FAIL"),
        event(governed={"airflow_state": "skipped"}),
        event(governed={"state_set_by_hand": True}),
        event(without=["mlgov_governed"]),
        event(without=["airflow"]),
    ],
    ids=["failed", "skipped", "by hand", "nobody's", "of a run of ours"],
)
def test_other_events_are_no_such_end(outbox, other):
    keep(outbox, other)
    assert list(LineageOutbox(outbox).ends(BEGUN)) == []


def test_what_the_deployment_leaves_out_cannot_be_missing(outbox, monkeypatch):
    keep(outbox, event())
    lineage = LineageOutbox(outbox)
    rules = '[{"scope": {"dag_id": "daily"}, "controls": {"emit": false}}]'
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EMISSION_POLICY", rules)
    assert lineage.is_told(TASK, DATED) is None
    assert lineage.is_told(Source("weekly", "r", "x", -1, 1), DATED) is False


@pytest.mark.parametrize(
    ("transport", "is_open"),
    [
        (TRANSPORT, True),
        (f'{{"type": "composite", "transports": {{"b": {TRANSPORT}}}}}', True),
        ('{"type": "console"}', False),
        ("", False),
    ],
)
def test_only_where_events_go_to_the_outbox_can_they_be_compared(
    tmp_path, monkeypatch, transport, is_open
):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", transport)
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    assert (open_lineage_records() is not None) is is_open
