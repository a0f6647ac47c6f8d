"""What promotion and guarded tasks check for themselves, with everything else in order."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.e2e

USER = "rita"


@contextmanager
def changed_byte(file):
    original = file.read_bytes()
    file.write_bytes(original.replace(b'"weight": 1', b'"weight": 9'))
    assert file.read_bytes() != original
    try:
        yield
    finally:
        file.write_bytes(original)


def again(run, task):
    """Clear a task and what follows, and wait for how the task ends."""
    run.clear(task)
    return run.wait(task, "success", "failed")


@pytest.mark.bypass(14)
@pytest.mark.scenario("changed_file")
def test_a_changed_model_file_is_neither_promoted_nor_scored(run):
    file = run.live.model_file(run.model, run.version)
    with changed_byte(file):
        run.approve_fully()
        assert run.wait("promote", "failed") == "failed"
    assert run.refusals() == ["digest"]
    assert run.alias is None
    assert not run.entries("approval.consumed"), "a refused promotion used the approval up"

    assert again(run, "promote") == "success"
    assert run.wait("score", "success") == "success"
    assert run.alias == run.version

    with changed_byte(file):
        assert again(run, "score") == "failed"
    assert run.refusals() == ["digest", "digest"]
    assert again(run, "score") == "success"


@pytest.mark.bypass(14)
def test_another_version_than_the_approved_one_is_not_promoted(live):
    approved = live.runs["wrong_version"].version
    other = live.make_candidate("wrong_version", weight=2)
    assert other != approved
    run = live.trigger("wrong_version", USER, version=approved, promote=other)
    run.approve_fully()

    assert run.wait("promote", "failed") == "failed"
    assert run.refusals() == ["approval"]
    (refusal,) = run.entries("guard.refused")
    assert str(refusal.version) == other
    assert run.alias is None


@pytest.mark.bypass(15)
@pytest.mark.scenario("reused")
def test_an_approval_is_used_once_and_a_retry_completes_the_same_promotion(run):
    run.approve_fully()
    assert run.wait("score", "success") == "success"
    assert again(run, "promote") == "success", "the same promotion could not be completed"
    assert len(run.entries("approval.consumed")) == 1
    assert len(run.entries("model.promoted")) == 1

    # Another run of the same version, whose own gate nobody has approved.
    second = run.live.trigger(run.model, USER, version=run.version)
    second.wait_gate()
    second.force_states(gate="success")
    assert second.wait("promote", "failed") == "failed"
    assert run.refusals() == ["approval"], "a run that asked has only its own answer"
    assert len(run.entries("approval.consumed")) == 1


@pytest.mark.bypass(17)
@pytest.mark.scenario("moved_alias")
def test_an_alias_that_was_moved_by_hand_is_not_scored(run):
    run.approve_fully()
    assert run.wait("score", "success") == "success"
    other = run.live.make_candidate(run.model, weight=2)
    registry = run.live.registry()
    from airflow_mlgov.records.digest import Digest

    registry.set_alias(registry.find(run.model, Digest.parse(other)), "champion")
    assert again(run, "score") == "failed"
    assert run.refusals() == ["approval"]

    registry.set_alias(registry.find(run.model, Digest.parse(run.version)), "champion")
    assert again(run, "score") == "success"
