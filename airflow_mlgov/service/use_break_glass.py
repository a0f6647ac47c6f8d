"""Breaking glass in an emergency, and confirming afterwards that it was right.

Both take the attestor's key, which no task holds. Who may break glass, for how long, and how many
must confirm it stands in the policy pack in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_mlgov.errors import (
    LedgerUnavailableError,
    NotEntitledError,
    NotInForceError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.pack import BreakGlassRules, PolicyPack
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.allow_use import refuse_sealed
from airflow_mlgov.service.approvals import person_of
from airflow_mlgov.service.break_glass import BreakGlass, break_glasses
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.independence import check_independent
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedReceipt
from airflow_mlgov.service.stop import sign_order
from airflow_mlgov.service.verify_use import refuse_stopped


@dataclass(frozen=True, slots=True)
class Emergency:
    """What is to be opened.

    Attributes:
        model: Inventory id.
        version: Manifest digest of a version that was registered.
        target: Environment.
        hours: For how long; None for as long as the pack allows.
    """

    model: str
    version: Digest
    target: str
    hours: int | None


def use_break_glass(
    gov: Governance, emergency: Emergency, reason: str, person: Person
) -> BreakGlass:
    """Let a version be promoted once and used for some hours without an approval.

    It stands in for votes and for nothing else: see `airflow_mlgov.service.allow_use`. It is an
    open High finding on the version until it is confirmed.

    Args:
        gov: With the attestor's key.
        emergency: What is to be opened.
        reason: Why it cannot wait.
        person: Who does it; one whom the pack names.

    Raises:
        UnknownSubjectError: There is no such model, target or version; a retry does not help.
        NotEntitledError: The person may not, or not for so long, or an earlier one is overdue; a
            retry does not help.
        GuardRefusedError: It would open nothing: the model is stopped, a request for this version
            was revoked, or it has other open High findings; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    entry = gov.model(emergency.model)
    rules = break_glass_rules(gov.pack_for(entry), person)
    hours = _hours(rules, emergency)
    if emergency.target not in entry.targets:
        raise UnknownSubjectError(
            f"Model {entry.id!r} may not be promoted to {emergency.target!r}.",
            remedy=f"Its targets are: {', '.join(entry.targets)}.",
        )
    view, now = gov.ledger.view(), gov.clock.now()
    if not view.select("model.registered", model=entry.id, version=emergency.version):
        raise UnknownSubjectError(f"Model {entry.id!r} has no version {emergency.version}.")
    refuse_stopped(view, entry.id)
    refuse_sealed(gov, view, model=entry.id, version=emergency.version, target=emergency.target)
    _refuse_overdue(gov, view, entry.id)
    body = {
        "target": emergency.target,
        "until": to_text(now + timedelta(hours=hours)),
        "quorum": rules.quorum,
        "confirm_by": to_text(now + timedelta(days=rules.confirm_within_days)),
    }
    draft = EntryDraft("breakglass.used", entry.id, emergency.version, body, ())
    receipt = sign_order(gov, draft, reason, person, KeyRole.ATTESTOR)
    return next(g for g in break_glasses(gov.ledger.view(), entry.id) if _is_by(g, receipt))


def confirm_break_glass(
    gov: Governance, model: str, finding: str, reason: str, person: Person
) -> BreakGlass:
    """Say afterwards that it was right to break glass; with the last of the quorum it is closed.

    Args:
        gov: With the attestor's key.
        model: Inventory id.
        finding: Id of its finding, ``F-`` and 8 hexadecimal characters.
        reason: Why it was right.
        person: Who has a seat in the pack in force, did not do it, has not confirmed it, and did
            not build the version.

    Raises:
        UnknownSubjectError: There is no such model or break-glass; a retry does not help.
        NotInForceError: It is confirmed already; a retry does not help.
        NotEntitledError: The person may not; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written, or somebody else confirmed at
            the same moment; a retry may help.
    """
    gov.model(model)
    view = gov.ledger.view()
    glass = _named(view, model, finding)
    check_may_confirm(gov, view, glass, person)
    place = next(n for n in range(glass.quorum) if n not in glass.confirmations)
    body = {"breakglass": str(glass.key), "place": place}
    draft = EntryDraft("breakglass.confirmed", model, glass.entry.version, body, ())
    receipt = sign_order(gov, draft, reason, person, KeyRole.ATTESTOR)
    after = _known(gov.ledger.view(), model, finding)
    if after.confirmations[place].index != receipt.index:
        raise LedgerUnavailableError(
            "Somebody else confirmed at the same moment, and yours does not count yet.",
            remedy="Confirm again.",
        )
    return after


