"""Whatever a DAG's author says, the provider's own resolver sends the events of a governed DAG."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.openlineage import conf
from airflow.providers.openlineage.api.emission_policy import (
    extend_global_openlineage_emission_policy as extend,
)
from airflow.providers.openlineage.utils.emission_policy import (
    resolve_dag_emission_policy,
    resolve_task_emission_policy,
)
from airflow.providers.openlineage.utils.selective_enable import disable_lineage, enable_lineage
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import Param

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator
from airflow_mlgov.enforcement import cluster_policy
from airflow_mlgov.enforcement.cluster_policy import dag_policy

POLICY = "_openlineage_emission_policy"
SCORE = "tasks:\n  - {dag_id: d, task_id: score, does: score, target: production}\n"
SILENT = ["emit", "emit_task_events", "extract_operator_metadata", "hook_lineage"]


def governed(**given):
    """A governed DAG with a task that is none of ours."""
    stock = BashOperator(task_id="score", bash_command="true", **given)
    gate = ApprovalGateOperator(task_id="gate", model="retail_pd")
    stock >> gate >> PromoteModelOperator(task_id="promote", model="retail_pd")
    return stock


def emits(task):
    controls = resolve_task_emission_policy(operator=task, dag_id="d", task_id=task.task_id)
    return controls.emit, controls.extract_operator_metadata, controls.hook_lineage


@pytest.mark.stock(18)
@pytest.mark.parametrize("flag", SILENT)
def test_the_provider_does_what_an_author_says(build_dag, flag):
    dag = build_dag(
        lambda: extend(BashOperator(task_id="score", bash_command="true"), **{flag: False})
    )
    assert not all(emits(dag.get_task("score")))


@pytest.mark.bypass(18)
@pytest.mark.parametrize("flag", SILENT)
def test_an_author_who_silences_a_task_is_refused(check, flag):
    problem = check(lambda: extend(governed(), **{flag: False}))
    assert f"Lineage is switched off for 'score' ({flag})" in problem
    assert "remove what says so" in problem


@pytest.mark.bypass(18)
@pytest.mark.parametrize("flag", ["emit", "emit_dag_events"])
def test_an_author_who_silences_the_dag_is_refused(check, flag):
    def build():
        dag = governed().dag
        extend(dag, **{flag: False})
        assert not resolve_dag_emission_policy("d", dag).emit

    assert f"Lineage is switched off for the DAG{', ' if flag == 'emit' else ' '}" in check(build)


@pytest.mark.bypass(18)
def test_an_author_who_disables_lineage_is_refused(check):
    assert "(disable_lineage)" in check(lambda: disable_lineage(governed()))
    problem = check(lambda: disable_lineage(governed().dag))
    assert "switched off for the DAG, 'score', 'gate', 'promote' (disable_lineage)" in problem


@pytest.mark.bypass(18)
def test_what_is_said_as_params_is_seen_too(check):
    assert "'score' (emit)" in check(lambda: governed(params={POLICY: {"emit": False}}))
    bad = Param({"emit": 0}, type="string")  # resolving it would fail
    assert "'score' (emit)" in check(lambda: governed(params={POLICY: bad}))

    def mapped():
        each = BashOperator.partial(task_id="each", bash_command="true")
        each.expand(params=[{"a": 1}, {POLICY: {"emit": False}}])
        governed()

    assert "'each' (emit)" in check(mapped)


def test_what_loses_no_lineage_is_an_authors_own_affair(check):
    assert check(lambda: extend(governed(), include_source_code=False, emit=True)) == ""
    assert check(lambda: enable_lineage(governed().dag)) == ""


def test_of_many_silent_tasks_a_few_are_named(check):
    def build():
        for number in range(9):
            BashOperator(task_id=f"t{number}", bash_command="true")
        disable_lineage(governed().dag)

    assert "for the DAG, 't0', 't1', 't2', 't3' and 8 more (" in check(build)


@pytest.mark.parametrize("mode", ["observe", "warn"])
def test_below_enforce_it_is_said_and_left(build_dag, check, inventory, caplog, mode):
    inventory.write(mode=mode, more=SCORE)

    def build():
        extend(BashOperator(task_id="score", bash_command="true"), emit=False)

    assert check(build) == ""
    assert f"Mode {mode}: Lineage is switched off for 'score' (emit)" in caplog.text
    dag_policy(dag := build_dag(build))
    assert emits(dag.get_task("score").prepare_for_execution())[0] is False


def test_ungoverned_dags_may_be_silent(check):
    assert check(lambda: disable_lineage(BashOperator(task_id="x", bash_command="true").dag)) == ""


@pytest.mark.bypass(18)
def test_a_task_that_the_inventory_names_is_kept_on(check, inventory):
    inventory.write(more=SCORE)
    problem = check(lambda: extend(BashOperator(task_id="score", bash_command="true"), emit=False))
    assert "'score' (emit)" in problem


@pytest.mark.bypass(18)
@pytest.mark.parametrize("way", ["expand", "expand_kwargs"])
@pytest.mark.parametrize("said", [{POLICY: {"emit": False}}, {"_selective_enable_ol": False}])
def test_what_only_a_run_knows_is_taken_away(build_dag, inventory, way, said):
    inventory.write()

    def build():
        over = PythonOperator(task_id="over", python_callable=list).output
        each = BashOperator.partial(task_id="each", bash_command="true", params={"kept": 1})
        each.expand(params=over) if way == "expand" else each.expand_kwargs(over)
        governed()

    dag_policy(dag := build_dag(build))
    task = dag.get_task("each").unmap({"params": {"own": 2} | said})
    assert emits(task) == (True, True, True)
    assert task.params["_selective_enable_ol"] is True
    assert {name: task.params[name] for name in ("kept", "own")} == {"kept": 1, "own": 2}


def test_a_mapped_task_that_cannot_be_silenced_is_left_alone(build_dag, inventory):
    inventory.write()

    def build():
        BashOperator.partial(task_id="each").expand(bash_command=["true"])
        governed()

    dag_policy(dag := build_dag(build))
    assert "unmap" not in vars(dag.get_task("each"))


class TestOptIn:
    """Where the deployment asks authors whether events should go, governed DAGs' do."""

    @pytest.fixture(autouse=True)
    def _selective(self, monkeypatch):
        name = "AIRFLOW__OPENLINEAGE__SELECTIVE_ENABLE"
        monkeypatch.setenv(name, "True")
        monkeypatch.setitem(cluster_policy._GIVEN, name, "True")
        assert conf.selective_enable()

    def test_in_enforce_all_of_the_dag(self, build_dag, inventory):
        inventory.write()
        dag_policy(dag := build_dag(governed))
        assert resolve_dag_emission_policy("d", dag).emit
        assert {emits(task)[0] for task in dag.tasks} == {True}

    def test_below_enforce_nothing(self, build_dag, inventory):
        inventory.write(mode="warn")
        dag_policy(dag := build_dag(governed))
        assert not resolve_dag_emission_policy("d", dag).emit
        assert {emits(task)[0] for task in dag.tasks} == {False}


