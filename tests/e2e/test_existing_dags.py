"""A DAG that nobody has rewritten, named in the inventory: watched, then refused, then approved."""

from __future__ import annotations

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
