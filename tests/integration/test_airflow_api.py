"""Reading Airflow's own core API over HTTP: its routes, its tables, its tokens, more than a page.

One Airflow answers all questions; each answer is looked at alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, threading, time
from datetime import UTC, datetime, timedelta

from airflow import settings
from airflow.models.base import Base
from airflow.utils.db import import_all_models, synchronize_log_template

import_all_models()
Base.metadata.create_all(settings.engine)

import uvicorn
from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dagbag import DBDagBag
from airflow.models.dagbundle import DagBundleModel
from airflow.models.log import Log
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select, update

from airflow_mlgov import (
    ApprovalGateOperator, PromoteModelOperator, TrainModelOperator, ValidateModelOperator,
)
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.hooks import airflow_api
from airflow_mlgov.hooks.airflow_api import AirflowApi


class HouseTraining(TrainModelOperator):
    pass


def make_dag(dag_id, ours):
    with DAG(dag_id, schedule=None) as dag:
        first = EmptyOperator(task_id="first")
        if ours:
            train = HouseTraining(task_id="train", model="m", script="t.py", inputs={})
            validate = ValidateModelOperator(
                task_id="validate", model="m", development="d", validation="v", target="T",
                scorer="a:b",
            )
            gate = ApprovalGateOperator(task_id="gate", model="m")
            mapped = PromoteModelOperator.partial(task_id="mapped", model="m").expand(
                alias=["one", "two"]
            )
            first >> train >> validate >> gate >> mapped
    return LazyDeserializedDAG.from_dag(dag)


with create_session() as session:
    synchronize_log_template(session=session)
    session.add(DagBundleModel(name="dags"))
    session.flush()
    for dag_id, count in (("ours", 130), ("theirs", 3)):
        made = make_dag(dag_id, dag_id == "ours")
        SerializedDAG.bulk_write_to_db("dags", None, [made], session=session)
        SerializedDagModel.write_dag(made, bundle_name="dags", session=session)
        session.flush()
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        for number in range(count):
            dag.create_dagrun(
                run_id=f"r_{number:03}+00:00", run_type=DagRunType.MANUAL,
                state=DagRunState.RUNNING, run_after=datetime.now(UTC),
                triggered_by=DagRunTriggeredByType.TEST, session=session,
            )
    old = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(250):
        event = "patch_task_instance" if number % 2 else "trigger_dag_run"
        log = Log(event=event, extra=json.dumps({"new_state": "success"}))
        log.dttm, log.dag_id, log.run_id, log.task_id = (
            old + timedelta(minutes=number), "ours", "r1", "gate"
        )
        session.add(log)

server = uvicorn.Server(uvicorn.Config(create_app(apps="core"), port=0, log_level="error"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.05)
url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def token(role, seconds=600):
    user = SimpleAuthManagerUser(username="x", role=role)
    return get_auth_manager().generate_jwt(user, expiration_time_in_seconds=seconds)


def mark(run, task, **values):
    with create_session() as session:
        where = (TaskInstance.run_id == run, TaskInstance.task_id == task)
        session.execute(update(TaskInstance).where(*where).values(**values))


def post(path, body):
    headers = {"Authorization": "Bearer " + token("ADMIN"), "Content-Type": "application/json"}
    return airflow_api.send(url + "/api/v2" + path, headers=headers, body=json.dumps(body).encode())


def tries(run, task):
    (found,) = [t for t in api.run("ours", run).tasks if t.task.task_id == task]
    return [[t.number, t.state, t.ended_at is not None] for t in found.tries] + [found.is_begun]


def clear(run, task):
    post("/dags/ours/clearTaskInstances", {
        "dry_run": False, "dag_run_id": run, "task_ids": [task], "only_failed": False,
    })


handed_out = []


def give():
    handed_out.append(token("VIEWER"))
    return handed_out[-1]


api = AirflowApi(url, give)
said = {"version": api.version(), "tokens": [len(handed_out)]}
api._token = token("VIEWER", -600)  # it has ended meanwhile
api.version()
said["tokens"].append(len(handed_out))
touched = list(api.touched_runs(old))
said["touched"] = [len(touched), len(set(touched)), sorted({d for d, _ in touched})]
said["touched_later"] = len(list(api.touched_runs(datetime.now(UTC) + timedelta(hours=1))))
runs = list(api.runs_of("ours", old))
said["runs"] = [len(runs), len(set(runs)), runs[0]]
said["runs_gone"] = list(api.runs_of("none", old))
run = api.run("ours", runs[0])
tasks = sorted([t.task.task_id, t.step.value, t.task.map_index] for t in run.tasks)
said["run"] = [run.state, tasks]
said["dated"] = abs(datetime.now(UTC) - run.dated_at) < timedelta(hours=1)
said["gone"] = [api.run("ours", "none"), api.run("none", "none")]
said["theirs"] = len(api.run("theirs", "r_001+00:00").tasks)
rows = list(api.changes(old - timedelta(days=1), old + timedelta(minutes=240)))
said["rows"] = [
    len(rows), len({r.id for r in rows}), rows == sorted(rows, key=lambda r: r.at),
    sorted({r.event for r in rows}), rows[0].task_id, rows[0].extra["new_state"],
]
said["no_rows"] = len(list(api.changes(old - timedelta(days=2), old - timedelta(days=1))))
r = runs[1]
said["never"] = tries(r, "gate")
mark(r, "gate", state="success", try_number=1, max_tries=10, end_date=datetime.now(UTC))
said["once"] = tries(r, "gate")
clear(r, "gate")
said["cleared"] = tries(r, "gate")
mark(r, "gate", state="success")
said["cleared_and_forced"] = tries(r, "gate")
mark(r, "gate", state="success", try_number=2)
said["twice"] = tries(r, "gate")
clear(r, "gate")
mark(r, "gate", state="awaiting_input", try_number=3, end_date=None)
said["waiting"] = tries(r, "gate")
r = runs[2]
mark(r, "gate", state="failed", try_number=1, max_tries=10, end_date=datetime.now(UTC))
clear(r, "gate")
mark(r, "gate", state="up_for_retry")
said["to_be_repeated"] = tries(r, "gate")
r = runs[3]
mark(r, "mapped", state="success", try_number=1, max_tries=0, end_date=datetime.now(UTC))
clear(r, "mapped")
found = [t for t in api.run("ours", r).tasks if t.task.task_id == "mapped"]
said["mapped"] = sorted([t.task.map_index, len(t.tries)] for t in found)


def error(call):
    try:
        return repr(call())
    except MlgovError as e:
        return [e.code, str(e)]


said["no_token"] = error(AirflowApi(url, lambda: "nonsense").version)
said["ended"] = error(AirflowApi(url, lambda: token("VIEWER", -600)).version)
said["log_in"] = error(lambda: airflow_api.log_in(url, "x", "hidden-word"))
said["elsewhere"] = error(lambda: AirflowApi(url + "/nowhere", lambda: token("VIEWER")).version())
say(said)
import os; os._exit(0)
"""


