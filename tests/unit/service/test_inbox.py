from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov.dossiers.site import Site
from airflow_mlgov.errors import ApprovalDeniedError, UnknownSubjectError
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.inbox import collect_inbox
from airflow_mlgov.service.settle_finding import accept_finding
from airflow_mlgov.service.stop import revoke_approval


def inbox(world, user: str | None = None, **changes):
    reader = Person(user, user) if user else None
    return collect_inbox(world.gov, world.gov.ledger.view(), reader=reader, **changes)


def only(found):
    (request,) = found.requests
    return request


def again(world, run_id: str):
    return world.ask(version=world.version, source=Source("other_dag", run_id, "gate", -1, 1))


def test_nothing_waits(candidate):
    found = inbox(candidate)
    assert (found.requests, found.findings, found.hidden) == ((), (), 0)


def test_an_open_request_waits_for_those_who_may_fill_its_seats(candidate):
    """erin stands on the validators' seat; as the developer who asked she may fill none."""
    request = candidate.ask()
    asked = only(inbox(candidate))
    assert asked.standing.request == request
    assert [(seat.role, seat.open_count, seat.who_may) for seat in asked.seats] == [
        ("model_owner", 1, ("olivia",)),
        ("independent_validator", 1, ("victor",)),
    ]
    assert (asked.asked_by, asked.waits_for_reader, asked.voted) == ("erin", False, ())
    for user, is_asked in (("olivia", True), ("OLIVIA", True), ("victor", True), ("erin", False)):
        assert only(inbox(candidate, user)).waits_for_reader is is_asked


def test_who_has_voted_is_not_asked_again_and_sees_the_vote(candidate):
    candidate.answer(candidate.ask(), "olivia")
    asked = only(inbox(candidate, "olivia"))
    assert not asked.waits_for_reader
    assert [vote.choice for vote in asked.voted] == [Choice.APPROVE]
    assert [seat.role for seat in asked.seats] == ["independent_validator"]
    other = only(inbox(candidate, "victor"))
    assert (other.waits_for_reader, other.voted) == (True, ())


def test_who_has_withdrawn_a_vote_is_asked_again(candidate):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    candidate.answer(request, "olivia", Choice.WITHDRAW)
    asked = only(inbox(candidate, "olivia"))
    assert asked.waits_for_reader
    assert [vote.choice for vote in asked.voted] == [Choice.APPROVE, Choice.WITHDRAW]


@pytest.mark.parametrize("end", ["granted", "denied", "revoked", "too late"])
def test_what_is_over_waits_for_nobody(candidate, end):
    if end == "too late":
        candidate.with_pack("valid_days: 365", "valid_days: 365\ndecide_within_days: 5")
        candidate.validate_model("again")
    request = candidate.ask()
    assert only(inbox(candidate, "olivia")).waits_for_reader
    if end == "granted":
        candidate.approve(request)
    if end == "denied":
        with pytest.raises(ApprovalDeniedError):
            candidate.answer(request, "victor", Choice.REJECT)
    if end == "revoked":
        revoke_approval(candidate.gov, request.digest, "wrong", Person("olivia", "olivia"))
    if end == "too late":
        candidate.clock.moment += timedelta(days=5)
    assert inbox(candidate).requests == ()


def test_what_waits_for_the_reader_comes_first_then_the_oldest(candidate):
    first, second, third = candidate.ask(), again(candidate, "run-2"), again(candidate, "run-3")
    candidate.answer(first, "olivia")
    runs = [one.standing.request for one in inbox(candidate, "olivia").requests]
    assert runs == [second, third, first]
    assert [one.standing.request for one in inbox(candidate).requests] == [first, second, third]


def test_requests_of_dags_that_the_reader_may_not_read_are_only_counted(candidate):
    candidate.ask()
    shown = again(candidate, "run-2")
    found = inbox(candidate, "olivia", may_read=lambda dag: dag == "other_dag")
    assert only(found).standing.request == shown
    assert found.hidden == 1


def test_one_model_only(candidate):
    candidate.ask()
    assert only(inbox(candidate, model="retail_pd"))
    with pytest.raises(UnknownSubjectError):
        inbox(candidate, model="unknown")


