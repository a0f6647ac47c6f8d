"""The example DAGs as Airflow parses them, the cluster policy included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DAGS = Path(__file__).parents[2] / "dags"
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
    examples = {"retail_pd", "retail_pd_scoring", "retail_pd_when_approved", "reconcile"}
    assert set(parsed["tasks"]) == examples


def test_what_waits_in_another_dag_stands_before_what_is_guarded(parsed):
    assert parsed["tasks"]["retail_pd_when_approved"] == {"approved": [], "score": ["approved"]}
