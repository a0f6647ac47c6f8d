"""What somebody may do from the pages: asked of the very rules that are applied when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC
from functools import partial
from typing import TypeVar

from airflow_mlgov.dossiers.desk import Desk, FindingOffer, GlassOffer
from airflow_mlgov.errors import NotEntitledError
from airflow_mlgov.records.governance import Finding
from airflow_mlgov.records.kinds import KINDS
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import person_of
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.describe import registry_number
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry
from airflow_mlgov.service.settle_finding import check_may_accept, check_may_close
from airflow_mlgov.service.stop import check_entitled
from airflow_mlgov.service.use_break_glass import break_glass_rules, check_may_confirm

_T = TypeVar("_T")

_DONE = {
    "model.stopped": "The model is stopped",
    "model.resumed": "The model may run again",
    "approval.revoked": "The approval is revoked",
    "finding.closed": "Finding {finding} is closed",
    "finding.accepted": "The risk of finding {finding} is accepted",
    "breakglass.used": "Glass is broken for {target} until {until}",
    "breakglass.confirmed": "Your confirmation is on record",
}


def collect_desk(
    gov: Governance,
    view: LedgerView,
    model: str,
    reader: Person,
    findings: Iterable[Finding],
    *,
    done: int | None = None,
) -> Desk:
    """Return what somebody may do with a model.

    Args:
        gov: Governance.
        view: Verified ledger.
        model: Inventory id.
        reader: Who looks at the page.
        findings: Those that stand on it.
        done: Index of the entry in which the reader has just done something.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        ConfigurationError: Its pack left the policy folder; a retry does not help.
    """
    may_order = _may(lambda: check_entitled(gov, model, reader))
    offers = [_offer(gov, view, finding, reader) for finding in findings if finding.is_open]
    return Desk(
        model=model,
        ledger_size=view.checkpoint.size,
        today=gov.clock.now().astimezone(UTC).date(),
        findings=[offer for offer in offers if offer != FindingOffer(offer.finding)],
        may_resume=may_order,
        may_revoke=may_order,
        glass=_allowed(lambda: _glass(gov, view, model, reader)),
        done=_done(view, model, reader, done),
    )


def done_since(
    view: LedgerView, model: str, reader: Person, kind: str, size: int
) -> list[SealedEntry]:
    """Return the entries of a kind by somebody about a model that came after a page was made.

    Args:
        view: Verified ledger.
        model: Inventory id.
        reader: Who.
        kind: Of the entries.
        size: Entries that the page was made from.
    """
    return [
        entry
        for entry in view.select(kind, model=model)
        if entry.index >= size and person_of(entry, KINDS[kind].author) == reader
    ]


def _offer(gov: Governance, view: LedgerView, finding: Finding, reader: Person) -> FindingOffer:
    if finding.is_break_glass:
        glasses = [glass for glass in break_glasses(view, finding.model) if glass.id == finding.id]
        may = [_may(partial(check_may_confirm, gov, view, glass, reader)) for glass in glasses]
        return FindingOffer(finding.id, may_confirm=any(may))
    return FindingOffer(
        finding.id,
        may_close=_may(lambda: check_may_close(gov, view, finding, reader)),
        accept_until=_allowed(lambda: check_may_accept(gov, view, finding, reader)),
    )


def _glass(gov: Governance, view: LedgerView, model: str, reader: Person) -> GlassOffer | None:
    entry = gov.model(model)
    rules = break_glass_rules(gov.pack_for(entry), reader)
    registered = view.select("model.registered", model=model)
    versions = dict.fromkeys(e.version for e in reversed(registered) if e.version is not None)
    numbered = [(version, registry_number(view, model, version)) for version in versions]
    return GlassOffer(numbered, entry.targets, rules.max_hours) if numbered else None


def _allowed(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except NotEntitledError:
        return None


def _may(check: Callable[[], None]) -> bool:
    try:
        check()
    except NotEntitledError:
        return False
    return True


def _done(view: LedgerView, model: str, reader: Person, index: int | None) -> str:
    """Say what an entry says that the reader did; an address that names another says nothing."""
    for entry in view.select(*_DONE, model=model):
        if entry.index == index and person_of(entry, KINDS[entry.kind].author) == reader:
            return f"{_DONE[entry.kind].format(**entry.body)}: ledger entry {index}."
    return ""
