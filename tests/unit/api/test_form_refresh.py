from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pytest

from airflow_mlgov.api import form_refresh
from airflow_mlgov.api.form_refresh import FormRefreshMiddleware, gate_form

TASK = "01234567-89ab-4cde-8f01-23456789abcd"
PATH = f"/execution/hitlDetails/{TASK}"
FORM = {
    "subject": "Approve?",
    "body": "seats",
    "params": {"request": {"value": "sha256:" + "a" * 64}},
}


def call(
    monkeypatch,
    *,
    status: int = 201,
    method: str = "POST",
    path: str = PATH,
    form=FORM,
    parts: int = 2,
):
    """Send a request through to an application that reads all of it; return what happened."""
    body = json.dumps(form).encode()
    cut = len(body) // parts
    chunks = [body[i : i + cut] for i in range(0, len(body), cut)]
    events: list = []
    monkeypatch.setattr(
        form_refresh, "rewrite_form", lambda ti, f: events.append(("rewrite", ti, f))
    )

    async def app(scope, receive, send):
        got = b""
        while True:
            message = await receive()
            got += message["body"]
            if not message["more_body"]:
                break
        events.append(("app", got == body))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive():
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message):
        events.append((message["type"],))

    scope = {"type": "http", "method": method, "path": path}
    asyncio.run(FormRefreshMiddleware(app)(scope, receive, send))
    return events


def test_rewrites_after_airflow_allowed_it_and_before_the_gate_hears(monkeypatch):
    events = call(monkeypatch)
    assert [event[0] for event in events] == [
        "app",
        "rewrite",
        "http.response.start",
        "http.response.body",
    ]
    assert events[0] == ("app", True)
    assert events[1][1:] == (UUID(TASK), FORM)


@pytest.mark.parametrize(
    "case",
    [
        {"status": 403},
        {"status": 404},
        {"method": "PATCH"},
        {"path": "/api/v2/dags"},
        {"path": "/execution/hitlDetails/not-a-uuid"},
        {"form": {"params": {}}},
        {"form": {"params": {"request": {"value": "something of another operator"}}}},
        {"form": ["no", "object"]},
    ],
)
def test_leaves_everything_else_alone(monkeypatch, case):
    events = call(monkeypatch, **case)
    assert [event[0] for event in events] == ["app", "http.response.start", "http.response.body"]


def test_other_connections_pass_through():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(FormRefreshMiddleware(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_a_body_that_is_no_json_is_no_form():
    assert gate_form(b"\xff{") is None
