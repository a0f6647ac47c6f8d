"""The evidence page's contents, gathered from a real ledger."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from airflow_mlgov.dossiers.evidence import RequestState
from airflow_mlgov.dossiers.pages import write_evidence_page
from airflow_mlgov.dossiers.site import Site
from airflow_mlgov.errors import ApprovalDeniedError, EvidenceError, UnknownSubjectError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.attest_vote import Ballot, cast_vote, void_vote
from airflow_mlgov.service.dossier import collect_dossier
from airflow_mlgov.service.stop import revoke_approval, stop_model

VICTOR, OLIVIA = Person("victor", "victor"), Person("olivia", "olivia")


@pytest.fixture
def least_assurance():
    return "L1"


def dossier_of(world, request, reader=VICTOR):
    return collect_dossier(world.gov, world.gov.ledger.view(), request.digest, reader)


def test_an_open_request(candidate):
    request = candidate.ask()
    candidate.open_finding("low")
    found = dossier_of(candidate, request)
    assert found.request == request
    assert (found.asked_by, found.registry_version, found.tier) == ("erin", "1", 1)
    assert (found.state, found.is_pack_in_force, found.stop) == (RequestState.OPEN, True, None)
    assert [(line.kind, line.problem) for line in found.documents] == [
        ("data.validated", ""),
        ("model.trained", ""),
        ("model.validated", ""),
    ]
    assert [test.result.title for report in found.reports for test in report.tests] == ["AUC"]
    assert [check.line.rows for check in found.data] == [21000]
    assert [training.line.script for training in found.trainings] == ["train.py"]
    assert [(finding.id, finding.is_open) for finding in found.findings] == [("F-00000001", True)]
    assert [line.event for line in found.history] == ["asked"]
    assert found.is_reader_waited_for
    assert not dossier_of(candidate, request, candidate.ERIN).is_reader_waited_for
    checkpoint = candidate.gov.ledger.view().checkpoint
    assert (found.ledger_size, found.ledger_root) == (checkpoint.size, checkpoint.root_hash)
    assert "Approve <bdi>Retail credit card" in write_evidence_page(found, Site(""))


def test_findings_of_other_versions_stay_out(candidate):
    candidate.open_finding("low")
    candidate.train('{"points": [3]}')
    candidate.validate_model("again")
    assert dossier_of(candidate, candidate.ask()).findings == []


def test_the_history_tells_what_counts_and_why_not(candidate):
    request = candidate.ask()
    candidate.answer(request, "erin")
    candidate.answer(request, "olivia", comment="ranks and calibrates well")
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(request, "victor", Choice.REJECT, "the holdout is too small")
    found = dossier_of(candidate, request)
    assert [
        (line.event, line.who, line.assurance, line.comment, line.is_counted, line.note)
        for line in found.history
    ] == [
        ("asked", "erin", "", "", None, ""),
        (
            "answered",
            "erin",
            "L1",
            "looked at the evidence",
            False,
            "the voter is the requester; the voter is a developer of this version",
        ),
        ("approved", "olivia", "L1", "ranks and calibrates well", True, ""),
        ("rejected", "victor", "L1", "the holdout is too small", True, ""),
    ]
    assert found.state is RequestState.DENIED
    assert [seat.filled_by for seat in found.seats] == [("olivia (L1)",), ()]


def test_a_vote_that_airflow_did_not_take_is_void(candidate):
    request = candidate.ask()
    gate = Source(request.dag_id, request.run_id, request.task_id, request.map_index)
    ballot = Ballot(
        request.digest, gate, str(request.digest), Choice.APPROVE, "looked at it", OLIVIA
    )
    void_vote(candidate.gov, cast_vote(candidate.gov, ballot), "Airflow said 400")
    line = dossier_of(candidate, request).history[-1]
    assert (line.event, line.is_counted, line.note) == (
        "approved",
        False,
        "void: Airflow said 400",
    )


def test_a_vote_of_a_task_is_shown_and_does_not_count(candidate):
    request = candidate.ask()
    candidate.entry(
        "approval.voted",
        {"request_sha256": str(request.digest), "choice": "approve"},
        version=request.version,
        people={"voter": OLIVIA},
        texts={"comment": "forged by a task"},
    )
    line = dossier_of(candidate, request).history[-1]
    assert (line.who, line.assurance, line.is_counted) == ("olivia", "L0", False)
    assert "below the L1" in line.note


def test_an_erased_voter_shows_as_erased(candidate, monkeypatch):
    request = candidate.ask()
    candidate.answer(request, "olivia")
    view = candidate.gov.ledger.view()
    voted = view.select("approval.voted")[0]
    kept = voted.disclose
    object.__setattr__(voted, "disclose", lambda key: {} if key == voted.key else kept(key))
    found = collect_dossier(candidate.gov, view, request.digest, VICTOR)
    assert (found.history[-1].who, found.history[-1].comment) == ("(erased)", "(erased)")
    assert found.history[-1].is_counted is False


@pytest.mark.parametrize("kind", ["data.validated", "model.trained", "model.validated"])
@pytest.mark.parametrize("damage", ["missing", "other shape"])
def test_a_document_that_cannot_be_read_is_an_error_on_the_page(candidate, kind, damage):
    request = candidate.ask()
    digest = dict(request.evidence)[kind]
    get = candidate.gov.evidence.get

    def damaged(wanted):
        if wanted != digest:
            return get(wanted)
        if damage == "missing":
            raise EvidenceError(f"Evidence {digest} was altered: it now holds something else.")
        return json.dumps({"x": 1}).encode()

    candidate.gov.evidence.get = damaged
    found = dossier_of(candidate, request)
    (unread,) = found.unread
    assert (unread.kind, unread.digest) == (kind, digest)
    assert str(digest) in unread.problem
    html = write_evidence_page(found, Site(""))
    assert "Do not decide on this page yet: 1 of 3" in html
    assert "✗ error" in html


def test_a_pack_that_cannot_be_read_is_an_error(candidate):
    request = candidate.ask()
    get = candidate.gov.evidence.get

    def damaged(wanted):
        return b"altered" if wanted == request.policy else get(wanted)

    candidate.gov.evidence.get = damaged
    with pytest.raises(EvidenceError, match=str(request.policy)):
        dossier_of(candidate, request)


def test_a_request_that_nobody_made(candidate):
    candidate.ask()
    with pytest.raises(UnknownSubjectError, match="holds no request"):
        collect_dossier(candidate.gov, candidate.gov.ledger.view(), Digest.of(b"x"), VICTOR)


def test_what_became_of_an_approval(candidate):
    request = candidate.ask()
    candidate.approve(request)
    granted = dossier_of(candidate, request)
    assert granted.state is RequestState.GRANTED
    assert granted.expires_at - granted.granted_at == timedelta(days=365)
    assert granted.used_by == ""
    use = candidate.use()
    candidate.entry(
        "approval.consumed",
        {
            "request_sha256": str(request.digest),
            "target": "production",
            "use": use.source.as_json(),
            "alias": "champion",
        },
        version=request.version,
        source=use.source,
    )
    consumed = dossier_of(candidate, request)
    assert consumed.state is RequestState.CONSUMED
    assert consumed.used_by == "task promote in run run-1 of retail_pd"
    candidate.clock.moment += timedelta(days=366)
    assert dossier_of(candidate, request).state is RequestState.EXPIRED
    revoke_approval(candidate.gov, request.digest, "wrong cut-off", VICTOR)
    revoked = dossier_of(candidate, request)
    assert revoked.state is RequestState.REVOKED
    line = revoked.history[-1]
    assert (line.event, line.who, line.comment) == ("revoked", "victor", "wrong cut-off")


def test_a_stop_is_shown_with_its_reason(candidate):
    request = candidate.ask()
    zoe = Person("zoe", "Zoe")
    stop_model(candidate.gov, "retail_pd", "scores nonsense", zoe, role=KeyRole.ATTESTOR)
    stop = dossier_of(candidate, request).stop
    assert (stop.who, stop.reason) == ("Zoe", "scores nonsense")


def test_what_is_in_use_stands_beside(candidate):
    first = candidate.version
    assert dossier_of(candidate, candidate.ask()).in_use is None
    candidate.entry(
        "model.promoted",
        {
            "request_sha256": "sha256:" + "5" * 64,
            "target": "production",
            "registry": "folder",
            "alias": "champion",
        },
        version=first,
    )
    candidate.train('{"points": [3]}', run_id="run-2")
    candidate.validate_model("again")
    request = candidate.ask(source=Source("retail_pd", "run-2", "gate", -1, 1))
    in_use = dossier_of(candidate, request).in_use
    assert (in_use.version, in_use.number, in_use.alias) == (first, "1", "champion")
    assert in_use.statistics == {("discrimination.auc", ""): 0.77}
    candidate.gov.evidence.get = lambda digest, get=candidate.gov.evidence.get: (
        b"{}" if b"discrimination" in get(digest) and b"again" not in get(digest) else get(digest)
    )
    assert dossier_of(candidate, request).in_use.statistics == {}


def test_another_pack_in_force_is_said(candidate):
    request = candidate.ask()
    candidate.with_pack("valid_days: 365", "valid_days: 30")
    found = dossier_of(candidate, request)
    assert (found.is_pack_in_force, found.pack.valid_days) == (False, 365)


def test_looking_writes_nothing(candidate):
    request = candidate.ask()
    before = candidate.gov.ledger.view().leaves[:]
    dossier_of(candidate, request)
    assert candidate.gov.ledger.view().leaves == before
    assert candidate.gov.ledger.inbox() == []
