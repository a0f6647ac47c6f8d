"""The pages that people look at, and the forms on them; to look at one changes nothing.

Airflow guards its own routes only, so each page asks for itself who is signed in, and whether that
person may read the DAG whose gate asks. A page runs no script, loads nothing from elsewhere and is
kept in no cache.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from airflow_mlgov.api.form_token import tokens_for
from airflow_mlgov.api.forms import ACTS, Outcome, receive
from airflow_mlgov.api.signed_in import SIGN_IN, may_read, person_of, user_of
from airflow_mlgov.api.statuses import status_of
from airflow_mlgov.dossiers.pages import (
    content_security_policy,
    write_evidence_page,
    write_model_page,
    write_overview,
    write_problem,
)
from airflow_mlgov.dossiers.site import MOUNT, Site
from airflow_mlgov.errors import ArtefactError, MlgovError, UnknownSubjectError
from airflow_mlgov.records.digest import Digest

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

_Write: TypeAlias = "Callable[[Request, BaseUser, Site], str]"

_NEVER_KEPT = {"Cache-Control": "no-store"}
log = logging.getLogger(__name__)


class _ForbiddenError(MlgovError):
    """Who is signed in may not read the DAG; a retry does not help."""


def add_pages(app: FastAPI) -> None:
    """Add the pages to the app."""
    # Plain routes, not FastAPI's: those look a handler's annotations up among the module's names.
    app.add_route("/", _page(_overview))
    app.add_route("/models/{model}", _page(_model))
    app.add_route("/requests/{request}", _page(_request))
    for path, act in ACTS.items():
        app.add_route("/models/{model}" + path, _form(receive(act)), methods=["POST"])


def _page(write: _Write) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a page: who is signed in first, then the ledger, in a thread."""

    async def answer(request: Request) -> Response:
        site = _site(request)
        user = await user_of(request.scope)
        if user is None:
            return _sign_in(request, site)
        status, html = await asyncio.to_thread(_written, write, request, user, site)
        return _html(html, status)

    return answer


def _form(
    take: Callable[[Request, Site], Awaitable[Outcome]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a form: back to the page that it stood on, or why it was refused."""

    async def answer(request: Request) -> Response:
        from starlette.responses import RedirectResponse

        site = _site(request)
        sent = await take(request, site)
        if sent.entry is not None:
            there = f"{sent.back}?done={sent.entry}"
            return RedirectResponse(there, status_code=303, headers=_NEVER_KEPT)
        html = write_problem(sent.title, sent.problem, site, back=sent.back, typed=sent.typed)
        return _html(html, sent.status)

    return answer


def _site(request: Request) -> Site:
    return Site(str(request.scope.get("root_path", "")).removesuffix(MOUNT))


def _done(request: Request) -> int | None:
    """Return the entry that a form has just made, by the address that its sender was led to."""
    said = request.query_params.get("done", "")
    return int(said) if re.fullmatch(r"[0-9]{1,12}", said, re.ASCII) else None


def _written(write: _Write, request: Request, user: BaseUser, site: Site) -> tuple[int, str]:
    try:
        return 200, write(request, user, site)
    except _ForbiddenError as error:
        return 403, write_problem("You may not see this", str(error), site)
    except UnknownSubjectError as error:
        return 404, write_problem("There is no such thing", str(error), site)
    except MlgovError as error:
        log.exception("A page cannot be shown.")
        return status_of(error), write_problem("This cannot be shown", str(error), site)


def _overview(_: Request, user: BaseUser, site: Site) -> str:
    from airflow_mlgov.service.overview import collect_overview
    from airflow_mlgov.wiring import open_governance

    found = collect_overview(open_governance(), person_of(user), may_read(user))
    return write_overview(found, site)


def _model(request: Request, user: BaseUser, site: Site) -> str:
    from airflow_mlgov.service.overview import collect_model
    from airflow_mlgov.wiring import open_governance

    model, reader, gov = request.path_params["model"], person_of(user), open_governance()
    found = collect_model(gov, model, reader, may_read(user), done=_done(request))
    token = tokens_for(reader.id, model).make(gov.clock.now(), found.desk.ledger_size)
    return write_model_page(found, site, token)


def _request(request: Request, user: BaseUser, site: Site) -> str:
    from airflow_mlgov.service.approvals import request_on_record
    from airflow_mlgov.service.desk import collect_desk
    from airflow_mlgov.service.dossier import collect_dossier
    from airflow_mlgov.wiring import open_governance

    digest = request_digest(request.path_params["request"])
    gov = open_governance()
    view = gov.ledger.view()
    asked = request_on_record(view, digest)
    if not may_read(user)(asked.dag_id):
        raise _ForbiddenError(f"You may not read DAG {asked.dag_id!r}, whose gate asks this.")
    reader, model = person_of(user), asked.model
    dossier = collect_dossier(gov, view, digest, reader)
    desk = collect_desk(gov, view, model, reader, dossier.findings, done=_done(request))
    token = tokens_for(reader.id, model).make(gov.clock.now(), desk.ledger_size)
    return write_evidence_page(dossier, site, desk, token)


def request_digest(text: str) -> Digest:
    """Return the digest of a request that a path names.

    Raises:
        UnknownSubjectError: It is none; a retry does not help.
    """
    try:
        return Digest.parse(text)
    except ArtefactError as error:
        raise UnknownSubjectError(
            "The path names no request.", remedy="Name it as sha256:<64 hexadecimal characters>."
        ) from error


def _sign_in(request: Request, site: Site) -> Response:
    """Send a browser to Airflow's sign-in, and from there back; tell a program to sign in."""
    from starlette.responses import JSONResponse, RedirectResponse

    if "text/html" in request.headers.get("accept", ""):
        there = site.sign_in(request.url.path)
        return RedirectResponse(there, status_code=302, headers=_NEVER_KEPT)
    return JSONResponse(SIGN_IN, status_code=401, headers=_NEVER_KEPT)


def _html(html: str, status: int) -> Response:
    from starlette.responses import HTMLResponse

    headers = {
        "Content-Security-Policy": content_security_policy(),
        "X-Content-Type-Options": "nosniff",
        # With less, a browser would not say from where a form is sent.
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(html, status, headers=headers | _NEVER_KEPT)
