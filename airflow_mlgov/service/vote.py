"""Taking answers and deciding: what the gate does each time somebody answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from airflow_mlgov.errors import ApprovalDeniedError, LedgerIntegrityError, RequestRefusedError
from airflow_mlgov.ledger.entry import Entry
from airflow_mlgov.policy.tally import Decision, RefusedVote
from airflow_mlgov.records.canonical import signable_text
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.conditions import NO_CONDITIONS, Conditions
from airflow_mlgov.records.governance import ApprovalRequest, Assurance, Choice
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Standing, pack_of, person_of, standing_of
from airflow_mlgov.service.findings import FINDING_REMEDY, high_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry
from airflow_mlgov.service.outbox import OutboxItem

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:airflow-mlgov:predicate:approval:1"

_DECISIONS = ("approval.granted", "approval.denied")

MAX_COMMENT = 10_000
"""Characters of a comment that are kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Airflow recorded as the answer to a form.

    Attributes:
        choice: None if it is no answer that our form offers.
        request: Digest that the form carried, as text.
        comment: What the person wrote.
        person: Who answered; None if no person did (a task answered itself, or a time-out).
        answered_at: When Airflow recorded it.
        conditions: What the form's fields set.
    """

    choice: Choice | None
    request: str
    comment: str
    person: Person | None
    answered_at: datetime
    conditions: Conditions = NO_CONDITIONS


def record_answer(
    gov: Governance, request: ApprovalRequest, answer: Answer, source: Source
) -> None:
    """Put an answer on record as a vote or a refused vote; the same answer again changes nothing.

    Nothing is added to what the api-server attested.

    Raises:
        EvidenceError: The pack that the request names is missing or altered; a retry does not help.
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    if _is_on_record(gov, request, answer):
        return
    reasons = _not_a_vote(request, answer) or _unattested(gov, request)
    body: dict[str, Any] = {
        "request_sha256": str(request.digest),
        "answered_at": to_text(answer.answered_at),
    }
    if reasons:
        body["reasons"] = reasons
    elif answer.choice is not None:
        body |= choice_of(answer.choice, answer.conditions)
    kind = "approval.vote_refused" if reasons else "approval.voted"
    receipt = gov.ledger.append(
        EntryDraft(
            kind=kind,
            model=request.model,
            version=request.version,
            body=body,
            identity=_identity(gov, request, answer, kind),
            people={"voter": answer.person} if answer.person else {},
            texts={"comment": signable_text(answer.comment, MAX_COMMENT)},
            source=source,
        )
    )
    gov.ledger.seal(receipt)


def choice_of(choice: Choice, conditions: Conditions) -> dict[str, Any]:
    """Return what the body of an entry says of an answer; only an approval has conditions."""
    said: dict[str, Any] = {"choice": choice}
    if choice.is_approval and conditions:
        said["conditions"] = conditions.as_json()
    return said


def _is_on_record(gov: Governance, request: ApprovalRequest, answer: Answer) -> bool:
    """Tell whether the same answer to this gate was taken as a vote before, on whichever request.

    Airflow keeps the last answer with its task: a cleared gate reads it once more. What the
    api-server attested was on record before Airflow had it.
    """
    gate, at = _gate_of(request), to_text(answer.answered_at)

    def is_it(entry: SealedEntry) -> bool:
        if entry.source.task != gate.task or person_of(entry, "voter") != answer.person:
            return False
        if entry.signed_by is KeyRole.ATTESTOR:
            return bool(entry.body["choice"] == answer.choice)
        return bool(entry.body.get("answered_at") == at)

    votes = gov.ledger.view().select("approval.voted", model=request.model)
    return answer.person is not None and any(map(is_it, votes))


def _unattested(gov: Governance, request: ApprovalRequest) -> list[str]:
    if pack_of(gov, request).least_assurance == Assurance.L0:
        return []
    return ["the api-server did not attest it: it is not counted, so answer again in Airflow"]


def _not_a_vote(request: ApprovalRequest, answer: Answer) -> list[str]:
    if answer.person is None:
        return ["no person answered: only answers that Airflow's sign-in vouches for are votes"]
    if answer.choice is None:
        return ["it is no answer that the form offers"]
    if answer.request.strip() != str(request.digest):
        return ["the form was of another request: it was old; open it again"]
    return []


