"""Puts each answer to a gate on record under the attestor's key, before Airflow has it.

A task can claim that somebody voted; the api-server knows who is signed in. So it writes the vote
itself, waits until a checkpoint covers it, and only then hands the answer on: a gate that the
answer wakes finds the vote. What Airflow makes of the answer decides what becomes of the vote:

- 200: it has it.
- 409: another person's answer stands in the form, which the gate has not read yet. The gate counts
  after it has opened the form anew, so it will find this vote too; the approver is told that it is
  recorded.
- anything else: Airflow does not have it, and the vote is voided on record.

A vote that does not count (a second one, the requester's, too short a comment) is refused at once,
with the reason, and wakes nobody. Answers to forms that are no gate's go to Airflow unchanged.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlgov.api.messages import read_body, send_json
from airflow_mlgov.api.signed_in import SIGN_IN, person_of, roles_of, user_of
from airflow_mlgov.dossiers.approval_form import ANSWER_READ, CHOICES, COUNTED
from airflow_mlgov.dossiers.condition_fields import conditions_in
from airflow_mlgov.errors import MlgovError, VoteRefusedError
from airflow_mlgov.records.conditions import NO_CONDITIONS
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.attest_vote import Ballot, CastVote, cast_vote, void_vote

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.ledger import Ledger

_ANSWER = re.compile(
    r"/api/v2/dags/(?P<dag>[^/]+)/dagRuns/(?P<run>[^/]+)/taskInstances/(?P<task>[^/]+)"
    r"/(?P<index>-?[0-9]{1,9})/hitlDetails/?$"
)
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AskedForm:
    """The form of a task that looks like a gate's.

    Attributes:
        gate: The task.
        shown: Digest of the request that it shows.
        counted: Ledger entries that the gate had read when it opened it.
        has_ended: Whether the task has ended.
        answered_by_nobody: Whether a task's token has answered it, which no person did.
    """

    gate: Source
    shown: Digest
    counted: int
    has_ended: bool
    answered_by_nobody: bool = False


class VoteAttestationMiddleware:
    """ASGI middleware for Airflow's api-server.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._ledger: Ledger | None = None
        # One answer at a time: the next is held against what this one has changed.
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless somebody answers a gate."""
        is_patch = scope["type"] == "http" and scope["method"] == "PATCH"
        match = _ANSWER.search(scope["path"]) if is_patch else None
        if match is None:
            await self.app(scope, receive, send)
            return
        gate = Source(match["dag"], match["run"], match["task"], int(match["index"]))
        body, receive_again = await read_body(receive)
        form = await asyncio.to_thread(find_form, gate)
        answer = _answer_in(body or b"")
        if form is None or answer is None:
            await self.app(scope, receive_again, send)
            return
        user = await user_of(scope)
        if user is None:
            await send_json(send, 401, SIGN_IN)
        elif not await asyncio.to_thread(_may_answer, user, form):
            await self.app(scope, receive_again, send)
        else:
            ballot = _ballot(form, answer, user)
            await self._vote(form, ballot, answer, (scope, receive_again, send))

    async def _vote(
        self,
        form: AskedForm,
        ballot: Ballot,
        answer: dict[str, Any],
        request: tuple[Scope, Receive, Send],
    ) -> None:
        scope, receive, send = request
        try:
            async with self._turn:
                cast = await asyncio.to_thread(self._cast, ballot)
        except MlgovError as error:
            await send_json(send, *_refusal(error))
            return
        if cast is None:
            await self.app(scope, receive, send)
            return
        if form.answered_by_nobody:
            await asyncio.to_thread(drop_nobodys_answer, form.gate)
        status, messages = 0, []

        async def keep(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            messages.append(message)

        try:
            await self.app(scope, receive, keep)
        finally:
            if status not in (200, 409):
                await asyncio.to_thread(self._void, cast, status)
        if status == 409:
            await send_json(send, 200, _recorded(ballot, answer))
            return
        for message in messages:
            await send(message)

    def _cast(self, ballot: Ballot) -> CastVote | None:
        return cast_vote(self._governance(), ballot)

    def _void(self, cast: CastVote, status: int) -> None:
        said = f"answered {status}" if status else "did not answer"
        void_vote(self._governance(), cast, f"Airflow {said}: it did not take the answer")

    def _governance(self) -> Governance:
        """Return the rules as they stand now, over one ledger, which need not be read anew."""
        from airflow_mlgov.wiring import open_governance

        opened = open_governance()
        if self._ledger is None:
            self._ledger = opened.ledger
        return replace(opened, ledger=self._ledger)


def find_form(gate: Source) -> AskedForm | None:
    """Return a task's form if it looks like a gate's; whether it is one, the ledger knows."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = (
        select(
            HITLDetail.params,
            TaskInstance.state,
            HITLDetail.responded_at,
            HITLDetail.responded_by,
        )
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(*_is_task(gate))
    )
    with create_session() as session:
        row = session.execute(query).one_or_none()
    if row is None:
        return None
    params, state, answered_at, answered_by = row
    try:
        field = params["request"]
        is_gate = ANSWER_READ in field["schema"] and _DIGEST.fullmatch(field["value"])
        counted = int(field["schema"].get(COUNTED, 0))
        shown = Digest.parse(field["value"]) if is_gate else None
    except (KeyError, TypeError, ValueError):
        return None
    is_by_nobody = answered_at is not None and answered_by is None
    return AskedForm(gate, shown, counted, state in _ENDED, is_by_nobody) if shown else None


