"""What waits for whom, and the requests for a model, as lists for people."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_mlgov.dossiers.lists import ModelLine, ModelPage, Overview
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.approvals import Standing, requests, standings
from airflow_mlgov.service.desk import collect_desk
from airflow_mlgov.service.dossier import stop_line
from airflow_mlgov.service.findings import open_findings
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView
from airflow_mlgov.service.request_state import MayRead, line_of


def collect_overview(gov: Governance, reader: Person, may_read: MayRead) -> Overview:
    """Return what waits, and every governed model.

    Args:
        gov: Governance.
        reader: Who looks.
        may_read: Requests of other DAGs are counted and not shown.

    Raises:
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
        LedgerUnavailableError: It cannot be reached, or nothing was signed yet; a retry may help.
    """
    view = gov.ledger.view()
    counted = standings(gov, view)
    known = [s for s in counted if s.request.model in gov.inventory]
    waiting = [standing for standing in known if standing.decision is Decision.OPEN]
    shown = _readable(waiting, may_read)
    lines = [line_of(gov, view, standing, reader) for standing in shown]
    return Overview(
        reader=reader.name,
        waiting=sorted(lines, key=lambda line: not line.is_reader_waited_for),
        models=[ModelLine(entry, stop_line(view, entry.id)) for entry in gov.inventory.values()],
        hidden=len(waiting) - len(shown),
        unread=_unread(view, counted, None, may_read),
    )


def collect_model(
    gov: Governance, model: str, reader: Person, may_read: MayRead, *, done: int | None = None
) -> ModelPage:
    """Return a model and the requests for it, newest first.

    Args:
        gov: Governance.
        model: Inventory id.
        reader: Who looks.
        may_read: Requests of other DAGs are counted and not shown, nor are findings on versions
            that only those ask for, unless the reader may settle them.
        done: Index of the entry in which the reader has just done something.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
        LedgerUnavailableError: It cannot be reached, or nothing was signed yet; a retry may help.
    """
    entry = gov.model(model)
    view = gov.ledger.view()
    counted = standings(gov, view, model=model)
    shown = _readable(counted, may_read)
    findings = open_findings(view, model)
    desk = collect_desk(gov, view, model, reader, findings, done=done)
    seen = {standing.request.version for standing in shown} | ({None} if shown else set())
    mine = {offer.finding for offer in desk.findings}
    listed = [finding for finding in findings if finding.version in seen or finding.id in mine]
    return ModelPage(
        model=ModelLine(entry, stop_line(view, model)),
        requests=[line_of(gov, view, standing, reader) for standing in reversed(shown)],
        hidden=len(counted) - len(shown),
        unread=_unread(view, counted, model, may_read),
        findings=listed,
        hidden_findings=len(findings) - len(listed),
        read_at=gov.clock.now(),
        desk=desk,
    )


def _readable(found: Iterable[Standing], may_read: MayRead) -> list[Standing]:
    return [standing for standing in found if may_read(standing.request.dag_id)]


def _unread(
    view: LedgerView, counted: Iterable[Standing], model: str | None, may_read: MayRead
) -> list[Digest]:
    """Return the requests that could not be counted, each once."""
    known = {standing.request.digest for standing in counted}
    asked = (request for _, request in requests(view, model=model) if may_read(request.dag_id))
    return list(dict.fromkeys(r.digest for r in asked if r.digest not in known))
