"""The sequencer's rounds, its patience and its heartbeats, in one process."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import InboxItem
from airflow_mlgov.service.sequencer import LOOKED_AT, Pace, Sequencer, newest_heartbeat
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

HOUR = Pace(tick_s=0.01, heartbeat_s=3600)
NONE = Pace(tick_s=0.01, heartbeat_s=0)


class FakeClock:
    """Stands where it is put; proves nothing about real clocks."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


class Shed:
    """A ledger, a writer without the log key, and sequencers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.store = SqliteStore(folder / "ledger.db")
        self.signers = open_signers(folder / "keys")
        self.said: list[str] = []

    def sequencer(self, pace: Pace = NONE, store: Any = None) -> Sequencer:
        store = store or self.store
        log = {KeyRole.LOG: self.signers[KeyRole.LOG]}
        return Sequencer(Ledger(store, log, self.clock), store, self.clock, pace, self.said.append)

    def reader(self) -> Ledger:
        return Ledger(self.store, self.signers, self.clock)

    def writer(self) -> Ledger:
        trust = self.reader().trust_root()
        return Ledger(
            self.store, {KeyRole.WRITER: self.signers[KeyRole.WRITER]}, self.clock, trust=trust
        )

    def beats(self) -> list[Any]:
        return self.reader().view().select("heartbeat")


@pytest.fixture
def shed(tmp_path: Path) -> Shed:
    return Shed(tmp_path)


def draft(name: str) -> EntryDraft:
    body = {"policy_sha256": "sha256:" + "0" * 64}
    return EntryDraft("policy.changed", "", None, body, (name,))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_round_begins_the_ledger_and_drains_it(shed: Shed) -> None:
    sequencer = shed.sequencer()
    sequencer.round()
    assert sequencer.progress.entries == 1
    writer = shed.writer()
    receipts = [writer.append(draft(str(number))) for number in range(3)]
    assert shed.store.waiting() == 3
    sequencer.round()
    assert [writer.seal(receipt, timeout_s=0).index for receipt in receipts] == [1, 2, 3]
    done = sequencer.progress
    assert (done.rounds, done.failures, done.entries, done.waiting) == (2, 0, 4, 0)
    assert done.last_round_at is not None
    assert done.away_since is None
    assert shed.reader().verify().is_fine


def test_it_runs_until_it_is_stopped(shed: Shed) -> None:
    sequencer = shed.sequencer()
    thread = threading.Thread(target=sequencer.run)
    thread.start()
    wait_until(lambda: sequencer.progress.rounds > 3)
    writer = shed.writer()
    assert writer.seal(writer.append(draft("a")), timeout_s=20).index == 1
    sequencer.stop()
    thread.join(20)
    assert not thread.is_alive()
    rounds = sequencer.progress.rounds
    sequencer.run()  # stopped is stopped
    assert sequencer.progress.rounds == rounds


def _stop_at_each_line(shed: Shed) -> None:
    for line in range(1, 80):
        _stop_at(line, shed.sequencer(Pace(tick_s=0.0001)))
    os._exit(0)


def _stop_at(line: int, sequencer: Sequencer) -> None:
    """Call `stop` before a line of `run` or of what it waits with, in its own thread."""
    seen, rounds = itertools.count(1), itertools.count(1)

    def trace(frame: Any, event: str, arg: Any) -> Any:
        is_ours = Path(frame.f_code.co_filename).name in WHERE
        if is_ours and event == "line" and next(seen) == line:
            sequencer.stop()
        return trace

    def round_() -> None:
        if next(rounds) == 5:
            sequencer.stop()

    sequencer.round = round_  # type: ignore[method-assign]
    sys.settrace(trace)
    sequencer.run()
    sys.settrace(None)


WHERE = ("sequencer.py", "threading.py", "queue.py", "contextlib.py")


def test_a_signal_handler_may_stop_it_wherever_it_is(shed: Shed) -> None:
    """As SIGTERM does, whose handler runs in the thread that it interrupts."""
    process = multiprocessing.get_context("fork").Process(target=_stop_at_each_line, args=(shed,))
    process.start()
    process.join(30)
    is_stuck = process.is_alive()
    process.kill()
    process.join()
    assert not is_stuck
    assert process.exitcode == 0


class Flaky:
    """A store that goes away and comes back."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.is_away = False
        self.calls: list[float] = []

    def __getattr__(self, name: str) -> Any:
        if name == "get":
            self.calls.append(time.monotonic())  # every round asks for the genesis entry first
        if self.is_away:
            raise LedgerUnavailableError("The store is on holiday.")
        return getattr(self._store, name)


def test_a_store_that_is_away_is_waited_for_and_spoken_of_once(shed: Shed) -> None:
    flaky = Flaky(shed.store)
    sequencer = shed.sequencer(store=flaky)
    thread = threading.Thread(target=sequencer.run)
    flaky.is_away = True
    thread.start()
    wait_until(lambda: sequencer.progress.failures >= 2)
    away_since = sequencer.progress.away_since
    wait_until(lambda: sequencer.progress.failures >= 5)
    away = sequencer.progress
    assert away.away_since == away_since  # since it went, not since the last try
    assert (away.rounds, away.last_round_at) == (0, None)
    assert away.away_since is not None
    assert shed.said == ["The store is away, and is waited for. The store is on holiday."]
    flaky.is_away = False
    wait_until(lambda: sequencer.progress.rounds >= 1)
    assert sequencer.progress.away_since is None
    wait_until(lambda: len(shed.said) == 2)
    assert shed.said[1].startswith("The store is back after")
    flaky.is_away = True
    wait_until(lambda: len(shed.said) == 3)  # another absence is said again
    sequencer.stop()
    thread.join(20)
    # Each pause may be up to twice as long as the one before, less at most half for jitter.
    pauses = [b - a for a, b in zip(flaky.calls, flaky.calls[1:], strict=False)][:4]
    assert [pause >= 0.01 * 2**n for n, pause in enumerate(pauses)] == [True] * 4


