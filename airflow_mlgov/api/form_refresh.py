"""Keeps an open approval form true.

Airflow keeps the text of a form that exists already when its task opens it again: after a vote it
would show the old seats, after a clear the old version. This middleware lets Airflow answer first,
and then writes what the gate sent
into the form that Airflow kept. It acts on forms of our gate only, and only for the task that
Airflow has just authorised to open its own form.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN_FORM = re.compile(r"/execution/hitlDetails/([0-9a-fA-F-]{36})/?$")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_BODY_BYTES = 1 << 20


class FormRefreshMiddleware:
    """ASGI middleware for Airflow's api-server.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; refresh the form after a gate has opened it."""
        match = _OPEN_FORM.search(scope.get("path", "")) if scope["type"] == "http" else None
        if match is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = bytearray()

        async def keep_body() -> Message:
            message = await receive()
            if message["type"] == "http.request" and len(body) <= MAX_BODY_BYTES:
                body.extend(message.get("body", b""))
            return message

        async def refresh_first(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 201:
                form = gate_form(bytes(body))
                if form is not None:
                    await asyncio.to_thread(rewrite_form, UUID(match.group(1)), form)
            await send(message)

        await self.app(scope, keep_body, refresh_first)


def gate_form(body: bytes) -> dict[str, Any] | None:
    """Return what a request body says if it opens a form of our gate, else None."""
    try:
        form = json.loads(body)
        request = form["params"]["request"]["value"]
    except (ValueError, KeyError, TypeError):
        return None
    return form if isinstance(request, str) and _DIGEST.fullmatch(request) else None


def rewrite_form(task_instance_id: UUID, form: dict[str, Any]) -> None:
    """Write text, fields and assignees into an open form; an answered one is left alone."""
    from airflow.models.hitl import HITLDetail
    from airflow.utils.session import create_session
    from sqlalchemy import update

    statement = (
        update(HITLDetail)
        .where(HITLDetail.ti_id == task_instance_id, HITLDetail.responded_at.is_(None))
        .values(
            subject=form["subject"],
            body=form.get("body"),
            params=form["params"],
            assignees=form.get("assigned_users") or [],
        )
    )
    with create_session() as session:
        session.execute(statement)