def drop_nobodys_answer(gate: Source) -> None:
    """Take out of a gate's form what a task's token answered.

    It wakes nobody, and Airflow would refuse the answers of people while it stands there.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = (
        select(HITLDetail)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(*_is_task(gate), HITLDetail.responded_at.is_not(None))
        .with_for_update()
    )
    with create_session() as session:
        form = session.scalars(query).one_or_none()
        if form is not None and form.responded_by is None:
            log.warning("Gate %s was answered by nobody; the answer is dropped.", gate.task)
            form.responded_at, form.chosen_options, form.params_input = None, None, {}


def _is_task(gate: Source) -> Iterator[Any]:
    from airflow.models.taskinstance import TaskInstance

    yield TaskInstance.dag_id == gate.dag_id
    yield TaskInstance.run_id == gate.run_id
    yield TaskInstance.task_id == gate.task_id
    yield TaskInstance.map_index == gate.map_index


def _answer_in(body: bytes) -> dict[str, Any] | None:
    """Return an answer that Airflow would read, else None: it says what is wrong with it."""
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload

    try:
        return UpdateHITLDetailPayload.model_validate_json(body).model_dump(mode="json")
    except ValueError:
        return None


def _may_answer(user: BaseUser, form: AskedForm) -> bool:
    """Return what Airflow will say of the user's rights: without them nothing is written."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import (
        DagAccessEntity,
        DagDetails,
    )
    from airflow.models.dag import DagModel

    dag = form.gate.dag_id
    may_edit = get_auth_manager().is_authorized_dag(
        method="PUT",
        access_entity=DagAccessEntity.HITL_DETAIL,
        details=DagDetails(id=dag, team_name=DagModel.get_team_name(dag)),
        user=user,
    )
    return bool(may_edit)


def _ballot(form: AskedForm, answer: dict[str, Any], user: BaseUser) -> Ballot:
    chosen, fields = answer["chosen_options"], answer["params_input"]
    named, comment = fields.get("request", ""), fields.get("comment", "")
    conditions, problem = NO_CONDITIONS, ""
    try:
        conditions = conditions_in(fields)
    except ValueError as error:
        problem = str(error)
    return Ballot(
        shown=form.shown,
        gate=form.gate,
        named=named if isinstance(named, str) else "",
        choice=CHOICES.get(chosen[0]) if len(chosen) == 1 else None,
        comment=comment if isinstance(comment, str) else "",
        person=person_of(user),
        counted=form.counted,
        has_ended=form.has_ended,
        roles=roles_of(user),
        conditions=conditions,
        problem=problem,
    )


def _refusal(error: MlgovError) -> tuple[int, dict[str, Any]]:
    if isinstance(error, VoteRefusedError):
        return 403, {"detail": str(error), "reasons": list(error.reasons)}
    log.error("An answer to a gate could not be put on record: %s", error)
    detail = f"Your answer was not recorded and does not count. {error}"
    return (503 if error.retryable else 500), {"detail": detail}


def _recorded(ballot: Ballot, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "responded_by": ballot.person.as_json(),
        "responded_at": datetime.now(UTC).isoformat(),
        "chosen_options": answer["chosen_options"],
        "params_input": answer["params_input"],
    }