@pytest.fixture(scope="module")
def said(ask_airflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a real api-server said."""
    return dict(ask_airflow(SCRIPT, tmp_path_factory.mktemp("airflow"), {}))


def test_whoever_may_only_read_is_let_in_and_a_token_that_has_ended_is_renewed(said) -> None:
    from airflow import __version__

    assert said["version"] == __version__
    assert said["tokens"] == [1, 2]


def test_every_page_is_read_and_every_row_once(said) -> None:
    assert said["touched"] == [650, 130, ["ours"]]
    assert said["touched_later"] == 0
    assert said["runs"] == [130, 130, "r_000+00:00"]


def test_a_run_shows_the_tasks_that_leave_entries_subclasses_and_mapped_ones_too(said) -> None:
    assert said["run"] == [
        "running",
        [
            ["gate", "gate", -1],
            ["mapped", "promotion", 0],
            ["mapped", "promotion", 1],
            ["train", "training", -1],
            ["validate", "validation", -1],
        ],
    ]
    assert said["theirs"] == 0


def test_what_is_gone_is_gone(said) -> None:
    assert said["gone"] == [None, None]
    assert said["dated"], "a run without a logical date is dated by when it was to run"
    assert said["runs_gone"] == []


def test_the_audit_log_is_read_page_by_page_in_order(said) -> None:
    assert said["rows"] == [120, 120, True, ["patch_task_instance"], "gate", "success"]
    assert said["no_rows"] == 0


def test_tries_are_told_apart_from_what_was_cleared(said) -> None:
    assert said["never"] == [[0, "", False], False]
    assert said["once"] == [[1, "success", True], True]
    assert said["cleared"] == [[1, "success", True], [1, "", True], False]
    assert said["cleared_and_forced"] == [[1, "success", True], [1, "success", True], False]
    assert said["twice"] == [[1, "success", True], [2, "success", True], True]
    assert said["waiting"][:2] == said["twice"][:2]
    assert said["waiting"][2:] == [[3, "awaiting_input", False], True]
    assert said["to_be_repeated"] == [[1, "failed", True], [1, "up_for_retry", True], False]
    assert said["mapped"] == [[0, 2], [1, 2]]


def test_who_is_not_let_in_is_told_so_without_a_password(said) -> None:
    code, text = said["no_token"]
    assert code == "airflow.refused"
    assert "403 to /api/v2/eventLogs: Invalid JWT token" in text
    code, text = said["ended"]
    assert code == "airflow.refused"
    assert "takes our token for nothing" in text
    code, text = said["log_in"]
    assert code == "airflow.refused"
    assert "gave 'x' no token" in text
    assert "hidden-word" not in text


def test_another_server_is_told_from_an_api_server(said) -> None:
    code, text = said["elsewhere"]
    assert code == "airflow.refused"
    assert "gave no answer of Airflow's API" in text
