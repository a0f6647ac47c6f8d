"""The form middleware before Airflow's own Execution API: its routes, its tokens, its tables."""

from __future__ import annotations

SCRIPT = """
import json, uuid
from datetime import UTC, datetime

from airflow import settings
from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_args
from airflow.api_fastapi.execution_api.app import create_task_execution_api_app
from airflow.configuration import conf
from airflow.models.base import Base
from airflow.models.hitl import HITLDetail
from airflow.utils.db import import_all_models
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event, select, update

from airflow_mlgov.api.form_refresh import FormRefreshMiddleware

# The form stands alone here, without the task instance that it belongs to.
event.listen(settings.engine, "connect", lambda made, _: made.execute("PRAGMA foreign_keys=OFF"))
settings.engine.dispose()
import_all_models()
Base.metadata.create_all(settings.engine)
execution = create_task_execution_api_app()
app = FastAPI()
app.mount("/execution", execution)
app.add_middleware(FormRefreshMiddleware)
audience = conf.get_mandatory_list_value("execution_api", "jwt_audience")[0]
generator = JWTGenerator(
    valid_for=600, audience=audience, **get_signing_args(make_secret_key_if_needed=False)
)
task, other = str(uuid.uuid4()), str(uuid.uuid4())

def token(**claims):
    return {"Authorization": f"Bearer {generator.generate(claims)}"}

mine, stranger, workload = token(sub=task), token(sub=other), token(sub=task, scope="workload")
url = f"/execution/hitlDetails/{task}"
AT = datetime(2026, 6, 1, 13, 0, 0, 123456, tzinfo=UTC)

def form(body, read=""):
    schema = {"type": "string", "x-answer-read": read}
    field = {"value": "sha256:" + "a" * 64, "description": "", "schema": schema}
    return {"ti_id": task, "options": ["Approve", "Reject"], "subject": "Approve?", "body": body,
            "params": {"request": field}, "assigned_users": []}

def row():
    table = HITLDetail.__table__
    with settings.engine.connect() as connection:
        found = connection.execute(select(table.c.body, table.c.chosen_options)).one_or_none()
    return list(found) if found else None

def answer():
    with settings.engine.begin() as connection:
        connection.execute(update(HITLDetail.__table__).values(
            responded_at=AT, chosen_options=["Reject"], responded_by={"id": "v", "name": "v"}))

said = []
with TestClient(execution):
    client = TestClient(app)
    def post(who, *what):
        reply = client.post(url, json=form(*what), headers=who)
        told = reply.json().get("params", {}).get("request", {}).get("schema", {})
        unread = told.get("x-unread-answer", {}).get("chosen_options")
        said.append([reply.status_code, row(), unread])
    post(stranger, "first")
    post({}, "first")
    post(mine, "first")
    post(mine, "second")
    post(stranger, "third")
    answer()
    post(mine, "fourth")
    for who in (stranger, workload, {}):
        post(who, "fifth", AT.isoformat())
    read = client.get(url, headers=mine).json()["responded_at"]
    post(mine, "sixth", read)
say(said)
"""


def test_only_the_task_itself_opens_its_form_and_no_answer_is_lost(ask_airflow, tmp_path) -> None:
    assert ask_airflow(SCRIPT, tmp_path, {}) == [
        [403, None, None],
        [401, None, None],
        [201, ["first", None], None],
        [201, ["second", None], None],
        [403, ["second", None], None],
        [201, ["second", ["Reject"]], ["Reject"]],
        [403, ["second", ["Reject"]], None],
        [403, ["second", ["Reject"]], None],
        [401, ["second", ["Reject"]], None],
        [201, ["sixth", None], None],
    ]
