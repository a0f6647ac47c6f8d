"""Changes by hand before Airflow's own core API: its routes, its users, its tables, a real ledger.

One Airflow takes all requests in order; each is looked at alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from datetime import UTC, datetime

from airflow import settings
from airflow.models.base import Base
from airflow.utils.db import import_all_models, synchronize_log_template

import_all_models()
Base.metadata.create_all(settings.engine)

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dagbag import DBDagBag
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fastapi.testclient import TestClient
from sqlalchemy import select

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator
from airflow_mlgov.wiring import open_governance


class HouseGate(ApprovalGateOperator):
    pass


def make_dag(dag_id, model):
    with DAG(dag_id, schedule=None) as dag:
        first = EmptyOperator(task_id="first")
        with TaskGroup("checks", prefix_group_id=False):
            gate = ApprovalGateOperator(task_id="gate", model=model)
            house = HouseGate(task_id="house", model="{{ params.model }}")
        mapped = PromoteModelOperator.partial(task_id="mapped", model=model).expand(
            alias=["one", "two"]
        )
        promote = PromoteModelOperator(task_id="promote", model=model)
        first >> [gate, house] >> mapped >> promote
    return LazyDeserializedDAG.from_dag(dag)


def make_legacy():
    with DAG("legacy", schedule=None) as dag:
        for name in ("score", "ship", "other"):
            EmptyOperator(task_id=name)
    return LazyDeserializedDAG.from_dag(dag)


with create_session() as session:
    synchronize_log_template(session=session)
    session.add(DagBundleModel(name="dags"))
    session.flush()
    made_dags = {
        "strict": make_dag("strict", "retail_pd"),
        "watched": make_dag("watched", "watched_pd"),
        "legacy": make_legacy(),
    }
    for dag_id, made in made_dags.items():
        SerializedDAG.bulk_write_to_db("dags", None, [made], session=session)
        SerializedDagModel.write_dag(made, bundle_name="dags", session=session)
        session.flush()
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        for run in ("r1", "r2", "r3"):
            dag.create_dagrun(
                run_id=run,
                run_type=DagRunType.MANUAL,
                state=DagRunState.RUNNING,
                run_after=datetime.now(UTC),
                triggered_by=DagRunTriggeredByType.TEST,
                session=session,
            )

client = TestClient(create_app(apps="core"))
TOKENS = {
    name: {
        "Authorization": "Bearer "
        + get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role))
    }
    for name, role in (("rita", "USER"), ("vic", "VIEWER"))
} | {"": {}}


def rows():
    with create_session() as session:
        columns = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
        query = select(*columns, TaskInstance.map_index, TaskInstance.state)
        return sorted(map(repr, session.execute(query)))


def entries():
    view = open_governance().ledger.view()
    return [
        [
            entry.body["task"],
            entry.body["state"],
            entry.body.get("refused"),
            entry.person("by").id if entry.people else None,
            entry.signed_by.value,
        ]
        for entry in view.select("state.changed_by_hand")
    ]


from airflow_mlgov.records.people import Person  # the ledger's first entry
from airflow_mlgov.service.changes import ManualChange, record_changes
from airflow_mlgov.records.source import Source

record_changes(
    open_governance(), [ManualChange(Source(), "x", "")], Person("a", "a"), refused=True
)
answers = []
for user, method, path, body in json.load(sys.stdin):
    before, kept = rows(), len(entries())
    answer = client.request(
        method,
        "/api/v2" + path,
        headers=TOKENS[user],
        content=body if isinstance(body, str) else None,
        json=None if isinstance(body, str) else body,
    )
    try:
        detail = (answer.json() or {}).get("detail")
    except ValueError:
        detail = None
    answers.append([answer.status_code, detail, rows() != before, entries()[kept:]])
say(answers)
"""


@dataclass(frozen=True)
class Case:
    """One request, and what must come of it.

    Attributes:
        name: Which.
        user: Who sends it; empty for nobody.
        method: HTTP.
        path: Under ``/api/v2``.
        body: As JSON, or as text.
        status: Of the answer.
        kept: Task and state of each entry.
        changes: Whether any task instance changes.
    """

    name: str
    user: str
    method: str
    path: str
    body: Any
    status: int
    kept: tuple[str, ...] = ()
    changes: bool = False


RUN = "/dags/strict/dagRuns/r1"
GATE = f"{RUN}/taskInstances/gate"
ALL = ("gate", "house", "mapped", "promote")


def update(*entities: object, action: str = "update") -> dict[str, Any]:
    return {"actions": [{"action": action, "entities": list(entities)}]}


