"""Where requests stand, in one word, and as lines of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from airflow_mlgov.dossiers.evidence import RequestState
from airflow_mlgov.dossiers.lists import RequestLine
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import Standing, person_of
from airflow_mlgov.service.describe import registry_number, seat_line
from airflow_mlgov.service.findings import ERASED
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry
from airflow_mlgov.service.stop import is_revoked

MayRead: TypeAlias = Callable[[str], bool]
"""Tells whether the reader may read a DAG, by its id."""


def state_of(view: LedgerView, standing: Standing) -> RequestState:
    """Return where a request stands: what takes an approval away comes before what it was for.

    Args:
        view: Verified ledger.
        standing: The request, counted.
    """
    if is_revoked(view, standing.request):
        return RequestState.REVOKED
    if standing.decision is not Decision.GRANTED:
        return RequestState(standing.decision.value)
    if standing.expires_at is None or standing.counted_at >= standing.expires_at:
        return RequestState.EXPIRED
    return RequestState.CONSUMED if standing.used_by else RequestState.GRANTED


def waits_for(standing: Standing, person: Person) -> bool:
    """Tell whether an open request has a seat that somebody may still fill."""
    names = standing.pack.names(person)
    return standing.decision is Decision.OPEN and any(
        names & standing.pack.names(*standing.may_still_fill(tallied.seat))
        for tallied in standing.count.open_seats
    )


def line_of(gov: Governance, view: LedgerView, standing: Standing, reader: Person) -> RequestLine:
    """Return a request as a line of a list.

    Args:
        gov: Governance.
        view: Verified ledger.
        standing: The request, counted.
        reader: Who looks at the list.
    """
    request = standing.request
    return RequestLine(
        digest=request.digest,
        model=request.model,
        model_name=gov.model(request.model).name,
        number=registry_number(view, request.model, request.version),
        target=request.target,
        asked_at=standing.entry.at,
        asked_by=name_in(standing.entry, "requester"),
        state=state_of(view, standing),
        open_seats=[seat_line(standing, tallied) for tallied in standing.count.open_seats],
        decide_by=standing.decide_by,
        is_reader_waited_for=waits_for(standing, reader),
    )


def name_in(entry: SealedEntry, field: str) -> str:
    """Return the name of a person in an entry; empty if it names none there."""
    person = person_of(entry, field)
    if person is not None:
        return person.name
    return ERASED if field in entry.people else ""