def count_votes(
    gov: Governance,
    request: ApprovalRequest,
    lineage: Callable[[Standing], Sequence[OutboxItem]] | None = None,
) -> Standing:
    """Return where the request stands; refused votes and the decision go on record.

    Args:
        gov: Governance that the request stands under.
        request: A request on record.
        lineage: Tells what goes into the outbox in one transaction with the decision's entry.

    Raises:
        ApprovalDeniedError: Somebody entitled rejected it, or time ran out; a retry does not help.
        RequestRefusedError: All seats are filled, but a High finding was opened meanwhile.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    view = gov.ledger.view()
    standing = standing_of(gov, view, request.digest)
    if standing is None:
        raise LedgerIntegrityError(
            f"Request {request.digest} is not in the ledger that has acknowledged it."
        )
    for draft in _drafts(view, standing):
        is_end = draft.kind in _DECISIONS
        keep = _as_is(lineage(standing)) if lineage and is_end else None
        gov.ledger.seal(gov.ledger.append(draft, lineage=keep))
    if standing.decision is Decision.DENIED:
        raise ApprovalDeniedError(
            f"The request to approve version {request.version} of model {request.model!r} for "
            f"{request.target!r} was denied: {standing.denied_because}.",
            remedy="Read the comments with 'airflow mlgov ledger show'; then train or validate "
            "anew, or ask in another run.",
        )
    return standing


def _as_is(events: Sequence[OutboxItem]) -> Callable[[Entry], Sequence[OutboxItem]]:
    return lambda _: events


def _drafts(view: LedgerView, standing: Standing) -> Iterator[EntryDraft]:
    """Yield what the count says and the ledger does not hold yet; what it holds stays as it is."""
    request = standing.request
    kinds = ("approval.vote_refused", *_DECISIONS)
    on_record = [
        entry
        for entry in view.select(*kinds, model=request.model, version=request.version)
        if entry.body["request_sha256"] == str(request.digest)
    ]
    known = {entry.body.get("vote_index") for entry in on_record}
    for refused in standing.count.refused:
        if refused.vote.index not in known:
            yield _refusal(standing, refused)
    is_decided = any(entry.kind != "approval.vote_refused" for entry in on_record)
    if standing.decision is Decision.GRANTED and not is_decided:
        high = high_findings(view, request.model, request.version, standing.counted_at)
        if high:
            raise RequestRefusedError(
                f"All seats are filled, but version {request.version} has open High findings: "
                f"{', '.join(high)}.",
                remedy=FINDING_REMEDY,
            )
    if standing.decision is not Decision.OPEN and not is_decided:
        yield _decision(standing)


def _identity(
    gov: Governance, request: ApprovalRequest, answer: Answer, kind: str
) -> tuple[str, ...]:
    """Return what makes it this answer, without who gave it.

    The key of an entry is a hash of its identity without a salt: a name in it could be guessed, and
    never erased. So answers of several people in the same millisecond are numbered.
    """
    at = to_text(answer.answered_at)
    at_once = [
        entry
        for entry in gov.ledger.view().select(kind, model=request.model, version=request.version)
        if entry.body["request_sha256"] == str(request.digest)
        and entry.body.get("answered_at") == at
    ]
    others = takewhile(lambda entry: _is_by_another(entry, answer.person), at_once)
    return (str(request.digest), str(answer.choice), at, str(len(list(others))))


def _is_by_another(entry: SealedEntry, person: Person | None) -> bool:
    """Tell whether somebody else answered; of somebody who was erased, nobody can tell."""
    if person is None or "voter" not in entry.people:
        return (person is None) == ("voter" in entry.people)
    return person_of(entry, "voter") not in {None, person}


def _refusal(standing: Standing, refused: RefusedVote) -> EntryDraft:
    request, voter = standing.request, refused.vote.voter
    return EntryDraft(
        kind="approval.vote_refused",
        model=request.model,
        version=request.version,
        body={
            "request_sha256": str(request.digest),
            "vote_index": refused.vote.index,
            "reasons": list(refused.reasons),
        },
        identity=(str(request.digest), "vote", str(refused.vote.index)),
        people={"voter": voter} if voter else {},
        source=_gate_of(request),
    )


def _decision(standing: Standing) -> EntryDraft:
    request = standing.request
    is_granted = standing.decision is Decision.GRANTED
    body: dict[str, Any] = {"request_sha256": str(request.digest)}
    if is_granted:
        body["statement"] = _statement(standing)
    else:
        body["reason"] = standing.denied_because
    return EntryDraft(
        kind="approval.granted" if is_granted else "approval.denied",
        model=request.model,
        version=request.version,
        body=body,
        identity=(str(request.digest),),
        source=_gate_of(request),
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
            "conditions": standing.count.conditions.as_json(),
        },
    }
