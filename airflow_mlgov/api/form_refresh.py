"""Keeps an open approval form true, and every answer to it.

When a task opens a form that exists already, Airflow keeps the form's old text and deletes the
answer that stands in it. After a vote the form would show the old seats, after a clear the old
version; and an answer that came in since the gate last looked would be gone. For forms of our gate
this middleware therefore does that part itself, in one statement: it writes what the gate sent and
deletes the answer that the gate says it has taken. Any other answer stays, and is told to the gate
in the reply: to park on an answered form would make Airflow resume the task at once, which is just
what makes Airflow 3.3 fail it with "state mismatch".

It does so only for a task that Airflow itself lets read that very form with the same token: reading
and opening a form need the same right. Everything else goes to Airflow unchanged.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from airflow_mlgov.api.messages import read_body, send_json
from airflow_mlgov.dossiers.approval_form import ANSWER_READ, UNREAD_ANSWER

if TYPE_CHECKING:
    from airflow.api_fastapi.execution_api.datamodels.hitl import HITLDetailRequest
    from sqlalchemy import CursorResult
    from sqlalchemy.orm import Session
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN_FORM = re.compile(
    r"/execution/hitlDetails/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/?$"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BODY_HEADERS = {b"content-length", b"content-type", b"transfer-encoding"}
_NEW_TOKEN = b"refreshed-api-token"
_SAME_MOMENT = timedelta(milliseconds=1)
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class GateForm:
    """What a gate sends when it opens its form.

    Attributes:
        sent: The form.
        answer_read: When the last answer was given that the gate has taken; None if it has taken
            none.
    """

    sent: HITLDetailRequest
    answer_read: datetime | None

    def has_read(self, answered_at: datetime) -> bool:
        """Whether the gate has taken the answer that was given at a moment.

        Moments are compared to the millisecond: on its way to the gate one passes through numbers
        that need not keep its last digits.
        """
        return self.answer_read is not None and abs(self.answer_read - answered_at) < _SAME_MOMENT


class FormRefreshMiddleware:
    """ASGI middleware for Airflow's api-server.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless a gate opens a form again."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        match = _OPEN_FORM.search(scope["path"]) if is_post else None
        if match is None:
            await self.app(scope, receive, send)
            return
        body, receive_again = await read_body(receive)
        form = gate_form(body or b"")
        if form is not None:
            status, headers = await self._ask_for_form(scope)
            task_instance_id = UUID(match.group(1))
            if status == 200:
                reply = await asyncio.to_thread(reopen_form, task_instance_id, form)
                if reply is not None:
                    await send_json(send, 201, reply, headers)
                    return
        await self.app(scope, receive_again, send)

    async def _ask_for_form(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Let Airflow say whether the sender may touch this form, and whether there is one.

        Returns:
            The status of Airflow's answer, and the header with a new token if there is one.
        """
        status, headers = 0, []
        asked = False

        async def nothing() -> Message:
            nonlocal asked
            if asked:
                await asyncio.Event().wait()  # the caller stays connected until it is answered
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def note(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [pair for pair in message["headers"] if pair[0].lower() == _NEW_TOKEN]

        kept = [pair for pair in scope["headers"] if pair[0].lower() not in _BODY_HEADERS]
        await self.app({**scope, "method": "GET", "headers": kept}, nothing, note)
        return status, headers


def gate_form(body: bytes) -> GateForm | None:
    """Return what a request body says if it opens a form of our gate, else None."""
    from airflow.api_fastapi.execution_api.datamodels.hitl import HITLDetailRequest

    try:
        sent = HITLDetailRequest.model_validate_json(body)
        field = sent.params["request"]
        request, read = field["value"], field["schema"][ANSWER_READ]
        answer_read = datetime.fromisoformat(read) if read else None
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(request, str) or not _DIGEST.fullmatch(request):
        return None
    if answer_read is not None and answer_read.tzinfo is None:
        return None
    return GateForm(sent, answer_read)


def reopen_form(task_instance_id: UUID, form: GateForm) -> dict[str, Any] | None:
    """Let a form say what the gate sent, ready to be answered; an answer not yet taken stays.

    Args:
        task_instance_id: Whose form.
        form: What the gate sent.

    Returns:
        What to tell the gate: the form as sent, with the answer that it has not taken, if there is
        one; None if there is no such form.
    """
    from airflow.utils.session import create_session

    reply = form.sent.model_dump(mode="json")
    for _ in range(_LOOKS):
        with create_session() as session:
            found = _answer_of(session, task_instance_id)
            if found is None:
                return None
            answered_at = found["responded_at"]
            if answered_at is not None and not form.has_read(answered_at):
                told = {**found, "responded_at": answered_at.isoformat()}
                reply["params"]["request"]["schema"][UNREAD_ANSWER] = told
                return reply
            if _rewrite(session, task_instance_id, answered_at, form.sent):
                return reply
    return reply


def _answer_of(session: Session, task_instance_id: UUID) -> dict[str, Any] | None:
    """Return what stands in a form as its answer, as Airflow hands it to a task that it resumes."""
    from airflow.models.hitl import HITLDetail
    from sqlalchemy import select

    query = select(
        HITLDetail.chosen_options,
        HITLDetail.params_input,
        HITLDetail.responded_at,
        HITLDetail.responded_by.label("responded_by_user"),
    ).where(HITLDetail.ti_id == task_instance_id)
    row = session.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def _rewrite(
    session: Session, task_instance_id: UUID, answered_at: datetime | None, sent: HITLDetailRequest
) -> bool:
    """Write the form anew, without its answer; False if somebody has answered since the look."""
    from airflow.models.hitl import HITLDetail
    from sqlalchemy import null, update

    seen = HITLDetail.responded_at
    written = session.execute(
        update(HITLDetail)
        .where(
            HITLDetail.ti_id == task_instance_id,
            seen.is_(None) if answered_at is None else seen == answered_at,
        )
        .values(
            subject=sent.subject,
            body=sent.body,
            options=sent.options,
            defaults=null(),
            multiple=sent.multiple,
            params=sent.params,
            assignees=[user.model_dump() for user in sent.assigned_users],
            responded_at=None,
            responded_by=null(),
            chosen_options=null(),
            params_input={},
        )
        .execution_options(synchronize_session=False)
    )
    return bool(cast("CursorResult[Any]", written).rowcount)
