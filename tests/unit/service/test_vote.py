from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest

from airflow_mlgov.errors import ApprovalDeniedError, RequestRefusedError
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.governance import ApprovalRequest, Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.request_approval import _required_evidence
from airflow_mlgov.service.vote import MAX_COMMENT, Answer, count_votes, record_answer


@pytest.fixture
def least_assurance() -> str:
    return "L0"


def reasons(world) -> list[str]:
    return [
        reason for entry in world.kinds("approval.vote_refused") for reason in entry.body["reasons"]
    ]


def test_two_people_grant(candidate):
    request = candidate.ask()
    assert candidate.answer(request, "olivia").decision is Decision.OPEN
    assert candidate.answer(request, "victor").decision is Decision.GRANTED
    statement = candidate.kinds("approval.granted")[0].body["statement"]
    assert statement["subject"][0]["digest"]["sha256"] == candidate.version.hex
    assert len(statement["predicate"]["votes"]) == 2


def test_no_name_and_no_comment_stands_in_a_leaf(candidate):
    candidate.approve(candidate.ask())
    ledger = candidate.gov.ledger
    leaves = list(ledger._store.leaves(0, ledger.checkpoint().size))
    assert len(leaves) > 8
    for leaf in leaves:
        payload = base64.b64decode(json.loads(leaf)["payload"])
        assert not any(text in payload for text in (b"olivia", b"victor", b"erin", b"looked at"))
    assert candidate.kinds("approval.voted")[0].text("comment") == "looked at the evidence"


def test_the_requester_who_develops_is_refused_and_it_is_on_record(candidate):
    request = candidate.ask()
    assert candidate.answer(request, "erin").decision is Decision.OPEN
    assert reasons(candidate) == [
        "the voter is the requester",
        "the voter is a developer of this version",
    ]


def test_the_same_answer_read_twice_is_one_vote(candidate):
    request = candidate.ask()
    olivia = Person("olivia", "olivia")
    answer = Answer(
        Choice.APPROVE, str(request.digest), "looked at it all", olivia, candidate.clock.now()
    )
    for _ in range(2):
        record_answer(candidate.gov, request, answer, candidate.GATE)
    assert len(candidate.kinds("approval.voted")) == 1


