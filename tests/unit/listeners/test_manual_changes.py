from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.listeners import manual_changes
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]


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


def test_a_task_that_the_inventory_names_is_noted_too(ledger, monkeypatch, tmp_path):
    entry = ROOT / "dags" / "inventory" / "retail_pd.yaml"
    named = "tasks: [{dag_id: d, task_id: score, does: score, target: production}]\n"
    (tmp_path / "m.yaml").write_text(entry.read_text() + named)
    monkeypatch.setenv("AIRFLOW__MLGOV__INVENTORY_PATH", str(tmp_path))
    for task in ("score", "other"):
        manual_changes.on_task_instance_success(None, Row("BashOperator", task_id=task))
    assert changes(ledger) == [("score", "success")]


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
