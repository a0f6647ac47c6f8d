"""Lineage events appended to the outbox against a plain INSERT and COMMIT of the same bytes.

Run as ``python tests/bench/bench_outbox.py [rounds]``; prints one JSON object. Both sides do their
work in turns, on one disk, as durable as the other: in a SQLite file beside another one, and in a
table of a PostgreSQL server beside another one. ``ratio`` is the worse of the two medians. A tenth
of the rounds more, before they are counted, let both sides connect and prepare.

Beside it: how long numbering, and a shipper's question for what waits, take with what was appended.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from bench_ledger import percentile, timed  # noqa: E402
from bench_writers import Insert, postgres_place, sqlite_place  # noqa: E402
from postgres_server import PostgresServer  # noqa: E402

from airflow_mlgov.service.outbox import Outbox, OutboxItem  # noqa: E402
from airflow_mlgov.stores.postgres import PostgresOutbox  # noqa: E402
from airflow_mlgov.stores.sqlite import SqliteOutbox  # noqa: E402

EVENT_BYTES = 6_000
GOAL = 2.0


def event(number: int) -> OutboxItem:
    """An event of about the size of a task's, unlike any other."""
    decoded: dict[str, Any] = {
        "eventType": "COMPLETE",
        "eventTime": datetime.now(UTC).isoformat(),
        "run": {"runId": str(uuid.uuid4()), "facets": {}},
        "job": {"namespace": "bench", "name": f"scoring.task_{number}"},
        "inputs": [{"namespace": "file", "name": f"/data/{number % 50}.csv"}],
        "outputs": [{"namespace": "file", "name": f"/scores/{number}.csv"}],
    }
    parameters = decoded["run"]["facets"]["executionParameters"] = []
    while len(json.dumps(decoded)) < EVENT_BYTES:
        parameters.append({"key": f"parameter_{len(parameters)}", "value": uuid.uuid4().hex})
    return OutboxItem.of(decoded)


def measure(outbox: Outbox, plain: Insert, rounds: int) -> dict[str, float]:
    events = [event(number) for number in range(rounds + rounds // 10)]
    sides: dict[str, Callable[[OutboxItem], object]] = {
        "append": lambda item: outbox.append([item], datetime.now(UTC)),
        "plain": lambda item: plain(item.event),
    }
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number, item in enumerate(events):
        # Whoever goes second finds the disk as the other left it: they take turns at that too.
        for name in list(sides)[:: 1 if number % 2 else -1]:
            spent[name].append(timed(lambda do=sides[name], given=item: do(given)))
    append, inserted = (spent[name][rounds // 10 :] for name in ("append", "plain"))
    take_ms = timed(outbox.take)
    return {
        "ratio": round(statistics.median(append) / statistics.median(inserted), 2),
        "ratio_p99": round(percentile(append, 0.99) / percentile(inserted, 0.99), 2),
        "append_ms": round(statistics.median(append), 3),
        "plain_ms": round(statistics.median(inserted), 3),
        "take_ms_an_event": round(take_ms / len(events), 3),
        "undelivered_100_ms": round(timed(lambda: outbox.undelivered("marquez", 100)), 2),
    }


def measure_postgres(folder: Path, rounds: int) -> dict[str, float]:
    server = PostgresServer(folder.parent)
    try:
        server.start()
        plain = postgres_place(folder, server).plain["plain"]()
        return measure(PostgresOutbox(server.url("ledger")), plain, rounds)
    finally:
        server.remove()


def main() -> None:
    logging.disable(logging.WARNING)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    beside = ROOT / ".bench"  # beside the code: /tmp may be memory
    beside.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside) as name:
        folder = Path(name)
        plain = sqlite_place(folder).plain["plain"]()
        sqlite = measure(SqliteOutbox(folder / "ledger.db"), plain, rounds)
        postgres = measure_postgres(folder, rounds)
    ratio = max(sqlite["ratio"], postgres["ratio"])
    result = {
        "name": "outbox_append_vs_plain_insert",
        "ratio": ratio,
        "goal": f"<= {GOAL}",
        "met": ratio <= GOAL,
        "event_bytes": EVENT_BYTES,
        "sqlite": sqlite,
        "postgresql": postgres,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
