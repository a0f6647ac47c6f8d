"""Tasks that the inventory names, run as Airflow's task runner runs them, on a real ledger."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import BaseOperator, TaskGroup, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.execution_time.task_runner import _execute_task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlgov.enforcement.cluster_policy import dag_policy
from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.stop import stop_model

FILE = Path(__file__).resolve().parents[1] / "service" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("named_world", FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
service: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["named_world"] = service
_SPEC.loader.exec_module(service)
world, candidate = service.world, service.candidate

TASKS = """\
tasks:
  - {dag_id: legacy, task_id: fit, does: train}
  - {dag_id: legacy, task_id: score, does: score, target: production}
  - {dag_id: legacy, task_id: batch.each, does: score, target: production}
  - {dag_id: legacy, task_id: ship, does: deploy, target: production}
"""
ran: list[Any] = []


class Waits(BaseOperator):
    """A task that was deferred goes on with another method than `execute`."""

    def execute(self, context: Any) -> None:
        ran.append("began")

    def go_on(self, context: Any) -> None:
        ran.append("went on")


def legacy() -> None:
    """Tasks of a DAG that knows nothing of governance."""
    PythonOperator(task_id="fit", python_callable=lambda: ran.append("fit"))

    @task(task_id="score")
    def score(day: str) -> None:
        ran.append(day)

    score("{{ ds }}")
    with TaskGroup("batch"):

        @task
        def each(part: int) -> None:
            ran.append(part)

        each.expand(part=[7, 8])
    Waits(task_id="ship")
    BashOperator.partial(task_id="plain").expand(bash_command=["true", "false"])


class Airflow:
    """What a worker does with a parsed DAG."""

    def __init__(self, dag: Any) -> None:
        self.dag = dag

    def run(self, task_id: str, *, index: int = -1, resume: str = "", try_number: int = 1) -> Any:
        ti = SimpleNamespace(
            dag_id="legacy",
            run_id="r",
            task_id=task_id,
            map_index=index,
            try_number=try_number,
            task=self.dag.get_task(task_id).prepare_for_execution(),
            _ti_context_from_server=SimpleNamespace(next_method=resume, next_kwargs={}),
            bundle_instance=SimpleNamespace(name="dags", version="abc123"),
            xcom_push=lambda **_: None,
        )
        context: Any = {
            "ti": ti,
            "dag": self.dag,
            "dag_run": SimpleNamespace(run_id="r", logical_date=None, team_name=None, conf={}),
            "task": ti.task,
            "ds": "2026-06-01",
            "outlet_events": OutletEventAccessors(),
        }
        ti.get_relevant_upstream_map_indexes = lambda *_: None
        ti.task.render_template_fields(context)
        ti.task = context["task"]
        return _execute_task(context, ti, logging.getLogger())


@pytest.fixture
def least_assurance() -> str:
    return "L1"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()


@pytest.fixture
def governed(candidate: Any, inventory: Any, build_dag: Any, monkeypatch: Any) -> Any:
    """A candidate that nobody has approved, and the DAG as it is parsed in some mode."""
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: candidate.gov)
    monkeypatch.setattr("airflow_mlgov.wiring.open_registry", lambda _conn: candidate.registry)

    def parse(mode: str = "enforce") -> Airflow:
        inventory.write(mode=mode, more=TASKS)
        candidate.with_inventory(mode=Mode(mode))
        dag = build_dag(legacy, "legacy")
        dag_policy(dag)
        return Airflow(dag)

    candidate.parse = parse
    return candidate


@pytest.fixture
def approved(governed: Any) -> Any:
    governed.approve(governed.ask())
    promote(governed.gov, governed.registry, governed.use())
    return governed


EVERY = [
    ("score", -1, "", "2026-06-01"),
    ("batch.each", 1, "", 8),
    ("ship", -1, "go_on", "went on"),
]


@pytest.mark.parametrize(("task_id", "index", "resume", "_done"), EVERY)
def test_enforce_refuses_what_nobody_approved(governed, task_id, index, resume, _done):
    airflow = governed.parse()
    with pytest.raises(AirflowFailException, match=r"guard\.refused"):
        airflow.run(task_id, index=index, resume=resume)
    assert ran == []
    (refused,) = governed.kinds("guard.refused")
    assert (refused.body["check"], refused.source.task_id) == ("registry.not_found", task_id)
    assert refused.source.map_index == index


@pytest.mark.parametrize("mode", ["observe", "warn", "enforce"])
@pytest.mark.parametrize(("task_id", "index", "resume", "done"), EVERY)
def test_an_approved_version_is_noted_and_the_task_runs(
    approved, mode, task_id, index, resume, done
):
    approved.parse(mode).run(task_id, index=index, resume=resume)
    assert ran == [done]
    (noted,) = approved.kinds("model.deployed" if task_id == "ship" else "model.scored")
    assert noted.version == approved.version
    assert noted.body["loaded_by"] == "task"
    assert (noted.source.task_id, noted.source.map_index) == (task_id, index)


@pytest.mark.parametrize("mode", ["observe", "warn"])
def test_below_enforce_a_failed_check_is_recorded_and_the_task_runs(governed, mode, caplog):
    governed.parse(mode).run("score")
    assert ran == ["2026-06-01"]
    assert [e.body["check"] for e in governed.kinds("guard.refused")] == ["registry.not_found"]
    assert ("Mode warn" in caplog.text) == (mode == "warn")


def test_a_changed_byte_is_seen(approved):
    (approved.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
    with pytest.raises(AirflowFailException, match="digest"):
        approved.parse().run("score")
    assert ran == []


def test_a_deferred_task_is_judged_again_when_it_goes_on(approved):
    airflow = approved.parse()
    airflow.run("ship")
    assert ran == ["began"]
    (approved.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
    with pytest.raises(AirflowFailException, match="digest"):
        airflow.run("ship", resume="go_on")
    assert ran == ["began"]


def test_what_goes_on_in_one_try_is_one_entry_and_a_retry_another(approved):
    airflow = approved.parse()
    airflow.run("ship")
    airflow.run("ship", resume="go_on")
    assert len(approved.kinds("model.deployed")) == 1
    airflow.run("ship", try_number=2)
    assert [e.source.try_number for e in approved.kinds("model.deployed")] == [1, 2]


def test_a_deferred_task_may_go_on_under_a_newer_approval(approved):
    airflow = approved.parse()
    airflow.run("ship")
    again = Source("retail_pd", "run-2", "gate", -1, 1)
    approved.approve(approved.ask(version=approved.version, source=again))
    promote(approved.gov, approved.registry, approved.use(run_id="run-2"))
    airflow.run("ship", resume="go_on")
    first, second = approved.kinds("model.deployed")
    assert first.body["request_sha256"] != second.body["request_sha256"]


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_no_mode_lets_a_stopped_model_run(governed, mode, monkeypatch):
    stop_model(governed.gov, "retail_pd", "Found a mistake.", governed.ERIN)

    def not_installed(_conn: str) -> Any:
        raise ConfigurationError("The registry is not installed.")

    monkeypatch.setattr("airflow_mlgov.wiring.open_registry", not_installed)
    with pytest.raises(AirflowFailException, match="was stopped"):
        governed.parse(mode).run("score")
    assert ran == []


def away(*_: Any) -> Any:
    raise LedgerUnavailableError("The ledger is locked.")


def broken(*_: Any) -> Any:
    raise RuntimeError("a mistake of ours")


@pytest.mark.parametrize("fails", [away, broken])
@pytest.mark.parametrize("part", ["open_governance", "open_registry"])
def test_who_only_watches_breaks_nothing(approved, part, fails, monkeypatch, caplog):
    airflow = approved.parse("observe")
    monkeypatch.setattr(f"airflow_mlgov.wiring.{part}", fails)
    airflow.run("score")
    assert ran == ["2026-06-01"]
    assert "could not be put on record" in caplog.text


def test_in_enforce_a_ledger_that_is_away_is_tried_again(approved, monkeypatch):
    airflow = approved.parse()
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", away)
    with pytest.raises(AirflowException, match="locked") as caught:
        airflow.run("score")
    assert not isinstance(caught.value, AirflowFailException)
    assert ran == []


def test_a_training_is_noted_with_what_is_known_of_it(governed):
    governed.parse("observe").run("fit")
    (noted,) = governed.kinds("model.trained_outside")
    assert (noted.model, noted.version, noted.source.task_id) == ("retail_pd", None, "fit")
    code = dict(noted.body)
    assert code.pop("code_sha256").startswith("sha256:")
    assert code == {
        "operator": "PythonOperator",
        "file": "conftest.py",
        "bundle": "dags",
        "bundle_version": "abc123",
    }
    assert ran == ["fit"]


def test_a_training_that_fails_is_none(governed):
    airflow = governed.parse()
    airflow.dag.get_task("fit").python_callable = broken
    with pytest.raises(RuntimeError):
        airflow.run("fit")
    assert governed.kinds("model.trained_outside") == []


def test_a_training_is_not_undone_by_a_ledger_that_is_away(governed, monkeypatch, caplog):
    airflow = governed.parse()
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", away)
    airflow.run("fit")
    assert "could not be put on record" in caplog.text


def test_the_authors_own_hooks_run_after_the_guard(governed, approved):
    airflow = governed.parse()
    score = airflow.dag.get_task("score")
    score._pre_execute_hook = lambda _context: ran.append("hook")
    airflow.run("score")
    assert ran == ["hook", "2026-06-01"]
    ran.clear()
    (approved.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
    with pytest.raises(AirflowFailException):
        airflow.run("score")
    assert ran == []


def test_a_hook_that_yields_is_run_through(approved):
    def events(_context: Any) -> Any:
        ran.append("before")
        yield from ()
        ran.append("after")

    airflow = approved.parse()
    airflow.dag.get_task("score")._pre_execute_hook = events
    airflow.run("score")
    assert ran == ["before", "after", "2026-06-01"]


def test_a_dag_that_is_parsed_twice_is_judged_once(approved):
    airflow = approved.parse()
    dag_policy(airflow.dag)
    calls = []
    registry = approved.registry
    fetch, registry.fetch = registry.fetch, lambda *a: calls.append(a) or fetch(*a)
    airflow.run("score")
    assert len(calls) == 1


def test_a_copy_of_the_dag_is_guarded_and_runs_its_own_tasks(governed):
    airflow = governed.parse("observe")
    copied = Airflow(copy.deepcopy(airflow.dag))
    copied.dag.get_task("score").op_args = ["of the copy"]
    copied.run("score")
    assert ran == ["of the copy"]
    assert len(governed.kinds("guard.refused")) == 1


def test_a_task_with_two_models_needs_both(approved, inventory, build_dag):
    inventory.write(more=TASKS)
    inventory.write("challenger", more=TASKS)
    entry = approved.gov.inventory["retail_pd"]
    approved.gov.inventory["challenger"] = replace(
        entry, id="challenger", registered_name="challenger"
    )
    dag = build_dag(legacy, "legacy")
    dag_policy(dag)
    with pytest.raises(AirflowFailException, match="challenger"):
        Airflow(dag).run("score")


def test_other_tasks_of_the_dag_are_left_alone(governed):
    airflow = governed.parse()
    plain = airflow.dag.get_task("plain")
    assert "unmap" not in vars(plain)
    assert "prepare_for_execution" not in vars(plain)


LOAD = """
import importlib.metadata, importlib_metadata, json, sys

for metadata in (importlib.metadata, importlib_metadata):
    metadata.distributions = lambda installed=metadata.distributions, **given: (
        found for found in installed(**given) if found.metadata["Name"] != "airflow-mlgov"
    )
sys.modules["airflow_mlgov"] = None
from airflow.serialization.serialized_objects import DagSerialization
dag = DagSerialization.from_dict(json.load(sys.stdin))
print(json.dumps(sorted(dag.task_dict)))
"""


def test_nothing_of_ours_is_in_what_airflow_stores(governed, inventory, build_dag):
    stored = DagSerialization.to_dict(governed.parse().dag)
    inventory.path.joinpath("retail_pd.yaml").unlink()
    without = DagSerialization.to_dict(build_dag(legacy, "legacy"))
    assert stored == without
    text = json.dumps(stored)
    assert "mlgov" not in text.replace(str(Path(__file__).parents[3]), "")
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], input=text, capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    tasks = json.loads(loaded.stdout.strip().splitlines()[-1])
    assert tasks == ["batch.each", "fit", "plain", "score", "ship"]
