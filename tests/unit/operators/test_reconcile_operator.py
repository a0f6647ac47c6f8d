"""The task, on a ledger of the service's tests and an Airflow that says what it is told."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov import ReconcileOperator
from airflow_mlgov.hooks.airflow_server import AirflowServerHook
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.airflow_records import Step
from airflow_mlgov.service.job_platform import JobState
from airflow_mlgov.service.ledger import EntryDraft

ROOT = Path(__file__).resolve().parents[3]


def load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


service = load("reconcile_world", ROOT / "tests" / "unit" / "service" / "conftest.py")
world = service.world
candidate = service.candidate
told = service.told


@pytest.fixture
def run(candidate: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the task once."""
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: candidate.gov)
    monkeypatch.setattr("airflow_mlgov.wiring.open_registries", lambda _: [candidate.registry])
    monkeypatch.setattr(AirflowServerHook, "get_conn", lambda _: told)
    instance = SimpleNamespace(
        dag_id="reconcile", run_id="r", task_id="reconcile", map_index=-1, try_number=1
    )
    return lambda: ReconcileOperator(task_id="reconcile").execute({"ti": instance})  # type: ignore[typeddict-item]


def test_it_says_what_it_compared(candidate: Any, run: Any) -> None:
    assert run()["findings"] == []
    (entry,) = candidate.kinds("reconciled")
    assert entry.source.task == ("reconcile", "r", "reconcile", -1)


def test_it_says_that_lineage_was_not_compared(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    log = SimpleNamespace(info=lambda text, *_: said.append(text), warning=lambda *_: None)
    monkeypatch.setattr(ReconcileOperator, "log", log)
    assert "events" not in run()["counts"]
    assert [text.partition(":")[0] for text in said] == ["Compared", "Lineage was not compared"]
    told = SimpleNamespace(ends=lambda _: iter(()), span=lambda: None)
    opened = "airflow_mlgov.hooks.lineage_outbox.open_lineage_records"
    monkeypatch.setattr(opened, lambda: told)
    assert run()["counts"]["events"] == 0
    assert len(said) == 3


def test_new_findings_fail_it_once(candidate: Any, told: Any, run: Any) -> None:
    candidate.ask()
    told.tell("gate", Step.GATE, "success")
    with pytest.raises(AirflowFailException, match="Findings were opened: F-"):
        run()
    assert len(run()["findings"]) == 1


def test_jobs_that_no_task_waits_for_are_looked_for(
    candidate: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"job": "mlgov-1", "platform": "frankfurt", "passed": True}
    digest = str(Digest.of(b"request"))
    rest = {"request_sha256": digest, "policy_sha256": digest, "controls": []}
    draft = EntryDraft("job.examined", "retail_pd", None, {**body, **rest}, ("mlgov-1",))
    candidate.gov.ledger.append(draft)
    candidate.clock.moment += timedelta(hours=1)
    jobs = SimpleNamespace(
        find=lambda key: f"job {key}", poll=lambda _: SimpleNamespace(state=JobState.RUNNING)
    )
    monkeypatch.setattr("airflow_mlgov.wiring.open_either", lambda *_: jobs)
    with pytest.raises(AirflowFailException, match="Findings were opened: F-"):
        run()
    assert run()["counts"]["jobs"] == 1


def test_what_could_not_be_compared_is_tried_again(told: Any, run: Any) -> None:
    told.down_after = 0
    with pytest.raises(AirflowException, match="Airflow cannot be reached") as caught:
        run()
    assert not isinstance(caught.value, AirflowFailException)


def test_the_example_is_a_dag_that_runs_every_day() -> None:
    module = load("example_reconcile", ROOT / "dags" / "reconcile.py")
    from airflow.sdk import DAG

    made = module.reconcile()
    assert isinstance(made, DAG)
    assert made.task_ids == ["reconcile"]
    assert made.schedule == "@daily"
    assert not made.catchup
