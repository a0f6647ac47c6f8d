"""What signed-in people ask and tell the api-server about models, approvals and findings.

Airflow guards its own routes only: each route of an app that a plugin brings must ask for the user.
Who is signed in is told by Airflow; what that person may do is read from inventory and policy pack.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

from airflow_mlgov.api.pages import add_pages, request_digest
from airflow_mlgov.api.signed_in import may_read, person_of
from airflow_mlgov.api.statuses import status_of
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.break_glass import BreakGlass
from airflow_mlgov.service.inbox import collect_inbox
from airflow_mlgov.service.settle_finding import accept_finding, close_finding
from airflow_mlgov.service.stop import MAX_REASON, resume_model, revoke_approval, stop_model
from airflow_mlgov.service.use_break_glass import (
    Emergency,
    confirm_break_glass,
    use_break_glass,
)

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

    from airflow_mlgov.service.ledger import SealedReceipt

log = logging.getLogger(__name__)


def build_app() -> FastAPI:
    """Return the app; Airflow mounts it under ``/mlgov``."""
    from fastapi import FastAPI

    app = FastAPI(title="airflow-mlgov", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(MlgovError, _refusal)
    _add_inbox(app)
    _add_orders(app)
    _add_findings(app)
    _add_emergencies(app)
    add_pages(app)
    return app


# Below, what a route takes stands in defaults and not in annotations: FastAPI looks those up among
# the module's names. Routes are plain functions, so that they run in threads: they wait for the
# ledger.


def _signed_in() -> Any:
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Depends

    return Depends(get_user)


def _said(**limits: Any) -> Any:
    from fastapi import Body

    return Body(embed=True, **limits)


_DIGEST = r"^sha256:[0-9a-f]{64}$"
_REASON = {"min_length": 1, "max_length": MAX_REASON, "pattern": r"\S"}


def _add_inbox(app: FastAPI) -> None:
    signed_in = _signed_in()

    @app.get("/api/inbox")
    def inbox(model: str | None = None, user: Any = signed_in) -> dict[str, Any]:
        gov, reader = _opened(), person_of(user)
        found = collect_inbox(
            gov, gov.ledger.view(), reader=reader, model=model, may_read=may_read(user)
        )
        return {"user": reader.id, **found.as_json(_site())}


def _add_orders(app: FastAPI) -> None:
    signed_in, why = _signed_in(), _said(**_REASON)

    @app.post("/api/models/{model}/stop")
    def stop(model: str, reason: str = why, user: Any = signed_in) -> dict[str, Any]:
        gov, person = _opened(), person_of(user)
        receipt = stop_model(gov, model, reason, person, role=KeyRole.ATTESTOR)
        return {"model": model, **_on_record(receipt)}

    @app.post("/api/models/{model}/resume")
    def resume(model: str, reason: str = why, user: Any = signed_in) -> dict[str, Any]:
        receipt = resume_model(_opened(), model, reason, person_of(user))
        return {"model": model, **_on_record(receipt)}

    @app.post("/api/approvals/{request}/revoke")
    def revoke(request: str, reason: str = why, user: Any = signed_in) -> dict[str, Any]:
        receipt = revoke_approval(_opened(), request_digest(request), reason, person_of(user))
        return {"request_sha256": request, **_on_record(receipt)}


def _add_findings(app: FastAPI) -> None:
    signed_in, why, day = _signed_in(), _said(**_REASON), _said()
    document = _said(default=None, pattern=_DIGEST)

    @app.post("/api/models/{model}/findings/{finding}/close")
    def close(
        model: str,
        finding: str,
        reason: str = why,
        evidence_sha256: str | None = document,
        user: Any = signed_in,
    ) -> dict[str, Any]:
        evidence = Digest.parse(evidence_sha256) if evidence_sha256 else None
        receipt = close_finding(
            _opened(), model, finding, reason, person_of(user), evidence=evidence
        )
        return {"finding": finding, **_on_record(receipt)}

    @app.post("/api/models/{model}/findings/{finding}/accept")
    def accept(
        model: str, finding: str, reason: str = why, until: date = day, user: Any = signed_in
    ) -> dict[str, Any]:
        receipt = accept_finding(_opened(), model, finding, reason, person_of(user), until=until)
        return {"finding": finding, "until": until.isoformat(), **_on_record(receipt)}


def _add_emergencies(app: FastAPI) -> None:
    signed_in, why = _signed_in(), _said(**_REASON)
    name, document, span = _said(max_length=250), _said(pattern=_DIGEST), _said(default=None)

    @app.post("/api/models/{model}/breakglass")
    def use(
        model: str,
        version: str = document,
        target: str = name,
        hours: int | None = span,
        reason: str = why,
        user: Any = signed_in,
    ) -> dict[str, Any]:
        emergency = Emergency(model, Digest.parse(version), target, hours)
        return _shown(use_break_glass(_opened(), emergency, reason, person_of(user)))

    @app.post("/api/models/{model}/breakglass/{finding}/confirm")
    def confirm(
        model: str, finding: str, reason: str = why, user: Any = signed_in
    ) -> dict[str, Any]:
        return _shown(confirm_break_glass(_opened(), model, finding, reason, person_of(user)))


def _shown(glass: BreakGlass) -> dict[str, Any]:
    newest = max((glass.entry, *glass.confirmations.values()), key=lambda entry: entry.index)
    return {
        "finding": glass.id,
        "target": glass.target,
        "until": to_text(glass.until),
        "confirmed": len(glass.confirmations),
        "quorum": glass.quorum,
        "confirm_by": to_text(glass.confirm_by),
        "entry": newest.index,
    }


def _opened() -> Any:
    """Return the rules as they stand now; one ledger a request, as requests run side by side."""
    from airflow_mlgov.wiring import open_governance

    return open_governance()


def _site() -> Any:
    from airflow_mlgov.wiring import open_site

    return open_site()


def _on_record(receipt: SealedReceipt) -> dict[str, int]:
    return {"entry": receipt.index}


def _refusal(_: Request, error: Exception) -> Response:
    from fastapi.responses import JSONResponse

    status = status_of(error)
    if status >= 500:
        log.error("What somebody asked for was not done: %s", error)
    return JSONResponse({"detail": str(error)}, status)
