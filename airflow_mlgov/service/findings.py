"""Findings as the ledger holds them: what is wrong, and whether somebody dealt with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.clock import from_text, to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Finding, Severity
from airflow_mlgov.records.kinds import KINDS
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.break_glass import BreakGlass, break_glasses

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_mlgov.service.ledger import LedgerView, SealedEntry

FINDING_REMEDY = (
    "Train a version that does not have it; or have it closed or accepted by those whom the policy "
    "pack names: `airflow mlgov finding close` and `finding accept`. That somebody broke glass is "
    "confirmed by others: `airflow mlgov breakglass confirm`."
)
BREAK_GLASS = "breakglass"
"""Stands for the test in the finding that somebody broke glass."""

ERASED, UNREADABLE = "(erased)", "(unreadable)"

_KINDS = ("finding.opened", "finding.closed", "finding.accepted")
_Key: TypeAlias = tuple[str, str, Digest | None]


def finding_id(model: str, version: Digest | None, test: str, segment: str) -> str:
    """Return the id of the finding that a test opens on a version: the same again on every re-run.

    Args:
        model: Inventory id.
        version: Manifest digest; None for a finding on the model.
        test: Id of the test.
        segment: Part of the data; empty for all of it.
    """
    identity = canonical_bytes([model, str(version or ""), test, segment])
    return f"F-{hashlib.sha256(identity).hexdigest()[:8]}"


def open_findings(view: LedgerView, model: str | None = None) -> list[Finding]:
    """Return the findings that nobody has closed, accepted ones too, in the order of opening.

    Args:
        view: What is on record.
        model: Inventory id; None for every model.
    """
    return [finding for finding in all_findings(view, model) if finding.is_open]


def all_findings(view: LedgerView, model: str | None = None) -> list[Finding]:
    """Return every finding once, in the order of opening; then those of emergencies.

    A finding that a later run opens again after it was closed is open. Opening it again while it is
    open can make it worse (a higher severity, an earlier due date) and never better: running a test
    once more postpones nothing. Opening it again ends an acceptance only if it got worse.

    Args:
        view: What is on record.
        model: Inventory id; None for every model.
    """
    known: dict[_Key, Finding] = {}
    for entry in view.select(*_KINDS, model=model):
        key = (entry.body["finding"], entry.model, entry.version)
        if entry.kind == "finding.opened":
            known[key] = _merged(known.get(key), _opened(entry))
        elif key in known:
            known[key] = _settled(known[key], entry)
    return [*known.values(), *map(_of_break_glass, break_glasses(view, model))]


def high_findings(view: LedgerView, model: str, version: Digest, now: datetime) -> list[str]:
    """Return the ids of the findings that keep a version from being approved and promoted now."""
    return [finding.id for finding in blocking_findings(view, model, version, now)]


def blocking_findings(
    view: LedgerView, model: str, version: Digest, now: datetime
) -> list[Finding]:
    """Return the open High findings, on a version or its model, whose risk nobody carries now.

    An emergency that nobody has confirmed in time is a finding on every version of the model.
    """
    return [
        finding
        for finding in open_findings(view, model)
        if finding.severity is Severity.HIGH
        and not finding.is_accepted(now)
        and (is_about(finding, version) or (finding.is_break_glass and finding.due_at <= now))
    ]


def is_about(finding: Finding, version: Digest | None) -> bool:
    """Tell whether a finding is about a version: a finding on the model is about each."""
    return finding.version is None or finding.version == version


def severity_rank(severity: Severity) -> int:
    """Return 0 for low, 1 for medium, 2 for high."""
    return (Severity.LOW, Severity.MEDIUM, Severity.HIGH).index(severity)


def _settled(finding: Finding, entry: SealedEntry) -> Finding:
    is_accepted = entry.kind == "finding.accepted"
    return replace(
        finding,
        is_open=finding.is_open and is_accepted,
        accepted_until=from_text(entry.body["until"]) if is_accepted else None,
        settled_by=_read(lambda: _name_of(entry.person(KINDS[entry.kind].author))),
        reason=_read(lambda: entry.text("reason")),
    )


def _opened(entry: SealedEntry) -> Finding:
    return Finding(
        id=entry.body["finding"],
        model=entry.model,
        version=entry.version,
        severity=Severity(entry.body["severity"]),
        test=entry.body["test"],
        summary=_read(lambda: entry.text("summary")),
        owner=_read(lambda: _name_of(entry.person("owner"))) if "owner" in entry.people else "",
        due_at=from_text(entry.body["due_at"]),
    )


def _of_break_glass(glass: BreakGlass) -> Finding:
    """Return the finding that somebody broke glass: High, and theirs until it is confirmed."""
    entry, confirmed = glass.entry, [*glass.confirmations.values()]
    reason = _read(lambda: entry.text("reason"))
    return Finding(
        id=glass.id,
        model=entry.model,
        version=entry.version,
        severity=Severity.HIGH,
        test=BREAK_GLASS,
        summary=f"Glass broken for {glass.target} until {to_text(glass.until)}, confirmed by "
        f"{len(confirmed)} of {glass.quorum}: {reason}",
        owner=_read(lambda: _name_of(entry.person("used_by"))),
        due_at=glass.confirm_by,
        is_open=not glass.is_confirmed,
        settled_by=", ".join(_confirmer(other) for other in confirmed),
        is_break_glass=True,
    )


def _confirmer(entry: SealedEntry) -> str:
    return _read(lambda: _name_of(entry.person("confirmed_by")))


def _read(disclosed: Callable[[], str | None]) -> str:
    # A finding stays one whatever was done to what it discloses; it must not hide the others.
    try:
        return disclosed() or ERASED
    except LedgerIntegrityError:
        return UNREADABLE


def _name_of(person: Person | None) -> str | None:
    return None if person is None else person.name


def _merged(earlier: Finding | None, again: Finding) -> Finding:
    if earlier is None or not earlier.is_open:
        return again
    worse = max(earlier, again, key=lambda finding: severity_rank(finding.severity))
    return replace(worse, due_at=min(earlier.due_at, again.due_at))
