from __future__ import annotations

from dataclasses import dataclass

import pytest

from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.listeners import manual_changes
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore


@dataclass
class Row:
    """A task instance as Airflow's database names it."""

    operator: str
    dag_id: str = "d"
    run_id: str = "r"
    task_id: str = "gate"
    map_index: int = -1
    try_number: int = 1
    custom_operator_name: str = ""


@dataclass
class Runtime:
    """A task instance as a task process names it: it has no 'operator'."""

    dag_id: str = "d"


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    store = SqliteStore.from_url(f"sqlite:///{tmp_path}/ledger.db")
    ledger = Ledger(store, open_signers(tmp_path / "keys"))
    monkeypatch.setattr("airflow_mlgov.wiring.open_ledger", lambda: ledger)
    return ledger


def changes(ledger) -> list[tuple[str, str]]:
    return [
        (e.source.task_id, e.body["state"]) for e in ledger.view().select("state.changed_by_hand")
    ]


def test_a_gate_set_to_success_is_noted_each_time(ledger):
    manual_changes.on_task_instance_success(None, Row("ApprovalGateOperator"))
    manual_changes.on_task_instance_skipped(None, Row("PromoteModelOperator", task_id="promote"))
    assert changes(ledger) == [("gate", "success"), ("promote", "skipped")]


@pytest.mark.parametrize("other", [Row("BashOperator"), Runtime()])
def test_other_tasks_and_normal_runs_are_not(ledger, other):
    manual_changes.on_task_instance_success(None, other)
    assert changes(ledger) == []


def test_an_unreachable_ledger_never_raises(monkeypatch, caplog):
    def unreachable():
        raise LedgerUnavailableError("gone")

    monkeypatch.setattr("airflow_mlgov.wiring.open_ledger", unreachable)
    manual_changes.on_task_instance_success(None, Row("ApprovalGateOperator"))
    assert "could not be noted" in caplog.text
