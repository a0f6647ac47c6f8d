"""Everything that an approver decides on, gathered for the evidence page.

A document that cannot be read, or whose bytes are others than the request names, stands on the page
as an error; the rest is shown all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_mlgov.dossiers.evidence import (
    DataCheck,
    DocumentLine,
    Dossier,
    HistoryLine,
    InUse,
    Report,
    StopLine,
    Training,
)
from airflow_mlgov.errors import ArtefactError, EvidenceError
from airflow_mlgov.policy.tiers import tier
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import (
    ASSURANCE,
    Standing,
    no_such_request,
    standing_of,
    text_of,
)
from airflow_mlgov.service.describe import registry_number, seat_line
from airflow_mlgov.service.documents import evidence_document, read_document, results_of
from airflow_mlgov.service.evidence_readers import read_data_check, read_report, read_training
from airflow_mlgov.service.findings import ERASED, all_findings, is_about
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry
from airflow_mlgov.service.request_state import name_in, state_of, waits_for
from airflow_mlgov.service.stop import stop_in_force

_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "model.validated": read_report,
    "model.trained": read_training,
    "data.validated": read_data_check,
}


_EVENTS = {
    Choice.APPROVE: "approved",
    Choice.APPROVE_WITH_CONDITIONS: "approved with conditions",
    Choice.REJECT: "rejected",
    Choice.WITHDRAW: "withdrew",
}


def collect_dossier(gov: Governance, view: LedgerView, digest: Digest, reader: Person) -> Dossier:
    """Return what the evidence page of a request says.

    Args:
        gov: Governance.
        view: Verified ledger.
        digest: Of the request.
        reader: Who looks at the page.

    Raises:
        UnknownSubjectError: The ledger holds no such request, or its model left the inventory; a
            retry does not help.
        LedgerIntegrityError: It does not read as a request; a retry does not help.
        EvidenceError: The pack that it names is missing or altered; a retry does not help.
        ConfigurationError: The model's pack left the policy folder; a retry does not help.
    """
    standing = standing_of(gov, view, digest)
    if standing is None:
        raise no_such_request(digest)
    request = standing.request
    entry = gov.model(request.model)
    found, documents = _documents(gov, standing)
    return Dossier(
        request=request,
        asked_by=name_in(standing.entry, "requester"),
        history=sorted(_history(view, standing), key=lambda line: line.index),
        registry_version=registry_number(view, request.model, request.version),
        entry=entry,
        tier=tier(entry, standing.pack),
        pack=standing.pack,
        is_pack_in_force=gov.pack_for(entry).digest == standing.pack.digest,
        state=state_of(view, standing),
        granted_at=standing.granted_at,
        expires_at=standing.expires_at,
        decide_by=standing.decide_by,
        conditions=standing.count.conditions.words(),
        used_by=_used_by(standing),
        seats=[seat_line(standing, seat) for seat in standing.count.seats],
        is_reader_waited_for=waits_for(standing, reader),
        stop=stop_line(view, request.model),
        documents=documents,
        reports=[item for item in found if isinstance(item, Report)],
        trainings=[item for item in found if isinstance(item, Training)],
        data=[item for item in found if isinstance(item, DataCheck)],
        findings=[f for f in all_findings(view, request.model) if is_about(f, request.version)],
        in_use=_in_use(gov, view, standing),
        read_at=standing.counted_at,
        ledger_size=view.checkpoint.size,
        ledger_root=view.checkpoint.root_hash,
    )


def stop_line(view: LedgerView, model: str) -> StopLine | None:
    """Return the stop of a model that is in force, or None."""
    stop = stop_in_force(view, model)
    if stop is None:
        return None
    return StopLine(
        stop.index, stop.at, name_in(stop, "stopped_by"), text_of(stop, "reason") or ERASED
    )


def _documents(gov: Governance, standing: Standing) -> tuple[list[Any], list[DocumentLine]]:
    found: list[Any] = []
    lines = []
    for kind, digest in standing.request.evidence:
        problem = ""
        try:
            if kind in _READERS:
                found.append(read_document(gov, kind, digest, _READERS[kind]))
            else:
                evidence_document(gov, digest)
        except EvidenceError as error:
            problem = str(error)
        lines.append(DocumentLine(kind, digest, problem))
    return found, lines


def _used_by(standing: Standing) -> str:
    if standing.used_by is None:
        return ""
    source = standing.used_by.source
    return f"task {source.task_id} in run {source.run_id} of {source.dag_id}"


def _history(view: LedgerView, standing: Standing) -> Iterator[HistoryLine]:
    asked = standing.entry
    yield HistoryLine(asked.index, asked.at, "asked", name_in(asked, "requester"))
    why_not = {item.vote.index: "; ".join(item.reasons) for item in standing.count.refused}
    voids = {
        entry.body["vote"]: f"void: {entry.body['reason']}"
        for entry in _about(view, standing, "approval.vote_voided")
    }
    votes = {vote.index for vote in standing.votes}
    for entry in _about(view, standing, "approval.voted"):
        note = voids.get(entry.key) or why_not.get(entry.index, "")
        if entry.index not in votes and not note:
            note = "it came before the request"
        yield _answer(entry, _event(entry), note)
    for entry in _about(view, standing, "approval.vote_refused"):
        if "vote_index" not in entry.body:  # what the count refuses stands beside the vote
            yield _answer(entry, "answered", "; ".join(map(str, entry.body["reasons"])))
    for entry in _about(view, standing, "approval.revoked"):
        reason = text_of(entry, "reason") or ERASED
        who = name_in(entry, "revoked_by")
        yield HistoryLine(entry.index, entry.at, "revoked", who, comment=reason)


def _event(vote: SealedEntry) -> str:
    bound = Conditions.from_json(vote.body.get("conditions", {})).words()
    return ": ".join([_EVENTS[vote.body["choice"]], *(["; ".join(bound)] if bound else [])])


def _answer(entry: SealedEntry, event: str, note: str) -> HistoryLine:
    comment = text_of(entry, "comment")
    if comment is None:
        comment = ERASED if "comment" in entry.texts else ""
    return HistoryLine(
        index=entry.index,
        at=entry.at,
        event=event,
        who=name_in(entry, "voter"),
        assurance=ASSURANCE[entry.signed_by].value,
        comment=comment,
        note=note,
        is_counted=not note,
    )


def _about(view: LedgerView, standing: Standing, *kinds: str) -> list[SealedEntry]:
    request = standing.request
    return [
        entry
        for entry in view.select(*kinds, model=request.model, version=request.version)
        if entry.body["request_sha256"] == str(request.digest)
    ]


def _in_use(gov: Governance, view: LedgerView, standing: Standing) -> InUse | None:
    """Return what the last promotion on record to the same target was of."""
    request = standing.request
    promotions = [
        entry
        for entry in view.select("model.promoted", model=request.model)
        if entry.body["target"] == request.target and entry.version is not None
    ]
    if not promotions or promotions[-1].version is None:
        return None
    newest, version = promotions[-1], promotions[-1].version
    return InUse(
        version=version,
        number=registry_number(view, request.model, version),
        alias=str(newest.body["alias"]),
        promoted_at=newest.at,
        statistics=_statistics(gov, view, request.model, version),
    )


def _statistics(
    gov: Governance, view: LedgerView, model: str, version: Digest
) -> dict[tuple[str, str], float | None]:
    validated = view.select("model.validated", model=model, version=version)
    if not validated:
        return {}
    try:
        digest = Digest.parse(validated[-1].body["evidence_sha256"])
        results = read_document(gov, "model.validated", digest, results_of)
    except (ArtefactError, EvidenceError):
        return {}
    return {(result.test, result.segment): result.statistic for result in results}
