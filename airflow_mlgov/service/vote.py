"""Taking answers and deciding: what the gate does each time somebody answered."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_mlgov.errors import ApprovalDeniedError, LedgerIntegrityError
from airflow_mlgov.policy.tally import Decision, RefusedVote
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.governance import ApprovalRequest, Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Standing, standing_of
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Receipt

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:airflow-mlgov:predicate:approval:1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What Airflow recorded as the answer to a form.

    Attributes:
        choice: Approve or reject.
        request: Digest that the form carried, as text.
        comment: What the person wrote.
        person: Who answered; None if no person did (a task answered itself, or a time-out).
        answered_at: When Airflow recorded it.
    """

    choice: Choice
    request: str
    comment: str
    person: Person | None
    answered_at: datetime


def record_answer(
    gov: Governance, request: ApprovalRequest, answer: Answer, source: Source
) -> None:
    """Put an answer on record as a vote or a refused vote; the same answer again changes nothing.

    Raises:
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    if answer.person is None:
        reasons = ["no person answered: only answers that Airflow's sign-in vouches for are votes"]
    elif answer.request.strip() != str(request.digest):
        reasons = ["the form was of another request: it was old; open it again"]
    else:
        reasons = []
    people = {"voter": answer.person} if answer.person else {}
    body: dict[str, Any] = {"request_sha256": str(request.digest), "choice": answer.choice.value}
    kind = "approval.voted"
    if reasons:
        kind, body = (
            "approval.vote_refused",
            {"request_sha256": str(request.digest), "reasons": reasons},
        )
    receipt = gov.ledger.append(
        EntryDraft(
            kind=kind,
            model=request.model,
            version=request.version,
            body=body | {"answered_at": to_text(answer.answered_at)},
            identity=_identity(request, answer),
            people=people,
            texts={"comment": unicodedata.normalize("NFC", answer.comment)},
            source=source,
        )
    )
    gov.ledger.seal(receipt)


def count_votes(gov: Governance, request: ApprovalRequest) -> Standing:
    """Return where the request stands; refused votes and the decision go on record.

    Raises:
        ApprovalDeniedError: Somebody entitled rejected it; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    standing = standing_of(gov, gov.ledger.view(), request.digest)
    if standing is None:
        raise LedgerIntegrityError(
            f"Request {request.digest} is not in the ledger that has acknowledged it."
        )
    receipts = [_record_refusal(gov, standing, refused) for refused in standing.count.refused]
    if standing.decision is not Decision.OPEN:
        receipts.append(_record_decision(gov, standing))
    for receipt in receipts:
        gov.ledger.seal(receipt)
    if standing.decision is Decision.DENIED:
        raise ApprovalDeniedError(
            f"Version {request.version} of model {request.model!r} was rejected for "
            f"{request.target!r}.",
            remedy="Read the comment with 'airflow mlgov ledger show', then train or validate "
            "anew.",
        )
    return standing


def _identity(request: ApprovalRequest, answer: Answer) -> tuple[str, ...]:
    person = answer.person.id if answer.person else ""
    return (str(request.digest), person, answer.choice.value, to_text(answer.answered_at))


def _record_refusal(gov: Governance, standing: Standing, refused: RefusedVote) -> Receipt:
    request = standing.request
    return gov.ledger.append(
        EntryDraft(
            kind="approval.vote_refused",
            model=request.model,
            version=request.version,
            body={
                "request_sha256": str(request.digest),
                "vote_index": refused.vote.index,
                "reasons": list(refused.reasons),
            },
            identity=(str(request.digest), "vote", str(refused.vote.index)),
            people={"voter": refused.vote.voter},
            source=_gate_of(request),
        )
    )


def _record_decision(gov: Governance, standing: Standing) -> Receipt:
    request = standing.request
    granted = standing.decision is Decision.GRANTED
    body: dict[str, Any] = {"request_sha256": str(request.digest)}
    if granted:
        body["statement"] = _statement(standing)
    else:
        body["reason"] = "rejected by an approver"
    return gov.ledger.append(
        EntryDraft(
            kind="approval.granted" if granted else "approval.denied",
            model=request.model,
            version=request.version,
            body=body,
            identity=(str(request.digest),),
            source=_gate_of(request),
        )
    )


def _gate_of(request: ApprovalRequest) -> Source:
    return Source(request.dag_id, request.run_id, request.task_id, request.map_index)


def _statement(standing: Standing) -> dict[str, Any]:
    """Return the decision as an in-toto Statement over the model's manifest.

    Source:
        in-toto Attestation Framework, Statement v1 (four fields: _type, subject, predicateType,
        predicate).
    """
    request = standing.request
    votes = [vote.index for seat in standing.count.seats for vote in seat.votes]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": request.model, "digest": {"sha256": request.version.hex}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "decision": "granted",
            "target": request.target,
            "request_sha256": str(request.digest),
            "policy_sha256": str(request.policy),
            "votes": votes,
            "granted_at": to_text(standing.granted_at) if standing.granted_at else "",
            "expires_at": to_text(standing.expires_at) if standing.expires_at else "",
        },
    }
