"""What a request to Airflow's core API asks to be changed by hand, read as Airflow reads it.

Paths are Airflow's own templates and bodies its own models, so that nothing is read here in one
way and there in another. A test holds `ROUTES` against the route table of the Airflow installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from airflow.api_fastapi.core_api.datamodels.common import BulkBody
from airflow.api_fastapi.core_api.datamodels.dag_run import (
    BulkDAGRunBody,
    BulkDAGRunClearBody,
    ClearPartitionsBody,
    DAGRunClearBody,
    DAGRunPatchBody,
)
from airflow.api_fastapi.core_api.datamodels.task_instances import (
    BulkTaskInstanceBody,
    ClearTaskInstancesBody,
    PatchTaskInstanceBody,
)

METHODS = frozenset({"PATCH", "POST", "DELETE"})
_DAG = re.compile(r"/api/v2(/dags/[^/]+(?:/.*)?)\Z", re.DOTALL)
_RUN = "/dags/{dag_id}/dagRuns/{dag_run_id}"
_TASK = f"{_RUN}/taskInstances/{{task_id}}"
_FAILED = frozenset({"failed", "upstream_failed"})
_RUNNING = frozenset({"running"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One change that a request asks for.

    Attributes:
        dag_id: DAG.
        run_id: Run of it; empty for all, and for runs that are chosen otherwise than by their id.
        state: What becomes of the tasks, as `airflow_mlgov.service.changes.ManualChange` names it.
        tasks: Ids of the tasks; None for all.
        group: Task group whose tasks are meant; empty if none is.
        upstream: Whether tasks before them change too.
        downstream: Whether tasks behind them change too.
        only: States that a task must be in to be changed; empty for any.
    """

    dag_id: str
    run_id: str
    state: str
    tasks: frozenset[str] | None = None
    group: str = ""
    upstream: bool = False
    downstream: bool = False
    only: frozenset[str] = frozenset()


Params = Mapping[str, str]
Reader = Callable[[Params, Any], Iterable[Asked]]


def changes_asked(method: str, path: str, body: bytes) -> list[Asked]:
    """Return the changes that a request asks for, none for a dry run.

    Nor is there one in what Airflow cannot read: it says itself what is wrong with it.
    """
    route = find_route(method, path)
    if route is None:
        return []
    reader, params = route
    try:
        return list(reader(params, json.loads(body) if body else None))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def find_route(method: str, path: str) -> tuple[Reader, Params] | None:
    """Return who reads a request, and what its path names; None for a path that changes nothing."""
    found = _DAG.search(path)
    for asked_method, pattern, reader in _routes() if found else ():
        match = pattern.match(found[1]) if found and asked_method == method else None
        if match is not None:
            return reader, match.groupdict()
    return None


@cache
def _routes() -> list[tuple[str, re.Pattern[str], Reader]]:
    from starlette.routing import compile_path

    return [
        (method, compile_path(template)[0], reader) for (method, template), reader in ROUTES.items()
    ]


def _nothing(_params: Params, _body: Any) -> Iterable[Asked]:
    return ()


def _delete(params: Params, _body: Any) -> Iterable[Asked]:
    task = params.get("task_id")
    tasks = None if task is None else frozenset({task})
    yield Asked(params["dag_id"], params.get("dag_run_id", ""), "deleted", tasks)


def _change_xcom(params: Params, _body: Any) -> Iterable[Asked]:
    yield Asked(params["dag_id"], params["dag_run_id"], "xcom", frozenset({params["task_id"]}))


def _set_state(params: Params, body: Any) -> Iterable[Asked]:
    read = PatchTaskInstanceBody.model_validate(body)
    tasks = frozenset({params["task_id"]}) if "task_id" in params else frozenset[str]()
    asked = Asked(params["dag_id"], params["dag_run_id"], "", tasks, params.get("group_id", ""))
    yield from _states(asked, read)


def _set_states(params: Params, body: Any) -> Iterable[Asked]:
    for action in BulkBody[BulkTaskInstanceBody].model_validate(body).actions:
        for entity in action.entities:
            if isinstance(entity, str):
                tasks = frozenset({entity})
                yield Asked(params["dag_id"], params["dag_run_id"], "deleted", tasks)
                continue
            dag_id, run_id = entity.dag_id or params["dag_id"], entity.dag_run_id
            run_id = run_id or params["dag_run_id"]
            asked = Asked(dag_id, run_id, "deleted", frozenset({entity.task_id}))
            if action.action.value == "delete":
                yield asked
            elif action.action.value == "update":
                yield from _states(asked, entity)


