"""Opening the list of what waits for people: a thousand of our gates against Airflow's own forms.

Both wait in one live Airflow and are asked for in turn, with the very query of Airflow's page. A
few of each are parked by real tasks, one after the other through the executor's only slot, so that
a gate that kept its slot would let nothing park after it. The others are copies of their rows in
Airflow's database: a thousand tasks would take hours. What a list costs does not depend on how its
rows came to be.

Waiting must take no worker, trigger or pool slot: the goal is missed as well if it does.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from conftest import DAG, Live, Run, start_live  # noqa: E402

GATES = 1000
PARKED = 2
ROUNDS = 15
GOAL = 1.3
USER = "rita"
STOCK = "stock"
# As the page of Required Actions asks; its first page holds 50.
PAGE = {
    "state": ["deferred", "awaiting_input"],
    "response_received": "false",
    "order_by": ["dag_id", "run_after", "created_at", "task_display_name"],
}


def main() -> None:
    """Print the ratio of the medians."""
    names = [f"bench{number}" for number in range(PARKED)]
    with (
        tempfile.TemporaryDirectory() as folder,
        start_live(Path(folder), names, parallelism=1) as live,
    ):
        runs = [live.trigger(name, USER, version=live.make_candidate(name)) for name in names]
        runs += [Run(live, STOCK, "", live.client(USER).trigger(STOCK), STOCK) for _ in names]
        for run in runs:
            run.wait_gate()
        pool = live.client(USER).call("GET", "/api/v2/pools/default_pool")
        for name in ("scheduler", "dag-processor", "triggerer"):
            live.deployment.stop_component(name)  # what lists has the machine to itself
        database = live.deployment.home / "airflow.db"
        with closing(sqlite3.connect(database, timeout=60)) as db, db:
            for dag in (DAG, STOCK):
                _fill(db, dag)
            triggers = _one(db, "SELECT count(*) FROM trigger")
            triggers += _one(db, "SELECT count(trigger_id) FROM task_instance")
        result = _measure(live) | {"pool_slots": pool["occupied_slots"], "triggers": triggers}
    if result["pool_slots"] or triggers:
        result["met"] = False
    print(json.dumps(result))


def _measure(live: Live) -> dict[str, Any]:
    for dag in (DAG, STOCK):
        assert _list(live, dag)[1]["total_entries"] == GATES
    times: dict[str, list[float]] = {DAG: [], STOCK: [], "~": []}
    for _ in range(ROUNDS):
        for dag, taken in times.items():
            taken.append(_list(live, dag)[0])
    ours, stock = (statistics.median(times[dag]) for dag in (DAG, STOCK))
    print(f"stock {stock:.3f} s, ours {ours:.3f} s", file=sys.stderr, flush=True)
    return {
        "name": "waiting",
        "ratio": ours / stock,
        "goal": f"<= {GOAL}",
        "met": ours / stock <= GOAL,
        "gates": GATES,
        "ours_s": sorted(times[DAG]),
        "stock_s": sorted(times[STOCK]),
        "both_s": sorted(times["~"]),
    }


def _list(live: Live, dag: str) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = live.client(USER).call("GET", f"/api/v2/dags/{dag}/dagRuns/~/hitlDetails", **PAGE)
    return time.perf_counter() - began, answer


def _fill(db: sqlite3.Connection, dag: str) -> None:
    """Copy a parked run, with its tasks and its form, until there are enough."""
    run, run_number = db.execute(
        "SELECT run_id, id FROM dag_run WHERE dag_id = ? LIMIT 1", (dag,)
    ).fetchone()
    tasks = db.execute(
        "SELECT id FROM task_instance WHERE dag_id = ? AND run_id = ?", (dag, run)
    ).fetchall()
    highest = _one(db, "SELECT max(id) FROM dag_run")
    for number in range(1, GATES - PARKED + 1):
        mine = {"run_id": f"copy-{number}"}
        _copy(db, "dag_run", "id", run_number, mine | {"id": highest + number})
        for (task,) in tasks:
            new = mine | {"id": uuid.uuid4().hex}
            _copy(db, "task_instance", "id", task, new)
            _copy(db, "hitl_detail", "ti_id", task, {"ti_id": new["id"]})
        _copy(db, "rendered_task_instance_fields", "run_id", run, mine)


def _copy(db: sqlite3.Connection, table: str, key: str, value: object, new: dict[str, Any]) -> None:
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    taken = ", ".join("?" if column in new else f'"{column}"' for column in columns)
    given = [new[column] for column in columns if column in new]
    db.execute(f"INSERT INTO {table} SELECT {taken} FROM {table} WHERE {key} = ?", (*given, value))


def _one(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])


if __name__ == "__main__":
    os.environ.pop("AIRFLOW_HOME", None)
    main()
