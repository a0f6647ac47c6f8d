"""Refuses, in the api-server, what would let a run past a gate by hand or take its traces away.

What touches a gate or protected task goes on record with the user's name under the attestor's key,
whatever the model's mode. In ``enforce`` it is then refused, unless it lets nobody through (to
fail, queue or clear a task); in ``observe`` and ``warn`` Airflow does it first.

If it cannot be told whether a task is protected, or what its model's mode is, nothing is changed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow_mlgov.api.messages import read_body, send_json
from airflow_mlgov.api.signed_in import SIGN_IN, person_of, user_of
from airflow_mlgov.enforcement.change_requests import METHODS, changes_asked, find_route
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.changes import ManualChange, named, record_changes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WHAT = {"xcom": "its XCom cannot be changed", "deleted": "it cannot be deleted"}
_REMEDY = (
    "People decide by answering the gate's form. To stop a run, mark it or the task as failed; to "
    "run a task again, clear it."
)
_TOO_LARGE = {"detail": "The request is larger than is read here. Change fewer tasks at once."}
log = logging.getLogger(__name__)


class ManualChangeMiddleware:
    """ASGI middleware for Airflow's api-server.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it would change a gate or protected task by hand."""
        changes_something = scope["type"] == "http" and scope["method"] in METHODS
        if not changes_something or find_route(scope["method"], scope["path"]) is None:
            await self.app(scope, receive, send)
            return
        body, receive_again = await read_body(receive)
        if body is None:
            await send_json(send, 413, _TOO_LARGE)
            return
        try:
            changes = await asyncio.to_thread(_touched, scope, body)
        except MlgovError as error:
            await send_json(send, *_unavailable(error))
            return
        if not changes:
            await self.app(scope, receive_again, send)
            return
        user = await user_of(scope)
        if user is None:
            await send_json(send, 401, SIGN_IN)
            return
        person = person_of(user)
        refusal = await asyncio.to_thread(_refusal, changes, person)
        if refusal is not None:
            await send_json(send, *refusal)
        else:
            await self._let_through(changes, person, (scope, receive_again, send))

    async def _let_through(
        self, changes: list[ManualChange], person: Person, request: tuple[Scope, Receive, Send]
    ) -> None:
        """Let Airflow decide first: what it does not do is no change."""
        scope, receive, send = request
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        with named(changes):
            await self.app(scope, receive, keep)
        if messages and 200 <= messages[0].get("status", 0) < 300:
            await asyncio.to_thread(_record_done, changes, person)
        for message in messages:
            await send(message)


def _touched(scope: Scope, body: bytes) -> list[ManualChange]:
    from sqlalchemy.exc import SQLAlchemyError

    from airflow_mlgov.enforcement.governed_tasks import governed_changes

    asked = changes_asked(scope["method"], scope["path"], body)
    try:
        return governed_changes(asked) if asked else []
    except SQLAlchemyError as error:
        problem = "Airflow's database cannot say whether a gate or protected task is among these."
        raise _CannotTellError(problem, remedy="Try again.") from error


class _CannotTellError(MlgovError):
    retryable = True


def _refusal(changes: list[ManualChange], person: Person) -> tuple[int, dict[str, Any]] | None:
    """Return the answer to what is refused, once that is on record; None if Airflow may do it.

    To stop a run or to run a task again must not wait for rules or ledger.
    """
    from airflow_mlgov.wiring import open_governance

    if all(change.is_harmless for change in changes):
        return None
    try:
        gov = open_governance()
        refused = [change for change in changes if change.is_refused(gov)]
        if not refused:
            return None
        record_changes(gov, changes, person, refused=True)
    except MlgovError as error:
        return _unavailable(error)
    reasons = [_reason(change) for change in refused]
    detail = f"{' '.join(reasons)} {_REMEDY} This attempt is on record."
    return 403, {"detail": detail, "reasons": reasons}


def _reason(change: ManualChange) -> str:
    where = f" of run {change.task.run_id!r}" if change.task.run_id else ""
    what = _WHAT.get(change.state, f"it cannot be set to {change.state}")
    return (
        f"Task {change.task.task_id!r}{where} is a gate or protected task of a model in mode "
        f"'enforce': {what} by hand."
    )


def _unavailable(error: MlgovError) -> tuple[int, dict[str, Any]]:
    log.error("A change by hand was refused, because it could not be judged or kept: %s", error)
    return 503, {"detail": f"Nothing was changed. {error}"}


def _record_done(changes: list[ManualChange], person: Person) -> None:
    """Keep what Airflow has done; it stays done if that fails."""
    from airflow_mlgov.wiring import open_governance

    try:
        record_changes(open_governance(), changes, person, refused=False)
    except MlgovError:
        log.exception("A change by hand could not be noted in the ledger.")
