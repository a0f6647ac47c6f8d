"""What an approver needs to see, gathered from the ledger and the evidence store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from airflow_mlgov.dossiers.approval_form import ApprovalForm, DataLine, SeatLine, TrainingLine
from airflow_mlgov.errors import EvidenceError
from airflow_mlgov.policy.tally import RefusedVote, SeatTally
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest, TestResult, Vote
from airflow_mlgov.service.approvals import Standing
from airflow_mlgov.service.findings import ERASED, is_about, open_findings
from airflow_mlgov.service.governance import Governance

_T = TypeVar("_T")
_MOST = 2**63


def describe(gov: Governance, standing: Standing) -> ApprovalForm:
    """Return the form of a request as it stands now.

    Raises:
        EvidenceError: A document that the request names is missing, altered or not of its kind; a
            retry does not help.
    """
    request = standing.request
    view = gov.ledger.view()
    registered = view.select("model.registered", model=request.model, version=request.version)
    requester = standing.electorate.requester
    results = _read_all(gov, request, "model.validated", _results)
    training = _read_all(gov, request, "model.trained", _training)
    number = registered[-1].body.get("version") if registered else None
    return ApprovalForm(
        request=request,
        model_name=gov.model(request.model).name,
        registry_version=str(number or request.version.short),
        requester=requester.name if requester else "",
        policy_id=standing.pack.id,
        valid_days=standing.pack.valid_days,
        comment_min_length=standing.pack.comment_min_length,
        least_assurance=standing.pack.least_assurance,
        seats=[_seat_line(standing, seat) for seat in standing.count.seats],
        results=[result for found in results for result in found],
        findings=[f for f in open_findings(view, request.model) if is_about(f, request.version)],
        training=training[0] if training else None,
        data=_read_all(gov, request, "data.validated", _data),
        refused=[_refused_line(refused) for refused in standing.count.refused],
        asked_at=standing.entry.at,
        decide_by=standing.decide_by,
        objections=[f"{_voter(vote)}: {vote.comment}" for vote in standing.count.objections],
    )


def evidence_document(gov: Governance, digest: Digest) -> dict[str, Any]:
    """Return an evidence document as JSON values.

    Raises:
        EvidenceError: It is missing, altered or not a JSON object; a retry does not help.
    """
    stored = gov.evidence.get(digest)
    try:
        document = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"Evidence document {digest} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise EvidenceError(f"Evidence document {digest} is not a JSON object.")
    return document


def _read_all(
    gov: Governance, request: ApprovalRequest, kind: str, read: Callable[[dict[str, Any]], _T]
) -> list[_T]:
    """Return what the request's documents of a kind say."""
    found = []
    for named, digest in request.evidence:
        if named != kind:
            continue
        document = evidence_document(gov, digest)
        try:
            found.append(read(document))
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise EvidenceError(
                f"Evidence document {digest} is no {kind!r} document: {error!r:.200}.",
                remedy=f"Run the step that writes {kind!r} again, then the gate.",
            ) from error
    return found


def _results(document: dict[str, Any]) -> list[TestResult]:
    return [_result(value) for value in _of(document["results"], list)]


def _result(value: Any) -> TestResult:
    result = TestResult.from_json(_of(value, dict))
    for text in (result.title, result.threshold, result.segment):
        _of(text, str)
    for size in _of(result.sample_sizes, dict).values():
        _count(size)
    if result.statistic is not None:
        float(_of(result.statistic, int | float))
    return result


def _training(document: dict[str, Any]) -> TrainingLine:
    return TrainingLine(
        script=_of(document["script"], str),
        code_sha256=_of(document["code_sha256"], str),
        seed=str(_of(document["seed"], int | str)),
    )


def _data(document: dict[str, Any]) -> DataLine:
    fingerprint = _of(document["fingerprint"], dict)
    return DataLine(
        dataset=_of(document["dataset"], str),
        rows=_count(fingerprint["rows"]),
        columns=_count(fingerprint["columns"]),
        sha256=_of(fingerprint["sha256"], str),
        passed=_of(document["passed"], bool),
        suite=_of(_of(document["suite"], dict)["name"], str),
    )


def _of(value: Any, kind: Any) -> Any:
    """Return a value of a JSON type; a boolean is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"a {type(value).__name__} stands where a {_name(kind)} must")
    return value


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


def _count(value: Any) -> int:
    number: int = _of(value, int)
    if not 0 <= number < _MOST:
        raise ValueError("a number of rows or columns is out of range")
    return number


def _seat_line(standing: Standing, seat: SeatTally) -> SeatLine:
    filled = tuple(f"{_voter(vote)} ({vote.assurance})" for vote in seat.votes)
    eligible = standing.may_still_fill(seat.seat)
    return SeatLine(seat.seat.role, filled, seat.open_count, eligible, seat.seat.veto)


def _refused_line(refused: RefusedVote) -> str:
    return f"{_voter(refused.vote)}: {', '.join(refused.reasons)}"


def _voter(vote: Vote) -> str:
    return vote.voter.name if vote.voter else ERASED
