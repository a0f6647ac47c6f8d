"""A trace over an outbox of 100,000 runs and a ledger of 33,000 uses, in this process.

One model version was trained, approved and promoted once, and scores a batch 33,329 times, each
from features of its own that a run makes of a source of its own: most runs read the same version,
approval and endpoint. Traced is the last batch. The goal is over the processor seconds of all of
it: reading the whole ledger and hashing it up to its signed root is most. What waits for neighbours
is not ours, and is in ``wall_s``. ``ratio`` is that of the walk alone against the same walk over
the chain and one batch.

The events are those that the package makes, with ids, digests and times filled in.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from bench_million import fill  # noqa: E402
from lineage_chain import Chain  # noqa: E402

from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key  # noqa: E402
from airflow_mlgov.lineage import events  # noqa: E402
from airflow_mlgov.lineage.datasets import DataRef  # noqa: E402
from airflow_mlgov.records.digest import Digest  # noqa: E402
from airflow_mlgov.records.kinds import KeyRole  # noqa: E402
from airflow_mlgov.records.source import Source  # noqa: E402
from airflow_mlgov.records.trace import Trace  # noqa: E402
from airflow_mlgov.service.ledger import Ledger  # noqa: E402
from airflow_mlgov.service.outbox import OutboxItem  # noqa: E402
from airflow_mlgov.service.promote import promote  # noqa: E402
from airflow_mlgov.service.trace import Tracer  # noqa: E402
from airflow_mlgov.service.trace_walk import Walk  # noqa: E402
from airflow_mlgov.signers.file import open_signers  # noqa: E402
from airflow_mlgov.stores.sqlite import SqliteOutbox, SqliteStore  # noqa: E402

RUNS = 100_000
GOAL_S = 2.0
AT_ONCE = 2_000
BEGIN = datetime(2026, 6, 2, tzinfo=UTC)
RAW, FEATURES, SCORES = (
    DataRef(f"/data/{name}.csv", Digest(digit * 64), rows=1_000)
    for name, digit in (("batch", "a"), ("features", "b"), ("scores", "c"))
)
MARKS = ("prepare_batch", "score")


def make_world(folder: Path) -> Any:
    file = ROOT / "tests" / "unit" / "service" / "conftest.py"
    spec = importlib.util.spec_from_file_location("conftest_of_service", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    world = module.make_world(folder, "L1")
    world.validate_data()
    world.train()
    world.validate_model()
    return world


def tell_chain(chain: Chain) -> None:
    """Tell of the version, its approval and its promotion, and of one batch."""
    world = chain.world
    chain.tell_training()
    request = world.ask()
    chain.tell_request(request)
    world.approve(request)
    chain.tell_decision(request, is_granted=True)
    promote(world.gov, world.registry, world.use())
    chain.tell_use(chain.asked(request))
    chain.run(MARKS[0], events.prepare([RAW], [FEATURES]), airflow="batch-mark")
    chain.run(
        MARKS[1], events.score(chain.asked(request), [FEATURES], [SCORES]), airflow="batch-mark"
    )


class Batches:
    """Makes the events of batches out of those of the first."""

    def __init__(self, chain: Chain) -> None:
        ids = {chain.runs[mark] for mark in MARKS}
        source = RAW.dataset.name
        told = [
            event
            for event in chain.sent
            if event["run"]["runId"] in ids or source in [o["name"] for o in event["outputs"]]
        ]
        self._told = [json.dumps(event) for event in told]
        self._ids = list(dict.fromkeys(event["run"]["runId"] for event in told))
        self._times = [event["eventTime"] for event in told]

    @property
    def runs(self) -> int:
        return len(self._ids)

    def digest(self, number: int, of: DataRef) -> str:
        assert of.digest is not None
        return Digest.of(f"{of.digest.hex[0]} {number}".encode()).hex

    def events(self, number: int) -> Iterator[OutboxItem]:
        fills = [(run, str(UUID(int=number * 8 + n))) for n, run in enumerate(self._ids)]
        for data in (RAW, FEATURES, SCORES):
            assert data.digest is not None
            made = self.digest(number, data)
            fills += [(data.digest.hex, made), (f"@{data.digest.short}", f"@{made[:12]}")]
        fills.append(("batch-mark", f"batch-{number}"))
        at = BEGIN + timedelta(minutes=number)
        for place, (text, time_of) in enumerate(zip(self._told, self._times, strict=True)):
            fresh = (at + timedelta(seconds=place)).isoformat()
            filled = text
            for old, new in (*fills, (time_of, fresh)):
                filled = filled.replace(old, new)
            yield OutboxItem.of(json.loads(filled))


def uses(world: Any, folder: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield signed entries that a version was used, one a batch."""
    signer = open_signers(folder / "keys")[KeyRole.WRITER]
    request = world.kinds("model.promoted")[-1].body["request_sha256"]
    for number in range(1, count):
        source = Source("retail_pd", f"batch-{number}", "score", -1, 1)
        key = entry_key(world.gov.ledger.origin, "model.scored", str(number))
        entry = Entry(
            origin=world.gov.ledger.origin,
            kind="model.scored",
            key=key,
            at=BEGIN + timedelta(minutes=number),
            model="retail_pd",
            version=world.version,
            body={"request_sha256": request, "target": "production"},
            source=source,
        )
        yield key, encode_leaf(entry, signer.public_key, signer.sign)


