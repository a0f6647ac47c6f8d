"""Waiting in another DAG, in a real triggerer, for what people decide."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e

DAG, SENSOR = "waiting", "approved"


class Waiting:
    """A run of the DAG that waits for a scenario's model."""

    def __init__(self, run) -> None:
        self.live = run.live
        self.id = self.live.client("rita").trigger(DAG, {"model": run.model})

    def wait(self, task: str, *states: str) -> str:
        return str(self.live.client("admin").wait_for_task(DAG, self.id, task, states))


@pytest.mark.scenario("awaited")
def test_waits_across_an_approval_and_a_new_triggerer_and_then_scores(live, run):
    run.wait_gate()
    waiting = Waiting(run)
    assert waiting.wait(SENSOR, "deferred", "success", "failed") == "deferred"
    run.answer("olivia")
    run.wait_gate()
    live.deployment.restart("triggerer", grace_s=0)
    assert waiting.wait(SENSOR, "deferred", "success", "failed") == "deferred"

    run.answer("victor")
    assert run.wait("promote", "success") == "success"
    assert waiting.wait(SENSOR, "success", "failed") == "success"
    assert waiting.wait("score", "success", "failed") == "success"
    (request,) = run.entries("approval.requested")
    told = live.client("admin").xcom(DAG, waiting.id, SENSOR)
    assert (told["version"], told["request"]) == (run.version, request.body["request_sha256"])
    assert live.client("admin").xcom(DAG, waiting.id, "score") == run.version
    assert live.client("admin").task(DAG, waiting.id, SENSOR)["try_number"] == 1


@pytest.mark.scenario("awaited_in_vain")
def test_a_rejection_ends_the_wait_and_a_sensor_that_is_marked_opens_nothing(live, run):
    run.wait_gate()
    waiting, marked = Waiting(run), Waiting(run)
    for one in (waiting, marked):
        assert one.wait(SENSOR, "deferred", "success", "failed") == "deferred"
    live.client("rita").mark(DAG, marked.id, SENSOR, "success")
    assert marked.wait("score", "success", "failed") == "failed"
    assert len(run.refusals()) == 1

    run.answer("victor", "Reject")
    assert waiting.wait(SENSOR, "success", "failed") == "failed"
    assert waiting.wait("score", "success", "upstream_failed") == "upstream_failed"
    log = live.client("admin").log(DAG, waiting.id, SENSOR)
    assert "rejected by an approver" in log
    assert "what to do" in log
    assert len(run.refusals()) == 1, "the sensor put something on record"
