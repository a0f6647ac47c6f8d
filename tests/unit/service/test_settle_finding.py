from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    GuardRefusedError,
    LedgerIntegrityError,
    NotEntitledError,
    NotInForceError,
    RequestRefusedError,
    UnknownSubjectError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.findings import all_findings, high_findings
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.settle_finding import accept_finding, close_finding
from airflow_mlgov.service.verify_use import clear_promotion

ID = "F-0000000a"
RULES = """findings:
  close: [victor, erin]
  accept: [olivia]
  accept_max_days: 30
valid_days:"""
BOTH = """findings:
  close: [victor, olivia]
  accept: [victor, olivia]
  accept_max_days: 30
valid_days:"""
WHY = "the segment is 0.1 % of volume"
VICTOR, OLIVIA, ERIN = (Person(name, name) for name in ("victor", "olivia", "erin"))


class Case:
    """A candidate with an open High finding, under a pack that says who settles it."""

    def __init__(self, world, rules=RULES) -> None:
        self.world, self.gov = world, world.gov
        if rules:
            world.with_pack("valid_days:", rules)
            world.validate_model()
        self.open()

    def open(self, severity: str = "high", name: str = "one") -> None:
        body = {
            "finding": ID,
            "severity": severity,
            "test": "stability.psi",
            "due_at": "2027-01-01T00:00:00.000Z",
        }
        draft = EntryDraft(
            "finding.opened",
            "retail_pd",
            self.world.version,
            body,
            (ID, name),
            people={"owner": OLIVIA},
            texts={"summary": "PSI rose"},
        )
        self.gov.ledger.seal(self.gov.ledger.append(draft))

    @property
    def finding(self):
        (found,) = [f for f in all_findings(self.gov.ledger.view()) if f.id == ID]
        return found

    def blocks(self) -> bool:
        view, now = self.gov.ledger.view(), self.gov.clock.now()
        return bool(high_findings(view, "retail_pd", self.world.version, now))

    def close(self, person=VICTOR, reason="recalibrated", finding=ID, model="retail_pd"):
        return close_finding(self.gov, model, finding, reason, person)

    def accept(self, person=OLIVIA, days=30):
        until = self.gov.clock.now().date() + timedelta(days=days)
        return accept_finding(self.gov, "retail_pd", ID, WHY, person, until=until)


@pytest.fixture
def case(candidate):
    return Case(candidate)


def test_closed_it_blocks_no_request_any_more(case):
    with pytest.raises(RequestRefusedError, match="finding close"):
        case.world.ask()
    case.close()
    assert not case.finding.is_open
    assert (case.finding.settled_by, case.finding.reason) == ("victor", "recalibrated")
    (entry,) = case.world.kinds("finding.closed")
    assert entry.signed_by is KeyRole.ATTESTOR
    case.world.ask()
    with pytest.raises(NotInForceError, match="closed already"):
        case.close()
    case.open(name="again")
    assert case.finding.is_open
    assert case.finding.settled_by == ""


def test_accepted_it_blocks_nothing_until_the_day_is_over(case):
    case.accept(days=2)
    assert case.finding.is_open
    request = case.world.ask()
    case.world.approve(request)
    use, view = case.world.use(), case.gov.ledger.view()
    clear_promotion(case.gov, view, use, case.world.version)
    now = case.world.clock.moment
    end = case.finding.accepted_until
    assert end.date() == now.date() + timedelta(days=3)
    case.world.clock.moment = end - timedelta(seconds=1)
    assert not case.blocks()
    case.world.clock.moment = end
    assert case.blocks()
    with pytest.raises(GuardRefusedError, match="open High findings"):
        clear_promotion(case.gov, case.gov.ledger.view(), use, case.world.version)


def test_the_same_test_run_again_does_not_end_an_acceptance_and_a_worse_result_does(candidate):
    case = Case(candidate)
    case.accept()
    case.open(name="again")
    assert not case.blocks()
    case.open("low", name="better")
    assert not case.blocks()
    case.close()
    case.open("low", name="low")
    case.accept()
    case.open("high", name="worse")
    assert case.blocks()


@pytest.mark.parametrize(
    ("settle", "person", "said"),
    [
        (Case.close, OLIVIA, "does not let you"),
        (Case.accept, VICTOR, "does not let you"),
        (Case.close, ERIN, "You built this version"),
        (Case.close, Person("17", "Erin"), "You built this version"),
    ],
)
def test_who_may_not(case, settle, person, said):
    with pytest.raises(NotEntitledError, match=said):
        settle(case, person)
    assert case.blocks()


@pytest.mark.parametrize("days", [-1, 31])
def test_not_in_the_past_and_not_for_longer_than_the_pack_says(case, days):
    with pytest.raises(NotEntitledError, match="lets a finding be accepted until"):
        case.accept(days=days)
    assert case.blocks()


def test_what_nobody_knows_and_no_reason(case):
    with pytest.raises(UnknownSubjectError, match="has no finding"):
        case.close(finding="F-ffffffff")
    with pytest.raises(ConfigurationError, match="no reason"):
        case.close(reason="  ")


def test_without_rules_the_seats_close_and_nobody_accepts(candidate):
    case = Case(candidate)
    case.world.with_pack(RULES, "valid_days:")
    with pytest.raises(NotEntitledError, match="does not let you"):
        case.accept()
    with pytest.raises(NotEntitledError, match="does not let you"):
        case.close(Person("zoe", "zoe"))
    case.close(OLIVIA)
    assert not case.blocks()


@pytest.mark.parametrize("settle", [Case.close, Case.accept])
def test_whoever_asked_for_the_approval_may_not(candidate, settle):
    """The finding came after the request, which victor's run had made."""
    candidate.with_pack("valid_days:", BOTH)
    candidate.validate_model()
    candidate.ask(requester=VICTOR)
    case = Case(candidate, rules=None)
    with pytest.raises(NotEntitledError, match="asked for its approval"):
        settle(case, VICTOR)
    settle(case, OLIVIA)
    case.open(name="again")
    candidate.with_pack("requester: true", "requester: false")
    settle(case, VICTOR)


def test_what_shows_that_it_is_remedied_is_named_by_its_digest(case):
    document = Digest.of(b"report of the recalibration")
    close_finding(case.gov, "retail_pd", ID, WHY, VICTOR, evidence=document)
    (entry,) = case.world.kinds("finding.closed")
    assert entry.body == {"finding": ID, "evidence_sha256": str(document)}


def test_nobody_settles_where_a_trainers_name_was_erased(case, monkeypatch):
    monkeypatch.setattr("airflow_mlgov.service.independence.person_of", lambda *_: None)
    with pytest.raises(NotEntitledError, match="erased"):
        case.close()


@pytest.mark.parametrize("kind", ["finding.closed", "finding.accepted"])
def test_bypass_19_what_a_task_settles_counts_for_nothing_and_is_reported(case, kind):
    """With the writer's key: neither through the service nor past it."""
    until = {"until": "2027-01-01T00:00:00.000Z"} if kind == "finding.accepted" else {}
    draft = EntryDraft(kind, "retail_pd", case.world.version, {"finding": ID, **until}, ("x",))
    with pytest.raises(LedgerIntegrityError, match="writer key may not sign"):
        case.gov.ledger.append(draft)
    case.world.forge(draft)
    (violation,) = case.gov.ledger.view().violations
    assert f"writer key may not sign {kind}" in violation.reason
    assert case.blocks()
    assert case.finding.settled_by == ""
    with pytest.raises(RequestRefusedError, match="open High findings"):
        case.world.ask()