def refused(name: str, method: str, path: str, body: Any, *tasks: str) -> Case:
    return Case(name, "rita", method, path, body, 403, tasks or ("gate",))


def of(name: str, method: str, path: str, body: Any, status: int, **more: Any) -> Case:
    return Case(name, more.pop("user", "rita"), method, path, body, status, **more)


SUCCESS, SKIPPED, FAILED = ({"new_state": s} for s in ("success", "skipped", "failed"))
WATCHED = "/dags/watched/dagRuns/r1"
LEGACY = "/dags/legacy/dagRuns/r1"
NAMED = "tasks:\n- {dag_id: legacy, task_id: %s, does: score, target: production}\n"
CLEAR = {"dry_run": False, "only_failed": False, "dag_run_id": "r1"}
CASES = [
    refused("single", "PATCH", GATE, SUCCESS),
    refused("single with its index", "PATCH", f"{GATE}/-1", SUCCESS),
    refused("skipped", "PATCH", GATE, SKIPPED),
    refused("in capitals", "PATCH", GATE, {"new_state": "SUCCESS"}),
    refused("of a class of the house", "PATCH", f"{RUN}/taskInstances/house", SUCCESS, "house"),
    refused("protected task", "PATCH", f"{RUN}/taskInstances/promote", SUCCESS, "promote"),
    refused("mapped task", "PATCH", f"{RUN}/taskInstances/mapped/0", SUCCESS, "mapped"),
    refused(
        "bulk",
        "PATCH",
        f"{RUN}/taskInstances",
        update(
            {"task_id": "first", "new_state": "success"},
            {"task_id": "gate", "new_state": "success"},
        ),
    ),
    refused(
        "bulk with wildcards",
        "PATCH",
        "/dags/~/dagRuns/~/taskInstances",
        update({"dag_id": "strict", "dag_run_id": "r1", "task_id": "gate", "new_state": "success"}),
    ),
    refused("bulk deletion", "PATCH", f"{RUN}/taskInstances", update("gate", action="delete")),
    refused(
        "bulk deletion of objects",
        "PATCH",
        f"{RUN}/taskInstances",
        update({"task_id": "gate"}, action="delete"),
    ),
    refused("group", "PATCH", f"{RUN}/taskGroupInstances/checks", SUCCESS, "gate", "house"),
    refused(
        "from before",
        "PATCH",
        f"{RUN}/taskInstances/first",
        SUCCESS | {"include_downstream": True},
        *ALL,
    ),
    refused("run", "PATCH", RUN, {"state": "success"}, *ALL),
    refused(
        "runs",
        "PATCH",
        "/dags/strict/dagRuns",
        update({"dag_run_id": "r1", "state": "success"}),
        *ALL,
    ),
    refused("deletion of the task instance", "DELETE", GATE, None),
    refused("deletion of the run", "DELETE", RUN, None, *ALL),
    refused(
        "deletion of runs", "PATCH", "/dags/strict/dagRuns", update("r1", action="delete"), *ALL
    ),
    refused("deletion of the DAG", "DELETE", "/dags/strict", None, *ALL),
    refused("a new XCom", "POST", f"{GATE}/xcomEntries", {"key": "return_value", "value": 1}),
    refused("another XCom", "PATCH", f"{GATE}/xcomEntries/skipmixin_key", {"value": {}}),
    refused("XCom with slashes", "PATCH", f"{GATE}/xcomEntries/a/b", {"value": {}}),
    refused("deletion of XCom", "DELETE", f"{GATE}/xcomEntries/return_value", None),
    of("viewer", "PATCH", GATE, SUCCESS, 403, user="vic", kept=("gate",)),
    refused("a named task", "PATCH", f"{LEGACY}/taskInstances/score", SUCCESS, "score"),
    refused("a run with a named task", "PATCH", LEGACY, {"state": "success"}, "score", "ship"),
    of(
        "a named task of a watched model",
        "PATCH",
        f"{LEGACY}/taskInstances/ship",
        SUCCESS,
        200,
        kept=("ship",),
        changes=True,
    ),
    of("beside", "PATCH", f"{LEGACY}/taskInstances/other", SUCCESS, 200, changes=True),
    # Not ours to decide, or nothing that is changed.
    of("nobody", "PATCH", GATE, SUCCESS, 401, user=""),
    of("large", "PATCH", GATE, json.dumps(SUCCESS) + " " * (1 << 20), 413),
    of("unreadable", "PATCH", GATE, {"new_state": "approved"}, 422),
    of("note", "PATCH", GATE, {"note": "seen"}, 200),
    of("dry run", "PATCH", f"{GATE}/dry_run", SUCCESS, 200),
    of("dry run with its index", "PATCH", f"{GATE}/-1/dry_run", SUCCESS, 200),
    of("dry run of a group", "PATCH", f"{RUN}/taskGroupInstances/checks/dry_run", SUCCESS, 200),
    of("dry clear", "POST", "/dags/strict/clearTaskInstances", CLEAR | {"dry_run": True}, 200),
    of("other task", "PATCH", f"{RUN}/taskInstances/first", SUCCESS, 200, changes=True),
    of("no such run", "PATCH", "/dags/strict/dagRuns/no/taskInstances/gate", SUCCESS, 404),
    # What lets nobody through is done, and kept if Airflow did it.
    of("failed by a viewer", "PATCH", GATE, FAILED, 403, user="vic"),
    of("failed", "PATCH", GATE, FAILED, 200, kept=("gate",), changes=True),
    of("failed again", "PATCH", GATE, FAILED, 409),
    of(
        "clear what failed",
        "POST",
        "/dags/strict/clearTaskInstances",
        CLEAR | {"only_failed": True},
        200,
        kept=("gate",),
        changes=True,
    ),
    of(
        "clear with what follows",
        "POST",
        "/dags/strict/clearTaskInstances",
        CLEAR | {"task_ids": ["gate"], "include_downstream": True},
        200,
        kept=("gate", "mapped", "promote"),
    ),
    of("clear the run", "POST", f"{RUN}/clear", {"dry_run": False}, 200, kept=ALL, changes=True),
    of(
        "clear runs",
        "POST",
        "/dags/strict/clearDagRuns",
        {"dry_run": False, "dag_runs": [{"dag_run_id": "r1"}]},
        200,
        kept=ALL,
    ),
    of("run failed", "PATCH", RUN, {"state": "failed"}, 200, kept=ALL, changes=True),
    of("run queued", "PATCH", RUN, {"state": "queued"}, 200, kept=ALL),
    # A model in mode observe: Airflow does it, and it is kept once, with the name.
    of(
        "watched gate",
        "PATCH",
        f"{WATCHED}/taskInstances/gate",
        SUCCESS,
        200,
        kept=("gate",),
        changes=True,
    ),
    of(
        "watched bulk",
        "PATCH",
        f"{WATCHED}/taskInstances",
        update({"task_id": "promote", "new_state": "skipped"}),
        200,
        kept=("promote",),
        changes=True,
    ),
    of(
        "watched XCom",
        "POST",
        f"{WATCHED}/taskInstances/gate/xcomEntries",
        {"key": "return_value", "value": 1},
        201,
        kept=("gate",),
    ),
    of(
        "watched deletion",
        "DELETE",
        f"{WATCHED}/taskInstances/gate",
        None,
        200,
        kept=("gate",),
        changes=True,
    ),
    # One of its gates names a model that is known only when it runs: the strictest mode counts.
    of(
        "watched run",
        "PATCH",
        WATCHED,
        {"state": "success"},
        403,
        kept=("house", "mapped", "promote"),
    ),
]


