"""What a promotion or guarded task may do: on an approval, or else on somebody's emergency.

Broken glass stands in for votes, and for nothing else: it opens no stopped model, no other bytes,
no DAG that may not promote, no alias that was moved by hand, no version of which a request for this
target was revoked, and none with open High findings besides those of emergencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.approvals import Use, requests
from airflow_mlgov.service.break_glass import BreakGlass, glass_in_force
from airflow_mlgov.service.findings import FINDING_REMEDY, blocking_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView
from airflow_mlgov.service.stop import is_revoked
from airflow_mlgov.service.verify_use import (
    ASK,
    Clearance,
    clear_promotion,
    clear_scoring,
    refuse_moved_alias,
    refuse_replaced,
    without_try,
)

_OF_VOTES = frozenset({"approval", "consumed", "expiry", "findings", "policy", "promotion"})
"""Checks that an emergency replaces; of findings it brings one itself, and looks at the others."""


@dataclass(frozen=True, slots=True)
class EmergencyClearance:
    """A use that passed every check but those of an approval, which an emergency replaces.

    Attributes:
        use: Where it may be used.
        version: Manifest digest of the version that may be used.
        glass: The emergency.
    """

    use: Use
    version: Digest
    glass: BreakGlass


AnyClearance: TypeAlias = Clearance | EmergencyClearance


def rests_on(clearance: AnyClearance) -> Digest:
    """Return the digest of the request that was approved, or the key of who broke glass."""
    if isinstance(clearance, EmergencyClearance):
        return clearance.glass.key
    return clearance.approval.request.digest


def basis_of(clearance: AnyClearance) -> dict[str, str]:
    """Return what the body of an entry says that rests on a clearance.

    In an emergency there is no request: what stands in its place is named again as what it is.
    """
    said = {"request_sha256": str(rests_on(clearance))}
    if isinstance(clearance, EmergencyClearance):
        said["breakglass"] = str(clearance.glass.key)
    return said


def allow_promotion(gov: Governance, view: LedgerView, use: Use, version: Digest) -> AnyClearance:
    """Return what a promotion may consume: see `clear_promotion`; or else an emergency in force.

    An emergency lets one promotion through, and its retries.

    Raises:
        GuardRefusedError: A check failed; a retry does not help.
    """
    try:
        return clear_promotion(gov, view, use, version)
    except GuardRefusedError as refusal:
        glass = _in_force(gov, view, use, version, refusal)
        mine = [each for each in glass if each.used_by == without_try(use)]
        unused = [each for each in glass if each.used_by is None]
        if not mine and not unused:
            raise
        if mine:
            refuse_replaced(view, use, mine[-1].key)
        refuse_sealed(gov, view, model=use.model, version=version, target=use.target)
        return EmergencyClearance(use, version, (mine or unused)[-1])


def allow_scoring(gov: Governance, view: LedgerView, use: Use, version: Digest) -> AnyClearance:
    """Return what a version is in use on: see `clear_scoring`; or else an emergency in force.

    A promotion must have used it, and have been the last to point the alias anywhere.

    Raises:
        GuardRefusedError: A check failed; a retry does not help.
    """
    try:
        return clear_scoring(gov, view, use, version)
    except GuardRefusedError as refusal:
        glass = _in_force(gov, view, use, version, refusal)
        promoted = [each for each in glass if each.used_by is not None]
        if not promoted:
            raise
        refuse_moved_alias(view, use, version)
        _refuse_revoked(view, use.model, version, use.target)
        return EmergencyClearance(use, version, promoted[-1])


def refuse_sealed(
    gov: Governance, view: LedgerView, *, model: str, version: Digest, target: str
) -> None:
    """Refuse a version that no emergency opens.

    Raises:
        GuardRefusedError: A request for this version and target was revoked, or it has open High
            findings besides those of emergencies; a retry does not help.
    """
    _refuse_revoked(view, model, version, target)
    blocking = blocking_findings(view, model, version, gov.clock.now())
    others = [finding.id for finding in blocking if not finding.is_break_glass]
    if others:
        raise GuardRefusedError(
            "findings",
            f"Version {version} has open High findings, which no emergency outweighs: "
            f"{', '.join(others)}.",
            remedy=FINDING_REMEDY,
        )


def _in_force(
    gov: Governance, view: LedgerView, use: Use, version: Digest, refusal: GuardRefusedError
) -> list[BreakGlass]:
    """Return the emergencies that may outweigh a refusal."""
    if refusal.check not in _OF_VOTES:
        return []
    now = gov.clock.now()
    return glass_in_force(view, model=use.model, target=use.target, version=version, now=now)


def _refuse_revoked(view: LedgerView, model: str, version: Digest, target: str) -> None:
    for _, request in requests(view, model=model, version=version):
        if request.target == target and is_revoked(view, request):
            raise GuardRefusedError(
                "revoked",
                f"A request to approve version {version} for {target!r} was revoked, which no "
                "emergency outweighs.",
                remedy=ASK,
            )
