"""The kill switch, and approvals that are taken back; each counts from the next guard check on.

Anyone may stop a model, as anyone may place a hold. To let it run again, as to take back what
people approved, takes the attestor's key, which no task holds, and a person who has a say in it.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from airflow_mlgov.errors import (
    ConfigurationError,
    NotEntitledError,
    NotInForceError,
)
from airflow_mlgov.records.canonical import signable_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest
from airflow_mlgov.records.kinds import KINDS, KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import request_on_record
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry, SealedReceipt

MAX_REASON = 2000
"""Characters of a reason that are kept."""


def stop_model(
    gov: Governance, model: str, reason: str, person: Person, *, role: KeyRole = KeyRole.WRITER
) -> SealedReceipt:
    """Stop a model: every guard of it refuses, for every target, until somebody resumes it.

    A model that is stopped already is stopped once more, for this reason too.

    Args:
        gov: Governance.
        model: Inventory id, or the id of a model that the ledger has entries about.
        reason: Why, for those who may resume it.
        person: Who stops it.
        role: Whose key signs it.

    Raises:
        UnknownSubjectError: Nobody knows the model; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written, or nothing was signed over the stop in
            time, which is then kept; a retry may help.
    """
    if model not in gov.inventory and not gov.ledger.view().select(model=model):
        gov.model(model)
    draft = EntryDraft("model.stopped", model, None, {}, (model,))
    return sign_order(gov, draft, reason, person, role)


def resume_model(gov: Governance, model: str, reason: str, person: Person) -> SealedReceipt:
    """Let a stopped model run again.

    The entry names the newest stop on record: one that comes in meanwhile is not undone unseen.

    Args:
        gov: With the attestor's key.
        model: Inventory id.
        reason: Why.
        person: Who resumes it; see `check_entitled`.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        NotEntitledError: The person may not; a retry does not help.
        NotInForceError: It is not stopped; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    check_entitled(gov, model, person)
    stop = stop_in_force(gov.ledger.view(), model)
    if stop is None:
        raise NotInForceError(f"Model {model!r} is not stopped.")
    draft = EntryDraft("model.resumed", model, None, {"stop": stop.key}, (model,))
    return sign_order(gov, draft, reason, person, KeyRole.ATTESTOR)


def revoke_approval(gov: Governance, request: Digest, reason: str, person: Person) -> SealedReceipt:
    """Take an approval back, for good: whatever is voted later, the request is never used again.

    Args:
        gov: With the attestor's key.
        request: Digest of the request that was, or is still to be, approved.
        reason: Why.
        person: Who revokes it; see `check_entitled`.

    Raises:
        UnknownSubjectError: The ledger has no such request, or its model left the inventory; a
            retry does not help.
        NotEntitledError: The person may not; a retry does not help.
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    found = request_on_record(gov.ledger.view(), request)
    model, version = found.model, found.version
    check_entitled(gov, model, person)
    body = {"request_sha256": str(request)}
    draft = EntryDraft("approval.revoked", model, version, body, (str(request),))
    return sign_order(gov, draft, reason, person, KeyRole.ATTESTOR)


def stop_in_force(view: LedgerView, model: str) -> SealedEntry | None:
    """Return the newest stop of a model that no later resumption names, or None if it may run.

    Args:
        view: Verified ledger.
        model: Inventory id.
    """
    stop: SealedEntry | None = None
    for entry in view.select("model.stopped", "model.resumed", model=model):
        if entry.kind == "model.stopped":
            stop = entry
        elif stop is not None and entry.body["stop"] == stop.key:
            stop = None
    return stop


def is_revoked(view: LedgerView, request: ApprovalRequest) -> bool:
    """Tell whether somebody took back the approval that a request asks for."""
    revoked = view.select("approval.revoked", model=request.model, version=request.version)
    return any(entry.body["request_sha256"] == str(request.digest) for entry in revoked)


def check_entitled(gov: Governance, model: str, person: Person) -> None:
    """Refuse whoever is neither the model's owner nor could sit on a seat of the pack in force.

    Where the pack keeps developers off the seats, those whom the inventory names have no say.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        NotEntitledError: The person is neither; a retry does not help.
    """
    entry = gov.model(model)
    pack = gov.pack_for(entry)
    names = pack.names(person)
    developed = bool(names & pack.names(*entry.developers))
    may_sit = names & pack.seated and not (developed and pack.segregation.developers)
    if not may_sit and not names & pack.names(entry.owner):
        raise NotEntitledError(
            f"You are neither the owner of model {model!r} nor may you sit on a seat of "
            f"policy pack {entry.policy!r}.",
            remedy="Ask one of them. Anyone may stop the model.",
        )


def sign_order(
    gov: Governance, draft: EntryDraft, reason: str, person: Person, role: KeyRole
) -> SealedReceipt:
    """Put on record what a person orders, with the reason, under a role's key.

    Raises:
        ConfigurationError: There is no reason, or the key is not here; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    text = signable_text(reason, MAX_REASON).strip()
    if not text:
        raise ConfigurationError("There is no reason.", remedy="Say why.")
    signed = replace(
        draft,
        # Nobody can write under the entry's key before it is there, and so keep it out.
        identity=(*draft.identity, secrets.token_hex(16)),
        people={KINDS[draft.kind].author: person},
        texts={"reason": text},
    )
    return gov.ledger.seal(gov.ledger.append(signed, role=role))
