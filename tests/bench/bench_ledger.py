"""Acknowledged appends against a plain, fsynced SQLite insert of the same bytes, interleaved.

Run as ``python tests/bench/bench_ledger.py [rounds]``; prints one JSON object. Both sides use WAL
with ``synchronous=FULL`` on one disk, in turns, so that a slow moment of the machine hits both.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key  # noqa: E402
from airflow_mlgov.ledger.merkle import leaf_hash  # noqa: E402
from airflow_mlgov.records.digest import Digest  # noqa: E402
from airflow_mlgov.records.kinds import KeyRole  # noqa: E402
from airflow_mlgov.records.people import Person  # noqa: E402
from airflow_mlgov.records.source import Source  # noqa: E402
from airflow_mlgov.service.ledger import EntryDraft, Ledger  # noqa: E402
from airflow_mlgov.signers.file import open_signers  # noqa: E402
from airflow_mlgov.stores.sqlite import SqliteStore  # noqa: E402

DRAFT = EntryDraft(
    kind="approval.voted",
    model="retail_pd",
    version=Digest("a" * 64),
    body={"request_sha256": "sha256:" + "b" * 64, "choice": "approve"},
    identity=("vote",),
    people={"voter": Person("7", "Ada")},
    texts={"comment": "Looked at the calibration by segment; fine."},
    source=Source("retail_pd", "manual__2026-01-02T03:04:05+00:00", "gate", -1, 1),
)
VIEW_ENTRIES = 10_000


def cpu_ms(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return (time.process_time() - begun) * 1000


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


def plain_insert(folder: Path) -> Callable[[bytes], None]:
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, leaf BLOB)")

    def insert(leaf: bytes) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t (leaf) VALUES (?)", (leaf,))
        connection.execute("COMMIT")

    return insert


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def bench_append(folder: Path, rounds: int) -> dict[str, object]:
    store = SqliteStore(folder / "ledger.db")
    ledger = Ledger(store, open_signers(folder / "keys"))
    receipt = ledger.append(DRAFT)
    kept = store.get(receipt.key)
    leaf = kept[0] if kept else b""
    plain = plain_insert(folder)
    appends, sealed, inserts = [], [], []
    for number in range(rounds):
        draft = replace(DRAFT, identity=(str(number),))
        inserts.append(timed(lambda: plain(leaf)))
        appends.append(timed(lambda d=draft: ledger.append(d)))
        inserts.append(timed(lambda: plain(leaf)))
        draft = replace(DRAFT, identity=(f"sealed {number}",))
        sealed.append(timed(lambda d=draft: ledger.seal(ledger.append(d))))
    insert_ms = statistics.median(inserts)
    return {
        "name": "ledger_append_vs_plain_insert",
        "ratio": round(statistics.median(appends) / insert_ms, 2),
        "ratio_p99": round(percentile(appends, 0.99) / percentile(inserts, 0.99), 2),
        "ratio_sealed": round(statistics.median(sealed) / insert_ms, 2),
        "append_ms": round(statistics.median(appends), 3),
        "append_and_seal_ms": round(statistics.median(sealed), 3),
        "plain_insert_ms": round(insert_ms, 3),
        "leaf_bytes": len(leaf),
        "rounds": rounds,
    }


def bench_view(folder: Path) -> dict[str, object]:
    ledger = Ledger(SqliteStore(folder / "view.db"), open_signers(folder / "keys"))
    ledger.append(DRAFT)
    store = SqliteStore(folder / "view.db")
    signers = open_signers(folder / "keys")
    body = {"request_sha256": f"sha256:{'b' * 64}", "target": "production"}
    version = Digest("a" * 64)
    entry = Entry(ledger.origin, "model.scored", "", datetime.now(UTC), "retail_pd", version, body)
    rows = []
    for number in range(VIEW_ENTRIES):
        key = entry_key(ledger.origin, "model.scored", str(number))
        signer = signers[KeyRole.WRITER]
        leaf = encode_leaf(replace(entry, key=key), signer.public_key, signer.sign)
        rows.append((key, leaf, leaf_hash(leaf), "2026-01-02T03:04:05.000Z"))
    with sqlite3.connect(store.path) as connection:
        connection.executemany(
            "INSERT INTO inbox (key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?)", rows
        )
    sequence = cpu_ms(ledger.drain)
    views = [cpu_ms(ledger.view) for _ in range(5)]
    selects = [cpu_ms(lambda: ledger.view().select("approval.voted")) for _ in range(5)]
    return {
        "view_entries": VIEW_ENTRIES,
        "sequence_all_cpu_ms": round(sequence),
        "view_cpu_ms": round(statistics.median(views)),
        "view_and_select_one_kind_cpu_ms": round(statistics.median(selects)),
        "verify_all_cpu_ms": round(cpu_ms(ledger.verify)),
    }


def main() -> None:
    logging.disable(logging.WARNING)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(dir=ROOT) as name:  # beside the code: /tmp may be memory
        folder = Path(name)
        print(json.dumps({**bench_append(folder, rounds), **bench_view(folder)}))


if __name__ == "__main__":
    main()
