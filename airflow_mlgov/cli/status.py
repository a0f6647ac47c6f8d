"""``airflow mlgov status MODEL``: the version in use, what it rests on, and what waits for whom."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.run import FOR_PROGRAMS, print_rows, reports_errors
from airflow_mlgov.errors import (
    ConfigurationError,
    GuardRefusedError,
    RegistryError,
    VersionNotFoundError,
)
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.policy.tally import SeatTally
    from airflow_mlgov.records.governance import Finding
    from airflow_mlgov.service.approvals import Standing
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.ledger import LedgerView
    from airflow_mlgov.service.ports import RegistryVersion


@dataclass(frozen=True)
class _Subject:
    """What is asked about."""

    gov: Governance
    view: LedgerView
    entry: InventoryEntry
    target: str


@reports_errors
def status(args: Namespace) -> None:
    """Print how a model stands."""
    from airflow_mlgov.wiring import open_governance

    gov = open_governance()
    entry = gov.model(args.model)
    target = _target(entry, args.target)
    subject = _Subject(gov, gov.ledger.view(), entry, target)
    version, problem = _version_in_use(entry, args)
    found = {
        "model": _model(subject),
        "ledger": {"counts_for_nothing": len(subject.view.violations)},
        "version": _version(version, args.alias, problem) | _usable(subject, version, args.alias),
        "approval": _approval(subject, version),
        "emergencies": _emergencies(subject),
        "open_findings": _findings(subject, version),
        "waiting": _waiting(subject),
    }
    if args.output in FOR_PROGRAMS:
        print_rows([found], args.output)
    else:
        _print_for_people(found, args.output)
    if problem:
        raise problem


def _target(entry: InventoryEntry, asked: str | None) -> str:
    if asked is None:
        return entry.targets[0]
    if asked not in entry.targets:
        raise ConfigurationError(
            f"Model {entry.id!r} may not be promoted to {asked!r}.",
            remedy=f"Its targets are: {', '.join(entry.targets)}.",
        )
    return asked


def _version_in_use(
    entry: InventoryEntry, args: Namespace
) -> tuple[RegistryVersion | None, RegistryError | None]:
    """Return the version that the alias points to; a registry that fails is shown with the rest."""
    from airflow_mlgov.wiring import open_registry

    registry = open_registry(args.registry)
    try:
        return registry.by_alias(entry.registered_name, args.alias), None
    except VersionNotFoundError:
        return None, None
    except RegistryError as error:
        return None, error


def _model(subject: _Subject) -> dict[str, Any]:
    from airflow_mlgov.policy.tiers import tier

    entry = subject.entry
    pack = subject.gov.pack_for(entry)
    return {
        "id": entry.id,
        "name": entry.name,
        "tier": tier(entry, pack),
        "mode": entry.mode.value,
        "owner": entry.owner,
        "policy": pack.id,
        "policy_sha256": str(pack.digest),
        "target": subject.target,
    }


def _version(
    version: RegistryVersion | None, alias: str, problem: RegistryError | None
) -> dict[str, Any]:
    if version is None:
        seen = "none: the alias is not set" if problem is None else f"unknown: {problem.problem}"
        return {"alias": alias, "version": seen, "manifest_sha256": None, "uri": None}
    return {
        "alias": alias,
        "version": version.version,
        "manifest_sha256": str(version.manifest) if version.manifest else None,
        "uri": version.uri,
    }


def _usable(subject: _Subject, version: RegistryVersion | None, alias: str) -> dict[str, Any]:
    """Ask what every scoring run asks, but for the bytes; nothing is put on record."""
    from airflow_mlgov.records.source import Source
    from airflow_mlgov.service.allow_use import allow_scoring
    from airflow_mlgov.service.approvals import Use

    if version is None:
        return {"usable": False, "why_not": "no version is in use"}
    if version.manifest is None:
        return {"usable": False, "why_not": "this version was not registered by airflow-mlgov"}
    use = Use(subject.entry.id, subject.target, Source(), alias)
    try:
        allow_scoring(subject.gov, subject.view, use, version.manifest)
    except GuardRefusedError as refusal:
        return {"usable": False, "why_not": refusal.problem}
    return {"usable": True, "why_not": None}


def _approval(subject: _Subject, version: RegistryVersion | None) -> dict[str, Any] | None:
    from airflow_mlgov.service.approvals import approval_of
    from airflow_mlgov.service.request_state import state_of

    if version is None or version.manifest is None:
        return None
    standing = approval_of(
        subject.gov,
        subject.view,
        model=subject.entry.id,
        version=version.manifest,
        target=subject.target,
    )
    if standing is None:
        return None
    return {
        "request_sha256": str(standing.request.digest),
        "policy_sha256": str(standing.request.policy),
        "granted_at": _when(standing.granted_at),
        "expires_at": _when(standing.expires_at),
        "conditions": standing.count.conditions.words(),
        "state": state_of(subject.view, standing).value,
        "consumed_by": _used_by(standing),
        "seats": [seat for tallied in standing.count.seats for seat in _filled(tallied)],
    }


def _used_by(standing: Standing) -> dict[str, Any] | None:
    return standing.used_by.source.as_json() if standing.used_by else None


def _filled(tallied: SeatTally) -> list[dict[str, Any]]:
    return [
        {
            "seat": tallied.seat.role,
            "user": vote.voter.name if vote.voter else "(erased)",
            "assurance": vote.assurance.value,
            "voted_at": _when(vote.cast_at),
            "comment": vote.comment,
        }
        for vote in tallied.votes
    ]


def _emergencies(subject: _Subject) -> list[dict[str, Any]]:
    """Return what is open without an approval, or was and is not confirmed."""
    from airflow_mlgov.service.break_glass import break_glasses

    now = subject.gov.clock.now()
    return [
        {
            "finding": glass.id,
            "version": str(glass.entry.version),
            "target": glass.target,
            "until": _when(glass.until),
            "in_force": glass.is_in_force(now),
            "confirmed": len(glass.confirmations),
            "quorum": glass.quorum,
            "confirm_by": _when(glass.confirm_by),
        }
        for glass in break_glasses(subject.view, subject.entry.id)
        if glass.is_in_force(now) or not glass.is_confirmed
    ]


def _findings(subject: _Subject, version: RegistryVersion | None) -> list[dict[str, Any]]:
    from airflow_mlgov.service.findings import is_about, open_findings

    used = version.manifest if version else None
    now = subject.gov.clock.now()
    return [
        _finding(finding, now) | {"in_use": is_about(finding, used)}
        for finding in open_findings(subject.view, subject.entry.id)
    ]


def _finding(finding: Finding, now: datetime) -> dict[str, Any]:
    return {
        "finding": finding.id,
        "severity": finding.severity.value,
        "test": finding.test,
        "summary": finding.summary,
        "owner": finding.owner,
        "due_at": _when(finding.due_at),
        "overdue": now > finding.due_at,
        **_acceptance(finding, now),
        "version": str(finding.version or ""),
    }


def _acceptance(finding: Finding, now: datetime) -> dict[str, Any]:
    is_accepted = finding.is_accepted(now)
    return {
        "accepted_until": _when(finding.accepted_until) if is_accepted else None,
        "accepted_by": finding.settled_by if is_accepted else None,
        "accepted_because": finding.reason if is_accepted else None,
    }


def _waiting(subject: _Subject) -> list[dict[str, Any]]:
    from airflow_mlgov.service.approvals import open_requests

    return [
        {
            "request_sha256": str(standing.request.digest),
            "version": str(standing.request.version),
            "target": standing.request.target,
            "seat": tallied.seat.role,
            "open": tallied.open_count,
            "waits_for": list(standing.may_still_fill(tallied.seat)),
            "asked_at": _when(standing.entry.at),
            "decide_by": _when(standing.decide_by),
            "dag_run": f"{standing.request.dag_id} {standing.request.run_id}",
        }
        for standing in open_requests(subject.gov, subject.view, subject.entry.id)
        for tallied in standing.count.open_seats
    ]


def _when(moment: datetime | None) -> str | None:
    return to_text(moment) if moment else None


def _print_for_people(found: dict[str, Any], output: str) -> None:
    approval = found["approval"]
    print_rows(_lines({**found["model"], **found["version"]}), output, title="Model")
    if count := found["ledger"]["counts_for_nothing"]:
        print(f"\n{count} entries of the ledger count for nothing: airflow mlgov ledger verify")
    if approval is None:
        print("\nApproval\nThe version in use rests on no approval.")
    else:
        seats = approval["seats"]
        facts = {key: value for key, value in approval.items() if key != "seats"}
        print_rows(_lines(facts), output, title="Approval")
        print_rows(seats, output, title="Seats")
    if found["emergencies"]:
        print_rows(found["emergencies"], output, title="Emergencies")
    print_rows(found["open_findings"], output, title="Open findings")
    print_rows(found["waiting"], output, title="Waiting for")


def _lines(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"what": key.replace("_", " "), "value": _text(value)} for key, value in facts.items()]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={part}" for key, part in value.items() if part != "")
    return "-" if value is None else str(value)
