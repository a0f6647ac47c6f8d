"""What lineage adds to a task: the outbox against the provider's own transports.

The Airflow provider hands each task's START and COMPLETE to a process that it forks, in which the
client, its transport and the event are used; the task waits for that process. That very path is
timed, in turns, with the noop transport, with ours, and with HTTP to a backend that is up (40 ms an
answer, as Marquez takes), refuses, or hangs. A task is taken to last ten seconds. Prints one line
of JSON: the ratio is a task's duration with ours to that with noop; the goal is at most 1.01, with
all events delivered afterwards.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

GOAL = 1.01
TASK_S = 10.0
ROUNDS = 15
SAMPLE = {"noop": ROUNDS, "outbox": ROUNDS, "http up": ROUNDS, "refused": 1, "hanging": 1}
OURS = "airflow_mlgov.listeners.outbox_transport.OutboxTransport"


def settings(folder: Path) -> None:
    """Set up what Airflow reads before it is imported."""
    os.environ |= {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        "AIRFLOW__MLGOV__LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
        "AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR": str(folder / "spool"),
    }


def event(state: str) -> Any:
    """An event of some six kilobytes, as the provider makes them."""
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import documentation_job

    facets = {"documentation": documentation_job.DocumentationJobFacet("x" * 5_500)}
    return event_v2.RunEvent(
        eventType=event_v2.RunState[state],
        eventTime=datetime.now(UTC).isoformat(),
        run=event_v2.Run(runId=str(uuid.uuid4())),
        job=event_v2.Job(namespace="bench", name="dag.task", facets=facets),
        inputs=[event_v2.InputDataset("file", "/data/in.csv")],
        outputs=[event_v2.OutputDataset("file", "/data/out.csv")] if state == "COMPLETE" else [],
        producer="urn:bench",
    )


def task(transport: dict[str, Any]) -> float:
    """Return the seconds that a task spends on its two events."""
    from airflow.providers.openlineage.plugins.listener import OpenLineageListener
    from openlineage.client import OpenLineageClient

    listener = OpenLineageListener()

    def told(state: str) -> None:
        # As the provider does it: a client made anew in each fork.
        listener.adapter._client = OpenLineageClient(config={"transport": dict(transport)})
        listener.adapter.emit(event(state))

    began = time.perf_counter()
    for state in ("START", "COMPLETE"):
        listener._fork_execute(lambda state=state: told(state), "bench")
    return time.perf_counter() - began


@contextmanager
def backends() -> Iterator[dict[str, Any]]:
    """Yield transports by name, and the backend that is up."""
    from marquez import FakeMarquez

    with FakeMarquez() as up, FakeMarquez() as hanging, FakeMarquez() as gone:
        up.slow_s, hanging.hang_s = 0.04, 60
        gone.refuse()
        yield {
            "up": up,
            "noop": {"type": "noop"},
            "outbox": {"type": OURS},
            "http up": {"type": "http", "url": up.url},
            "refused": {"type": "http", "url": gone.url},
            "hanging": {"type": "http", "url": hanging.url},
        }


def measured() -> dict[str, Any]:
    """Return seconds of a task's events by transport, and what arrived."""
    with backends() as known:
        taken: dict[str, list[float]] = {name: [] for name in SAMPLE}
        for name in ("noop", "outbox", "http up"):
            task(known[name])  # warm
        before = len(known["up"].events)
        for turn in range(ROUNDS):
            for name in sorted(SAMPLE, reverse=bool(turn % 2)):
                if turn < SAMPLE[name]:
                    taken[name].append(task(known[name]))
        return {
            "seconds": {name: statistics.median(values) for name, values in taken.items()},
            "http_up_arrived": [len(known["up"].events) - before, 2 * ROUNDS],
            "outbox_delivered": delivered(),
        }


def delivered() -> list[int]:
    """Ship what is in the outbox to a backend; return how many arrived, and of how many."""
    from marquez import FakeMarquez

    from airflow_mlgov.lineage.marquez import MarquezClient
    from airflow_mlgov.records.clock import SystemClock
    from airflow_mlgov.service.ship import Shipper
    from airflow_mlgov.targets.marquez import MarquezTarget
    from airflow_mlgov.wiring import open_outbox

    outbox = open_outbox()
    with FakeMarquez() as marquez:
        target = MarquezTarget("marquez", MarquezClient(marquez.url))
        shipper = Shipper(outbox, target, SystemClock(), lambda _text: None, settle_s=0.5)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            backlog = shipper.round().backlog
            if backlog is not None and not backlog.waiting:
                break
            time.sleep(0.1)
        # The sources that the shipper registers are more.
        sent = {each["run"]["runId"] for each in marquez.events}
    kept = {each.decoded()["run"]["runId"] for each in outbox.events(0, 10_000)}
    return [len(sent & kept), len(kept)]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="mlgov-bench-") as folder:
        settings(Path(folder))
        found = measured()
    seconds = found["seconds"]
    ratio = (TASK_S + seconds["outbox"]) / (TASK_S + seconds["noop"])
    arrived, kept = found["outbox_delivered"]
    result = {
        "name": "task_of_10s_outbox_vs_noop_transport",
        "ratio": round(ratio, 4),
        "goal": f"<= {GOAL}, all delivered",
        "met": ratio <= GOAL and arrived == kept,
        "seconds_of_two_events": {name: round(value, 3) for name, value in seconds.items()},
        "runs_delivered_by_outbox": [arrived, kept],
        "events_arrived_by_http_up": found["http_up_arrived"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
