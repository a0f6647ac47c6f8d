"""What an approver needs to see, gathered from the ledger and the evidence store."""

from __future__ import annotations

import json
from typing import Any

from airflow_mlgov.dossiers.approval_form import ApprovalForm, SeatLine
from airflow_mlgov.errors import EvidenceError
from airflow_mlgov.policy.tally import SeatTally
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import TestResult
from airflow_mlgov.service.approvals import Standing
from airflow_mlgov.service.findings import open_findings
from airflow_mlgov.service.governance import Governance


def describe(gov: Governance, standing: Standing) -> ApprovalForm:
    """Return the form of a request as it stands now.

    Raises:
        EvidenceError: A document that the request names is missing or altered; a retry does not
            help.
    """
    request = standing.request
    view = gov.ledger.view()
    registered = view.select("model.registered", model=request.model, version=request.version)
    documents = [(kind, evidence_document(gov, digest)) for kind, digest in request.evidence]
    requester = standing.electorate.requester
    return ApprovalForm(
        request=request,
        model_name=gov.model(request.model).name,
        registry_version=registered[-1].body["version"] if registered else request.version.short,
        requester=requester.name if requester else "",
        policy_id=standing.pack.id,
        valid_days=standing.pack.valid_days,
        comment_min_length=standing.pack.comment_min_length,
        seats=[_seat_line(seat) for seat in standing.count.seats],
        results=[
            TestResult.from_json(result)
            for kind, document in documents
            if kind == "model.validated"
            for result in document["results"]
        ],
        findings=[f for f in open_findings(view, request.model) if f.version == request.version],
        training=next((document for kind, document in documents if kind == "model.trained"), {}),
        data=[document for kind, document in documents if kind == "data.validated"],
        refused=[
            f"{refused.vote.voter.name}: {', '.join(refused.reasons)}"
            for refused in standing.count.refused
        ],
        asked_at=standing.entry.at,
    )


def evidence_document(gov: Governance, digest: Digest) -> dict[str, Any]:
    """Return an evidence document as JSON values.

    Raises:
        EvidenceError: It is missing, altered or not a JSON object; a retry does not help.
    """
    document = json.loads(gov.evidence.get(digest))
    if not isinstance(document, dict):
        raise EvidenceError(f"Evidence document {digest} is not a JSON object.")
    return document


def _seat_line(seat: SeatTally) -> SeatLine:
    filled = tuple(f"{vote.voter.name} ({vote.assurance})" for vote in seat.votes)
    return SeatLine(seat.seat.role, filled, seat.open_count, seat.seat.users)
