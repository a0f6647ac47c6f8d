"""Ways round a gate that a plain Airflow user has: the protected task must not get past itself."""

from __future__ import annotations

import pytest

from demo.client import ApiError

pytestmark = pytest.mark.e2e

OWNER, VALIDATOR, INTRUDER = "olivia", "victor", "rita"


def assert_refused(run):
    assert run.wait("promote", "failed") == "failed"
    assert run.wait("score", "upstream_failed") == "upstream_failed"
    assert run.refusals() == ["approval"]
    assert run.alias is None
    assert not run.entries("approval.consumed")
    assert not run.entries("approval.granted")


@pytest.mark.scenario("marked")
def test_marking_the_gate_as_success_lets_nobody_through(run):
    run.wait_gate()
    run.live.client(INTRUDER).mark(run.dag, run.id, "gate", "success")
    assert_refused(run)
    assert ("gate", "success") in run.changes_by_hand()


@pytest.mark.scenario("marked_bulk")
def test_marking_in_bulk_lets_nobody_through_and_is_on_record(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    answer = run.live.client(INTRUDER).mark_bulk(run.dag, run.id, ["gate"], "success")
    assert not answer.get("update", {}).get("errors")
    assert_refused(run)
    # Airflow's own audit log has no row for it.
    events = run.live.client(INTRUDER).events(run.dag, run.id, "gate")
    assert not [event for event in events if "patch" in event["event"]]
    assert ("gate", "success") in run.changes_by_hand()


@pytest.mark.scenario("skipped")
def test_marking_the_gate_as_skipped_lets_nobody_through(run):
    run.wait_gate()
    run.live.client(INTRUDER).mark(run.dag, run.id, "gate", "skipped")
    assert run.wait("promote", "skipped") == "skipped"
    run.settle()
    run.live.client(INTRUDER).mark(run.dag, run.id, "gate", "success")
    run.clear("promote")
    assert_refused(run)
    assert ("gate", "skipped") in run.changes_by_hand()


@pytest.mark.scenario("run_marked")
def test_marking_the_whole_run_as_success_promotes_nothing(run):
    run.wait_gate()
    run.live.client(INTRUDER).set_run_state(run.dag, run.id, "success")
    run.wait("gate", "success", "skipped", "failed")
    assert run.alias is None
    run.clear("promote")
    assert_refused(run)


@pytest.mark.scenario("promote_marked")
def test_marking_the_promotion_itself_moves_no_alias_and_scoring_refuses(run):
    run.wait_gate()
    run.live.client(INTRUDER).mark_bulk(run.dag, run.id, ["gate", "promote"], "success")
    assert run.wait("score", "failed") == "failed"
    assert run.alias is None
    assert run.refusals(), "the refusal is not on record"
    assert not run.entries("approval.consumed")
    assert ("promote", "success") in run.changes_by_hand()


@pytest.mark.scenario("forged_xcom")
def test_a_forged_answer_after_a_rejection_is_worth_nothing(run):
    run.wait_gate()
    run.answer(VALIDATOR, "Reject")
    run.wait("gate", "failed")
    client = run.live.client(INTRUDER)
    forged = {"model": run.model, "version": run.version, "decision": "granted"}
    client.create_xcom(run.dag, run.id, "gate", "return_value", forged)
    run.settle()
    # Airflow clears what failed behind a task that is marked as success: the promotion runs.
    client.mark(run.dag, run.id, "gate", "success")

    assert_refused(run)
    assert client.xcom(run.dag, run.id, "gate") == forged
    assert "rejected" in run.entries("guard.refused")[-1].body["reason"]


@pytest.mark.scenario("deleted")
def test_deleting_the_gate_erases_nothing_and_lets_nobody_through(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    client = run.live.client(INTRUDER)
    client.delete_task(run.dag, run.id, "gate")
    with pytest.raises(ApiError) as gone:
        client.form(run.dag, run.id, "gate")
    assert gone.value.status == 404

    assert run.voters() == [OWNER]
    assert len(run.entries("approval.requested")) == 1
    assert run.alias is None
    client.set_run_state(run.dag, run.id, "failed")  # Airflow deletes no run that is running
    client.delete_run(run.dag, run.id)
    assert run.voters() == [OWNER]
    assert not run.entries("approval.consumed")


@pytest.mark.scenario("late")
def test_an_answer_after_the_gate_has_ended_is_void(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    client = run.live.client(INTRUDER)
    client.mark(run.dag, run.id, "gate", "success")
    run.wait("promote", "failed")

    assert "has ended" in run.refused_answer(VALIDATOR)  # Airflow would accept it
    run.clear("promote")
    run.wait("promote", "failed")

    assert run.voters() == [OWNER]
    assert run.refusals() == ["approval", "approval"]
    assert not run.entries("approval.granted")
    assert run.alias is None
