"""Acknowledged appends of 1, 4 and 16 processes against plain inserts of the same bytes.

Run as ``python tests/bench/bench_writers.py``; prints one JSON object. Each process does in turns,
all together, 0.4 seconds each:

- ``ours``: `Ledger.append` without the log key, as a task does it: JSON, signature, insert;
- ``plain``: INSERT and COMMIT of a leaf of that length into a table of its own, as durable;
- ``store``: what the store does of ``ours``, with entries that were made and signed before;
- ``made``: what the rest is: entries are made and signed, and kept nowhere;
- ``statement`` (PostgreSQL): ``plain`` as one statement that commits itself.

Rates and p99 are compared with ``plain`` by their medians over the turns. Between turns, for each
side alike, the inbox is sequenced, and nothing else runs in them; ``with_sequencer`` is measured
once more with rounds each 100 ms beside both sides, which have work only beside ours.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

import psycopg  # noqa: E402
from bench_ledger import DRAFT, percentile  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

from airflow_mlgov.records.kinds import KeyRole  # noqa: E402
from airflow_mlgov.service.ledger import Ledger  # noqa: E402
from airflow_mlgov.service.sequencing import GENESIS_KEY  # noqa: E402
from airflow_mlgov.signers.file import open_signers  # noqa: E402
from airflow_mlgov.stores.postgres import PostgresStore, schema  # noqa: E402
from airflow_mlgov.stores.sqlite import SqliteStore  # noqa: E402

CONTEXT = multiprocessing.get_context("fork")
WRITERS = (1, 4, 16)
TURN_S, TURNS, TICK_S = 0.4, 6, 0.1
INSERT = "INSERT INTO plain (leaf) VALUES ({})"
GOAL = "PostgreSQL, 16 writers: >= 0.9 of its rate, p99 <= 2 times"

Insert = Callable[[bytes], None]


@dataclass(frozen=True)
class Side:
    """What a writer does again and again, and what it does as often before its turn."""

    do: Callable[[str], object]
    prepare: Callable[[str], object] | None = None


class Catch:
    """A store that hands what it is to keep to somebody else."""

    def __init__(self, genesis: bytes, catch: Callable[..., None]) -> None:
        self._genesis = genesis
        self.insert = catch

    def get(self, key: str) -> tuple[bytes, int | None] | None:
        return self._genesis, 0


@dataclass
class Place:
    """A ledger and a plain table on one server, or two files on one disk."""

    keys: Path
    new_store: Callable[[], Any]
    plain: Mapping[str, Callable[[], Insert]]

    def __post_init__(self) -> None:
        self.full = Ledger(self.new_store(), open_signers(self.keys))
        store = self.new_store()
        receipt = self.full.append(DRAFT)
        self.full.drain()
        self.genesis, self.leaf = (store.get(key)[0] for key in (GENESIS_KEY, receipt.key))
        store.close()

    def sides(self) -> dict[str, Side]:
        """Return what a writer's process can do, by name; each opens connections of its own."""
        role = {KeyRole.WRITER: open_signers(self.keys)[KeyRole.WRITER]}
        ready: deque[tuple[Any, ...]] = deque()
        ours = Ledger(self.new_store(), role)
        making = Ledger(Catch(self.genesis, lambda *_, **__: None), role)
        readying = Ledger(Catch(self.genesis, lambda *row, **_: ready.append(row)), role)
        inserts = {name: connect() for name, connect in self.plain.items()}
        store = self.new_store()

        def append(ledger: Ledger) -> Callable[[str], object]:
            return lambda name: ledger.append(replace(DRAFT, identity=(name,)))

        return {
            "ours": Side(append(ours)),
            "store": Side(lambda _: store.insert(*ready.popleft()), append(readying)),
            "made": Side(append(making)),
            **{name: Side(lambda _, put=put: put(self.leaf)) for name, put in inserts.items()},
        }


@dataclass(frozen=True)
class Turn:
    """What one writer did in one turn."""

    rate: float
    seconds: list[float]
    cpu_s: float


def take_turn(side: Side, name: str, most: int) -> Turn:
    begun, cpu, seconds = time.perf_counter(), time.process_time(), []
    now = begun
    while now < begun + TURN_S and len(seconds) < most:
        side.do(f"{name} {len(seconds)}")
        ended = time.perf_counter()
        seconds.append(ended - now)
        now = ended
    done = len(seconds)
    return Turn(done / (now - begun), seconds, (time.process_time() - cpu) / done)


def prepare(side: Side, name: str, count: int) -> int:
    """Prepare for so many; return how many the side can do."""
    if side.prepare is None:
        return sys.maxsize
    for number in range(count):
        side.prepare(f"{name} {number}")
    return count


def work(place: Place, writer: str, schedule: list[str], barrier: Barrier, queue: Any) -> None:
    sides, ready = place.sides(), 8000 // (barrier.parties + 2)
    for side in set(schedule):
        prepare(sides[side], f"{writer} {side}", 1)
        sides[side].do(f"{writer} {side}")  # connects
    turns = []
    for number, name in enumerate(schedule):
        most = prepare(sides[name], f"{writer} {number}", ready)
        barrier.wait()
        turns.append(take_turn(sides[name], f"{writer} {number}", most))
        barrier.wait()
    queue.put(turns)