def walked(outbox: SqliteOutbox, place: tuple[str, str]) -> float:
    """Return the seconds of a walk alone; the best of three."""
    found = []
    for _ in range(3):
        begun = time.perf_counter()
        Walk(outbox).back_from([place])
        found.append(time.perf_counter() - begun)
    return min(found)


def traced(folder: Path, world: Any, place: tuple[str, str]) -> tuple[Trace, float, float]:
    """Trace as a command does that was just started, its imports aside."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    store = SqliteStore.from_url(f"sqlite:///{folder}/ledger.db")
    gov = replace(world.gov, ledger=Ledger(store, open_signers(folder / "keys"), world.clock))
    outbox = SqliteOutbox.from_url(f"sqlite:///{folder}/ledger.db")
    trace = Tracer(gov, outbox, None).from_dataset(*place)
    return trace, time.process_time() - begun_cpu, time.perf_counter() - begun


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=ROOT) as name:  # beside the code: /tmp may be memory
        folder = Path(name)
        world = make_world(folder)
        outbox = SqliteOutbox.from_url(f"sqlite:///{folder}/ledger.db")
        chain = Chain(world, outbox)
        tell_chain(chain)
        small = walked(outbox, (SCORES.dataset.namespace, SCORES.dataset.name))
        batches = Batches(chain)
        first_runs = len({event["run"]["runId"] for event in chain.sent})
        count = (RUNS - first_runs) // batches.runs + 2
        items: list[OutboxItem] = []
        for number in range(1, count):
            items += batches.events(number)
            if len(items) >= AT_ONCE:
                outbox.append(items, BEGIN)
                items = []
        outbox.append(items, BEGIN)
        say("appended")
        outbox.take()
        say("numbered")
        store = SqliteStore.from_url(f"sqlite:///{folder}/ledger.db")
        fill(world.gov.ledger, store, uses(world, folder, count))
        say("ledger built")
        last = f"/data/scores.csv@{batches.digest(count - 1, SCORES)[:12]}"
        large = walked(outbox, ("file", last))
        trace, seconds, wall_s = traced(folder, world, ("file", last))
        if trace.gaps or len(trace.nodes) < 15:
            raise SystemExit(f"Not traced: {trace.gaps}")
        result = {
            "name": "trace",
            "ratio": round(large / small, 2),
            "goal": f"< {GOAL_S:g} s",
            "met": seconds < GOAL_S,
            "trace_cpu_s": round(seconds, 2),
            "wall_s": round(wall_s, 2),
            "walk_ms": round(large * 1_000, 1),
            "runs": first_runs + batches.runs * (count - 1),
            "uses_in_ledger": count - 1,
            "nodes": len(trace.nodes),
            "file_mb": round((folder / "ledger.db").stat().st_size / 1e6),
        }
    print(json.dumps(result))


def say(what: str) -> None:
    print(f"{time.process_time():.0f} s of processor time: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
