"""The middleware before Airflow's own form routes, with Airflow's own table in a database file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance  # noqa: F401, the table's mapper needs it
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import Session

from airflow_mlgov.api import form_refresh
from airflow_mlgov.api.form_refresh import FormRefreshMiddleware, gate_form
from airflow_mlgov.api.messages import MAX_BODY_BYTES
from airflow_mlgov.dossiers.approval_form import ANSWER_READ, UNREAD_ANSWER

TASK = UUID("01234567-89ab-4cde-8f01-23456789abcd")
PATH = f"/execution/hitlDetails/{TASK}"
TOKEN = [(b"authorization", b"Bearer of the task"), (b"content-length", b"999")]
AT = datetime(2026, 6, 1, 13, 0, 0, 123456, tzinfo=UTC)


def form(read: str = "", **changes: Any) -> dict[str, Any]:
    field = {"value": "sha256:" + "a" * 64, "schema": {"type": "string", ANSWER_READ: read}}
    return {
        "type": "CreateHITLDetailPayload",
        "ti_id": str(TASK),
        "options": ["Approve", "Reject"],
        "subject": "Approve?",
        "body": "olivia sits",
        "defaults": None,
        "multiple": False,
        "params": {"request": field},
        "assigned_users": [{"id": "victor", "name": "victor"}],
    } | changes


class Airflow:
    """Airflow's form routes: what they do with the row, and whom they let."""

    def __init__(self, file: Path) -> None:
        self.engine = create_engine(f"sqlite:///{file}")
        HITLDetail.__table__.create(self.engine)
        self.calls: list[str] = []
        self.refusal = 0
        self.bodies: list[bytes] = []
        self.between: Any = None

    @contextmanager
    def session(self) -> Iterator[Session]:
        with Session(self.engine) as session:
            yield session
            session.commit()

    def keep(self, **answer: Any) -> None:
        """Let the form be there as it was first opened."""
        row = {"ti_id": TASK, "options": ["Approve"], "subject": "Old?", "body": "nobody sits"}
        with self.session() as session:
            session.add(HITLDetail(**(row | {"params": {}, "params_input": {}} | answer)))

    def answer(self, at: datetime = AT) -> None:
        with self.session() as session:
            session.execute(update(HITLDetail).values(**ANSWER | {"responded_at": at}))

    def row(self) -> HITLDetail:
        table = HITLDetail.__table__
        with self.engine.connect() as connection:
            return connection.execute(select(table)).one()  # type: ignore[return-value]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(scope["method"])
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        headers = dict(scope["headers"])
        status = 200 if scope["method"] == "GET" else 201
        if self.refusal or headers.get(b"authorization") != TOKEN[0][1]:
            status = self.refusal or 403
        elif scope["method"] == "GET":
            assert b"content-length" not in headers
            with self.session() as session:
                status = 200 if session.scalar(select(HITLDetail.ti_id)) else 404
            if self.between:
                self.between()
        said = [(b"Refreshed-API-Token", b"new")]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": b"airflow"})


ANSWER = {
    "responded_at": AT,
    "responded_by": {"id": "victor", "name": "victor"},
    "chosen_options": ["Reject"],
    "params_input": {"comment": "no"},
}


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow = Airflow(tmp_path / "airflow.db")
    monkeypatch.setattr("airflow.utils.session.create_session", airflow.session)
    return airflow


def call(
    airflow: Any,
    sent: Any,
    *,
    method: str = "POST",
    path: str = PATH,
    headers: Any = TOKEN,
    parts: int = 2,
) -> tuple[int, bytes, dict[bytes, bytes]]:
    """Send a request in parts; return what comes back."""
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    cut = len(body) // parts + 1
    chunks = [body[i : i + cut] for i in range(0, len(body), cut)]
    got: list[Any] = []

    async def receive() -> Any:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        got.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(FormRefreshMiddleware(airflow)(scope, receive, send))
    return got[0]["status"], got[1]["body"], dict(got[0]["headers"])


def test_a_form_that_is_not_there_yet_is_opened_by_airflow(airflow: Airflow) -> None:
    assert call(airflow, form())[:2] == (201, b"airflow")
    assert airflow.calls == ["GET", "POST"]
    assert airflow.bodies == [b"", json.dumps(form()).encode()]


def test_an_open_form_says_what_the_gate_sent(airflow: Airflow) -> None:
    airflow.keep(defaults=["Approve"], multiple=True)
    status, body, headers = call(airflow, form())
    row = airflow.row()
    assert status == 201
    assert (row.subject, row.body, row.options) == ("Approve?", "olivia sits", form()["options"])
    assert (row.params, row.assignees) == (form()["params"], form()["assigned_users"])
    assert (row.defaults, row.multiple) == (None, False)
    assert airflow.calls == ["GET"]
    assert headers[b"Refreshed-API-Token"] == b"new"
    assert int(headers[b"content-length"]) == len(body)


def test_the_worker_can_read_the_reply(airflow: Airflow) -> None:
    from airflow.sdk.api.datamodels._generated import HITLDetailRequest

    airflow.keep()
    reply = HITLDetailRequest.model_validate_json(call(airflow, form())[1])
    assert (reply.ti_id, reply.subject) == (TASK, "Approve?")
    assert reply.params is not None
    assert UNREAD_ANSWER not in reply.params["request"]["schema"]


