from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov.errors import (
    ApprovalDeniedError,
    ArtefactError,
    ConfigurationError,
    GuardRefusedError,
    UnknownSubjectError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.await_decision import Awaited, answer_now
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.stop import resume_model, revoke_approval, stop_model

OLIVIA = Person("olivia", "olivia")


def answer(world, **changes):
    awaited = Awaited(**{"model": "retail_pd", "target": "production"} | changes)
    return answer_now(world.gov, world.gov.ledger.view(), awaited)


def waits_for(world, **changes) -> str:
    found = answer(world, **changes)
    assert found.clearance is None
    return found.waits_for


def refused(world, **changes) -> str:
    """Which check ends the wait."""
    with pytest.raises(GuardRefusedError) as caught:
        answer(world, **changes)
    return caught.value.check


def deny(world, request) -> None:
    with pytest.raises(ApprovalDeniedError):
        world.answer(request, "victor", Choice.REJECT)


def again(world, run_id: str = "run-2"):
    """Ask once more about the same version, from another run."""
    return world.ask(version=world.version, source=Source("retail_pd", run_id, "gate", -1, 1))


def promoted(world, **use):
    return promote(world.gov, world.registry, world.use(**use), world.version)


def test_waits_until_somebody_asks_and_every_seat_is_filled(candidate):
    assert "somebody to ask" in waits_for(candidate)
    assert "somebody to ask" in waits_for(candidate, version=candidate.version)
    request = candidate.ask()
    assert "model_owner (1 open), independent_validator (1 open)" in waits_for(candidate)
    candidate.answer(request, "olivia")
    assert "model_owner" not in waits_for(candidate)
    candidate.answer(request, "victor")
    found = answer(candidate)
    assert (found.clearance.version, found.waits_for) == (candidate.version, "")
    assert found.clearance.approval.request == request
    assert answer(candidate, version=candidate.version) == found


def test_a_forged_grant_is_no_answer(candidate):
    request = candidate.ask()
    body = {"request_sha256": str(request.digest), "statement": {}}
    candidate.entry("approval.granted", body, version=candidate.version)
    assert "2" not in waits_for(candidate)


def test_nothing_is_put_on_record(candidate):
    request = candidate.ask()
    before = len(candidate.kinds())
    waits_for(candidate)
    deny(candidate, request)
    decided = len(candidate.kinds())
    assert refused(candidate) == "approval"
    assert len(candidate.kinds()) == decided > before


def test_a_rejection_ends_it_until_somebody_asks_anew(candidate):
    deny(candidate, candidate.ask())
    with pytest.raises(GuardRefusedError, match="rejected") as caught:
        answer(candidate)
    assert "ApprovalGateOperator" in caught.value.remedy
    second = again(candidate)
    assert "seats" in waits_for(candidate, version=candidate.version)
    candidate.approve(second)
    assert answer(candidate).clearance.approval.request == second


def test_an_older_request_that_nobody_answers_does_not_hide_a_rejection(candidate):
    candidate.ask()
    deny(candidate, again(candidate))
    assert refused(candidate, version=candidate.version) == "approval"


def test_an_approval_in_force_decides_whatever_came_of_a_later_request(candidate):
    """The guards say the same: they look for an approval, not for the newest request."""
    first = candidate.ask()
    candidate.approve(first)
    second = again(candidate)
    assert answer(candidate).clearance.approval.request == first
    deny(candidate, second)
    assert answer(candidate).clearance.approval.request == first
    promoted(candidate, run_id="run-3")


def test_an_expired_approval_ends_it(candidate):
    candidate.approve(candidate.ask())
    candidate.clock.moment += timedelta(days=365) - timedelta(seconds=1)
    assert answer(candidate).clearance is not None
    candidate.clock.moment += timedelta(seconds=1)
    assert refused(candidate) == "expiry"
    again(candidate)
    assert "seats" in waits_for(candidate)


@pytest.mark.parametrize("approved", [True, False])
def test_a_revoked_request_ends_it(candidate, approved):
    request = candidate.ask()
    if approved:
        candidate.approve(request)
    revoke_approval(candidate.gov, request.digest, "wrong cut-off", OLIVIA)
    assert refused(candidate) == "revoked"
    again(candidate)
    assert "seats" in waits_for(candidate)


@pytest.mark.parametrize("state", ["nothing", "open", "approved"])
def test_a_stopped_model_ends_it(candidate, state):
    if state != "nothing":
        request = candidate.ask()
        if state == "approved":
            candidate.approve(request)
    stop_model(candidate.gov, "retail_pd", "it scores nonsense", Person("zoe", "zoe"))
    assert refused(candidate) == "stopped"
    resume_model(candidate.gov, "retail_pd", "it was the data", OLIVIA)
    assert (answer(candidate).clearance is not None) == (state == "approved")


def test_a_pack_that_does_not_let_it_stand_ends_it(candidate):
    candidate.approve(candidate.ask())
    candidate.with_pack("existing_approvals: keep", "existing_approvals: end")
    assert refused(candidate) == "policy"


def test_an_open_high_finding_ends_it_where_a_promotion_would_be_refused(candidate):
    candidate.approve(candidate.ask())
    candidate.open_finding("high")
    assert refused(candidate) == "findings"


def test_a_finding_on_what_is_in_use_does_not(candidate):
    candidate.approve(candidate.ask())
    promoted(candidate)
    candidate.open_finding("high")
    assert answer(candidate).clearance is not None
    with model_in_use(candidate.gov, candidate.registry, candidate.use("score")):
        pass


def test_without_a_version_the_newest_request_counts(candidate):
    old = candidate.version
    candidate.approve(candidate.ask())
    candidate.train('{"points": [9]}', run_id="run-2")
    candidate.validate_model("another")
    new = again(candidate)
    assert "seats" in waits_for(candidate)
    assert answer(candidate, version=old).clearance.version == old
    deny(candidate, new)
    assert refused(candidate) == "approval"


def test_a_version_that_was_replaced_ends_it(candidate):
    old = candidate.version
    candidate.approve(candidate.ask())
    promoted(candidate)
    assert answer(candidate, version=old).clearance.version == old
    candidate.train('{"points": [9]}', run_id="run-2")
    candidate.validate_model("another")
    candidate.approve(again(candidate))
    promoted(candidate, run_id="run-2")
    assert refused(candidate, version=old) == "consumed"
    assert refused(candidate, version=old, alias="champion") == "consumed"
    assert answer(candidate).clearance.version == candidate.version


def test_another_target_is_another_question(candidate):
    candidate.with_inventory(targets=("production", "staging"))
    candidate.approve(candidate.ask())
    assert "somebody to ask" in waits_for(candidate, target="staging")


def test_with_an_alias_it_waits_for_the_promotion_too(candidate):
    assert "somebody to ask" in waits_for(candidate, alias="champion")
    request = candidate.ask()
    assert "seats" in waits_for(candidate, alias="champion")
    candidate.approve(request)
    assert "promotion to alias 'champion'" in waits_for(candidate, alias="champion")
    promoted(candidate)
    found = answer(candidate, alias="champion")
    assert found.clearance.approval.used_by.source.task == candidate.use().source.task


def test_a_promotion_that_was_killed_halfway_is_still_waited_for(candidate, monkeypatch):
    candidate.approve(candidate.ask())
    candidate.registry.fail_next_alias = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        promoted(candidate)
    assert len(candidate.kinds("approval.consumed")) == 1
    assert "promotion" in waits_for(candidate, alias="champion")
    assert answer(candidate).clearance is not None


def test_a_promotion_to_another_alias_will_not_do(candidate):
    candidate.approve(candidate.ask())
    use = Use("retail_pd", "production", candidate.use().source, "challenger")
    promote(candidate.gov, candidate.registry, use, candidate.version)
    assert answer(candidate).clearance is not None
    with pytest.raises(GuardRefusedError, match="'challenger', not 'champion'") as caught:
        answer(candidate, alias="champion")
    assert caught.value.check == "alias"


def test_an_approval_that_expires_before_its_promotion_ends_it(candidate):
    candidate.approve(candidate.ask())
    candidate.clock.moment += timedelta(days=365)
    assert refused(candidate, alias="champion") == "expiry"


def test_an_approval_that_follows_an_expired_one_waits_for_its_own_promotion(candidate):
    candidate.approve(candidate.ask())
    promoted(candidate)
    candidate.clock.moment += timedelta(days=365)
    assert refused(candidate, alias="champion") == "expiry"
    candidate.approve(again(candidate))
    assert "promotion" in waits_for(candidate, alias="champion")
    promoted(candidate, run_id="run-2")
    assert answer(candidate, alias="champion").clearance is not None


def test_what_is_in_use_stays_in_use_while_it_is_asked_about_again(candidate):
    candidate.approve(candidate.ask())
    promoted(candidate)
    candidate.approve(again(candidate))
    candidate.open_finding("high")
    assert answer(candidate, alias="champion").clearance is not None


def test_what_the_inventory_does_not_know(candidate):
    with pytest.raises(UnknownSubjectError):
        answer(candidate, model="unknown")
    with pytest.raises(ConfigurationError, match="may not be promoted to 'moon'"):
        answer(candidate, target="moon")


def test_arguments_become_what_is_waited_for():
    digest = Digest.parse("sha256:" + "a" * 64)
    assert Awaited.named("m", "t", str(digest), "champion") == Awaited("m", "t", digest, "champion")
    assert Awaited.named("m", "t", "", None) == Awaited("m", "t")
    with pytest.raises(ArtefactError):
        Awaited.named("m", "t", "None", None)
