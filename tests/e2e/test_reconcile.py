"""What is forced past the api-server is found, by the command and by the example DAG.

A live Airflow of its own: the findings would stand in the way of other tests' approvals.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "dags" / "reconcile.py"
_spec = importlib.util.spec_from_file_location("e2e_conftest_of_reconcile", HERE / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
e2e: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = e2e
_spec.loader.exec_module(e2e)

SCENARIOS = ("honest", "again", "waiting", "forced", "vanished", "alias", "emergency")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A live Airflow with the example DAG, and a run for each scenario."""
    folder = tmp_path_factory.mktemp("reconcile")
    dags = tmp_path_factory.mktemp("reconcile_dags")
    for file in (e2e.DAGS / "governed.py", EXAMPLE):
        shutil.copy(file, dags)
    with e2e.start_live(folder, SCENARIOS, dags=dags, lineage_namespace="bank") as live:
        live.client("admin").wait_for_dags(["reconcile"])
        live.client("admin").call("PATCH", "/api/v2/dags/reconcile", {"is_paused": False})
        for scenario in SCENARIOS:
            version = live.make_candidate(scenario)
            if scenario == "emergency":
                break_glass(live, scenario, version)
            live.runs[scenario] = live.trigger(scenario, e2e.REQUESTER, version=version)
        yield live


def break_glass(live: Any, model: str, version: str) -> None:
    """Let a version be promoted and used for an hour without an approval."""
    body = {"reason": "Fraud rises by the hour.", "target": e2e.TARGET, "hours": 1}
    path = f"/mlgov/api/models/{model}/breakglass"
    live.client("admin").call("POST", path, body | {"version": version})


def compare(live: Any, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command with the token of somebody who may only read."""
    token = live.client(e2e.READER)._http.headers["Authorization"].removeprefix("Bearer ")
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "mlgov", "reconcile", "--output", "json", *arguments],
        # Not this process's: that is set up for the Airflow of other tests.
        env={**live.deployment.env, "AIRFLOW_CLI_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    (said,) = json.loads(done.stdout)
    return done.returncode, said


def silence(live: Any, run: Any, task: str) -> None:
    """Take the events of a task from the outbox, as if they had never been sent."""
    ids = {
        event["run"]["runId"]
        for event in live.lineage()
        if event["job"]["name"] == f"{run.dag}.{task}"
        and event["run"]["facets"]["airflow"]["dagRun"]["run_id"] == run.id
    }
    assert len(ids) == 1
    with closing(sqlite3.connect(live.folder / "ledger.db", timeout=60)) as db, db:
        db.executemany("DELETE FROM lineage_events WHERE run_id = ?", [(each,) for each in ids])


def run_example(live: Any) -> str:
    """Run the example DAG once; the state of its task."""
    client = live.client("admin")
    run = client.trigger("reconcile")
    ended = client.wait_for_task("reconcile", run, "reconcile", ["success", "failed"])
    return str(ended)


@pytest.mark.bypass(1, 3, 7, 10, 17, 18)
def test_what_is_forced_is_found_and_nothing_before(live: Any) -> None:
    import mlflow

    began = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    for scenario in ("honest", "again", "alias"):
        run = live.runs[scenario]
        run.approve_fully()
        run.wait("score", "success")
    live.runs["emergency"].wait("score", "success")
    for scenario in ("waiting", "forced", "vanished"):
        live.runs[scenario].wait_gate()
    again = live.runs["again"]
    again.clear("score")
    again.live.client("admin").wait_for_task(again.dag, again.id, "score", ["running", "success"])
    again.settle()
    assert run_example(live) == "success"
    code, said = compare(live)
    assert (code, said["found"], said["unchecked"]) == (0, [], [])
    assert int(said["counts"]["tasks"]) >= 21
    assert int(said["counts"]["events"]) >= 7, "promotions and scorings that lineage tells of"

    silence(live, live.runs["honest"], "score")
    forced, vanished, alias = (live.runs[name] for name in ("forced", "vanished", "alias"))
    forced.force_states(score="success", promote="success", gate="success")
    vanished.force("DELETE FROM dag_run WHERE dag_id = ? AND run_id = ?")
    other = live.make_candidate("alias", weight=2)
    client = mlflow.MlflowClient(f"sqlite:///{live.folder / 'mlflow.db'}")
    client.set_registered_model_alias("alias", "champion", "2")

    assert run_example(live) == "failed", "new findings fail the task"
    code, said = compare(live)
    found = sorted((one["test"], one["model"], one["state"]) for one in said["found"])
    assert (code, said["unchecked"]) == (1, [])
    assert found == [
        ("reconcile.alias", "alias", "open"),
        ("reconcile.gate", "forced", "open"),
        ("reconcile.lineage", "honest", "open"),
        ("reconcile.task", "forced", "open"),
        ("reconcile.task", "forced", "open"),
        ("reconcile.vanished", "vanished", "open"),
    ]
    versions = {(one["test"], one["version"]) for one in said["found"]}
    assert {("reconcile.alias", other), ("reconcile.gate", forced.version)} <= versions
    assert ("reconcile.vanished", vanished.version) in versions
    severities = {one["severity"] for one in said["found"] if one["test"] != "reconcile.lineage"}
    assert severities == {"high"}
    assert live.alias_of("alias") == other, "nothing is moved unasked"

    code, said = compare(live, "--repair-alias")
    assert [one["repair"] for one in said["found"] if one["repair"]] == [
        "repaired: it points to version 1 again"
    ]
    assert live.alias_of("alias") == alias.version
    assert [entry.body["instead_of"] for entry in alias.entries("alias.repaired")] == ["2"]

    # A row is read once the entry that tells the same must be there; this one has no such entry.
    again.force(
        "UPDATE log SET dttm = datetime(dttm, '-10 minutes') "
        "WHERE event = 'post_clear_task_instances' AND dag_id = ? AND run_id = ?"
    )
    code, said = compare(live, "--since", began)
    assert int(said["counts"]["changes"]) >= 1
    assert [
        (one["test"], one["model"]) for one in said["found"] if one["test"] == "reconcile.change"
    ] == [("reconcile.change", "again")]

    assert run_example(live) == "success", "known findings do not fail it again"
    assert live.governance().ledger.verify().problems == ()
