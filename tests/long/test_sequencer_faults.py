"""The sequencer's service killed at many calls, and its server crashed, while writers append.

Whatever happens, a sequencer that goes on makes one log of it: no gap, no duplicate, nothing lost
that was acknowledged; threats 16, 17 and 22.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import LedgerStore
from airflow_mlgov.service.sequencer import Pace, Sequencer
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresStore
from airflow_mlgov.stores.seen import SeenFolder
from airflow_mlgov.stores.sqlite import SqliteStore

CONTEXT = multiprocessing.get_context("fork")
WRITERS = 4
POINTS = {
    "sqlite": {
        "pread64": (1, 2, 4, 8, 16, 32),
        "pwrite64": (1, 2, 3, 4, 5, 6, 8, 11, 16, 22, 32),
        "fdatasync": (1, 2, 3, 5, 8),
        "fcntl": (1, 3, 9, 15, 22, 35, 56, 90),
        "flock": (1, 2, 4, 8, 16),
    },
    "postgresql": {"sendto": range(1, 160, 9), "recvfrom": range(3, 120, 9)},
}
"""At which calls, and at which of each."""
AT_ONCE = 8
"""Entries that each writer appends for each sequencer that is killed."""


class Site:
    """A ledger, writers that append to it all the while, and sequencers."""

    def __init__(self, open_store: Callable[[], LedgerStore], folder: Path) -> None:
        self.open_store, self.folder = open_store, folder
        self.signers = open_signers(folder / "keys")
        first = Ledger(open_store(), self.signers)
        self.trust = first.trust_root()
        first.drain()
        first._store.close()  # type: ignore[attr-defined]
        self._stop = folder / "stop"  # a file: an event could be left locked by who is killed
        self._limit = CONTEXT.RawValue("i", AT_ONCE)
        self._writers = [CONTEXT.Process(target=self._write, args=(n,)) for n in range(WRITERS)]

    def start_writers(self) -> None:
        for writer in self._writers:
            writer.start()

    def go_on(self) -> None:
        """Let the writers append some more: not without end, since every entry is verified."""
        self._limit.value += AT_ONCE

    def stop_writers(self) -> None:
        self._stop.touch()
        for writer in self._writers:
            writer.join(60)
        assert [writer.exitcode for writer in self._writers] == [0] * WRITERS

    def _write(self, writer: int) -> None:
        ledger = Ledger(
            self.open_store(), {KeyRole.WRITER: self.signers[KeyRole.WRITER]}, trust=self.trust
        )
        number = 0
        with (self.folder / f"acknowledged.{writer}").open("ab", buffering=0) as log:
            while not self._stop.exists():
                if number >= self._limit.value:
                    time.sleep(0.01)
                    continue
                name = f"{writer} {number}"
                body = {"task": "d/r/t", "state": "success"}
                who = {"by": Person(name, name)}
                draft = EntryDraft("state.changed_by_hand", "", None, body, (name,), who)
                try:
                    receipt = ledger.append(draft)
                except LedgerUnavailableError:
                    time.sleep(0.02)
                    continue  # the same again: it may have been kept, and only its receipt lost
                log.write(f"{receipt.key} {receipt.leaf_hash}\n".encode())
                number += 1
                time.sleep(0.01)
        os._exit(0)

    def sequencer(self, say: Callable[[str], None]) -> Sequencer:
        """A service as `airflow mlgov sequencer` runs it: the log key, and a memory of its own."""
        store, seen = self.open_store(), SeenFolder(self.folder / "seen")
        ledger = Ledger(store, {KeyRole.LOG: self.signers[KeyRole.LOG]}, seen=seen)
        return Sequencer(ledger, store, SystemClock(), Pace(0.005, heartbeat_s=1), say)

    def acknowledged(self) -> list[tuple[str, str]]:
        files = sorted(self.folder.glob("acknowledged.*"))
        lines = [line for file in files for line in file.read_text().split("\n")[:-1]]
        return [(line.split(" ")[0], line.split(" ")[1]) for line in lines]

    def size(self) -> int:
        store = self.open_store()
        size: int = store.head().size
        store.close()  # type: ignore[attr-defined]
        return size

    def problems(self) -> tuple[str, ...]:
        """What a verifier finds, who remembers what the sequencers saw, and holds no key."""
        store = self.open_store()
        seen = SeenFolder(self.folder / "seen")
        report = Ledger(store, {}, trust=self.trust, seen=seen).verify()
        store.close()  # type: ignore[attr-defined]
        return report.problems + report.unknown_keys

    def check(self) -> int:
        """What must hold once nobody writes any more; how many entries there are."""
        self.sequencer(print).round()
        assert self.problems() == ()
        ledger = Ledger(self.open_store(), {}, trust=self.trust)
        entries = ledger.view().select()
        assert [entry.index for entry in entries] == list(range(len(entries)))  # no gap
        written = [
            (entry.key, entry.leaf_hash)
            for entry in entries
            if entry.kind == "state.changed_by_hand"
        ]
        assert len(written) == len(set(written))  # no duplicate
        acknowledged = self.acknowledged()
        assert len(set(acknowledged)) == len(acknowledged)
        # Nothing lost. An entry may be there whose receipt was: one for each writer at most, which
        # would have got it by asking again.
        assert set(acknowledged) <= set(written)
        assert len(written) <= len(acknowledged) + WRITERS
        beats = [entry.at for entry in entries if entry.kind == "heartbeat"]
        # One a second, not more; the time in it is read a moment after the second is told.
        seconds = int(max(beats).timestamp()) - int(min(beats).timestamp()) + 1
        assert 1 < len(beats) <= seconds + 1
        return len(written)


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "sqlite":
        made = Site(lambda: SqliteStore(tmp_path / "ledger.db"), tmp_path)
    else:
        url = request.getfixturevalue("postgres_url")
        made = Site(lambda: PostgresStore(url, timeout_s=20), tmp_path)
    made.start_writers()
    yield made
    made._stop.touch()


@pytest.mark.attack(16, 17)
def test_threat_17_a_sequencer_killed_at_many_calls_is_followed_by_another(
    site: Site, traced: Any, request: pytest.FixtureRequest
) -> None:
    points = POINTS["postgresql" if "postgresql" in request.node.name else "sqlite"]
    killed = [(name, number) for name, numbers in points.items() for number in numbers]
    signed = []
    for name, number in killed:
        before = site.size()
        site.go_on()
        inject = f"inject={name}:signal=KILL:when={number}"
        trace = f"trace={name}"
        ended = traced(lambda say: site.sequencer(say).run(), "-e", trace, "-e", inject).wait()
        assert (ended.was_killed, ended.said) == (True, []), inject
        assert site.problems() == (), inject
        signed.append(site.size() - before)
        site.sequencer(print).round()
        assert site.problems() == (), inject
    site.stop_writers()
    written = site.check()
    print(len(killed), signed, written)
    assert written > len(killed)
    # Some were killed before they had signed anything, and some after.
    assert 5 < signed.count(0) < len(killed) - 5


def _serve(site: Site) -> None:
    service = site.sequencer(lambda _: None)
    signal.signal(signal.SIGTERM, lambda *_: service.stop())
    service.run()
    os._exit(0)


@pytest.mark.attack(16, 22)
def test_threat_22_a_server_that_crashes_in_the_rounds_of_two_sequencers(
    postgres: Any, postgres_url: str, tmp_path: Path
) -> None:
    site = Site(lambda: PostgresStore(postgres_url, timeout_s=20), tmp_path)
    sequencers = [CONTEXT.Process(target=_serve, args=(site,)) for _ in range(2)]
    for sequencer in sequencers:
        sequencer.start()
    site.start_writers()
    sizes = []
    for crash in range(8):
        time.sleep(0.7 + 0.037 * crash)
        postgres.stop("immediate")
        postgres.start()
        assert site.problems() == ()
        sizes.append(site.size())
        for _ in range(4):
            site.go_on()
    time.sleep(2)
    site.stop_writers()
    for sequencer in sequencers:
        sequencer.terminate()
        sequencer.join(60)
    assert [sequencer.exitcode for sequencer in sequencers] == [0, 0]
    written = site.check()
    print(sizes, written)
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0] > 1
