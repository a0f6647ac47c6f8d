"""Model context in events that the provider's own adapter builds, on a real ledger."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.openlineage import conf
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.providers.openlineage.utils.utils import get_task_parent_run_facet
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset

from airflow_mlgov import ApprovalGateOperator
from airflow_mlgov.enforcement import lineage_rules
from airflow_mlgov.enforcement.cluster_policy import dag_policy
from airflow_mlgov.listeners import by_hand, capture, manual_changes
from airflow_mlgov.operators import run_facts
from airflow_mlgov.policy.inventory_folder import folder_at
from airflow_mlgov.service.promote import promote
from airflow_mlgov.stores.sqlite import SqliteOutbox

TESTS = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location(
    "capture_world", TESTS / "unit" / "service" / "conftest.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
service: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["capture_world"] = service
_SPEC.loader.exec_module(service)
world, candidate = service.world, service.candidate

TRANSPORT = {"type": "airflow_mlgov.listeners.outbox_transport.OutboxTransport"}
DATE = datetime(2026, 6, 1, tzinfo=UTC)
TASKS = """\
tasks:
  - {dag_id: legacy.daily, task_id: fit, does: train}
  - {dag_id: legacy.daily, task_id: batch.score, does: score, target: production}
"""


@pytest.fixture
def least_assurance() -> str:
    return "L1"


@pytest.fixture
def live(tmp_path, monkeypatch, world):
    """The settings, an inventory that names tasks, the provider on, and the outbox."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    entry = (TESTS.parent / "dags" / "inventory" / "retail_pd.yaml").read_text("utf-8")
    (folder / "retail_pd.yaml").write_text(entry + TASKS)
    monkeypatch.setenv("AIRFLOW__MLGOV__INVENTORY_PATH", str(folder))
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/outbox.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(TRANSPORT))
    monkeypatch.setattr(lineage_rules, "changed_environment", list)
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: world.gov)
    monkeypatch.setattr("airflow_mlgov.wiring.open_registry", lambda _: world.registry)
    monkeypatch.setattr(run_facts, "_known", {})
    folder_at.cache_clear()
    return SqliteOutbox(tmp_path / "outbox.db")


def kept(outbox) -> list[dict[str, Any]]:
    outbox.take()
    return [each.decoded() for each in outbox.events(0, 100)]


def governed(event) -> dict[str, Any] | None:
    found = event["run"]["facets"].get("mlgov_governed")
    return found and {name: found[name] for name in found if not name.startswith("_")}


def instance(task, **changes) -> Any:
    """A task instance as the task's process knows it."""
    dag_run = SimpleNamespace(logical_date=DATE, run_after=DATE, run_id="r", clear_number=0)
    made = {"dag_id": "legacy.daily", "run_id": "r", "task_id": task.task_id, "map_index": -1}
    ti = SimpleNamespace(**made | {"try_number": 1, "task": task} | changes)
    ti.get_template_context = lambda: {"dag_run": dag_run, "ti": ti, "task": task}
    return ti


def tell(ti, state="START", read=(), *, with_airflow=True) -> None:
    """Send what the provider sends for a task, by the transport that is configured."""
    client = OpenLineageClient(config={"transport": conf.transport()})
    adapter = OpenLineageAdapter(client)
    date = ti.get_template_context()["dag_run"].logical_date
    dag_run = adapter.build_dag_run_id(ti.dag_id, date, 0)
    facets = get_task_parent_run_facet(dag_run, ti.dag_id)
    if with_airflow:
        facets["airflow"] = SimpleNamespace(dagRun={})
    said = {
        "run_id": adapter.build_task_instance_run_id(
            ti.dag_id, ti.task_id, ti.try_number, date, ti.map_index
        ),
        "job_name": f"{ti.dag_id}.{ti.task_id}",
        **dict.fromkeys(("nominal_start_time", "nominal_end_time", "owners", "tags")),
        "job_description": None,
        "task": OperatorLineage(inputs=list(read)),
        "run_facets": {k: v for k, v in facets.items() if k != "airflow"},
    }
    if with_airflow:
        from airflow.providers.openlineage.plugins.facets import AirflowRunFacet

        said["run_facets"]["airflow"] = AirflowRunFacet({}, {}, {}, {}, "")
    moment = datetime.now(UTC).isoformat()
    if state == "START":
        adapter.start_task(event_time=moment, **said)
    elif state == "FAIL":
        adapter.fail_task(end_time=moment, **said)
    else:
        adapter.complete_task(end_time=moment, **said)