def test_findings_are_shown_to_their_owner_once_they_are_due(candidate):
    candidate.open_finding("medium")  # due on 1 July
    candidate.clock.moment = candidate.clock.moment.replace(month=6, day=30)
    assert inbox(candidate, "olivia").findings == ()
    candidate.clock.moment = candidate.clock.moment.replace(month=7, day=1, hour=0)
    (due,) = inbox(candidate, "olivia").findings
    assert (due.id, due.owner) == ("F-00000001", "olivia")
    assert inbox(candidate, "victor").findings == ()
    assert inbox(candidate).findings == (due,)
    candidate.with_pack("valid_days: 365", "valid_days: 365\nidentities: [[olivia, u17]]")
    assert inbox(candidate, "u17").findings == (due,)
    del candidate.gov.inventory["retail_pd"]
    assert inbox(candidate, "olivia").findings == (due,)
    assert inbox(candidate, "u17").findings == ()


def test_a_finding_whose_risk_is_carried_is_not_due_until_that_ends(candidate):
    rules = "findings: {accept: [olivia], close: [olivia], accept_max_days: 30}"
    candidate.with_pack("valid_days: 365", f"valid_days: 365\n{rules}")
    candidate.open_finding("medium")
    candidate.clock.moment += timedelta(days=29)
    olivia, until = Person("olivia", "olivia"), candidate.clock.moment.date() + timedelta(days=5)
    accept_finding(candidate.gov, "retail_pd", "F-00000001", "small", olivia, until=until)
    candidate.clock.moment += timedelta(days=5)
    assert inbox(candidate, "olivia").findings == ()
    candidate.clock.moment += timedelta(days=1)
    assert len(inbox(candidate, "olivia").findings) == 1


def test_a_name_that_was_erased_is_not_shown(candidate):
    candidate.ask()
    (entry,) = candidate.kinds("approval.requested")
    candidate.gov.ledger._store.erase([(entry.key, "people.requester")])
    candidate.gov.ledger._viewed = None
    assert only(inbox(candidate)).asked_by == "(erased)"


def test_a_run_that_nobody_triggered_was_asked_by_nobody(candidate):
    candidate.ask(requester=None)
    assert only(inbox(candidate)).asked_by == ""


def test_as_json_with_where_to_go_on(candidate):
    source = Source("team a/dag", "manual__2026-06-01T12:00:00+00:00", "gate", 2, 1)
    request = candidate.ask(version=candidate.version, source=source)
    candidate.answer(request, "olivia")
    candidate.open_finding("medium")
    candidate.clock.moment += timedelta(days=30)
    said = inbox(candidate, "olivia").as_json(Site("https://airflow.example.com/bank"))
    digest, version = str(request.digest), str(candidate.version)
    assert said == {
        "requests": [
            {
                "request_sha256": digest,
                "model": "retail_pd",
                "version": version,
                "target": "production",
                "dag_run": "team a/dag manual__2026-06-01T12:00:00+00:00",
                "asked_at": "2026-06-01T12:00:00.000Z",
                "asked_by": "erin",
                "decide_by": None,
                "open_seats": [{"role": "independent_validator", "open": 1, "who_may": ["victor"]}],
                "waits_for_you": False,
                "you_voted": [
                    {
                        "choice": "approve",
                        "voted_at": "2026-06-01T12:00:01.000Z",
                        "not_counted_because": [],
                    }
                ],
                "answer_at": "https://airflow.example.com/bank/dags/team%20a%2Fdag/runs/"
                "manual__2026-06-01T12%3A00%3A00%2B00%3A00/tasks/gate/mapped/2/required_actions",
                "evidence_at": f"https://airflow.example.com/bank/mlgov/requests/{digest}",
            }
        ],
        "findings": [
            {
                "finding": "F-00000001",
                "model": "retail_pd",
                "version": version,
                "severity": "medium",
                "test": "discrimination.auc",
                "summary": "AUC fell",
                "owner": "olivia",
                "due_at": "2026-07-01T00:00:00.000Z",
            }
        ],
        "hidden": 0,
    }


def test_a_vote_that_does_not_count_is_shown_with_the_reason(candidate):
    from airflow_mlgov.records.kinds import KeyRole
    from airflow_mlgov.service.ledger import EntryDraft

    request = candidate.ask()
    draft = EntryDraft(
        "approval.voted",
        "retail_pd",
        candidate.version,
        {"request_sha256": str(request.digest), "choice": "approve"},
        ("x",),
        people={"voter": Person("victor", "victor")},
        texts={"comment": "short"},
    )
    candidate.gov.ledger.seal(candidate.gov.ledger.append(draft, role=KeyRole.ATTESTOR))
    found = inbox(candidate, "victor")
    assert only(found).waits_for_reader, "it takes another answer"
    (voted,) = found.as_json(Site(""))["requests"][0]["you_voted"]
    assert voted["not_counted_because"] == ["the comment is shorter than 10 characters"]
