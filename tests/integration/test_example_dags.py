"""The example DAGs as Airflow parses them, the cluster policy included."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlgov.policy.platforms_file import read_platforms

DAGS = Path(__file__).parents[2] / "dags"
PLACES = ("aws", "gcp", "azure", "premises", "several")
# In a process of its own: Airflow puts the folder of DAGs on the path, and reads its settings once.
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
tasks = {
    dag.dag_id: {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
    for dag in bag.dags.values()
}
print(json.dumps({"errors": bag.import_errors, "tasks": tasks}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory):
    home = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(DAGS)],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(DAGS.parent),
            "AIRFLOW_HOME": str(home),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_every_example_parses(parsed):
    assert parsed["errors"] == {}
    examples = {
        "retail_pd",
        "retail_pd_scoring",
        "retail_pd_when_approved",
        "reconcile",
        "exit_rehearsal",
        *(f"retail_pd_on_{place}" for place in PLACES),
    }
    assert set(parsed["tasks"]) == examples


def test_the_model_is_the_same_wherever_it_is_trained(parsed):
    tasks = [parsed["tasks"][f"retail_pd_on_{place}"] for place in PLACES]
    assert all(each == tasks[0] for each in tasks)
    assert tasks[0]["promote"] == ["gate"]


def test_the_example_file_has_every_name_that_the_examples_use():
    known = read_platforms(DAGS / "platforms.yaml")
    source = (DAGS / "retail_pd_elsewhere.py").read_text("utf-8")
    used = [
        ast.literal_eval(line[len("retail_pd_on") :])
        for line in source.splitlines()
        if line.startswith("retail_pd_on(")
    ]
    assert len(used) == len(PLACES)
    for _, champion, challenger, registries in used:
        assert {champion, challenger} <= set(known.platforms)
        assert set(registries) <= set(known.registries)
    assert {terms.kind for terms in known.platforms.values()} == {
        "local", "sagemaker", "vertex", "azureml",
    }  # fmt: skip
    forbidden = ("sagemaker", "vertex", "azureml", "boto", "s3://", "gs://")
    assert not [word for word in forbidden if word in source]


def test_what_waits_in_another_dag_stands_before_what_is_guarded(parsed):
    assert parsed["tasks"]["retail_pd_when_approved"] == {"approved": [], "score": ["approved"]}


def test_the_rehearsal_splits_the_data_as_they_were_split_for_training(parsed):
    assert parsed["tasks"]["exit_rehearsal"] == {"split": [], "rehearse": ["split"]}
