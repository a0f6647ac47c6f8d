from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.findings import (
    UNREADABLE,
    all_findings,
    finding_id,
    is_about,
    open_findings,
)
from airflow_mlgov.service.ledger import EntryDraft

ONE, TWO = "F-00000001", "F-00000002"
VERSION, OTHER = Digest.of(b"one"), Digest.of(b"two")


class Book:
    """Writes findings as tasks and the api-server would."""

    def __init__(self, world) -> None:
        self.ledger, self.count = world.gov.ledger, 0

    def open(self, finding=ONE, *, version=VERSION, severity="high", due="2026-07-01", **changes):
        self._append(
            "finding.opened",
            {
                "finding": finding,
                "severity": severity,
                "test": "discrimination.auc",
                "due_at": f"{due}T00:00:00.000Z",
                "evidence_sha256": str(Digest.of(b"report")),
                "segment": "",
            }
            | changes,
            version,
        )

    def close(self, finding=ONE, *, version=VERSION):
        self._append("finding.closed", {"finding": finding}, version, KeyRole.ATTESTOR)

    def _append(self, kind, body, version, role=KeyRole.WRITER):
        self.count += 1
        draft = EntryDraft(
            kind=kind,
            model="retail_pd",
            version=version,
            body=body,
            identity=(str(self.count),),
            people={"owner": Person("7", "olivia")} if kind == "finding.opened" else {},
            texts={"summary": "AUC fell"} if kind == "finding.opened" else {},
        )
        self.ledger.seal(self.ledger.append(draft, role=role))

    def open_ids(self, model=None):
        return [f.id for f in open_findings(self.ledger.view(), model)]


@pytest.fixture
def book(world):
    return Book(world)


def test_an_open_finding_says_everything(book):
    book.open()
    finding = open_findings(book.ledger.view(), "retail_pd")[0]
    assert (finding.id, finding.model, finding.version) == (ONE, "retail_pd", VERSION)
    assert (finding.severity, finding.test) == (Severity.HIGH, "discrimination.auc")
    assert (finding.summary, finding.owner) == ("AUC fell", "olivia")
    assert finding.due_at == datetime(2026, 7, 1, tzinfo=UTC)


def test_closed_is_not_open_and_still_there(book):
    book.open()
    book.open(TWO)
    book.close()
    assert book.open_ids() == [TWO]
    states = [(f.id, f.is_open) for f in all_findings(book.ledger.view())]
    assert states == [(ONE, False), (TWO, True)]


def test_a_closing_of_another_version_closes_nothing(book):
    book.open()
    book.close(version=OTHER)
    assert book.open_ids() == [ONE]


def test_opened_again_after_it_was_closed(book):
    book.open()
    book.close()
    book.open(due="2026-09-01")
    found = open_findings(book.ledger.view())
    assert [(f.id, f.due_at.month) for f in found] == [(ONE, 9)]


def test_opening_again_can_make_it_worse_and_never_better(book):
    book.open(severity="high", due="2026-07-01")
    book.open(severity="low", due="2026-12-01")
    found = open_findings(book.ledger.view())
    assert [(f.severity, f.due_at.month) for f in found] == [(Severity.HIGH, 7)]
    book.open(severity="low", due="2026-06-20")
    assert [f.due_at.month for f in open_findings(book.ledger.view())] == [6]


def test_a_low_finding_cannot_stand_in_for_a_high_one(book):
    book.open(severity="low", version=OTHER)
    book.open(severity="low")
    book.open(severity="high")
    found = {f.version: f.severity for f in open_findings(book.ledger.view())}
    assert found == {OTHER: Severity.LOW, VERSION: Severity.HIGH}


def test_by_model(book):
    book.open()
    assert book.open_ids("retail_pd") == [ONE]
    assert book.open_ids("other") == []


@pytest.mark.parametrize("changes", [{"severity": "dire"}, {"due_at": "soon"}, {"due_at": 7}])
def test_a_malformed_finding_is_not_written(book, changes):
    with pytest.raises(LedgerIntegrityError, match=next(iter(changes))):
        book.open(**changes)


def test_a_finding_without_a_version_is_about_each(book):
    book.open(version=None)
    (finding,) = open_findings(book.ledger.view(), "retail_pd")
    assert finding.version is None
    assert is_about(finding, VERSION)
    assert is_about(finding, OTHER)


def test_one_finding_whose_owner_is_nobody_hides_no_other(book, monkeypatch):
    monkeypatch.setattr(Person, "as_json", lambda person: {"id": person.id})
    book.open()
    monkeypatch.undo()
    book.open(TWO)
    found = open_findings(book.ledger.view())
    assert [(f.id, f.owner, f.summary) for f in found] == [
        (ONE, UNREADABLE, "AUC fell"),
        (TWO, "olivia", "AUC fell"),
    ]


def test_ids_are_stable_and_tell_apart():
    ids = {
        finding_id("m", VERSION, "t", ""),
        finding_id("m", OTHER, "t", ""),
        finding_id("n", VERSION, "t", ""),
        finding_id("m", VERSION, "u", ""),
        finding_id("m", VERSION, "t", "SEX"),
    }
    assert len(ids) == 5
    assert all(len(i) == 10 and i.startswith("F-") for i in ids)
    assert finding_id("retail_pd", VERSION, "discrimination.auc", "") == "F-d0635dd8"
