"""Closing findings that are remedied, and accepting the risk of others for a time.

Both take the attestor's key, which no task holds, and a person whom the policy pack in force names
and who neither built the version nor asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from airflow_mlgov.errors import (
    NotEntitledError,
    NotInForceError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Finding
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.findings import all_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.independence import check_independent
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedReceipt
from airflow_mlgov.service.stop import sign_order


def close_finding(
    gov: Governance,
    model: str,
    finding: str,
    reason: str,
    person: Person,
    *,
    evidence: Digest | None = None,
) -> SealedReceipt:
    """Close a finding that is remedied. The same test opens it again if it fails once more.

    Args:
        gov: With the attestor's key.
        model: Inventory id.
        finding: Its id, ``F-`` and 8 hexadecimal characters.
        reason: How it was remedied.
        person: Who closes it.
        evidence: SHA-256 of a document that shows it, wherever that is kept.

    Raises:
        UnknownSubjectError: There is no such model or finding; a retry does not help.
        NotInForceError: It is closed already; a retry does not help.
        NotEntitledError: The person may not; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    view = gov.ledger.view()
    found = _open_finding(gov, view, model, finding)
    check_may_close(gov, view, found, person)
    body = {"finding": finding} | ({"evidence_sha256": str(evidence)} if evidence else {})
    draft = EntryDraft("finding.closed", model, found.version, body, (finding,))
    return sign_order(gov, draft, reason, person, KeyRole.ATTESTOR)


def accept_finding(
    gov: Governance, model: str, finding: str, reason: str, person: Person, *, until: date
) -> SealedReceipt:
    """Accept the risk of a finding until a day: until then it blocks nothing, and is shown.

    Args:
        gov: With the attestor's key.
        model: Inventory id.
        finding: Its id, ``F-`` and 8 hexadecimal characters.
        reason: Why its risk can be carried.
        person: Who carries it.
        until: Last day, included, in UTC; at most the pack's ``accept_max_days`` from today.

    Raises:
        UnknownSubjectError: There is no such model or finding; a retry does not help.
        NotInForceError: It is closed; a retry does not help.
        NotEntitledError: The person may not, or not until then; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    view = gov.ledger.view()
    found = _open_finding(gov, view, model, finding)
    latest = check_may_accept(gov, view, found, person)
    today = gov.clock.now().astimezone(UTC).date()
    if not today <= until <= latest:
        raise NotEntitledError(
            f"The policy pack lets a finding be accepted until {latest}, not until {until}.",
            remedy=f"Name a day from {today} to {latest}, or have it remedied and closed.",
        )
    end = datetime.combine(until + timedelta(days=1), time(), UTC)
    body = {"finding": finding, "until": to_text(end)}
    draft = EntryDraft("finding.accepted", model, found.version, body, (finding,))
    return sign_order(gov, draft, reason, person, KeyRole.ATTESTOR)


def check_may_close(gov: Governance, view: LedgerView, finding: Finding, person: Person) -> None:
    """Refuse whoever may not close a finding.

    Raises:
        NotEntitledError: The pack in force does not name the person, who built the version or asked
            for it, or somebody broke glass; a retry does not help.
    """
    pack = gov.pack_for(gov.model(finding.model))
    may = pack.findings.close if pack.findings else _seated(pack)
    _check_entitled(gov, view, finding, person, may)


def check_may_accept(gov: Governance, view: LedgerView, finding: Finding, person: Person) -> date:
    """Refuse whoever may not accept the risk of a finding.

    Returns:
        The last day until which it may be accepted now.

    Raises:
        NotEntitledError: As for `check_may_close`; a retry does not help.
    """
    rules = gov.pack_for(gov.model(finding.model)).findings
    _check_entitled(gov, view, finding, person, rules.accept if rules else ())
    today = gov.clock.now().astimezone(UTC).date()
    return today + timedelta(days=rules.accept_max_days if rules else 0)


def _open_finding(gov: Governance, view: LedgerView, model: str, finding: str) -> Finding:
    gov.model(model)
    found = [known for known in all_findings(view, model) if known.id == finding]
    if not found:
        raise UnknownSubjectError(
            f"Model {model!r} has no finding {finding!r}.",
            remedy="`airflow mlgov finding list --all` shows which there are.",
        )
    still_open = [known for known in found if known.is_open]
    if not still_open:
        raise NotInForceError(f"Finding {finding} is closed already.")
    return still_open[-1]


def _seated(pack: PolicyPack) -> tuple[str, ...]:
    return tuple(user for seat in pack.seats for user in seat.users)


def _check_entitled(
    gov: Governance, view: LedgerView, finding: Finding, person: Person, may: Sequence[str]
) -> None:
    if finding.is_break_glass:
        raise NotEntitledError(
            f"Finding {finding.id} says that somebody broke glass: only its confirmation closes "
            "it.",
            remedy="Confirm it: `airflow mlgov breakglass confirm`.",
        )
    pack = gov.pack_for(gov.model(finding.model))
    if not pack.names(person) & pack.names(*may):
        raise NotEntitledError(
            f"Policy pack {pack.id!r} does not let you do this with findings.",
            remedy=f"Those who may are: {', '.join(may) or 'nobody'}.",
        )
    check_independent(gov, view, finding.model, finding.version, person)
