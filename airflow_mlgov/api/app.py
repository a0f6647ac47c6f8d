"""What signed-in people tell the api-server: stop a model, resume it, revoke an approval; pages.

Airflow guards its own routes only: each route of an app that a plugin brings must ask for the user.
Who is signed in is told by Airflow; what that person may do is read from inventory and policy pack.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_mlgov.api.pages import add_pages, request_digest
from airflow_mlgov.api.signed_in import person_of
from airflow_mlgov.api.statuses import status_of
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.stop import MAX_REASON, resume_model, revoke_approval, stop_model

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

    from airflow_mlgov.service.ledger import SealedReceipt

log = logging.getLogger(__name__)


def build_app() -> FastAPI:
    """Return the app; Airflow mounts it under ``/mlgov``."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Body, Depends, FastAPI

    app = FastAPI(title="airflow-mlgov", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(MlgovError, _refusal)
    # As defaults, not in annotations: FastAPI looks those up among the module's names.
    signed_in = Depends(get_user)
    why = Body(embed=True, min_length=1, max_length=MAX_REASON, pattern=r"\S")

    # Plain functions, so that they run in threads: they wait for the ledger.
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

    add_pages(app)
    return app


def _opened() -> Any:
    """Return the rules as they stand now; one ledger a request, as requests run side by side."""
    from airflow_mlgov.wiring import open_governance

    return open_governance()


def _on_record(receipt: SealedReceipt) -> dict[str, int]:
    return {"entry": receipt.index}


def _refusal(_: Request, error: Exception) -> Response:
    from fastapi.responses import JSONResponse

    status = status_of(error)
    if status >= 500:
        log.error("What somebody asked for was not put on record: %s", error)
    return JSONResponse({"detail": str(error)}, status)