def measure(
    place: Place, sides: list[str], writers: int, *, is_sequencing: bool = False
) -> dict[str, Any]:
    """Return rates, p99 and how they compare, of so many writers."""
    schedule = (sides + sides[::-1]) * (TURNS // 2)
    barrier, queue = CONTEXT.Barrier(writers + 1), CONTEXT.Queue()
    names = [f"{writers} {is_sequencing} {number}" for number in range(writers)]
    processes = [
        CONTEXT.Process(target=work, args=(place, name, schedule, barrier, queue), daemon=True)
        for name in names
    ]
    for process in processes:
        process.start()
    for _ in schedule:
        barrier.wait(60)
        ends = time.monotonic() + TURN_S
        while is_sequencing and time.monotonic() < ends:
            place.full.drain()
            time.sleep(TICK_S)
        barrier.wait(60)
        place.full.drain()
    results = [queue.get(timeout=60) for _ in processes]
    return compared({side: turns_of(side, schedule, results) for side in sides})


def turns_of(side: str, schedule: list[str], results: list[list[Turn]]) -> dict[str, float]:
    turns = [
        [result[number] for result in results]
        for number, name in enumerate(schedule)
        if name == side
    ]
    p99s = [percentile([s for turn in each for s in turn.seconds], 0.99) for each in turns]
    return {
        "per_second": round(statistics.median(sum(turn.rate for turn in each) for each in turns)),
        "p99_ms": round(statistics.median(p99s) * 1000, 2),
        "client_cpu_us": round(
            statistics.median(turn.cpu_s for each in turns for turn in each) * 1e6
        ),
    }


def compared(by_side: dict[str, dict[str, float]]) -> dict[str, Any]:
    plain = by_side["plain"]
    others = {side: figures for side, figures in by_side.items() if side != "plain"}
    ratios = {
        side: {
            "of_plain": round(f["per_second"] / plain["per_second"], 2),
            "p99_of_plain": round(f["p99_ms"] / plain["p99_ms"], 2),
        }
        for side, f in others.items()
    }
    return {side: figures | ratios.get(side, {}) for side, figures in by_side.items()}


def sqlite_place(folder: Path) -> Place:
    path = folder / "plain.db"

    def plain() -> Insert:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

        def insert(leaf: bytes) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(INSERT.format("?"), (leaf,))
            connection.execute("COMMIT")

        return insert

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, leaf BLOB)")
    return Place(folder / "keys", lambda: SqliteStore(folder / "ledger.db"), {"plain": plain})


def postgres_place(folder: Path, server: PostgresServer) -> Place:
    server.execute("postgres", "CREATE DATABASE ledger")
    url = server.url("ledger")
    schema.migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, leaf bytea)"
        )
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            if connection.execute(f"SHOW {name}").fetchone() != ("on",):
                raise SystemExit(f"{name} is off: nothing here would be durable")

    def plain() -> Insert:
        connection = psycopg.connect(url)

        def insert(leaf: bytes) -> None:
            connection.execute(INSERT.format("%s"), (leaf,))
            connection.commit()

        return insert

    def statement() -> Insert:
        connection = psycopg.connect(url, autocommit=True)
        return lambda leaf: connection.execute(INSERT.format("%s"), (leaf,)) and None

    plains = {"plain": plain, "statement": statement}
    return Place(folder / "pg_keys", lambda: PostgresStore(url), plains)


def measure_postgres(folder: Path) -> dict[str, Any]:
    server = PostgresServer(folder.parent)
    with (server.data / "postgresql.conf").open("a") as config:
        config.write("shared_buffers = '128MB'\n")  # as PostgreSQL has it; tests do with less
    try:
        server.start()
        place = postgres_place(folder, server)
        sides = ["ours", "store", "made", "plain", "statement"]
        measured = {str(count): measure(place, sides, count) for count in WRITERS}
        measured["with_sequencer"] = measure(place, ["ours", "plain"], 16, is_sequencing=True)
        return measured
    finally:
        server.remove()


def measure_sqlite(folder: Path) -> dict[str, Any]:
    place = sqlite_place(folder)
    return {
        str(count): measure(place, ["ours", "store", "made", "plain"], count) for count in WRITERS
    }


def main() -> None:
    logging.disable(logging.WARNING)
    beside = ROOT / ".bench"  # beside the code: /tmp may be memory
    beside.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside) as name:
        postgres, sqlite = measure_postgres(Path(name)), measure_sqlite(Path(name))
    ours = postgres["16"]["ours"]
    result = {
        "name": "append_by_16_vs_plain_insert",
        "ratio": ours["of_plain"],
        "ratio_p99": ours["p99_of_plain"],
        "goal": GOAL,
        "met": ours["of_plain"] >= 0.9 and ours["p99_of_plain"] <= 2,
        "postgresql": postgres,
        "sqlite": sqlite,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
