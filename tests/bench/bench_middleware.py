"""What our middlewares add to a request that changes nothing, in Airflow's own api-server app.

The app is built twice in one process, over one database with a DAG and runs in it: as the plugin
has it, and without our middlewares. Both answer the same request of the UI in turn, so that load
falls on both alike; what is compared is the time that the processor was busy.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

ROUNDS = 400
WARM_UP = 20
RUNS = 20
GOAL = 1.02
REQUEST = "/api/v2/dags/report/dagRuns?limit=20"
OURS = ("mlgov form refresh", "mlgov vote attestation", "mlgov manual changes")


def main(folder: Path) -> None:
    """Print the ratio of the medians."""
    prepare(folder)
    from airflow import plugins_manager

    middlewares = plugins_manager.get_fastapi_plugins()[1]
    assert {each["name"] for each in middlewares} >= set(OURS)
    ours = open_app()
    middlewares[:] = [each for each in middlewares if each["name"] not in OURS]
    stock = open_app()
    assert len(ours.app.user_middleware) - len(stock.app.user_middleware) == len(OURS)
    took: dict[str, list[float]] = {"ours": [], "stock": []}
    for number in range(WARM_UP + ROUNDS):
        for name, app in (("ours", ours), ("stock", stock))[:: -1 if number % 2 else 1]:
            busy = busy_s(app)
            if number >= WARM_UP:
                took[name].append(busy)
    ours_s, stock_s = (statistics.median(took[name]) for name in ("ours", "stock"))
    print(
        json.dumps(
            {
                "name": "middleware",
                "ratio": ours_s / stock_s,
                "goal": f"<= {GOAL}",
                "met": ours_s / stock_s <= GOAL,
                "ours_ms": round(1000 * ours_s, 3),
                "stock_ms": round(1000 * stock_s, 3),
                "rounds": ROUNDS,
            }
        )
    )


def open_app() -> Any:
    """Return a client of a freshly built app, signed in."""
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    client = TestClient(create_app(apps="core"))
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="rita", role="USER"))
    client.headers["Authorization"] = f"Bearer {token}"
    client.__enter__()  # one event loop for all requests
    return client


def busy_s(client: Any) -> float:
    """Return the seconds of processor time that a request takes, all threads counted."""
    began = time.process_time()
    answer = client.get(REQUEST)
    seconds = time.process_time() - began
    assert answer.json()["total_entries"] == RUNS, answer.text
    return seconds


def prepare(folder: Path) -> None:
    """Set Airflow up over a database of its own, with a DAG that has run."""
    os.environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "rita:user",
        "AIRFLOW__API_AUTH__JWT_SECRET": "only for this benchmark, only for this benchmark",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    from airflow import settings
    from airflow.models.base import Base
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.db import import_all_models, synchronize_log_template
    from airflow.utils.session import create_session

    import_all_models()
    Base.metadata.create_all(settings.engine)
    with create_session() as session:
        synchronize_log_template(session=session)
        session.add(DagBundleModel(name="dags"))
        session.flush()
        _write_runs(session)


def _write_runs(session: Any) -> None:
    from airflow.models.dagbag import DBDagBag
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with DAG("report", schedule=None) as written:
        EmptyOperator(task_id="step")
    made = LazyDeserializedDAG.from_dag(written)
    SerializedDAG.bulk_write_to_db("dags", None, [made], session=session)
    SerializedDagModel.write_dag(made, bundle_name="dags", session=session)
    session.flush()
    dag = DBDagBag().get_latest_version_of_dag("report", session=session)
    for number in range(RUNS):
        dag.create_dagrun(
            run_id=f"r{number}",
            run_type=DagRunType.MANUAL,
            state=DagRunState.SUCCESS,
            run_after=datetime.now(UTC) + timedelta(seconds=number),
            triggered_by=DagRunTriggeredByType.TEST,
            session=session,
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