def break_glass_rules(pack: PolicyPack, person: Person) -> BreakGlassRules:
    """Return under which rules somebody may break glass.

    Raises:
        NotEntitledError: The pack does not name the person; a retry does not help.
    """
    rules = pack.break_glass
    if rules is None or not pack.names(person) & pack.names(*rules.users):
        raise NotEntitledError(
            f"Policy pack {pack.id!r} does not let you break glass.",
            remedy=f"Those who may are: {', '.join(rules.users if rules else ()) or 'nobody'}.",
        )
    return rules


def _hours(rules: BreakGlassRules, emergency: Emergency) -> int:
    hours = rules.max_hours if emergency.hours is None else emergency.hours
    if not 1 <= hours <= rules.max_hours:
        raise NotEntitledError(
            f"The policy pack does not let glass be broken for {hours} hours.",
            remedy=f"Name 1 to {rules.max_hours}.",
        )
    return hours


def _refuse_overdue(gov: Governance, view: LedgerView, model: str) -> None:
    now = gov.clock.now()
    overdue = [glass.id for glass in break_glasses(view, model) if glass.is_overdue(now)]
    if overdue:
        raise NotEntitledError(
            f"Glass of model {model!r} was broken before, and nobody confirmed it in time: "
            f"{', '.join(overdue)}.",
            remedy="Let it be confirmed first: `airflow mlgov breakglass confirm`.",
        )


def _is_by(glass: BreakGlass, receipt: SealedReceipt) -> bool:
    return glass.entry.index == receipt.index


def _known(view: LedgerView, model: str, finding: str) -> BreakGlass:
    for glass in break_glasses(view, model):
        if glass.id == finding:
            return glass
    raise UnknownSubjectError(
        f"Nobody broke glass of model {model!r} under {finding!r}.",
        remedy="`airflow mlgov finding list` shows the ids, under the test 'breakglass'.",
    )


def _named(view: LedgerView, model: str, finding: str) -> BreakGlass:
    glass = _known(view, model, finding)
    if glass.is_confirmed:
        raise NotInForceError(f"Break-glass {finding} is confirmed already.")
    return glass


def check_may_confirm(gov: Governance, view: LedgerView, glass: BreakGlass, person: Person) -> None:
    """Refuse whoever may not say that it was right to break glass.

    Raises:
        NotEntitledError: The person did it, has confirmed it, has no seat in the pack in force, or
            built the version; a retry does not help.
    """
    entry = glass.entry
    pack = gov.pack_for(gov.model(entry.model))
    names = pack.names(person)
    did = [person_of(entry, "used_by")]
    did += [person_of(other, "confirmed_by") for other in glass.confirmations.values()]
    if None in did:
        raise NotEntitledError(
            "The name of who broke glass, or confirmed it, is gone: nobody can be shown to be "
            "somebody else."
        )
    if names & pack.names(*did):
        raise NotEntitledError(
            "You broke the glass, or have confirmed it: another person must.",
            remedy="Ask somebody else.",
        )
    if not names & pack.seated:
        raise NotEntitledError(
            f"You have no seat in policy pack {pack.id!r}.",
            remedy=f"Those who have are: {', '.join(sorted(pack.seated))}.",
        )
    if entry.version is not None:
        check_independent(gov, view, entry.model, entry.version, person)
