"""What an approver needs to see, gathered from the ledger and the evidence store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from airflow_mlgov.dossiers.approval_form import ApprovalForm, SeatLine
from airflow_mlgov.policy.tally import RefusedVote, SeatTally
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest, Vote
from airflow_mlgov.service.approvals import Standing
from airflow_mlgov.service.documents import read_document, results_of
from airflow_mlgov.service.evidence_readers import read_data_line, read_training_line
from airflow_mlgov.service.findings import ERASED, is_about, open_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView

_T = TypeVar("_T")


def describe(gov: Governance, standing: Standing, page: str = "") -> ApprovalForm:
    """Return the form of a request as it stands now.

    Args:
        gov: Governance.
        standing: The request, counted.
        page: Address of its evidence page, to which the form leads.

    Raises:
        EvidenceError: A document that the request names is missing, altered or not of its kind; a
            retry does not help.
    """
    request = standing.request
    view = gov.ledger.view()
    requester = standing.electorate.requester
    results = _read_all(gov, request, "model.validated", results_of)
    training = _read_all(gov, request, "model.trained", read_training_line)
    return ApprovalForm(
        request=request,
        model_name=gov.model(request.model).name,
        registry_version=registry_number(view, request.model, request.version),
        requester=requester.name if requester else "",
        policy_id=standing.pack.id,
        valid_days=standing.pack.valid_days,
        comment_min_length=standing.pack.comment_min_length,
        least_assurance=standing.pack.least_assurance,
        seats=[seat_line(standing, seat) for seat in standing.count.seats],
        results=[result for found in results for result in found],
        findings=[f for f in open_findings(view, request.model) if is_about(f, request.version)],
        training=training[0] if training else None,
        data=_read_all(gov, request, "data.validated", read_data_line),
        refused=[_refused_line(refused) for refused in standing.count.refused],
        asked_at=standing.entry.at,
        decide_by=standing.decide_by,
        objections=[f"{_voter(vote)}: {vote.comment}" for vote in standing.count.objections],
        page=page,
        conditions=standing.count.conditions.words(),
        may_set_conditions=standing.pack.conditions is not None,
    )


def _read_all(
    gov: Governance, request: ApprovalRequest, kind: str, read: Callable[[dict[str, Any]], _T]
) -> list[_T]:
    """Return what the request's documents of a kind say."""
    return [
        read_document(gov, kind, digest, read)
        for named, digest in request.evidence
        if named == kind
    ]


def registry_number(view: LedgerView, model: str, version: Digest) -> str:
    """Return the registry's number of a version, or the start of its digest if it has none."""
    registered = view.select("model.registered", model=model, version=version)
    number = registered[-1].body.get("version") if registered else None
    return str(number or version.short)


def seat_line(standing: Standing, seat: SeatTally) -> SeatLine:
    """Return a seat of a request as people see it."""
    filled = tuple(f"{_voter(vote)} ({vote.assurance})" for vote in seat.votes)
    eligible = standing.may_still_fill(seat.seat)
    return SeatLine(seat.seat.role, filled, seat.open_count, eligible, seat.seat.veto)


def _refused_line(refused: RefusedVote) -> str:
    return f"{_voter(refused.vote)}: {', '.join(refused.reasons)}"


def _voter(vote: Vote) -> str:
    return vote.voter.name if vote.voter else ERASED
