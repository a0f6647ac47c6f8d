from __future__ import annotations

from datetime import date, timedelta

import pytest

from airflow_mlgov.dossiers.desk import Desk, FindingOffer
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.desk import collect_desk, done_since
from airflow_mlgov.service.findings import all_findings
from airflow_mlgov.service.overview import collect_model
from airflow_mlgov.service.settle_finding import close_finding
from airflow_mlgov.service.stop import stop_model
from airflow_mlgov.service.use_break_glass import Emergency, use_break_glass

ZOE, VICTOR, OLIVIA, ERIN = (Person(name, name) for name in ("zoe", "victor", "olivia", "erin"))
RULES = """findings: {close: [victor, erin], accept: [olivia], accept_max_days: 30}
break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}
valid_days:"""
ID = "F-00000001"


@pytest.fixture
def least_assurance():
    return "L1"


@pytest.fixture
def found(candidate):
    candidate.with_pack("valid_days:", RULES)
    candidate.validate_model(note="again")
    candidate.open_finding("medium")
    return candidate


def desk_of(world, reader: Person, done: int | None = None) -> Desk:
    view = world.gov.ledger.view()
    findings = all_findings(view, "retail_pd")
    return collect_desk(world.gov, view, "retail_pd", reader, findings, done=done)


def test_each_is_offered_what_the_pack_lets_them_do(found):
    latest = found.clock.now().date() + timedelta(days=30)
    assert isinstance(latest, date)
    assert desk_of(found, VICTOR).findings == [FindingOffer(ID, may_close=True)]
    assert desk_of(found, OLIVIA).findings == [FindingOffer(ID, accept_until=latest)]
    assert desk_of(found, ZOE).findings == []
    for who, may in ((VICTOR, True), (OLIVIA, True), (ZOE, False), (ERIN, False)):
        desk = desk_of(found, who)
        assert (desk.may_resume, desk.may_revoke) == (may, may)


def test_whom_the_pack_names_but_who_built_it_is_offered_nothing(found):
    assert desk_of(found, ERIN).findings == []


def test_what_is_closed_is_offered_to_nobody(found):
    close_finding(found.gov, "retail_pd", ID, "remedied", VICTOR)
    assert desk_of(found, VICTOR).findings == []


def test_glass_is_broken_by_whom_the_pack_names_and_confirmed_by_others(found):
    offer = desk_of(found, ZOE).glass
    assert offer is not None
    assert [version for version, _ in offer.versions] == [found.version]
    assert (list(offer.targets), offer.max_hours) == (["production"], 8)
    assert desk_of(found, VICTOR).glass is None
    emergency = Emergency("retail_pd", found.version, "production", None)
    glass = use_break_glass(found.gov, emergency, "it burns", ZOE)
    assert FindingOffer(glass.id, may_confirm=True) in desk_of(found, VICTOR).findings
    assert desk_of(found, ZOE).findings == []
    assert [offer.finding for offer in desk_of(found, ERIN).findings] == []


def test_what_was_done_is_said_to_who_did_it_and_only_then(found):
    size = found.gov.ledger.view().checkpoint.size
    index = stop_model(found.gov, "retail_pd", "nonsense", ZOE, role=KeyRole.ATTESTOR).index
    assert desk_of(found, ZOE, index).done == f"The model is stopped: ledger entry {index}."
    assert desk_of(found, VICTOR, index).done == ""
    assert desk_of(found, ZOE, index + 1).done == ""
    assert desk_of(found, ZOE).done == ""
    view = found.gov.ledger.view()
    for who, since, told in ((ZOE, size, [index]), (ZOE, index + 1, []), (VICTOR, size, [])):
        after = done_since(view, "retail_pd", who, "model.stopped", since)
        assert [entry.index for entry in after] == told


def test_a_finding_is_listed_for_who_may_settle_it_or_read_a_request_for_its_version(found):
    def listed(who: Person, *, may_read: bool) -> tuple[list[str], int]:
        page = collect_model(found.gov, "retail_pd", who, lambda _: may_read)
        return [finding.id for finding in page.findings], page.hidden_findings

    assert listed(ZOE, may_read=True) == ([], 1)  # nothing asks for the version yet
    assert listed(VICTOR, may_read=False) == ([ID], 0)
    found.ask()
    assert listed(ZOE, may_read=True) == ([ID], 0)
    assert listed(ZOE, may_read=False) == ([], 1)
    other = Digest.of(b"another version")
    found.version = other
    found.open_finding("low")
    assert listed(ZOE, may_read=True) == ([ID], 1)
