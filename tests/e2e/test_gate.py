"""The gate, driven through Airflow's public API by people with their own tokens."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from demo.client import ApiError

pytestmark = pytest.mark.e2e

OWNER, VALIDATOR, DEVELOPER = "olivia", "victor", "erin"


@pytest.mark.scenario("approve")
def test_two_people_approve_and_the_version_is_promoted_and_scored(run):
    assert run.alias is None
    run.wait_gate()
    run.answer(OWNER)
    form = run.wait_gate()
    assert run.voters() == [OWNER]
    assert not run.entries("approval.granted")
    assert form["response_received"] is False
    assert "olivia" in form["body"], "the form does not show the seat that is filled"

    run.answer(VALIDATOR)
    assert run.wait("score", "success") == "success"

    assert run.alias == run.version
    assert run.voters() == [OWNER, VALIDATOR]
    for kind in ("approval.granted", "approval.consumed", "model.promoted", "model.scored"):
        (entry,) = run.entries(kind)
        assert str(entry.version) == run.version
    scored = run.live.client("admin").xcom(run.dag, run.id, "score")
    assert scored == {"version": run.version, "files": "scorecard.json"}
    assert run.refusals() == []


@pytest.mark.scenario("reject")
def test_one_rejection_ends_it_and_is_not_retried(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    run.answer(VALIDATOR, "Reject")

    assert run.wait("gate", "failed") == "failed"
    assert run.wait("promote", "upstream_failed") == "upstream_failed"
    assert run.live.client("admin").task(run.dag, run.id, "gate")["try_number"] == 1
    assert len(run.entries("approval.denied")) == 1
    assert run.alias is None

    # A cleared gate finds the decision on record: it asks nobody again.
    run.clear("gate")
    assert run.wait("gate", "failed") == "failed"
    assert len(run.entries("approval.requested")) == 1


def test_conditions_bind_every_run_that_uses_the_model(live):
    version = str(live.registry().get("conditional", "1").manifest)
    run = live.trigger("conditional", "rita", version=version, rows=[{"SEX": 1}, {"SEX": 2}])
    form = run.wait_gate()
    assert form["options"] == ["Approve", "Approve with conditions", "Reject", "Withdraw"]
    conditions = {"max_rows_per_run": 5, "segment_SEX": ["1"]}
    assert "approve without" in run.refused_answer(OWNER, **conditions)
    unknown = {"end_date": "2099-01-01"}
    assert "last day" in run.refused_answer(OWNER, "Approve with conditions", **unknown)
    run.answer(OWNER, "Approve with conditions", **conditions)
    assert "at most 5 rows in one run" in run.wait_gate()["body"].replace("\\", "")
    run.answer(VALIDATOR)
    assert run.wait("score", "failed") == "failed"
    assert "there are others: '2'" in run.entries("guard.refused")[-1].body["reason"]

    client = live.client("admin")
    for rows, state in ((5, "success"), (6, "failed")):
        used = client.trigger("waiting", {"model": run.model, "rows": [{"SEX": 1}] * rows})
        assert client.wait_for_task("waiting", used, "score", (state,)) == state
    assert "5 rows in one run" in run.entries("guard.refused")[-1].body["reason"]
    assert [entry.body["rows"] for entry in run.entries("model.admitted")] == [5, 6]


@pytest.mark.bypass(13)
def test_each_gate_of_a_mapped_task_takes_its_own_votes(live):
    models = ("mapped_one", "mapped_two")
    versions = {model: str(live.registry().get(model, "1").manifest) for model in models}
    asked = [{"model": model, "version": version} for model, version in versions.items()]
    run = live.client("rita").trigger("mapped", {"asked": asked})

    def answer(user, index):
        path = f"/api/v2/dags/mapped/dagRuns/{run}/taskInstances/gate/{index}/hitlDetails"
        client, end = live.client(user), time.monotonic() + 120
        while time.monotonic() < end:
            with suppress(ApiError):  # not asked yet, or about to read another answer
                shown = client.call("GET", path)["params"]["request"]
                request = shown["value"] if isinstance(shown, dict) else shown
                fields = {"request": request, "comment": "Read the evidence and agree."}
                body = {"chosen_options": ["Approve"], "params_input": fields}
                return client.call("PATCH", path, body)
            time.sleep(0.5)
        raise AssertionError(f"nothing takes the answer of {user}")

    answer(OWNER, 0)
    answer(OWNER, 1)
    answer(VALIDATOR, 1)
    answer(VALIDATOR, 0)
    end = time.monotonic() + 120
    while None in map(live.alias_of, models) and time.monotonic() < end:
        time.sleep(0.5)
    for model, version in versions.items():
        assert live.alias_of(model) == version
        votes = live.governance().ledger.view().select("approval.voted", model=model)
        assert [vote.person("voter").id for vote in votes] == [OWNER, VALIDATOR]
        assert {vote.source.map_index for vote in votes} == {models.index(model)}


@pytest.mark.scenario("duplicate")
def test_one_person_is_never_counted_twice(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    assert "voted before" in run.refused_answer(OWNER, comment="I approve of it once more.")

    assert run.voters() == [OWNER]
    (reasons,) = run.refused_votes()
    assert "voted before" in reasons
    assert run.wait("gate", "awaiting_input") == "awaiting_input"
    assert not run.entries("approval.granted")


@pytest.mark.bypass(13)
@pytest.mark.scenario("requester")
def test_requester_and_developer_are_told_that_they_are_not_counted(run):
    run.wait_gate()
    assert "requester" in run.refused_answer(VALIDATOR)  # who triggered this run
    assert "requester" in run.refused_votes()[-1]

    assert "developer" in run.refused_answer(DEVELOPER)  # who sits on the validators' seat
    assert "developer" in run.refused_votes()[-1]

    run.answer(OWNER)
    run.wait_gate()
    assert not run.entries("approval.granted")
    assert len(run.refused_votes()) == 2


@pytest.mark.scenario("wrong_user")
@pytest.mark.parametrize("user", ["admin", "rita"])
def test_somebody_on_no_seat_cannot_answer_even_as_administrator(run, user):
    run.wait_gate()
    assert "seat" in run.refused_answer(user)
    assert "on no seat" in run.refused_votes()[-1]
    assert run.wait("gate", "awaiting_input") == "awaiting_input"
    assert run.voters() == []


@pytest.mark.bypass(16)
@pytest.mark.scenario("old_form")
def test_a_vote_that_names_another_request_is_refused(run):
    run.wait_gate()
    assert "old" in run.refused_answer(OWNER, request=f"sha256:{'f' * 64}")
    assert run.voters() == []
    assert "old" in run.refused_votes()[-1]


@pytest.mark.scenario("no_comment")
def test_a_vote_without_a_reason_is_not_counted(run):
    run.wait_gate()
    assert "comment" in run.refused_answer(OWNER, comment="  ok  ")
    assert "comment" in run.refused_votes()[-1]
    run.answer(OWNER)
    run.wait_gate()
    run.answer(VALIDATOR)
    assert run.wait("gate", "success") == "success"


@pytest.mark.scenario("cleared")
def test_a_cleared_gate_keeps_its_request_and_its_votes(run):
    before = run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    run.live.client("rita").clear(run.dag, run.id, "gate")
    after = run.wait_gate()

    assert after["params"]["request"]["value"] == before["params"]["request"]["value"]
    assert len(run.entries("approval.requested")) == 1
    assert run.voters() == [OWNER]

    run.answer(VALIDATOR)
    assert run.wait("promote", "success") == "success"
    assert run.voters() == [OWNER, VALIDATOR]
    assert run.alias == run.version


def test_answers_that_come_too_soon_are_counted_once(live):
    """Airflow fails a task that is answered at once; the gate must come back with the vote."""
    version = str(live.registry().get("too_soon", "1").manifest)
    run = live.trigger("too_soon", "rita", version=version)
    run.answer_at_once(OWNER)
    run.answer_at_once(VALIDATOR)
    assert run.wait("gate", "success") == "success"
    assert run.voters() == [OWNER, VALIDATOR]
    assert run.refused_votes() == []


@pytest.mark.scenario("at_once")
def test_two_approvers_in_the_same_moment_are_both_counted(run):
    """Airflow takes one answer; the other approver's is on record, and the gate finds it."""
    run.wait_gate()
    with ThreadPoolExecutor(2) as people:
        list(people.map(run.answer, (OWNER, VALIDATOR)))
    assert run.wait("promote", "success") == "success"
    assert sorted(run.voters()) == [OWNER, VALIDATOR]
    assert run.refused_votes() == []


@pytest.mark.scenario("restarted")
def test_a_scheduler_that_dies_while_the_gate_waits_changes_nothing(live, run):
    for other in live.runs.values():
        if other.state("gate") in ("scheduled", "queued", "running"):
            other.wait_gate()  # a task that runs would be killed with the scheduler
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()

    live.deployment.restart("scheduler", grace_s=0)
    assert run.wait("gate", "awaiting_input") == "awaiting_input"
    run.wait_gate()
    run.answer(VALIDATOR)

    assert run.wait("promote", "success") == "success"
    assert run.voters() == [OWNER, VALIDATOR]
