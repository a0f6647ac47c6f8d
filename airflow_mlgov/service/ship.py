"""Ships lineage events from the outbox to a target, so that none is lost and one stops no other."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from airflow_mlgov.errors import LineageUnavailableError, MlgovError
from airflow_mlgov.records.clock import Clock
from airflow_mlgov.service.outbox import (
    TERMINAL,
    Backlog,
    Delivery,
    DeliveryState,
    LineageTarget,
    Outbox,
    OutboxEvent,
)
from airflow_mlgov.service.ship_causal import CausalShipping
from airflow_mlgov.service.ship_courier import Courier, Fate

LOOK_S = 1.0
"""Seconds between two looks whether something waits."""

MAX_PAUSE_S = 30.0
"""The longest pause after failures, in seconds."""

_WINDOW = 2_000


@dataclass(frozen=True, slots=True)
class Progress:
    """What was seen of a target.

    Attributes:
        target: What the settings call it.
        backlog: How it stands; None before the first look.
        at: When that was.
        failures: Rounds that failed since the start.
        problem: Why the last round stopped; empty if it did not.
        retry_at: When it is tried again; None if nothing failed.
        is_elsewhere: Whether another process ships to it.
    """

    target: str
    backlog: Backlog | None = None
    at: datetime | None = None
    failures: int = 0
    problem: str = ""
    retry_at: datetime | None = None
    is_elsewhere: bool = False

    @property
    def lag_s(self) -> float:
        """Age of the oldest event that waits, in seconds; 0 if none does."""
        if self.backlog is None or self.at is None or self.backlog.oldest_at is None:
            return 0.0
        return max(0.0, (self.at - self.backlog.oldest_at).total_seconds())


class Shipper:
    """Ships to one target, on one connection.

    Args:
        outbox: Where events stand.
        target: Where they go.
        clock: Where times come from.
        say: Told what people should know, a sentence at a time.
        settle_s: How long an event whose input nobody is known to write waits for the writer, from
            its arrival, in seconds; for targets that bind on arrival.
        chance: Draws from 0 to 1, so that shippers that failed together do not come back together.
    """

    def __init__(
        self,
        outbox: Outbox,
        target: LineageTarget,
        clock: Clock,
        say: Callable[[str], None],
        *,
        settle_s: float = 10.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._target = target
        self._clock = clock
        self._say = say
        self._chance = chance
        self._stopping = threading.Event()
        self._in_a_row = 0
        self._progress = Progress(target.name)
        self._ship: Callable[[Sequence[OutboxEvent], Callable[[], bool]], int]
        if target.binds_on_arrival:
            self._ship = CausalShipping(outbox, target, clock, say, settle_s).ship
        else:
            self._courier = Courier()
            self._ship = self._in_order_of_arrival

    @property
    def progress(self) -> Progress:
        """What was seen in the last round."""
        return self._progress

    def stop(self) -> None:
        """Let `run` and `round` return after the event in hand."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `stop` is called, whatever fails."""
        while not self._stopping.is_set():
            try:
                self.round()
            except MlgovError as error:
                self._failed(error)
            self._stopping.wait(LOOK_S)

    def round(self) -> Progress:
        """Ship all that can be shipped now; a target that fails is noted, and tried again later.

        Does nothing while another process ships to the target, or before the pause after a failure
        is over.

        Raises:
            LedgerUnavailableError: The outbox cannot be reached; a retry may help.
            LedgerIntegrityError: The outbox was altered; a retry does not help.
        """
        retry_at = self._progress.retry_at
        if retry_at is not None and self._clock.now() < retry_at:
            return self._progress
        with self._outbox.shipping(self._target.name) as is_mine:
            if is_mine:
                self._drain()
            else:
                self._seen(is_elsewhere=True)
        return self._progress

    def replay(self, run_ids: Iterable[str]) -> dict[str, int]:
        """Let runs be sent again, each from its beginning to its end; return how many events.

        A run that has not ended is left out (0): a START alone would open it again, and be its end.
        What was quarantined of a run is tried again, too. They go in the next round.

        Raises:
            LedgerUnavailableError: The outbox cannot be reached; a retry may help.
        """
        return {run_id: self._unsettled(run_id) for run_id in run_ids}

    def _unsettled(self, run_id: str) -> int:
        events = self._outbox.of_run(run_id)
        if not any(kept.decoded().get("eventType") in TERMINAL for kept in events):
            return 0
        return self._outbox.unsettle(self._target.name, [kept.seq for kept in events])

    def _drain(self) -> None:
        try:
            self._ship_all()
        except LineageUnavailableError as error:
            self._failed(error)
            return
        if self._in_a_row:
            self._say(f"Lineage to {self._target.name}: it takes events again.")
        self._in_a_row = 0
        self._seen()

    def _goes_on(self) -> bool:
        return not self._stopping.is_set()

    def _ship_all(self) -> None:
        size = _WINDOW
        while self._goes_on():
            self._outbox.take()
            window = self._outbox.undelivered(self._target.name, size)
            if self._ship(window, self._goes_on):
                continue
            if len(window) < size:
                return
            size *= 2  # all of them wait for something that may come behind them

    def _in_order_of_arrival(self, window: Sequence[OutboxEvent], go_on: Callable[[], bool]) -> int:
        steps = 0
        for kept in window:
            if not go_on():
                break
            problem = self._problem(kept)
            if problem:
                self._settled(kept.seq, DeliveryState.QUARANTINED, problem)
                steps += 1
                continue
            for handed in self._courier.hand(kept.seq, partial(self._target.send, kept.event)):
                if handed.fate is not Fate.ASIDE:
                    is_taken = handed.fate is Fate.TAKEN
                    state = DeliveryState.DELIVERED if is_taken else DeliveryState.QUARANTINED
                    self._settled(handed.seq, state, handed.reason)
                    steps += 1
        self._courier.finish()
        return steps

    def _problem(self, kept: OutboxEvent) -> str:
        try:
            event = kept.decoded()
        except (TypeError, ValueError, RecursionError) as error:
            return f"It is no JSON object ({error}). Whoever appended it has to make another."
        return self._target.problem(event)

    def _settled(self, seq: int, state: DeliveryState, reason: str) -> None:
        now = self._clock.now()
        self._outbox.settle([Delivery(self._target.name, seq, state, now, reason)])
        if state is DeliveryState.QUARANTINED:
            self._say(f"Lineage to {self._target.name}: event {seq} is quarantined. {reason}")

    def _failed(self, error: MlgovError) -> None:
        self._in_a_row += 1
        # Up to 2 ** 9 is enough for any pause; more would only grow.
        pause_s = min(MAX_PAUSE_S, 2.0 ** min(self._in_a_row - 1, 9))
        pause = timedelta(seconds=pause_s * (0.5 + self._chance() / 2))
        if self._in_a_row == 1:
            self._say(f"Lineage to {self._target.name} waits. {error}")
        self._seen(problem=str(error), retry_at=self._clock.now() + pause)

    def _seen(
        self,
        *,
        problem: str = "",
        retry_at: datetime | None = None,
        is_elsewhere: bool = False,
    ) -> None:
        self._progress = Progress(
            self._target.name,
            self._backlog(),
            self._clock.now(),
            self._progress.failures + bool(problem),
            problem,
            retry_at,
            is_elsewhere,
        )

    def _backlog(self) -> Backlog | None:
        try:
            return self._outbox.backlog(self._target.name)
        except MlgovError:  # it may be why this round failed
            return self._progress.backlog


def status(outbox: Outbox, targets: Iterable[str], clock: Clock) -> list[Progress]:
    """Return how targets stand, from the outbox alone.

    Args:
        outbox: Where events stand.
        targets: Their names.
        clock: Where times come from.

    Raises:
        LedgerUnavailableError: The outbox cannot be reached; a retry may help.
    """
    return [Progress(name, outbox.backlog(name), clock.now()) for name in targets]
