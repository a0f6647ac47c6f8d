"""Legal holds: while one is on a model, nobody named in its entries is erased."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.canonical import signable_text
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import person_of, text_of
from airflow_mlgov.service.findings import ERASED
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView

MAX_REASON = 2000
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold.

    Attributes:
        id: ``H-`` and 8 hexadecimal characters.
        model: Inventory id.
        placed_at: When, by the writer's clock.
        placed_by: Who placed it, by name.
        reason: Why.
        lifted_at: When it was lifted; None while it holds.
    """

    id: str
    model: str
    placed_at: datetime
    placed_by: str
    reason: str
    lifted_at: datetime | None = None


def place_hold(gov: Governance, model: str, reason: str, person: Person) -> Hold:
    """Place a hold on a model; each call places one of its own.

    Args:
        gov: Governance.
        model: Inventory id, or the id of a model that the ledger has entries about.
        reason: Why, for those who may lift it.
        person: Who places it.

    Raises:
        ConfigurationError: Nobody knows the model, or there is no reason; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    if model not in gov.inventory and not gov.ledger.view().select(model=model):
        gov.model(model)
    hold = f"H-{secrets.token_hex(4)}"
    _write(gov, "hold.placed", model, hold, {"placed_by": person}, reason)
    return _hold(gov, model, hold)


def lift_hold(
    gov: Governance, model: str, reason: str, person: Person, hold: str | None = None
) -> Hold:
    """Lift a hold, with the attestor's key: no task can.

    Args:
        gov: Governance.
        model: Inventory id.
        reason: Why.
        person: Who lifts it.
        hold: Id of the hold; None for the only one on the model.

    Raises:
        ConfigurationError: There is no such hold, it is not clear which one is meant, there is no
            reason, or the attestor's key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    found = [h for h in open_holds(gov.ledger.view(), model) if hold in {None, h.id}]
    if len(found) != 1:
        named = ", ".join(h.id for h in found)
        raise ConfigurationError(
            f"Model {model!r} has several holds: {named}."
            if found
            else f"Model {model!r} has no hold {hold or ''}".rstrip() + ".",
            remedy="Name one with --hold; `airflow mlgov hold list` shows them.",
        )
    (lifted,) = found
    _write(gov, "hold.lifted", model, lifted.id, {"lifted_by": person}, reason)
    return _hold(gov, model, lifted.id)


def all_holds(view: LedgerView, model: str | None = None) -> list[Hold]:
    """Return every hold, in the order in which they were placed.

    Args:
        view: What is on record.
        model: Inventory id; None for every model.
    """
    holds: dict[tuple[str, str], Hold] = {}
    for entry in view.select("hold.placed", "hold.lifted", model=model):
        key = (entry.model, entry.body["hold"])
        if entry.kind == "hold.placed" and key not in holds:
            placed_by = person_of(entry, "placed_by")
            holds[key] = Hold(
                id=entry.body["hold"],
                model=entry.model,
                placed_at=entry.at,
                placed_by=placed_by.name if placed_by else ERASED,
                reason=text_of(entry, "reason") or ERASED,
            )
        elif entry.kind == "hold.lifted" and key in holds:
            holds[key] = replace(holds[key], lifted_at=entry.at)
    return list(holds.values())


def open_holds(view: LedgerView, model: str | None = None) -> list[Hold]:
    """Return the holds that nobody has lifted."""
    return [hold for hold in all_holds(view, model) if hold.lifted_at is None]


def _hold(gov: Governance, model: str, hold: str) -> Hold:
    return next(h for h in all_holds(gov.ledger.view(), model) if h.id == hold)


def _write(
    gov: Governance, kind: str, model: str, hold: str, people: dict[str, Person], reason: str
) -> None:
    text = signable_text(reason, MAX_REASON).strip()
    if not text:
        raise ConfigurationError("A hold needs a reason.", remedy="Say why with --reason.")
    draft = EntryDraft(
        kind=kind,
        model=model,
        version=None,
        body={"hold": hold},
        identity=(model, hold),
        people=people,
        texts={"reason": text},
    )
    role = KeyRole.WRITER if kind == "hold.placed" else KeyRole.ATTESTOR
    gov.ledger.seal(gov.ledger.append(draft, role=role))
