"""An outbox in a file, a Marquez, and what an auditor asks it afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lineage_events import event, run_id_of, run_of, unchecked

from airflow_mlgov.lineage.marquez import MarquezClient
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.outbox import DeliveryState
from airflow_mlgov.service.ship import Shipper
from airflow_mlgov.stores.sqlite.outbox import SqliteOutbox
from airflow_mlgov.targets.marquez import MarquezTarget

TARGET = "marquez"


def governed_run(number: int, series: str = "") -> list[dict[str, Any]]:
    """Return the events of a whole chain, from raw data to scores, in causal order.

    Chains of another series share nothing with it.
    """
    n, at = f"{number:05}{series}", number * 10.0
    return [
        run_of(f"register{n}", at, writes=[f"raw{n}"])[1],
        *run_of(f"prepare{n}", at + 1, reads=[f"raw{n}"], writes=[f"data{n}"]),
        *run_of(f"train{n}", at + 2, reads=[f"data{n}"], writes=[f"model{n}"]),
        *run_of(f"approve{n}", at + 3, reads=[f"model{n}"], writes=[f"approval{n}"]),
        *run_of(f"score{n}", at + 4, reads=[f"model{n}", f"approval{n}"], writes=[f"scores{n}"]),
    ]


def shuffled(said: Sequence[dict[str, Any]], seed: int = 1) -> list[dict[str, Any]]:
    mixed = list(said)
    random.Random(seed).shuffle(mixed)
    return mixed


@dataclass
class World:
    folder: Path
    url: str
    said: list[str] = field(default_factory=list)
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        self.outbox = SqliteOutbox(self.folder / "ledger.db")
        self.outbox.migrate()

    def append(self, said: Sequence[dict[str, Any]], at: datetime | None = None) -> None:
        items = [unchecked(each) for each in said]
        self.outbox.append(items, at or SystemClock().now())

    def shipper(self, *, settle_s: float = 0.2) -> Shipper:
        client = MarquezClient(self.url, timeout_s=self.timeout_s)
        return Shipper(
            self.outbox,
            MarquezTarget(TARGET, client),
            SystemClock(),
            self.said.append,
            settle_s=settle_s,
            chance=lambda: 0.0,
        )

    def ship(self, shipper: Shipper | None = None, *, within_s: float = 60.0) -> None:
        """Ship until nothing waits."""
        shipper = shipper or self.shipper()
        wait(lambda: shipper.round().backlog.waiting == 0, within_s)

    def quarantined(self) -> dict[str, str]:
        kept = {each.seq: each.decoded() for each in self.outbox.events(0, 100_000)}
        found = self.outbox.deliveries(TARGET, DeliveryState.QUARANTINED, limit=100_000)
        return {f"{kept[d.seq]['job']['name']}.{kept[d.seq]['eventType']}": d.reason for d in found}


def wait(is_done: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_done():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


class Auditor:
    """Asks a Marquez what it knows, over its public API."""

    def __init__(self, url: str) -> None:
        self.client = MarquezClient(url)

    def check_run(self, said: Sequence[dict[str, Any]], state: str = "COMPLETED") -> None:
        """Check a run's state, beginning, end and inputs against the events that tell of it."""
        found = self.client.run(said[0]["run"]["runId"])
        assert found is not None, said[0]["job"]["name"]
        starts = [each["eventTime"] for each in said if each["eventType"] == "START"]
        assert found["state"] == state
        assert _same(found["startedAt"], starts[0] if starts else None)
        assert _same(found["endedAt"], said[-1]["eventTime"])
        bound = sorted(
            (each["datasetVersionId"]["namespace"], each["datasetVersionId"]["name"])
            for each in found["inputDatasetVersions"]
        )
        assert bound == sorted((each["namespace"], each["name"]) for each in said[-1]["inputs"])

    def check_chain(self, number: int, series: str = "") -> None:
        """Check a `governed_run`, and that its scores lead back to raw data and approval."""
        n = f"{number:05}{series}"
        by_run: dict[str, list[dict[str, Any]]] = {}
        for each in governed_run(number, series):
            by_run.setdefault(each["run"]["runId"], []).append(each)
        for said in by_run.values():
            self.check_run(said)
        upstream = self.client.upstream(run_id_of(f"score{n}"))
        jobs = {each["job"]["name"] for each in upstream}
        wanted = ("score", "approve", "train", "prepare", "register")
        assert jobs == {f"{job}{n}" for job in wanted}
        made_by = {
            each["name"]: each["producedByRunId"] for run in upstream for each in run["inputs"]
        }
        assert made_by[f"model{n}"] == run_id_of(f"train{n}")
        assert made_by[f"approval{n}"] == run_id_of(f"approve{n}")

    def check_lists(self) -> None:
        assert "namespaces" in self.client.check()


def _same(found: str | None, sent: str | None) -> bool:
    if found is None or sent is None:
        return found is sent
    return datetime.fromisoformat(found) == datetime.fromisoformat(sent)


__all__ = ["Auditor", "World", "event", "governed_run", "run_id_of", "run_of", "shuffled", "wait"]


def ship_until_done(folder: Path, url: str, rounds: int) -> None:
    """Ship in a process of its own, which imports this module and no test."""
    world = World(folder, url)
    shipper = world.shipper(settle_s=10)
    for _ in range(rounds):
        if shipper.round().backlog.waiting == 0:
            return
        time.sleep(0.02)