FILE = """
import os
from datetime import datetime
from airflow.sdk import DAG
from airflow_mlgov import ApprovalGateOperator
{line}
with DAG("d", schedule=None):
    ApprovalGateOperator(task_id="gate", model="retail_pd")
"""
READ = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1], bundle_path=None, bundle_name="b")
print("ERRORS", list(bag.import_errors.values()), sorted(bag.dags))
"""


@pytest.mark.bypass(18)
@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("os.environ['OPENLINEAGE_DISABLED'] = 'true'", "OPENLINEAGE_DISABLED"),
        ("os.environ.pop('OPENLINEAGE_URL')", "OPENLINEAGE_URL"),
        (
            "os.environ['AIRFLOW__OPENLINEAGE__TRANSPORT'] = '{\"type\": \"noop\"}'",
            "AIRFLOW__OPENLINEAGE__TRANSPORT",
        ),
        ("os.environ['OTHER'] = 'x'", ""),
    ],
)
def test_a_file_that_changes_the_environment_is_refused_by_airflow(tmp_path, line, named):
    file = tmp_path / "dags" / "silent.py"
    file.parent.mkdir()
    file.write_text(FILE.replace("{line}", line))
    env = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "OPENLINEAGE_URL": "http://127.0.0.1:9",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    command = [sys.executable, "-c", READ, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("ERRORS")]
    if named:
        assert f"changes {named} in the environment" in said
    else:
        assert said == "ERRORS [] ['d']"
