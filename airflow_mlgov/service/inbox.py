"""What waits for people: open requests, and findings that are due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_mlgov.dossiers.site import Site
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.governance import Finding, Vote
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import Standing, open_requests
from airflow_mlgov.service.findings import open_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView
from airflow_mlgov.service.request_state import MayRead, name_in, waits_for
from airflow_mlgov.service.stop import is_revoked


@dataclass(frozen=True, slots=True)
class OpenSeat:
    """A seat that waits.

    Attributes:
        role: The seat's name in the policy pack.
        open_count: How many people it takes yet.
        who_may: Ids or names of those who may fill it now: nobody whom segregation of duties bars,
            who is away, or who has voted.
    """

    role: str
    open_count: int
    who_may: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request that people have not decided.

    Attributes:
        standing: The request, counted.
        asked_by: Name of who triggered the run that asks; empty if no person did.
        seats: Those that wait.
        waits_for_reader: Whether the reader may fill one of them.
        voted: What the reader has voted on it, the newest last, counted or not.
    """

    standing: Standing
    asked_by: str
    seats: tuple[OpenSeat, ...]
    waits_for_reader: bool
    voted: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Inbox:
    """What waits.

    Attributes:
        requests: What waits for the reader first, then the oldest first.
        findings: Open findings that are due, the longest overdue first; of a reader, only those
            whom the reader owns.
        hidden: Open requests of DAGs that the reader may not read.
    """

    requests: tuple[OpenRequest, ...]
    findings: tuple[Finding, ...]
    hidden: int

    def as_json(self, site: Site) -> dict[str, Any]:
        """Return it as JSON values, with where each request is answered and shown.

        Args:
            site: Airflow's addresses.
        """
        return {
            "requests": [_request_json(asked, site) for asked in self.requests],
            "findings": [_finding_json(finding) for finding in self.findings],
            "hidden": self.hidden,
        }


def collect_inbox(
    gov: Governance,
    view: LedgerView,
    *,
    reader: Person | None = None,
    model: str | None = None,
    may_read: MayRead = lambda _dag: True,
) -> Inbox:
    """Return what waits; a request that was revoked waits for nobody.

    Args:
        gov: Governance.
        view: Verified ledger.
        reader: For whom; None for everybody.
        model: Only what is about this model.
        may_read: Requests of other DAGs are counted and not shown.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        LedgerUnavailableError: The store went away meanwhile; a retry may help.
    """
    if model is not None:
        gov.model(model)
    waiting = [s for s in open_requests(gov, view, model) if not is_revoked(view, s.request)]
    shown = [s for s in waiting if may_read(s.request.dag_id)]
    found = [_open_request(standing, reader) for standing in shown]
    found.sort(key=lambda one: (not one.waits_for_reader, one.standing.entry.index))
    now = gov.clock.now()
    due = [f for f in open_findings(view, model) if _is_due(gov, f, reader, now)]
    due.sort(key=lambda finding: (finding.due_at, finding.id))
    return Inbox(tuple(found), tuple(due), len(waiting) - len(shown))


def _request_json(asked: OpenRequest, site: Site) -> dict[str, Any]:
    request, standing = asked.standing.request, asked.standing
    reasons = {refused.vote.index: list(refused.reasons) for refused in standing.count.refused}
    return {
        "request_sha256": str(request.digest),
        "model": request.model,
        "version": str(request.version),
        "target": request.target,
        "dag_run": f"{request.dag_id} {request.run_id}",
        "asked_at": to_text(standing.entry.at),
        "asked_by": asked.asked_by,
        "decide_by": to_text(standing.decide_by) if standing.decide_by else None,
        "open_seats": [
            {"role": seat.role, "open": seat.open_count, "who_may": list(seat.who_may)}
            for seat in asked.seats
        ],
        "waits_for_you": asked.waits_for_reader,
        "you_voted": [
            {
                "choice": vote.choice.value,
                "voted_at": to_text(vote.cast_at),
                "not_counted_because": reasons.get(vote.index, []),
            }
            for vote in asked.voted
        ],
        "answer_at": site.gate(request),
        "evidence_at": site.request(request.digest),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "finding": finding.id,
        "model": finding.model,
        "version": str(finding.version or ""),
        "severity": finding.severity.value,
        "test": finding.test,
        "summary": finding.summary,
        "owner": finding.owner,
        "due_at": to_text(finding.due_at),
    }


def _open_request(standing: Standing, reader: Person | None) -> OpenRequest:
    pack = standing.pack
    names = pack.names(reader)
    seats = tuple(
        OpenSeat(tallied.seat.role, tallied.open_count, standing.may_still_fill(tallied.seat))
        for tallied in standing.count.open_seats
    )
    return OpenRequest(
        standing=standing,
        asked_by=name_in(standing.entry, "requester"),
        seats=seats,
        waits_for_reader=reader is not None and waits_for(standing, reader),
        voted=tuple(vote for vote in standing.votes if names & pack.names(vote.voter)),
    )


def _is_due(gov: Governance, finding: Finding, reader: Person | None, now: datetime) -> bool:
    if now < finding.due_at or finding.is_accepted(now):
        return False
    return reader is None or _is_owner(gov, finding, reader)


def _is_owner(gov: Governance, finding: Finding, reader: Person) -> bool:
    """Tell whether a finding is somebody's, under whichever name the model's pack knows them."""
    if reader.is_same_as(finding.owner):
        return True
    try:
        pack = gov.pack_for(gov.model(finding.model))
    except ConfigurationError:  # the model left the inventory, or its pack is gone
        return False
    return bool(pack.names(reader) & pack.names(finding.owner))