def legacy(task_id="batch.score", cls=BashOperator, **given) -> Any:
    """A task that a worker is about to run, in a DAG that knows nothing of governance."""
    with DAG("legacy.daily", schedule=None) as dag:
        for each in {"fit", "batch.score", task_id}:
            arguments = given or {"bash_command": "true"}
            cls(task_id=each, **arguments) if each == task_id else BashOperator(
                task_id=each, bash_command="true"
            )
    dag_policy(dag)
    return dag.get_task(task_id).prepare_for_execution()


def guard(ti) -> None:
    """Run our hook, as Airflow does before the task's work."""
    ti.task._pre_execute_hook(ti.get_template_context() | {"ti": ti})


def test_a_training_says_which_model_from_its_start(live):
    ti = instance(legacy("fit"))
    capture.on_task_instance_running(None, ti)
    tell(ti)
    tell(ti, "COMPLETE")
    expected = {"model": "retail_pd", "role": "train", "mode": "enforce"}
    assert [governed(event) for event in kept(live)] == [expected, expected]


def test_a_use_says_at_its_end_what_the_guard_let_it_use(live, candidate):
    candidate.approve(candidate.ask())
    promote(candidate.gov, candidate.registry, candidate.use())
    ti = instance(legacy())
    capture.on_task_instance_running(None, ti)
    own = InputDataset("file", "/data/a.csv")
    tell(ti, read=[own])
    guard(ti)
    tell(ti, "COMPLETE", read=[own])
    start, end = kept(live)
    stated = {"model": "retail_pd", "role": "use", "mode": "enforce"}
    assert governed(start) == stated
    assert governed(end) == stated | {"version": str(candidate.version)}
    assert [i["name"] for i in start["inputs"]] == ["/data/a.csv"]
    first, model, approval, endpoint = [i["name"] for i in end["inputs"]]
    assert first == "/data/a.csv"
    assert model.startswith("retail_pd/")
    assert "/approval/" in approval
    assert "/endpoint/production/" in endpoint
    documented = end["inputs"][1]["facets"]["documentation"]
    assert str(candidate.version) in documented["description"]
    assert documented["_producer"].startswith("urn:airflow-mlgov:")


def test_what_the_guard_refused_is_no_input(live, candidate):
    ti = instance(legacy())
    capture.on_task_instance_running(None, ti)
    with pytest.raises(Exception, match="alias"):
        guard(ti)
    tell(ti, "FAIL")
    (end,) = kept(live)
    assert governed(end) == {"model": "retail_pd", "role": "use", "mode": "enforce"}
    assert end["inputs"] == []


def test_an_extractor_of_the_provider_keeps_what_it_says(live):
    from airflow.providers.openlineage.extractors.manager import ExtractorManager

    ti = instance(legacy("fit", PythonOperator, python_callable=instance))
    assert ExtractorManager().get_extractor_class(ti.task).__name__ == "PythonExtractor"
    capture.on_task_instance_running(None, ti)
    tell(ti)
    assert governed(kept(live)[0])["role"] == "train"


def test_a_skipped_task_is_not_shown_as_complete_only(live):
    ti = instance(legacy())
    capture.on_task_instance_running(None, ti)
    capture.on_task_instance_skipped(None, ti)
    tell(ti, "COMPLETE")
    assert governed(kept(live)[0])["airflow_state"] == "skipped"


def test_a_task_of_ours_says_its_part(live):
    gate = ApprovalGateOperator(task_id="gate", model="retail_pd")
    capture.on_task_instance_running(None, instance(gate))
    tell(instance(gate))
    expected = {"model": "retail_pd", "role": "approve", "mode": "enforce"}
    assert governed(kept(live)[0]) == expected


def test_what_is_governed_by_nobody_is_left_as_it_is(live):
    ti = instance(BashOperator(task_id="other", bash_command="true"))
    capture.on_task_instance_running(None, ti)
    capture.on_task_instance_skipped(None, ti)
    tell(ti)
    tell(ti, "COMPLETE", with_airflow=False)
    assert [governed(event) for event in kept(live)] == [None, None]


def test_a_second_run_in_the_same_process_is_another(live):
    ti = instance(legacy("fit"))
    capture.on_task_instance_running(None, ti)
    tell(instance(ti.task, task_id="other"))
    assert governed(kept(live)[0]) is None


