"""Real processes on one SQLite ledger: racing, killed, nothing lost (threats 15, 16, 17)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerConflictError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.ledger import EntryDraft, Ledger, Receipt
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

WRITERS = 16
EACH = 12
CONTEXT = multiprocessing.get_context("fork")


def ledger_in(folder: Path) -> Ledger:
    return Ledger(SqliteStore(folder / "ledger.db"), open_signers(folder / "keys"))


def draft(*identity: str) -> EntryDraft:
    body = {"request_sha256": "sha256:" + "0" * 64, "target": "production"}
    return EntryDraft("model.scored", "retail_pd", Digest("a" * 64), body, identity)


def _write(folder: Path, writer: int, start: Event, queue: Any) -> None:
    ledger = ledger_in(folder)
    start.wait()
    receipts, slowest = [], 0.0
    for number in range(EACH):
        begun = time.monotonic()
        # Every third entry is one that all writers want; every fourth waits for its checkpoint.
        identity = ("shared", str(number)) if number % 3 == 0 else (str(writer), str(number))
        receipt = ledger.append(draft(*identity))
        if number % 4 == 0:
            assert ledger.seal(receipt).tree_size > 0
        receipts.append((receipt.key, receipt.leaf_hash))
        slowest = max(slowest, time.monotonic() - begun)
    queue.put((receipts, slowest))


@pytest.mark.attack(15, 16)
def test_threats_15_and_16_sixteen_processes_race(tmp_path: Path) -> None:
    start, queue = CONTEXT.Event(), CONTEXT.Queue()
    workers = [
        CONTEXT.Process(target=_write, args=(tmp_path, n, start, queue)) for n in range(WRITERS)
    ]
    for worker in workers:
        worker.start()
    start.set()
    results = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    acknowledged = {receipt for receipts, _ in results for receipt in receipts}
    own, shared = WRITERS * (EACH - EACH // 3), EACH // 3
    assert (
        len(acknowledged) == own + shared
    )  # every writer of a shared entry was given the same receipt

    ledger = ledger_in(tmp_path)
    entries = ledger.view().select()
    assert [entry.index for entry in entries] == list(range(len(entries)))  # no gap
    found = [(entry.key, entry.leaf_hash) for entry in entries[1:]]
    assert len(found) == len(set(found)) == len(acknowledged)  # no duplicate
    assert set(found) == acknowledged  # no lost acknowledgement
    assert entries[0].kind == "genesis"
    assert ledger.verify().is_fine
    assert max(slowest for _, slowest in results) < 20  # nobody starves


def _write_for_ever(folder: Path, name: str) -> None:
    ledger = ledger_in(folder)
    with (folder / "acknowledged").open("ab", buffering=0) as log:
        for number in range(1_000_000):
            receipt = ledger.append(draft(name, str(number)))
            log.write(f"{receipt.key} {receipt.leaf_hash}\n".encode())
            if number % 3 == 0:
                ledger.drain()


@pytest.mark.attack(17)
def test_threat_17_writers_killed_at_any_moment_lose_nothing_acknowledged(tmp_path: Path) -> None:
    ledger_in(tmp_path).drain()
    for attempt in range(15):
        writers = [
            CONTEXT.Process(target=_write_for_ever, args=(tmp_path, f"{attempt}.{n}"))
            for n in range(2)
        ]
        for writer in writers:
            writer.start()
        time.sleep(0.1 + 0.013 * attempt)
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join(10)
            assert writer.exitcode == -signal.SIGKILL
    lines = (tmp_path / "acknowledged").read_text().split("\n")[:-1]
    acknowledged = {tuple(line.split(" ")) for line in lines}
    assert len(acknowledged) > 30
    ledger = ledger_in(tmp_path)
    entries = ledger.view().select("model.scored")
    assert acknowledged <= {(entry.key, entry.leaf_hash) for entry in entries}
    # One entry a killed writer may be there without having been acknowledged.
    assert len(entries) <= len(acknowledged) + 30
    assert ledger.verify().is_fine
    assert not list((tmp_path / "keys").glob(".*"))


@pytest.mark.attack(16)
def test_threat_16_two_sequencers_and_a_writer_without_the_log_key(tmp_path: Path) -> None:
    trust = ledger_in(tmp_path).trust_root()
    signers = open_signers(tmp_path / "keys")
    writer = Ledger(
        SqliteStore(tmp_path / "ledger.db"), {KeyRole.WRITER: signers[KeyRole.WRITER]}, trust=trust
    )
    stop = CONTEXT.Event()
    sequencers = [CONTEXT.Process(target=_sequence, args=(tmp_path, stop)) for _ in range(2)]
    for sequencer in sequencers:
        sequencer.start()
    receipts: list[Receipt] = [writer.append(draft("w", str(number))) for number in range(60)]
    sealed = [writer.seal(receipt, timeout_s=60) for receipt in receipts]
    stop.set()
    for sequencer in sequencers:
        sequencer.join(30)
        assert sequencer.exitcode == 0
    assert [receipt.index for receipt in sealed] == list(range(1, 61))
    assert writer.verify(trust).is_fine


def _sequence(folder: Path, stop: Event) -> None:
    ledger = ledger_in(folder)
    while not stop.is_set():
        ledger.drain()
        time.sleep(0.001)


def _offer(folder: Path, writer: int, start: Any, queue: Any) -> None:
    ledger = ledger_in(folder)
    outcomes = []
    for number in range(EACH):
        body = {"request_sha256": "sha256:" + "0" * 64, "target": f"target {writer}"}
        offered = EntryDraft(
            kind="model.scored",
            model="retail_pd",
            version=Digest("a" * 64),
            body=body,
            identity=("contested", str(number)),
            source=Source("dag", "run", f"task_{writer}", -1, 1),
        )
        start.wait()
        try:
            outcomes.append(ledger.append(offered).key)
        except LedgerConflictError:
            outcomes.append("")
    queue.put((writer, outcomes))


@pytest.mark.attack(8)
def test_threat_8_processes_that_race_for_one_key_leave_every_loser_on_record(
    tmp_path: Path,
) -> None:
    ledger_in(tmp_path).drain()
    writers = 4
    start, queue = CONTEXT.Barrier(writers), CONTEXT.Queue()
    workers = [
        CONTEXT.Process(target=_offer, args=(tmp_path, n, start, queue)) for n in range(writers)
    ]
    for worker in workers:
        worker.start()
    results = dict(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    view = ledger_in(tmp_path).view()
    scored = view.select("model.scored")
    assert len(scored) == EACH
    for number in range(EACH):
        winners = [writer for writer in range(writers) if results[writer][number]]
        assert len(winners) == 1  # one receipt a key, and it is the winner's entry
        key = results[winners[0]][number]
        (entry,) = [each for each in scored if each.key == key]
        assert entry.body["target"] == f"target {winners[0]}"
    # Every loser is on record, by task and by what it wanted to put there instead.
    refused = view.select("append.refused")
    assert len(refused) == EACH * (writers - 1)
    for entry in scored:
        tasks = [r.source.task_id for r in refused if r.body["key"] == entry.key]
        assert sorted([*tasks, entry.source.task_id]) == [f"task_{n}" for n in range(writers)]
    assert {tuple(each.body["differs"]) for each in refused} == {("source", "body.target")}
    assert ledger_in(tmp_path).verify().is_fine