def test_one_person_is_never_counted_twice(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    assert candidate.answer(request, "olivia").decision is Decision.OPEN
    assert reasons(candidate) == ["the voter has voted before"]


def test_one_rejection_ends_it(candidate):
    request = candidate.ask()
    with pytest.raises(ApprovalDeniedError, match="denied: rejected by an approver"):
        candidate.answer(request, "victor", Choice.REJECT)
    assert len(candidate.kinds("approval.denied")) == 1
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(request, "olivia")
    assert reasons(candidate) == ["the request was decided before"]


def test_an_old_form_cannot_approve_a_new_request(candidate):
    old = candidate.ask()
    candidate.train('{"points": [3]}')
    candidate.validate_model()
    new = candidate.ask()
    assert candidate.answer(new, "olivia", digest=old.digest).decision is Decision.OPEN
    assert candidate.kinds("approval.voted") == []
    assert "it was old" in reasons(candidate)[0]


def test_votes_for_the_old_request_do_not_count_for_the_new_one(candidate):
    candidate.answer(candidate.ask(), "olivia")
    candidate.train('{"points": [3]}')
    candidate.validate_model()
    new = candidate.ask()
    assert candidate.answer(new, "victor").decision is Decision.OPEN


@pytest.mark.parametrize("text", ["", "sha256:" + "0" * 64, "nonsense"])
def test_a_vote_without_the_right_digest_is_refused(candidate, text):
    request = candidate.ask()
    candidate.answer(request, "olivia", digest=text or " ")
    assert candidate.kinds("approval.voted") == []


def test_an_answer_by_nobody_is_no_vote(candidate):
    request = candidate.ask()
    candidate.answer(request, None)
    assert candidate.kinds("approval.voted") == []
    assert "no person answered" in reasons(candidate)[0]


def test_a_vote_written_ahead_of_its_request_does_not_count(candidate):
    """A task could compute the digest of a request before it asks, and vote for it first."""
    pack = candidate.gov.packs["retail_credit"]
    entry = candidate.gov.model("retail_pd")
    evidence = _required_evidence(
        candidate.gov, candidate.gov.ledger.view(), entry, pack, candidate.version
    )
    ahead = ApprovalRequest(
        "retail_pd",
        candidate.version,
        "production",
        pack.digest,
        evidence,
        "retail_pd",
        "run-1",
        "gate",
        -1,
    )
    candidate.gov.evidence.put(pack.source)
    for who in ("olivia", "victor"):
        answer = Answer(
            Choice.APPROVE,
            str(ahead.digest),
            "looked at it all",
            Person(who, who),
            candidate.clock.now(),
        )
        record_answer(candidate.gov, ahead, answer, candidate.GATE)
    request = candidate.ask()
    assert request == ahead
    assert count_votes(candidate.gov, request).decision is Decision.OPEN


def test_a_forged_grant_counts_for_nothing(candidate):
    request = candidate.ask()
    candidate.entry(
        "approval.granted",
        {"request_sha256": str(request.digest), "statement": {}},
        version=candidate.version,
    )
    assert count_votes(candidate.gov, request).decision is Decision.OPEN


def test_an_answer_that_the_form_does_not_offer_is_no_vote(candidate):
    request = candidate.ask()
    olivia = Person("olivia", "olivia")
    answer = Answer(None, str(request.digest), "looked at it", olivia, candidate.clock.now())
    record_answer(candidate.gov, request, answer, candidate.GATE)
    assert reasons(candidate) == ["it is no answer that the form offers"]


def test_a_strange_comment_is_kept_cut_and_counted(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia", comment="\ud800e\u0301" + "x" * 100_000)
    kept = candidate.kinds("approval.voted")[0].text("comment")
    assert kept.startswith("?\u00e9xxx")
    assert len(kept) == MAX_COMMENT


def test_a_high_finding_opened_while_people_vote_stops_the_grant(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    candidate.open_finding("high")
    with pytest.raises(RequestRefusedError, match="F-00000001"):
        candidate.answer(request, "victor")
    assert candidate.kinds("approval.granted") == []


def test_a_gate_resumes_after_the_inventory_names_another_developer(candidate):
    request = candidate.ask()
    candidate.with_inventory(developers=("erin", "nina"))
    assert candidate.ask() == request
    assert len(candidate.kinds("approval.requested")) == 1


def test_what_is_on_record_about_a_vote_stays_as_it_is(candidate, monkeypatch):
    request = candidate.ask()
    candidate.answer(request, "erin")
    monkeypatch.setattr("airflow_mlgov.policy.tally._duties", lambda *_: iter(()))
    count_votes(candidate.gov, request)
    assert len(reasons(candidate)) == 2


def test_time_runs_out_for_a_request_and_denies_it(candidate):
    candidate.with_pack("valid_days:", "decide_within_days: 3\nvalid_days:")
    candidate.validate_model()
    request = candidate.ask()
    candidate.answer(request, "olivia")
    candidate.clock.moment += timedelta(days=3)
    with pytest.raises(ApprovalDeniedError, match="nobody decided in time"):
        candidate.answer(request, "victor")
    (denied,) = candidate.kinds("approval.denied")
    assert denied.body["reason"] == "nobody decided in time"
    assert "the time to decide was over" in reasons(candidate)


def test_who_asked_withdraws_the_request(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    with pytest.raises(ApprovalDeniedError, match="withdrawn by who asked"):
        candidate.answer(request, "erin", Choice.WITHDRAW)
    (denied,) = candidate.kinds("approval.denied")
    assert denied.body["reason"] == "withdrawn by who asked"


def test_an_approver_withdraws_a_vote_until_the_decision(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    standing = candidate.answer(request, "olivia", Choice.WITHDRAW)
    assert [seat.open_count for seat in standing.count.seats] == [1, 1]
    candidate.answer(request, "victor")
    assert candidate.answer(request, "olivia").decision is Decision.GRANTED
    assert candidate.answer(request, "olivia", Choice.WITHDRAW).decision is Decision.GRANTED
    assert reasons(candidate)[-1] == "the request was decided before"
