"""Events a second from the outbox to a Marquez, against the same events posted bare to it.

The Marquez is the tests' fake in a process of its own, as slow as a real one was: 40 ms for an
event, 5 ms for reading a run. Bare is what its limit allows on one connection: in the order of
their times, nothing ordered, noted, read back or kept. Ours comes in disorder, from a SQLite file.
The two take turns. Prints one line of JSON; the goal is a ratio of at least 0.9.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from lineage_events import event, run_of  # noqa: E402
from marquez import FakeMarquez  # noqa: E402

from airflow_mlgov.lineage.marquez import MarquezClient  # noqa: E402
from airflow_mlgov.records.clock import SystemClock  # noqa: E402
from airflow_mlgov.service.outbox import OutboxItem  # noqa: E402
from airflow_mlgov.service.ship import Shipper  # noqa: E402
from airflow_mlgov.stores.sqlite.outbox import SqliteOutbox  # noqa: E402
from airflow_mlgov.targets.marquez import MarquezTarget  # noqa: E402

GOAL = 0.9
ROUNDS = 3
CHAINS, RUNS = 5, 12
POST_S, READ_S = 0.04, 0.005
EVENT_BYTES = 6_000


class SlowMarquez(FakeMarquez):
    """As slow as a real one."""

    def respond(self, method: str, target: str, body: bytes) -> tuple[int, Any] | None:
        time.sleep(POST_S if method == "POST" else READ_S)
        return super().respond(method, target, body)


def serve(told: Any) -> None:
    with SlowMarquez() as fake:
        told.send(fake.url)
        told.recv()


def events_of(series: str) -> list[dict[str, Any]]:
    """Return what several models make at the same time; each run reads what one before it wrote."""
    said = []
    for model in range(CHAINS):
        name = f"{series}.{model}"
        said.append(event(f"register.{name}", "COMPLETE", 0, writes=[f"{name}/0"]))
        for run in range(RUNS):
            reads, writes = [f"{name}/{run}"], [f"{name}/{run + 1}"]
            said += run_of(f"{name}.{run}", run + 1, reads=reads, writes=writes)
    said.sort(key=lambda each: each["eventTime"])
    for each in said:
        each["run"]["facets"] = {"x": {"text": "z" * (EVENT_BYTES - len(json.dumps(each)))}}
    return said


def bare(url: str, said: list[dict[str, Any]]) -> float:
    client = MarquezClient(url)
    bodies = [OutboxItem.of(each).event for each in said]
    began = time.perf_counter()
    for body in bodies:
        client.post(body)
    return len(bodies) / (time.perf_counter() - began)


def ours(url: str, said: list[dict[str, Any]], folder: Path) -> float:
    outbox = SqliteOutbox(folder / "ledger.db")
    outbox.migrate()
    mixed = random.Random(7).sample(said, len(said))
    outbox.append([OutboxItem.of(each) for each in mixed], SystemClock().now())
    shipper = Shipper(outbox, MarquezTarget("marquez", MarquezClient(url)), SystemClock(), print)
    began = time.perf_counter()
    progress = shipper.round()
    took = time.perf_counter() - began
    if progress.backlog is None or progress.backlog.delivered != len(said):
        raise SystemExit(f"not all was delivered: {progress}")
    return len(said) / took


def main() -> None:
    """Measure and print."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = here.recv()
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(ROUNDS):
        rates["bare"].append(bare(url, events_of(f"bare{number}")))
        with tempfile.TemporaryDirectory() as folder:
            rates["ours"].append(ours(url, events_of(f"ours{number}"), Path(folder)))
    here.send("enough")
    server.join(10)
    ratio = statistics.median(rates["ours"]) / statistics.median(rates["bare"])
    result = {
        "name": "drain",
        "ratio": ratio,
        "goal": f">= {GOAL}",
        "met": ratio >= GOAL,
        "bare_per_s": rates["bare"],
        "ours_per_s": rates["ours"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
