"""A DAG that nobody has rewritten, named in the inventory: watched, then refused, then approved."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from demo.client import ApiError

pytestmark = pytest.mark.e2e

MODEL, LEGACY, USER = "legacy", "legacy_scoring", "rita"
NAMED = f"""\
promoted_by: [governed]
tasks:
  - {{dag_id: {LEGACY}, task_id: fit, does: train}}
  - {{dag_id: {LEGACY}, task_id: score, does: score, target: production}}
  - {{dag_id: {LEGACY}, task_id: ship, does: deploy, target: production}}
"""


def start(live, mode):
    """Put the model in a mode and start a run of the legacy DAG."""
    file = live.folder / "rules" / "inventory" / f"{MODEL}.yaml"
    entry = file.read_text().replace(NAMED, "")
    for known in ("observe", "enforce"):
        entry = entry.replace(f"mode: {known}", f"mode: {mode}")
    file.write_text(entry + NAMED)
    run = live.client(USER).trigger(LEGACY)
    return replace(live.runs[MODEL], id=run, dag=LEGACY)


def noted(run, kind):
    return sorted(
        (entry.source.task_id, entry.source.map_index)
        for entry in run.entries(kind)
        if entry.source.run_id == run.id
    )


def told(run, task):
    """The lineage events of a task in a run, or of a run of ours beneath it, in order."""
    events = [(e, e["run"]["facets"]) for e in run.live.lineage()]
    dag_runs = {
        facets["parent"]["run"]["runId"]
        for _, facets in events
        if facets.get("airflow", {}).get("dagRun", {}).get("run_id") == run.id
    }
    return [
        event
        for event, facets in events
        if event["job"]["name"] == f"{LEGACY}.{task}"
        and facets["parent"].get("root", facets["parent"])["run"]["runId"] in dag_runs
    ]


def governed(event):
    found = event["run"]["facets"]["mlgov_governed"]
    return {name: value for name, value in found.items() if not name.startswith("_")}


def until(found, seconds=60):
    end = time.monotonic() + seconds
    while not (seen := found()) and time.monotonic() < end:
        time.sleep(0.3)
    return seen


def test_from_observe_to_enforce_and_through_an_approval(live):
    live.client("admin").wait_for_dags([LEGACY])
    observed = start(live, "observe")
    observed.settle()
    assert {task: observed.state(task) for task in ("fit", "score")} == {
        "fit": "success",
        "score": "success",
    }
    assert noted(observed, "model.trained_outside") == [("fit", -1)]
    assert noted(observed, "guard.refused") == [("score", -1), ("ship", 0), ("ship", 1)]
    assert set(observed.refusals()) == {"registry.not_found"}

    trained = {"model": MODEL, "role": "train", "mode": "observe"}
    assert [governed(event) for event in told(observed, "fit")] == [trained, trained]
    (written,) = told(observed, "fit")[-1]["outputs"]
    assert (written["namespace"], written["name"]) == ("mlflow://local", "legacy/1")
    live.client(USER).mark(LEGACY, observed.id, "fit", "failed")
    (by_hand,) = until(lambda: told(observed, "fit.by_hand"))
    shown = {"airflow_state": "failed", "state_set_by_hand": True}
    assert governed(by_hand) == trained | shown
    *_, last = until(lambda: told(observed, "fit")[2:])
    assert (last["eventType"], governed(last)) == ("FAIL", trained | {"state_set_by_hand": True})

    refused = start(live, "enforce")
    assert refused.wait("score", "failed", "success") == "failed"
    assert refused.state("fit") == "success"
    assert noted(refused, "guard.refused") == [("score", -1)]
    with pytest.raises(ApiError) as by_hand:
        live.client(USER).mark(LEGACY, refused.id, "score", "success")
    assert by_hand.value.status == 403
    assert ("score", "success", True, USER) in refused.changes_by_hand()

    gate = live.runs[MODEL]
    gate.approve_fully()
    assert gate.wait("promote", "success", "failed") == "success"

    approved = start(live, "enforce")
    approved.settle()
    assert noted(approved, "guard.refused") == []
    assert noted(approved, "model.scored") == [("score", -1)]
    assert noted(approved, "model.deployed") == [("ship", 0), ("ship", 1)]
    (scored,) = [e for e in approved.entries("model.scored") if e.source.run_id == approved.id]
    assert (str(scored.version), scored.body["loaded_by"]) == (gate.version, "task")

    begun, ended = told(approved, "score")
    used = {"model": MODEL, "role": "use", "mode": "enforce"}
    assert (governed(begun), governed(ended)) == (used, used | {"version": gate.version})
    read = [dataset["name"].split("/")[:3] for dataset in ended["inputs"]]
    assert read == [["legacy", "1"], ["legacy", "1", "approval"], ["legacy", "1", "endpoint"]]
    assert [governed(e)["version"] for e in told(approved, "ship")[-2:]] == [gate.version] * 2


def test_a_dag_is_scheduled_on_a_model(live):
    """A stock task writes the asset of a model; a DAG that waits for it reads one of a version."""
    live.client("admin").wait_for_dags([LEGACY, "legacy_report"])
    live.client(USER).trigger(LEGACY)
    told = until(lambda: [e for e in live.lineage() if e["job"]["name"] == "legacy_report.report"])
    (read,) = told[0]["inputs"]
    assert (read["namespace"], read["name"]) == ("mlflow://local", "legacy/1")