def test_the_providers_event_of_a_state_that_was_set_by_hand_says_so(live):
    tell(instance(legacy()), "COMPLETE", with_airflow=False)
    expected = {"model": "retail_pd", "role": "use", "mode": "enforce", "state_set_by_hand": True}
    assert governed(kept(live)[0]) == expected


def test_a_task_that_the_scheduler_found_dead_is_not_set_by_hand(live):
    tell(instance(legacy()), "FAIL")
    assert governed(kept(live)[0]) == {"model": "retail_pd", "role": "use", "mode": "enforce"}


def test_where_the_inventory_is_broken_the_event_goes_out_all_the_same(live, tmp_path, caplog):
    ti = instance(legacy())
    file = tmp_path / "inventory" / "retail_pd.yaml"
    file.write_text(file.read_text().replace("mode: enforce", "mode: strict"))
    folder_at.cache_clear()
    with caplog.at_level(logging.WARNING):
        capture.on_task_instance_running(None, ti)
        tell(ti, "COMPLETE", with_airflow=False)
    assert governed(kept(live)[0]) is None
    assert "Lineage of this task is incomplete" in caplog.text


def row(task_id="gate", operator="ApprovalGateOperator", **changes) -> Any:
    """A task instance as the api-server knows it."""
    dag_run = SimpleNamespace(logical_date=None, run_after=DATE, clear_number=0)
    made = {"dag_id": "legacy.daily", "run_id": "r", "task_id": task_id, "operator": operator}
    rest = {"custom_operator_name": "", "map_index": -1, "try_number": 1, "task": None}
    return SimpleNamespace(**made | rest | {"dag_run": dag_run} | changes)


@pytest.fixture
def ledger(monkeypatch, world):
    monkeypatch.setattr("airflow_mlgov.wiring.open_ledger", lambda: world.gov.ledger)


CHANGES = {
    "success": manual_changes.on_task_instance_success,
    "skipped": manual_changes.on_task_instance_skipped,
    "failed": lambda previous, ti: manual_changes.on_task_instance_failed(previous, ti, None),
}


@pytest.mark.parametrize("state", CHANGES)
def test_a_state_by_hand_is_a_run_of_its_own(live, ledger, state):
    CHANGES[state](None, row())
    (event,) = kept(live)
    assert (event["job"]["name"], event["eventType"]) == ("legacy.daily.gate.by_hand", "COMPLETE")
    expected = {"role": "approve", "airflow_state": state, "state_set_by_hand": True}
    assert governed(event) == expected
    parent = event["run"]["facets"]["parent"]
    task = OpenLineageAdapter.build_task_instance_run_id("legacy.daily", "gate", 1, DATE, -1)
    assert parent["run"]["runId"] == task != event["run"]["runId"]
    assert parent["job"]["name"] == "legacy.daily.gate"


def test_a_named_tasks_state_by_hand_names_its_model(live, ledger):
    manual_changes.on_task_instance_success(None, row("batch.score", "BashOperator"))
    assert governed(kept(live)[0])["model"] == "retail_pd"


@pytest.mark.parametrize(
    "ti",
    [row("other", "BashOperator"), row(task=object()), SimpleNamespace(dag_id="d")],
    ids=["nobody's", "failed by the scheduler", "the task's own"],
)
def test_what_nobody_did_by_hand_is_no_such_run(live, ti):
    manual_changes.on_task_instance_failed(None, ti, None)
    assert kept(live) == []


def test_without_the_outbox_nothing_waits_for_a_backend(live, ledger, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "http", "url": "http://h"}')
    monkeypatch.setattr(by_hand, "_tell", lambda *_: pytest.fail("told"))
    manual_changes.on_task_instance_success(None, row())


def test_the_facet_is_as_its_schema_says(candidate):
    import jsonschema

    from airflow_mlgov.lineage.facet_schemas import documents

    (schema,) = [d for d in documents() if "mlgov_governed" in d["properties"]]
    own = schema["$defs"]["MlgovGovernedRunFacet"]["allOf"][1]
    facts = run_facts.RunFacts("use", "m", "warn", str(candidate.version), state="skipped")
    facts.is_by_hand = True
    jsonschema.validate(facts.facet, own)
    assert set(facts.facet) == set(own["properties"])
    assert set(run_facts._ROLES.values()) == set(own["properties"]["role"]["enum"])


def test_without_the_outbox_nothing_is_looked_up(live, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "console"}')
    monkeypatch.setattr(run_facts, "_run_id", lambda _: pytest.fail("looked up"))
    capture.on_task_instance_running(None, instance(legacy()))
    capture.on_task_instance_skipped(None, instance(legacy()))
