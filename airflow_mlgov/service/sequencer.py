"""Sequencing as a service: drains the inbox at a steady pace, and says that it is there."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from airflow_mlgov.errors import LedgerConflictError, LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.ledger.entry import Entry, decode_leaf
from airflow_mlgov.ledger.heartbeats import KIND
from airflow_mlgov.records.clock import Clock
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.drafts import EntryDraft
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.ports import LedgerStore

LOOKED_AT = 10_000
"""Entries among which the newest heartbeat is looked for."""

MAX_WAIT_S = 30.0
"""Seconds between two tries at most while the store is away, before jitter."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a sequencer does what.

    Attributes:
        tick_s: Seconds from the end of one round to the start of the next, more than 0.
        heartbeat_s: Seconds between heartbeats, from 1 to a year; 0 for none.
    """

    tick_s: float = 0.1
    heartbeat_s: int = 3600


@dataclass(frozen=True, slots=True)
class Progress:
    """What a sequencer has done since it started, and saw last.

    Attributes:
        rounds: Rounds that went well.
        failures: Rounds in which the store was away.
        last_round_at: When the last good round ended, by `time.monotonic`; None before the first.
        away_since: Since when the store is away, by `time.monotonic`; None if it is not.
        entries: Entries under the newest signed checkpoint.
        waiting: Acknowledged entries that waited after the last good round.
    """

    rounds: int = 0
    failures: int = 0
    last_round_at: float | None = None
    away_since: float | None = None
    entries: int = 0
    waiting: int = 0


class Sequencer:
    """Turns the inbox into the log, round by round, and beats.

    Several may work on one ledger: the store's lock lets one round in at a time.

    Args:
        ledger: Holds the log key.
        store: Where the ledger is kept.
        clock: Where the times of heartbeats come from.
        pace: How often it does what.
        say: Told what people should know, a sentence at a time.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: LedgerStore,
        clock: Clock,
        pace: Pace,
        say: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._pace = pace
        self._say = say
        self._is_stopping = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._beaten: int | None = None
        self._misses = 0
        self.progress = Progress()

    def stop(self) -> None:
        """Let `run` return after the round in hand; may be called from a signal handler."""
        # A handler interrupts `run` anywhere, also where an Event would hold the lock that it takes
        # here, and wait for itself for ever; putting into this queue takes none.
        self._is_stopping = True
        self._wake.put(None)

    def run(self) -> None:
        """Work until `stop` is called; wait for a store that is away.

        Raises:
            LedgerIntegrityError: The ledger does not verify: nothing more is signed. A retry does
                not help.
        """
        while not self._is_stopping:
            wait_s = self._try_round()
            with suppress(Empty):
                self._wake.get(timeout=wait_s)

    def round(self) -> None:
        """Write a heartbeat if one is due, and bring what is acknowledged under a checkpoint.

        Raises:
            LedgerIntegrityError: The ledger does not verify: nothing was signed. A retry does not
                help.
            LedgerUnavailableError: The store cannot be reached; a retry may help.
        """
        _ = self._ledger.origin  # a ledger that nobody has begun is begun here
        self._beat()
        self._ledger.drain()
        waiting, entries = self._store.waiting(), self._store.head().size
        self.progress = replace(
            self.progress,
            rounds=self.progress.rounds + 1,
            last_round_at=time.monotonic(),
            away_since=None,
            entries=entries,
            waiting=waiting,
        )

    def _try_round(self) -> float:
        """Try a round; return how many seconds to wait before the next."""
        away_since = self.progress.away_since
        try:
            self.round()
        except LedgerUnavailableError as error:
            return self._wait_for_store(error)
        self._misses = 0
        if away_since is not None:
            self._say(f"The store is back after {time.monotonic() - away_since:.1f} seconds.")
        return self._pace.tick_s

    def _wait_for_store(self, error: LedgerUnavailableError) -> float:
        before = self.progress
        if before.away_since is None:
            self._say(f"The store is away, and is waited for. {error.problem}")
        self.progress = replace(
            before,
            failures=before.failures + 1,
            away_since=time.monotonic() if before.away_since is None else before.away_since,
        )
        self._misses = min(self._misses + 1, 20)
        longest = min(MAX_WAIT_S, self._pace.tick_s * 2.0**self._misses)
        # Several sequencers do not come back all in the same moment.
        return longest * random.uniform(0.5, 1.0)  # noqa: S311

    def _beat(self) -> None:
        every_s = self._pace.heartbeat_s
        if not every_s:
            return
        # Counted from the epoch, so that two sequencers write one heartbeat and not two.
        number = int(self._clock.now().timestamp()) // every_s
        if number == self._beaten:
            return
        try:
            self._write_heartbeat(str(every_s), str(number))
        except (LedgerConflictError, LedgerIntegrityError):
            # Anybody who may insert can put something under a key that they foresee: that must not
            # silence the log. A ledger that does not verify fails here as well.
            self._write_heartbeat(str(every_s), str(number), str(uuid.uuid4()))
        self._beaten = number

    def _write_heartbeat(self, *identity: str) -> None:
        body = {"interval_s": self._pace.heartbeat_s}
        self._ledger.append(EntryDraft(KIND, "", None, body, identity), role=KeyRole.LOG)


def newest_heartbeat(store: LedgerStore) -> Entry | None:
    """Return the newest heartbeat among the last 10,000 entries, unverified; None without one.

    Raises:
        LedgerUnavailableError: The store cannot be reached; a retry may help.
        LedgerIntegrityError: An entry is missing, or has other bytes than were kept.
    """
    size = store.head().size
    for end in range(size, max(0, size - LOOKED_AT), -1_000):
        for leaf in reversed(list(store.leaves(max(0, end - 1_000), end))):
            with suppress(LedgerIntegrityError):  # junk, which `verify` reports
                entry, _ = decode_leaf(leaf)
                if entry.kind == KIND:
                    return entry
    return None