@pytest.mark.parametrize("tick_s", [0.01, 1.0, 60.0])
def test_pauses_grow_up_to_half_a_minute_and_differ(shed: Shed, tick_s: float) -> None:
    sequencer = shed.sequencer(Pace(tick_s, 0))
    error = LedgerUnavailableError("away")
    pauses = [sequencer._wait_for_store(error) for _ in range(200)]
    assert pauses[0] <= min(30, tick_s * 2)
    assert all(15 <= pause <= 30 for pause in pauses[30:])
    assert len(set(pauses)) > 150
    assert sequencer.progress.failures == 200
    assert len(shed.said) == 1


def test_after_an_absence_patience_begins_anew(shed: Shed) -> None:
    sequencer = shed.sequencer(Pace(1.0, 0))
    error = LedgerUnavailableError("away")
    assert [sequencer._wait_for_store(error) for _ in range(9)][-1] >= 15
    assert sequencer._try_round() == 1.0
    assert sequencer._wait_for_store(error) <= 2


def test_a_ledger_that_does_not_verify_stops_it(shed: Shed) -> None:
    sequencer = shed.sequencer()
    sequencer.round()
    shed.writer().append(draft("a"))
    with closing(sqlite3.connect(shed.folder / "ledger.db")) as connection:
        connection.execute("UPDATE checkpoints SET peaks = zeroblob(32)")
        connection.commit()
    before = shed.store.head()
    with pytest.raises(LedgerIntegrityError):
        sequencer.run()
    assert (shed.store.head(), shed.store.waiting()) == (before, 1)
    assert sequencer.progress.rounds == 1


def test_a_heartbeat_an_interval(shed: Shed) -> None:
    sequencer = shed.sequencer(HOUR)
    for minutes in (0, 1, 59, 60, 61, 119, 300):
        shed.clock.moment = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC) + timedelta(minutes=minutes)
        sequencer.round()
    beats = shed.beats()
    assert [beat.at.hour for beat in beats] == [12, 13, 17]
    assert {beat.signed_by for beat in beats} == {KeyRole.LOG}
    assert beats[0].body == {"interval_s": 3600}
    report = shed.reader().verify()
    assert report.is_fine
    (remark,) = report.remarks
    assert "1 time(s); the longest silence was 4:00:00" in remark


def test_without_heartbeats_there_are_none(shed: Shed) -> None:
    sequencer = shed.sequencer(NONE)
    sequencer.round()
    shed.clock.moment += timedelta(days=2)
    sequencer.round()
    assert shed.beats() == []


def test_a_process_that_sequences_for_itself_writes_none(shed: Shed) -> None:
    ledger = shed.reader()
    for number in range(3):
        ledger.seal(ledger.append(draft(str(number))))
        shed.clock.moment += timedelta(days=1)
    assert shed.beats() == []


def test_two_sequencers_and_one_started_anew_write_one_heartbeat(shed: Shed) -> None:
    for _ in range(3):
        shed.sequencer(HOUR).round()
        shed.clock.moment += timedelta(minutes=19)
    assert len(shed.beats()) == 1
    shed.sequencer(Pace(0.01, 60)).round()  # another interval is another promise
    assert [beat.body["interval_s"] for beat in shed.beats()] == [3600, 60]
    assert shed.reader().view().select("append.refused") == []


def test_a_heartbeat_whose_key_was_taken_by_a_writer_is_written_all_the_same(shed: Shed) -> None:
    shed.sequencer(NONE).round()
    origin = shed.reader().origin
    number = str(int(shed.clock.moment.timestamp()) // 3600)
    key = entry_key(origin, "heartbeat", "3600", number)
    writer = shed.signers[KeyRole.WRITER]
    entry = Entry(origin, "heartbeat", key, shed.clock.now(), "", None, {"interval_s": 3600})
    leaf = encode_leaf(entry, writer.public_key, writer.sign)
    assert shed.store.insert(InboxItem(key, leaf), {}, shed.clock.now()) is None
    sequencer = shed.sequencer(HOUR)
    sequencer.round()
    sequencer.round()
    (beat,) = shed.beats()
    assert beat.signed_by is KeyRole.LOG
    assert len(shed.reader().view().violations) == 1


def test_the_newest_heartbeat_is_found_among_the_newest_entries(shed: Shed) -> None:
    assert newest_heartbeat(shed.store) is None
    shed.sequencer(HOUR).round()
    shed.clock.moment += timedelta(hours=1)
    shed.sequencer(HOUR).round()
    ledger = shed.reader()
    for number in range(1_050):
        ledger.append(draft(str(number)))
    shed.store.insert(InboxItem("junk", b"junk"), {}, shed.clock.now())
    ledger.drain()
    newest = newest_heartbeat(shed.store)
    assert newest is not None
    assert newest.at == shed.clock.moment
    assert LOOKED_AT == 10_000