def _states(asked: Asked, body: PatchTaskInstanceBody) -> Iterable[Asked]:
    if body.new_state is None:
        return
    changed = replace(
        asked,
        state=body.new_state.value,
        upstream=body.include_upstream,
        downstream=body.include_downstream,
    )
    yield changed
    if body.include_past or body.include_future:
        yield replace(changed, run_id="")


def _set_run_state(params: Params, body: Any) -> Iterable[Asked]:
    state = DAGRunPatchBody.model_validate(body).state
    if state is not None:
        yield Asked(params["dag_id"], params["dag_run_id"], state.value)


def _set_run_states(params: Params, body: Any) -> Iterable[Asked]:
    for action in BulkBody[BulkDAGRunBody].model_validate(body).actions:
        for entity in action.entities:
            if isinstance(entity, str):
                yield Asked(params["dag_id"], entity, "deleted")
                continue
            dag_id = entity.dag_id or params["dag_id"]
            if action.action.value == "delete":
                yield Asked(dag_id, entity.dag_run_id, "deleted")
            elif action.action.value == "update" and entity.state is not None:
                yield Asked(dag_id, entity.dag_run_id, entity.state.value)


def _clear_tasks(params: Params, body: Any) -> Iterable[Asked]:
    read = ClearTaskInstancesBody.model_validate(body)
    if read.dry_run:
        return
    every_run = read.include_past or read.include_future or not read.dag_run_id
    named = read.task_ids
    yield Asked(
        params["dag_id"],
        "" if every_run else str(read.dag_run_id),
        "cleared",
        None if named is None else frozenset(t if isinstance(t, str) else t[0] for t in named),
        upstream=read.include_upstream,
        downstream=read.include_downstream,
        only=_FAILED if read.only_failed else _RUNNING if read.only_running else frozenset(),
    )


def _clear_run(params: Params, body: Any) -> Iterable[Asked]:
    read = DAGRunClearBody.model_validate(body)
    if not read.dry_run and not read.only_new:
        only = _FAILED if read.only_failed else frozenset[str]()
        yield Asked(params["dag_id"], params["dag_run_id"], "cleared", only=only)


def _clear_runs(params: Params, body: Any) -> Iterable[Asked]:
    read = BulkDAGRunClearBody.model_validate(body)
    if read.dry_run or read.only_new:
        return
    only = _FAILED if read.only_failed else frozenset[str]()
    for run in read.dag_runs:
        yield Asked(run.dag_id or params["dag_id"], run.dag_run_id, "cleared", only=only)
    if not read.dag_runs:
        yield Asked(params["dag_id"], "", "cleared", only=only)


def _clear_partitions(params: Params, body: Any) -> Iterable[Asked]:
    read = ClearPartitionsBody.model_validate(body)
    if read.clear_task_instances and not read.dry_run:
        yield Asked(params["dag_id"], read.run_id or "", "cleared")


ROUTES: Mapping[tuple[str, str], Reader] = {
    ("DELETE", "/dags/{dag_id}"): _delete,
    ("DELETE", _RUN): _delete,
    ("DELETE", _TASK): _delete,
    ("PATCH", _RUN): _set_run_state,
    ("PATCH", "/dags/{dag_id}/dagRuns"): _set_run_states,
    ("PATCH", f"{_RUN}/taskInstances"): _set_states,
    # Before what they are a dry run of: a map index matches any word.
    ("PATCH", f"{_TASK}/dry_run"): _nothing,
    ("PATCH", f"{_TASK}/{{map_index}}/dry_run"): _nothing,
    ("PATCH", f"{_TASK}/{{map_index}}"): _set_state,
    ("PATCH", _TASK): _set_state,
    ("PATCH", f"{_RUN}/taskGroupInstances/{{group_id}}/dry_run"): _nothing,
    ("PATCH", f"{_RUN}/taskGroupInstances/{{group_id}}"): _set_state,
    ("POST", "/dags/{dag_id}/clearTaskInstances"): _clear_tasks,
    ("POST", f"{_RUN}/clear"): _clear_run,
    ("POST", "/dags/{dag_id}/clearDagRuns"): _clear_runs,
    ("POST", "/dags/{dag_id}/clearPartitions"): _clear_partitions,
    ("POST", f"{_TASK}/xcomEntries"): _change_xcom,
    ("PATCH", f"{_TASK}/xcomEntries/{{xcom_key:path}}"): _change_xcom,
    ("DELETE", f"{_TASK}/xcomEntries/{{xcom_key:path}}"): _change_xcom,
}
"""Who reads the request, by method and Airflow's path template under ``/api/v2``, in order."""
