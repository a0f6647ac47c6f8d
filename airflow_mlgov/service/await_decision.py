"""Is a model version approved yet? Who waits for people asks this, and nothing is put on record.

The checks are the guards' own, but for the bytes: what they would refuse is no approval here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Use, standings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView
from airflow_mlgov.service.request_approval import check_target
from airflow_mlgov.service.stop import is_revoked
from airflow_mlgov.service.verify_use import (
    ASK,
    Clearance,
    clear_approval,
    clear_scoring,
    refuse_stopped,
)


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is waited for.

    Attributes:
        model: Inventory id.
        target: Environment.
        version: Manifest digest; None for the version that the newest request on record is about.
        alias: Registry alias under which the approved version is to be in use; empty if it is
            enough that it is approved.
    """

    model: str
    target: str
    version: Digest | None = None
    alias: str = ""

    @classmethod
    def named(cls, model: str, target: str, version: str | None, alias: str | None) -> Awaited:
        """Return what an operator's arguments name; an empty one is left out.

        Raises:
            ArtefactError: The version is no digest; a retry does not help.
        """
        return cls(model, target, Digest.parse(version) if version else None, alias or "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say now.

    Attributes:
        clearance: The approval in force; None while it is waited for.
        waits_for: What has to happen, for people; empty once it has.
    """

    clearance: Clearance | None
    waits_for: str = ""


def answer_now(gov: Governance, view: LedgerView, awaited: Awaited) -> Answer:
    """Return the approval that is waited for, or what it takes yet.

    Of several requests about a version, an approval in force decides; without one, the newest.

    Args:
        gov: Governance.
        view: Verified ledger.
        awaited: What is waited for.

    Raises:
        GuardRefusedError: The version was rejected, its approval is not in force any more, or the
            model was stopped: waiting does not help.
        ConfigurationError: The inventory has no such model, or the model no such target.
    """
    check_target(gov.model(awaited.model), awaited.target, "sensor")
    refuse_stopped(view, awaited.model)
    asked = standings(
        gov, view, model=awaited.model, version=awaited.version, target=awaited.target
    )
    if not asked:
        return Answer(None, f"somebody to ask for approval for {awaited.target!r}")
    newest = asked[-1]
    try:
        return _cleared(gov, view, awaited, newest.request.version)
    except GuardRefusedError:
        if newest.decision is not Decision.OPEN or is_revoked(view, newest.request):
            raise
        return Answer(None, f"people to fill seats: {', '.join(newest.open_seats)}")


def _cleared(gov: Governance, view: LedgerView, awaited: Awaited, version: Digest) -> Answer:
    use = Use(awaited.model, awaited.target, Source(), awaited.alias)
    if not awaited.alias:
        return Answer(clear_approval(gov, view, use, version))
    with suppress(GuardRefusedError):
        return Answer(clear_scoring(gov, view, use, version))
    approval = clear_approval(gov, view, use, version).approval
    if approval.used_by is not None and approval.used_by.alias != awaited.alias:
        raise GuardRefusedError(
            "alias",
            f"The approval of version {version} was used for alias {approval.used_by.alias!r}, "
            f"not {awaited.alias!r}.",
            remedy=ASK,
        )
    return Answer(None, f"its promotion to alias {awaited.alias!r}")
