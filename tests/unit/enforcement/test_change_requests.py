"""Which requests change a task by hand, held against the routes of the Airflow installed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from airflow.api_fastapi.core_api.routes.public import public_router
from airflow.api_fastapi.core_api.routes.ui import ui_router

from airflow_mlgov.enforcement.change_requests import (
    METHODS,
    ROUTES,
    Asked,
    changes_asked,
    find_route,
)

_TASK = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}"
STARTS = "it starts work, which asks the gate"
NO_EVIDENCE = "nothing is decided on a state store"
READS = "it only reads"
LET_THROUGH = {
    ("POST", "/dags/{dag_id}/dagRuns"): STARTS,
    ("POST", "/dags/{dag_id}/dagRuns/list"): READS,
    ("POST", "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/list"): READS,
    ("PATCH", "/dags/{dag_id}"): "it pauses a DAG",
    ("PATCH", "/dags"): "it pauses DAGs",
    ("POST", "/dags/{dag_id}/favorite"): "a page's bookmark",
    ("POST", "/dags/{dag_id}/unfavorite"): "a page's bookmark",
    ("DELETE", "/dags/{dag_id}/assets/queuedEvents"): "it keeps a run from starting",
    ("DELETE", "/dags/{dag_id}/assets/{asset_id}/queuedEvents"): "it keeps a run from starting",
    ("PUT", f"{_TASK}/state-store/{{key:path}}"): NO_EVIDENCE,
    ("PATCH", f"{_TASK}/state-store/{{key:path}}"): NO_EVIDENCE,
    ("DELETE", f"{_TASK}/state-store/{{key:path}}"): NO_EVIDENCE,
    ("DELETE", f"{_TASK}/state-store"): NO_EVIDENCE,
    ("PATCH", f"{_TASK}/{{map_index}}/hitlDetails"): "the middleware that attests votes has it",
}
"""Routes about DAGs that change something, but no gate and no protected task; and why."""

OTHER_THINGS = (
    # About no task of a run: who may change these could change what a DAG does, as its author can.
    "/assets",
    "/connections",
    "/pools",
    "/variables",
    "/parseDagFile",
    # A backfill starts runs, or clears tasks of old ones so that they run again.
    "/backfills",
)


def routes_that_write() -> set[tuple[str, str]]:
    return {
        (method, route.path.removeprefix("/api/v2"))
        for route in public_router.routes
        for method in route.methods - {"GET", "HEAD", "OPTIONS"}
    }


def test_every_route_of_airflow_that_writes_is_treated_or_let_through_with_a_reason():
    unknown = {
        (method, path)
        for method, path in routes_that_write() - ROUTES.keys() - LET_THROUGH.keys()
        if not path.startswith(OTHER_THINGS)
    }
    assert unknown == set(), "a new Airflow has routes that nobody has judged"


def test_no_route_is_treated_that_airflow_does_not_have():
    assert ROUTES.keys() | LET_THROUGH.keys() <= routes_that_write()
    assert {method for method, _ in ROUTES} == METHODS


def test_the_pages_own_routes_write_nothing_but_a_session():
    writing = {
        (method, route.path)
        for route in ui_router.routes
        for method in route.methods - {"GET", "HEAD", "OPTIONS"}
    }
    assert writing == {("POST", "/ui/auth/token")}


@pytest.mark.parametrize("prefix", ["", "/team-a"])
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_a_request_reaches_the_reader_that_airflow_would_call(route, prefix):
    method, template = route
    path = re.sub(r"\{xcom_key:path\}", "a/b", template)
    path = re.sub(r"\{(\w+)\}", r"its-\1", path)
    found = find_route(method, f"{prefix}/api/v2{path}")
    assert found is not None
    assert found[0] is ROUTES[route]
    assert found[1]["dag_id"] == "its-dag_id"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *LET_THROUGH,
        ("GET", _TASK),
        ("PUT", _TASK),
        ("PATCH", f"{_TASK}/1/2"),
        ("PATCH", "/dags/"),
        ("POST", "/assets/events"),
    ],
)
def test_nothing_else_is_looked_at(method, path):
    assert find_route(method, "/api/v2" + re.sub(r"[{}]|:path", "", path)) is None


RUN = "/api/v2/dags/d/dagRuns/r"
GATE = frozenset({"gate"})
SET = Asked("d", "r", "success", GATE)


def asked(method: str, path: str, body: Any) -> list[Asked]:
    return changes_asked(method, path, json.dumps(body).encode())


def bulk(*entities: Any, action: str = "update") -> dict[str, Any]:
    return {"actions": [{"action": action, "entities": entities}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "wanted"),
    [
        ("PATCH", f"{RUN}/taskInstances/gate", {"new_state": "success"}, [SET]),
        # A task may be called so: only a dry run is a dry run.
        (
            "PATCH",
            f"{RUN}/taskInstances/dry_run",
            {"new_state": "success"},
            [Asked("d", "r", "success", frozenset({"dry_run"}))],
        ),
        (
            "PATCH",
            f"{RUN}/taskInstances/gate",
            {"new_state": "success", "include_past": True, "include_upstream": True},
            [
                Asked("d", "r", "success", GATE, upstream=True),
                Asked("d", "", "success", GATE, upstream=True),
            ],
        ),
        (
            "PATCH",
            f"{RUN}/taskGroupInstances/g",
            {"new_state": "skipped", "include_future": True, "include_downstream": True},
            [
                Asked("d", "r", "skipped", frozenset(), "g", downstream=True),
                Asked("d", "", "skipped", frozenset(), "g", downstream=True),
            ],
        ),
        (
            "PATCH",
            f"{RUN}/taskInstances",
            bulk(
                {"task_id": "gate", "new_state": "success"},
                {"task_id": "gate", "new_state": "failed", "dag_id": "e", "dag_run_id": "s"},
                {"task_id": "gate", "note": "seen"},
            ),
            [SET, Asked("e", "s", "failed", GATE)],
        ),
        (
            "PATCH",
            f"{RUN}/taskInstances",
            bulk("gate", {"task_id": "gate", "dag_id": "e"}, action="delete"),
            [Asked("d", "r", "deleted", GATE), Asked("e", "r", "deleted", GATE)],
        ),
        ("PATCH", RUN, {"state": "success", "note": "n"}, [Asked("d", "r", "success")]),
        ("PATCH", RUN, {"note": "n"}, []),
        (
            "PATCH",
            "/api/v2/dags/~/dagRuns",
            bulk({"dag_id": "d", "dag_run_id": "r", "state": "success"}, {"dag_run_id": "r"}),
            [Asked("d", "r", "success")],
        ),
        (
            "PATCH",
            "/api/v2/dags/d/dagRuns",
            bulk("r", {"dag_run_id": "s"}, action="delete"),
            [Asked("d", "r", "deleted"), Asked("d", "s", "deleted")],
        ),
        (
            "POST",
            "/api/v2/dags/d/clearTaskInstances",
            {"dry_run": False, "task_ids": ["gate", ["other", 1]], "only_failed": False},
            [Asked("d", "", "cleared", frozenset({"gate", "other"}))],
        ),
        (
            "POST",
            "/api/v2/dags/d/clearTaskInstances",
            {"dry_run": False, "dag_run_id": "r", "only_failed": False, "only_running": True},
            [Asked("d", "r", "cleared", only=frozenset({"running"}))],
        ),
        ("POST", "/api/v2/dags/d/clearTaskInstances", {"task_ids": ["gate"]}, []),
        (
            "POST",
            f"{RUN}/clear",
            {"dry_run": False, "only_failed": True},
            [Asked("d", "r", "cleared", only=frozenset({"failed", "upstream_failed"}))],
        ),
        ("POST", f"{RUN}/clear", {"dry_run": False, "only_new": True}, []),
        (
            "POST",
            "/api/v2/dags/d/clearDagRuns",
            {"dry_run": False, "partition_key": "k"},
            [Asked("d", "", "cleared")],
        ),
        (
            "POST",
            "/api/v2/dags/d/clearPartitions",
            {"dry_run": False, "clear_task_instances": True, "run_id": "r"},
            [Asked("d", "r", "cleared")],
        ),
        ("POST", "/api/v2/dags/d/clearPartitions", {"dry_run": False, "run_id": "r"}, []),
    ],
)
def test_what_a_body_asks_for(method, path, body, wanted):
    assert asked(method, path, body) == wanted


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"new_state": null}', b'{"new_state": "success", "x": 1}']
)
def test_what_airflow_cannot_read_changes_nothing(body):
    assert changes_asked("PATCH", f"{RUN}/taskInstances/gate", body) == []


@pytest.mark.parametrize("body", [{"actions": [{}]}, {"actions": ["x"]}, {"actions": None}])
def test_nor_does_a_bulk_that_it_cannot_read(body):
    assert asked("PATCH", f"{RUN}/taskInstances", body) == []