@pytest.fixture(scope="module")
def answers(ask_airflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    folder = tmp_path_factory.mktemp("airflow")
    rules = folder / "inventory"
    rules.mkdir()
    entry = (ROOT / "dags" / "inventory" / "retail_pd.yaml").read_text("utf-8")
    assert "\nmode: enforce" in entry
    (rules / "retail_pd.yaml").write_text(entry + NAMED % "score")
    watched = entry.replace("\nid: retail_pd", "\nid: watched_pd")
    watched = watched.replace("\nmode: enforce", "\nmode: observe")
    watched = watched.replace("_name: retail_pd", "_name: watched_pd")
    (rules / "watched_pd.yaml").write_text(watched + NAMED % "ship")
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "rita:user,vic:viewer",
        "AIRFLOW__MLGOV__INVENTORY_PATH": str(rules),
    }
    cases = [[case.user, case.method, case.path, case.body] for case in CASES]
    said = ask_airflow(SCRIPT, folder, environment, cases)
    return dict(zip([case.name for case in CASES], said, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_change_by_hand_comes_to(case: Case, answers: dict[str, list[Any]]) -> None:
    status, detail, changes, kept = answers[case.name]
    assert (status, changes) == (case.status, case.changes), detail
    assert sorted(task for task, *_ in kept) == sorted(case.kept)
    by_us = status == 403 and bool(kept)
    assert {tuple(rest) for _, _, *rest in kept} <= {(by_us, case.user, "attestor")}
    if by_us:
        assert f"Task '{case.kept[0]}'" in detail
        assert "mode 'enforce'" in detail
        assert "on record" in detail