@pytest.mark.parametrize("drift", [0, 400, -400])
def test_the_answer_that_the_gate_has_taken_goes(airflow: Airflow, drift: int) -> None:
    airflow.keep(**ANSWER)
    read = (AT + timedelta(microseconds=drift)).isoformat()
    assert call(airflow, form(read))[0] == 201
    row = airflow.row()
    assert (row.responded_at, row.responded_by, row.chosen_options) == (None, None, None)
    assert (row.params_input, row.body) == ({}, "olivia sits")


@pytest.mark.parametrize("read", ["", (AT - timedelta(seconds=1)).isoformat()])
def test_an_answer_that_the_gate_has_not_taken_stays(airflow: Airflow, read: str) -> None:
    airflow.keep(**ANSWER)
    status, body, _ = call(airflow, form(read))
    assert status == 201
    told = json.loads(body)["params"]["request"]["schema"][UNREAD_ANSWER]
    row = airflow.row()
    assert told == {
        "chosen_options": ["Reject"],
        "params_input": {"comment": "no"},
        "responded_at": AT.isoformat(),
        "responded_by_user": {"id": "victor", "name": "victor"},
    }
    assert (row.chosen_options, row.params_input) == (["Reject"], {"comment": "no"})
    assert row.responded_by == {"id": "victor", "name": "victor"}
    assert row.responded_at is not None
    assert airflow.calls == ["GET"], "Airflow would have deleted the answer"


def test_an_answer_that_comes_while_the_form_is_opened_stays(airflow: Airflow) -> None:
    airflow.keep()
    airflow.between = airflow.answer
    assert call(airflow, form())[0] == 201
    assert airflow.row().chosen_options == ["Reject"]


def test_an_answer_that_comes_between_look_and_write_stays(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second answer, given after the first was found to be taken."""
    airflow.keep(**ANSWER)
    later = AT + timedelta(seconds=9)
    has_read = form_refresh.GateForm.has_read

    def slowly(self: Any, answered_at: datetime) -> bool:
        airflow.answer(later)
        return has_read(self, answered_at)

    monkeypatch.setattr(form_refresh.GateForm, "has_read", slowly)
    status, body, _ = call(airflow, form(AT.isoformat()))
    row = airflow.row()
    assert (status, row.chosen_options, row.body) == (201, ["Reject"], "nobody sits")
    told = json.loads(body)["params"]["request"]["schema"][UNREAD_ANSWER]
    assert told["responded_at"] == later.isoformat()


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_whom_airflow_refuses_changes_nothing(airflow: Airflow, status: int) -> None:
    airflow.keep(**ANSWER)
    airflow.refusal = status
    before = airflow.row()
    assert call(airflow, form(AT.isoformat()))[:2] == (status, b"airflow")
    assert airflow.row() == before


def test_a_stranger_changes_nothing(airflow: Airflow) -> None:
    airflow.keep(**ANSWER)
    before = airflow.row()
    headers = [(b"authorization", b"Bearer of another task")]
    assert call(airflow, form(AT.isoformat()), headers=headers)[0] == 403
    assert airflow.row() == before


def marked(value: Any = "sha256:" + "a" * 64, schema: Any = None) -> dict[str, Any]:
    return form(params={"request": {"value": value, "schema": schema or {ANSWER_READ: ""}}})


@pytest.mark.parametrize(
    "sent",
    [
        form(params={}),
        form(params={"request": "text"}),
        form(params={"request": {"value": "sha256:" + "a" * 64, "schema": {}}}),
        marked("something of another operator"),
        marked(7),
        marked(schema={ANSWER_READ: "yesterday"}),
        marked(schema={ANSWER_READ: 7}),
        marked(schema={ANSWER_READ: "2026-06-01T12:00:00"}),
        form(subject=None),
        form(options=[]),
        ["no", "object"],
        b"\xff{",
        b"[" * 100_000,
    ],
)
def test_what_is_no_form_of_ours_goes_to_airflow_unchanged(airflow: Airflow, sent: Any) -> None:
    airflow.keep(**ANSWER)
    assert call(airflow, sent)[1] == b"airflow"
    assert airflow.calls == ["POST"]
    assert airflow.bodies == [sent if isinstance(sent, bytes) else json.dumps(sent).encode()]


def test_a_body_that_is_too_long_arrives_whole(airflow: Airflow) -> None:
    airflow.keep()
    long = form(body="x" * 3 * MAX_BODY_BYTES)
    call(airflow, long, parts=7)
    assert airflow.calls == ["POST"]
    assert airflow.bodies == [json.dumps(long).encode()]


@pytest.mark.parametrize(
    "case",
    [
        {"method": "PATCH"},
        {"path": "/api/v2/dags"},
        {"path": "/execution/hitlDetails/not-a-uuid"},
        {"path": "/execution/hitlDetails/" + "-" * 36},
    ],
)
def test_leaves_everything_else_alone(airflow: Airflow, case: Any) -> None:
    airflow.keep()
    assert call(airflow, form(), **case)[1] == b"airflow"
    assert airflow.calls == [case.get("method", "POST")]


def test_other_connections_pass_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(FormRefreshMiddleware(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_a_body_that_is_no_json_is_no_form() -> None:
    assert gate_form(b"\xff{") is None
