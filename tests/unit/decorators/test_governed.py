"""A governed function on a real ledger and a registry in a folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlgov.decorators.governed import GovernedModel, GovernedTaskOperator
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.promote import promote

FILE = Path(__file__).resolve().parents[1] / "service" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("governed_world", FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
service: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["governed_world"] = service
_SPEC.loader.exec_module(service)
world, candidate = service.world, service.candidate

CONTEXT: Any = {
    "ti": SimpleNamespace(
        dag_id="retail_pd", run_id="run-1", task_id="score", map_index=-1, try_number=1
    )
}


@pytest.fixture
def promoted(candidate: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    candidate.approve(candidate.ask())
    promote(candidate.gov, candidate.registry, candidate.use())
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: candidate.gov)
    monkeypatch.setattr("airflow_mlgov.wiring.open_registry", lambda _conn_id: candidate.registry)
    return candidate


def run(function: Any, **kwargs: Any) -> Any:
    with DAG("retail_pd"):
        task = GovernedTaskOperator(
            task_id="score", python_callable=function, model="retail_pd", **kwargs
        )
    return GovernedTaskOperator.execute.__wrapped__(task, CONTEXT)  # type: ignore[attr-defined]


def test_the_function_gets_its_arguments_and_the_verified_files(promoted: Any) -> None:
    def score(clients: str, governed_model: Any = None) -> tuple[str, str, str]:
        assert isinstance(governed_model, GovernedModel)
        return clients, governed_model.version, str(hash_directory(governed_model.path).digest)

    version = str(promoted.version)
    assert run(score, op_args=["clients.csv"]) == ("clients.csv", version, version)
    (used,) = promoted.kinds("model.scored")
    assert used.source.task_id == "score"


def test_a_function_may_do_without_the_files(promoted: Any) -> None:
    assert run(lambda: "done") == "done"
    assert len(promoted.kinds("model.scored")) == 1


def test_a_changed_model_lets_no_function_run(promoted: Any) -> None:
    (promoted.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
    ran: list[int] = []
    with pytest.raises(AirflowFailException, match="digest"):
        run(lambda: ran.append(1))
    assert ran == []


def test_lineage_states_which_model_is_used_and_the_ledger_after_it(
    promoted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    kept: list[Any] = []
    monkeypatch.setattr(
        GovernedTaskOperator, "keep_lineage", lambda self, build: kept.append(build())
    )
    run(lambda: None)
    (used,) = promoted.kinds("model.scored")
    facets = kept[0].run_facets
    assert facets["mlgov_governed"] == {
        "model": "retail_pd",
        "role": "use",
        "mode": "enforce",
        "version": str(promoted.version),
    }
    assert facets["mlgov_checkpoint"]["entry_key"] == used.key


def test_lineage_of_an_unverified_use_names_the_model_and_no_version(
    promoted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted.with_inventory(mode=Mode.OBSERVE)
    (promoted.registry.folder("retail_pd", "1") / "scorecard.json").write_text("{}")
    kept: list[Any] = []
    monkeypatch.setattr(
        GovernedTaskOperator, "keep_lineage", lambda self, build: kept.append(build())
    )
    run(lambda: None)
    (step,) = kept
    assert step.run_facets == {
        "mlgov_governed": {"model": "retail_pd", "role": "use", "mode": "observe"}
    }
    assert step.inputs == ()


def test_the_files_it_reads_and_writes_are_templated(promoted: Any) -> None:
    with DAG("retail_pd"):
        task = GovernedTaskOperator(
            task_id="score",
            python_callable=lambda: None,
            model="{{ params.model }}",
            inputs=["{{ ds }}.csv"],
            outputs=["scores-{{ ds }}.csv"],
        )
    task.render_template_fields({"ds": "2026-06-01", "params": {"model": "retail_pd"}})
    assert (task.model, task.inputs, task.outputs) == (
        "retail_pd",
        ["2026-06-01.csv"],
        ["scores-2026-06-01.csv"],
    )


@pytest.fixture
def bound(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model that was approved for ten rows of one segment in each run."""
    world.with_pack(
        "seats:\n", 'conditions: {max_rows_per_run: true, segments: {SEX: ["1", "2"]}}\nseats:\n'
    )
    for step in (world.validate_data, world.train, world.validate_model):
        step()
    request = world.ask()
    conditions = Conditions(max_rows_per_run=10, segments=(("SEX", ("1",)),))
    for who in ("olivia", "victor"):
        ballot = service.Ballot(
            request.digest,
            world.GATE,
            str(request.digest),
            service.Choice.APPROVE_WITH_CONDITIONS,
            "looked at the evidence",
            service.Person(who, who),
            conditions=conditions,
        )
        service.cast_vote(world.gov, ballot)
    promote(world.gov, world.registry, world.use())
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: world.gov)
    monkeypatch.setattr("airflow_mlgov.wiring.open_registry", lambda _conn_id: world.registry)
    return world


def test_rows_that_keep_to_the_conditions_are_scored(bound: Any) -> None:
    clients = pd.DataFrame({"SEX": [1, 1], "LIMIT": [10, 20]})

    def score(governed_model: Any = None) -> tuple[bool, int, tuple[str, ...]]:
        admitted = governed_model.admit(clients)
        return (
            admitted is clients,
            len(list(governed_model.path.iterdir())),
            governed_model.conditions,
        )

    words = ("at most 10 rows in one run", "only rows whose SEX is 1")
    assert run(score) == (True, 1, words)
    (admitted,) = bound.kinds("model.admitted")
    assert (admitted.body["rows"], admitted.source.task_id) == (2, "score")


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda governed_model=None: governed_model.path, "before it shows rows"),
        (lambda governed_model=None: governed_model.admit([{"SEX": 2}]), "there are others: '2'"),
        (lambda governed_model=None: governed_model.admit([{"SEX": 1}] * 11), "10 rows in one run"),
        (lambda: "loads it itself", "before it shows rows"),
    ],
)
def test_whatever_breaks_the_conditions_fails_the_task_on_record(
    bound: Any, function: Any, problem: str
) -> None:
    with pytest.raises(AirflowFailException, match=problem):
        run(function)
    (refused,) = bound.kinds("guard.refused")
    assert refused.body["check"] == "conditions"
    assert problem in refused.body["reason"]
