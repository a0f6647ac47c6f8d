"""What the cluster policy adds to the parsing of a DAG file that governs nothing.

Each file is parsed as Airflow's DAG processor parses it: in a process of its own, which is forked
from one that has loaded Airflow, up to the serialized DAG. With the policy and without it in turn,
so that load falls on both alike; the inventory has as many models as a mid-sized bank's team, each
of which names a task. What is compared is the time that the processor was busy.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

ROUNDS = 100
MODELS = 20
GOAL = 1.01
DAG = """
from datetime import datetime
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

with DAG("daily_report", schedule="@daily", start_date=datetime(2026, 1, 1)) as dag:
    steps = [BashOperator(task_id=f"step_{i}", bash_command="true") for i in range(10)]

    @task
    def publish(part: int) -> None:
        print(part)

    for first, second in zip(steps, steps[1:]):
        first >> second
    steps[-1] >> publish.expand(part=[1, 2, 3])
"""
TASK = "tasks:\n  - {{dag_id: scoring_{0}, task_id: score, does: score, target: production}}\n"


def main(folder: Path) -> None:
    """Print the ratio of the medians, and what the policy takes by itself."""
    prepare(folder)
    from airflow.dag_processing.processor import _parse_file
    from airflow.settings import get_policy_plugin_manager, initialize
    from structlog import get_logger

    initialize()
    log, manager = get_logger(), get_policy_plugin_manager()
    policy = manager.get_plugin("mlgov")
    request = _request(folder)

    def parse() -> None:
        assert len(_parse_file(request, log).serialized_dags) == 1

    ours: list[float] = []
    stock: list[float] = []
    for number in range(2 * ROUNDS):
        if number % 2:
            manager.unregister(policy)
            stock.append(busy_s(parse))
            manager.register(policy, "mlgov")
        else:
            ours.append(busy_s(parse))
    ratio = statistics.median(ours) / statistics.median(stock)
    print(
        json.dumps(
            {
                "name": "parse",
                "ratio": ratio,
                "goal": f"<= {GOAL}",
                "met": ratio <= GOAL,
                "ours_ms": round(1000 * statistics.median(ours), 3),
                "stock_ms": round(1000 * statistics.median(stock), 3),
                "rounds": ROUNDS,
                "models": MODELS,
            }
        )
    )


def busy_s(parse: Any) -> float:
    """Return the seconds of processor time that a call takes in a process forked for it."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        began = time.process_time()
        parse()
        os.write(writable, f"{time.process_time() - began}".encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as said:
        seconds = float(said.read())
    os.waitpid(child, 0)
    return seconds


def prepare(folder: Path) -> None:
    """Write a DAG file and an inventory, and set Airflow up for them."""
    entry = (ROOT / "dags" / "inventory" / "retail_pd.yaml").read_text("utf-8")
    for place in ("dags", "inventory"):
        (folder / place).mkdir()
    (folder / "dags" / "report.py").write_text(DAG)
    for number in range(MODELS):
        text = entry.replace("retail_pd", f"model_{number}") + TASK.format(number)
        (folder / "inventory" / f"model_{number}.yaml").write_text(text, "utf-8")
    os.environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__MLGOV__INVENTORY_PATH": str(folder / "inventory"),
    }


def _request(folder: Path) -> Any:
    from airflow.dag_processing.processor import DagFileParseRequest

    return DagFileParseRequest(
        file=str(folder / "dags" / "report.py"),
        bundle_path=folder / "dags",
        bundle_name="dags",
        callback_requests=[],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
