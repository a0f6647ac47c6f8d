"""Votes that the api-server puts on record, on a real ledger."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError, VoteRefusedError
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.governance import Assurance, Choice
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service import attest_vote
from airflow_mlgov.service.approvals import standing_of
from airflow_mlgov.service.attest_vote import Ballot, cast_vote, void_vote
from airflow_mlgov.service.vote import Answer, count_votes, record_answer

OLIVIA, VICTOR, ERIN = (Person(name, f"{name} surname") for name in ("olivia", "victor", "erin"))


@pytest.fixture
def request_(candidate: Any) -> Any:
    return candidate.ask()


def ballot(world: Any, request: Any, person: Person, **changes: Any) -> Ballot:
    text = "looked at the evidence"
    cast = Ballot(request.digest, world.GATE, str(request.digest), Choice.APPROVE, text, person)
    return replace(cast, **changes)


def reasons(world: Any) -> list[str]:
    refused = world.kinds("approval.vote_refused")
    return [reason for entry in refused for reason in entry.body["reasons"]]


def test_two_attested_votes_grant_and_say_which_seat_they_fill(candidate, request_):
    for person in (OLIVIA, VICTOR):
        assert cast_vote(candidate.gov, ballot(candidate, request_, person)).receipt
    standing = count_votes(candidate.gov, request_)
    assert standing.decision is Decision.GRANTED
    assert {vote.assurance for vote in standing.votes} == {Assurance.L1}
    votes = candidate.kinds("approval.voted")
    assert [vote.body["seat"] for vote in votes] == ["model_owner", "independent_validator"]
    assert {vote.signed_by for vote in votes} == {KeyRole.ATTESTOR}


def test_a_vote_is_under_a_checkpoint_before_it_is_handed_on(candidate, request_):
    cast = cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    assert candidate.gov.ledger.inbox() == []
    assert candidate.kinds("approval.voted")[-1].key == cast.receipt.key


@pytest.mark.parametrize(
    ("person", "changes", "reason"),
    [
        (ERIN, {}, "the voter is the requester"),
        (Person("rita", "rita"), {}, "on no seat"),
        (Person("17", "4"), {}, "could be taken for another's user id"),
        (OLIVIA, {"comment": "ok"}, "comment is shorter"),
        (OLIVIA, {"named": "sha256:" + "0" * 64}, "it was old"),
        (OLIVIA, {"named": ""}, "it was old"),
        (OLIVIA, {"choice": None}, "no answer that the form offers"),
        (OLIVIA, {"has_ended": True}, "the gate has ended"),
    ],
)
def test_what_does_not_count_is_refused_at_once_and_on_record(
    candidate, request_, person, changes, reason
):
    with pytest.raises(VoteRefusedError, match=reason):
        cast_vote(candidate.gov, ballot(candidate, request_, person, **changes))
    assert candidate.kinds("approval.voted") == []
    assert reason in "; ".join(reasons(candidate))
    (refused,) = candidate.kinds("approval.vote_refused")
    assert (refused.signed_by, refused.person("voter")) == (KeyRole.ATTESTOR, person)


def test_one_person_is_counted_once(candidate, request_):
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    counted = candidate.gov.ledger.view().checkpoint.size
    with pytest.raises(VoteRefusedError, match="voted before"):
        cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA, counted=counted))
    assert len(candidate.kinds("approval.voted")) == 1


def test_a_vote_that_the_gate_has_not_seen_may_wake_it_again(candidate, request_):
    """The api-server died between writing the vote and handing on the answer."""
    counted = candidate.gov.ledger.view().checkpoint.size
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA, counted=counted))
    again = cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA, counted=counted))
    assert again.receipt is None
    assert len(candidate.kinds("approval.voted")) == 1
    assert reasons(candidate) == []
    void_vote(candidate.gov, again, "Airflow answered 404")
    assert candidate.kinds("approval.vote_voided") == []


@pytest.mark.parametrize("choice", [Choice.APPROVE, Choice.REJECT])
def test_the_vote_that_decides_may_wake_the_gate_again_until_it_has_counted(
    candidate, request_, choice
):
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    counted = candidate.gov.ledger.view().checkpoint.size
    last = ballot(candidate, request_, VICTOR, choice=choice, counted=counted)
    cast_vote(candidate.gov, last)
    assert cast_vote(candidate.gov, last).receipt is None
    assert reasons(candidate) == []
    for late in (replace(last, person=OLIVIA), replace(last, counted=counted + 9)):
        with pytest.raises(VoteRefusedError, match="decided before"):
            cast_vote(candidate.gov, late)
    assert len(candidate.kinds("approval.voted")) == 2


def test_a_seat_listed_by_user_name_is_filled_by_whoever_has_it_whatever_the_id(
    candidate, request_
):
    olivia = Person("3", "olivia")
    assert cast_vote(candidate.gov, ballot(candidate, request_, olivia)).receipt
    (vote,) = candidate.kinds("approval.voted")
    assert (vote.person("voter"), vote.body["seat"]) == (olivia, "model_owner")


def test_a_decided_request_takes_no_votes(candidate, request_):
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA, choice=Choice.REJECT))
    with pytest.raises(VoteRefusedError, match="decided before"):
        cast_vote(candidate.gov, ballot(candidate, request_, VICTOR))


def test_a_voided_vote_counts_for_nothing_and_its_voter_may_answer_again(candidate, request_):
    cast = cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    void_vote(candidate.gov, cast, "Airflow answered 403: it did not take the answer")
    standing = standing_of(candidate.gov, candidate.gov.ledger.view(), request_.digest)
    assert standing.votes == ()
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    cast_vote(candidate.gov, ballot(candidate, request_, VICTOR))
    assert count_votes(candidate.gov, request_).decision is Decision.GRANTED


def test_a_task_cannot_void_a_vote(candidate, request_):
    cast = cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    signers = candidate.gov.ledger._signers
    own, signers[KeyRole.ATTESTOR] = signers[KeyRole.ATTESTOR], signers[KeyRole.WRITER]
    void_vote(candidate.gov, cast, "forged")
    signers[KeyRole.ATTESTOR] = own
    (violation,) = candidate.gov.ledger.view().violations
    assert "writer key may not sign approval.vote_voided" in violation.reason
    standing = standing_of(candidate.gov, candidate.gov.ledger.view(), request_.digest)
    assert len(standing.votes) == 1


def test_a_form_that_names_a_request_of_another_task_is_no_gate(candidate, request_):
    other = replace(candidate.GATE, task_id="mine")
    assert cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA, gate=other)) is None
    nowhere = ballot(candidate, request_, OLIVIA)
    nowhere = replace(nowhere, shown=candidate.version)
    assert cast_vote(candidate.gov, nowhere) is None
    assert candidate.kinds("approval.voted", "approval.vote_refused") == []


def test_a_vote_that_no_checkpoint_covers_in_time_does_not_count(candidate, request_, monkeypatch):
    def away(*_: Any, **__: Any) -> None:
        raise LedgerUnavailableError("No signed checkpoint covered the entry.")

    with monkeypatch.context() as patched:
        patched.setattr(type(candidate.gov.ledger), "seal", away)
        with pytest.raises(LedgerUnavailableError):
            cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    standing = standing_of(candidate.gov, candidate.gov.ledger.view(), request_.digest)
    assert standing.votes == ()


def test_without_the_attestors_key_nothing_is_written(candidate, request_):
    del candidate.gov.ledger._signers[KeyRole.ATTESTOR]
    with pytest.raises(ConfigurationError, match="attestor"):
        cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    assert candidate.kinds("approval.voted") == []


def test_what_a_task_reports_of_an_attested_answer_adds_nothing(candidate, request_):
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    told = Answer(Choice.APPROVE, str(request_.digest), "looked", OLIVIA, candidate.clock.now())
    record_answer(candidate.gov, request_, told, candidate.GATE)
    assert len(candidate.kinds("approval.voted")) == 1
    assert reasons(candidate) == []


def test_what_a_task_reports_on_its_own_is_refused(candidate, request_):
    told = Answer(
        Choice.APPROVE, str(request_.digest), "looked at it", OLIVIA, candidate.clock.now()
    )
    record_answer(candidate.gov, request_, told, candidate.GATE)
    assert candidate.kinds("approval.voted") == []
    assert "did not attest" in reasons(candidate)[0]


def test_no_leaf_names_the_voter_or_says_the_comment(candidate, request_):
    cast_vote(candidate.gov, ballot(candidate, request_, OLIVIA))
    with pytest.raises(VoteRefusedError):
        cast_vote(candidate.gov, ballot(candidate, request_, ERIN, comment="mine, and good"))
    for leaf in candidate.gov.ledger.view().leaves_from(0):
        payload = base64.b64decode(json.loads(leaf)["payload"])
        assert not any(word in payload for word in (b"olivia", b"erin", b"looked", b"mine"))


def test_the_wait_for_a_checkpoint_is_bounded():
    assert 0 < attest_vote.SEAL_TIMEOUT_S <= 30


RISK_OFFICER = Person("rita", "Rita")


def with_role(candidate: Any) -> Any:
    candidate.with_pack("role: model_owner\n", "role: model_owner\n    roles: [Risk]\n")
    candidate.validate_model()
    return candidate.ask()


def test_who_holds_a_role_of_a_seat_fills_it_and_the_vote_says_so(candidate):
    request = with_role(candidate)
    with pytest.raises(VoteRefusedError, match="on no seat"):
        cast_vote(candidate.gov, ballot(candidate, request, RISK_OFFICER, roles=("Op",)))
    cast_vote(candidate.gov, ballot(candidate, request, RISK_OFFICER, roles=("Risk", "Op")))
    (entry,) = candidate.kinds("approval.voted")
    assert (entry.body["seat"], entry.body["roles"]) == ("model_owner", ["Op", "Risk"])
    standing = count_votes(candidate.gov, request)
    assert [vote.voter for vote in standing.count.seats[0].votes] == [RISK_OFFICER]
    (seat,) = [seat for seat in standing.pack.seats if seat.roles]
    assert standing.may_still_fill(seat)[-1] == "whoever holds the role Risk"


def test_of_many_and_long_roles_those_of_the_pack_are_kept(candidate):
    request = with_role(candidate)
    held = ("Risk", *(f"{number:03}{'x' * 300}" for number in range(300)))
    cast_vote(candidate.gov, ballot(candidate, request, RISK_OFFICER, roles=held))
    (entry,) = candidate.kinds("approval.voted")
    assert len(entry.body["roles"]) == attest_vote.MAX_ROLES
    assert "Risk" in entry.body["roles"]


def test_roles_that_a_task_states_count_for_nothing(candidate):
    request = with_role(candidate)
    body = {"request_sha256": str(request.digest), "choice": "approve", "roles": ["Risk"]}
    texts = {"comment": "looked at the evidence"}
    people = {"voter": RISK_OFFICER}
    candidate.entry("approval.voted", body, version=candidate.version, people=people, texts=texts)
    standing = standing_of(candidate.gov, candidate.gov.ledger.view(), request.digest)
    assert [vote.roles for vote in standing.votes] == [()]
