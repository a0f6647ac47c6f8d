"""From the answer that opens a gate to the start of what it protects: ours against Airflow's own.

Both gates wait in one live Airflow and are answered in turn, so that load falls on both alike. Ours
is answered by the person who fills the last seat: recording, sealing and counting votes included.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]

from conftest import DAG, OWNER, VALIDATOR, Live, Run, start_live  # noqa: E402

from demo.client import AirflowClient  # noqa: E402

ROUNDS = 7
GOAL = 1.3
USER = "rita"


def main() -> None:
    """Print the ratio of the medians."""
    scenarios = [f"bench{number}" for number in range(ROUNDS)]
    ours, stock = [], []
    with tempfile.TemporaryDirectory() as folder, start_live(Path(folder), scenarios) as live:
        runs = [live.trigger(name, USER, version=live.make_candidate(name)) for name in scenarios]
        controls = [_stock_run(live) for _ in scenarios]
        for run in runs:
            run.wait_gate()
            run.answer(OWNER)
        for run in (*runs, *controls):
            run.wait_gate()
        for run, control in zip(runs, controls, strict=True):
            control.live.client(USER).answer(control.dag, control.id, "gate", "Approve")
            stock.append(_delay(control))
            run.answer(VALIDATOR)
            ours.append(_delay(run))
            print(f"stock {stock[-1]:.2f} s, ours {ours[-1]:.2f} s", file=sys.stderr, flush=True)
    ratio = statistics.median(ours) / statistics.median(stock)
    result = {
        "name": "gate",
        "ratio": ratio,
        "goal": f"<= {GOAL}",
        "met": ratio <= GOAL,
        "ours_s": sorted(ours),
        "stock_s": sorted(stock),
    }
    print(json.dumps(result))


def _stock_run(live: Live) -> Run:
    return Run(live, "stock", "", live.client(USER).trigger("stock"), "stock")


def _delay(run: Run) -> float:
    """Seconds from Airflow's record of the answer to the start of the task behind the gate."""
    client: AirflowClient = run.live.client("admin")
    client.wait_for_task(run.dag, run.id, "promote", ["success", "failed"])
    answered = datetime.fromisoformat(client.form(run.dag, run.id, "gate")["responded_at"])
    started = datetime.fromisoformat(client.task(run.dag, run.id, "promote")["start_date"])
    # What follows is not measured; it must not run beside the next measurement either.
    if run.dag == DAG:
        client.wait_for_task(run.dag, run.id, "score")
    return (started - answered).total_seconds()


if __name__ == "__main__":
    os.environ.pop("AIRFLOW_HOME", None)
    main()
