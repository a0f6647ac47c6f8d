"""Hands over one thing after the other, and finds out what a target fails at again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_mlgov.errors import LineageRefusedError, LineageUnavailableError

TRIES = 7
"""So often a target may fail at an event before it is asked whether it takes others; with the
shipper's growing pauses that is more than the half minute that a Marquez needs after its database
came back."""

MAX_ASIDE = 10
"""More that cannot be handed over is no coincidence: the target is down."""


class Fate(StrEnum):
    """What became of something that was handed over."""

    TAKEN = "taken"
    REFUSED = "refused"
    ASIDE = "aside"
    """It may be what the target fails at; that shows when other things are handed over."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What became of an event.

    Attributes:
        seq: Which event.
        fate: What became of it.
        reason: Why it was refused, with the remedy; else empty.
    """

    seq: int
    fate: Fate
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Aside:
    work: Callable[[], None]
    error: LineageUnavailableError


@dataclass(slots=True)
class Courier:
    """Remembers how often a target failed at each event.

    An event is refused for the target's failures only if they stand between two things that it
    took: what it was down for is never refused.
    """

    _failures: Counter[int] = field(default_factory=Counter)
    _aside: dict[int, _Aside] = field(default_factory=dict)
    _suspects: set[int] = field(default_factory=set)

    def hand(self, seq: int, work: Callable[[], None]) -> list[Handed]:
        """Do the work of an event; return what became of it, and of those put aside before.

        Args:
            seq: Number of the event.
            work: Hands it over; it may be done twice.

        Raises:
            LineageUnavailableError: The target fails, and not at this event alone as far as one can
                know; a retry may help.
        """
        try:
            work()
        except LineageRefusedError as error:
            return [self._settled(seq, Fate.REFUSED, str(error)), *self._judged()]
        except LineageUnavailableError as error:
            self._failures[seq] += 1
            if self._failures[seq] < TRIES or len(self._aside) >= MAX_ASIDE:
                self._aside.clear()
                raise
            self._aside[seq] = _Aside(work, error)
            return [Handed(seq, Fate.ASIDE)]
        return [self._settled(seq, Fate.TAKEN), *self._judged()]

    def finish(self) -> None:
        """Say that nothing else is there to be handed over.

        Raises:
            LineageUnavailableError: Something was put aside, and nothing showed whether the target
                fails at it alone; a retry may help.
        """
        aside = list(self._aside.values())
        self._aside.clear()
        if aside:
            raise aside[0].error

    def _judged(self) -> list[Handed]:
        """Try again what was put aside, since the target has just answered to something else."""
        return [handed for seq in list(self._aside) for handed in self._tried_again(seq)]

    def _tried_again(self, seq: int) -> list[Handed]:
        aside = self._aside[seq]
        if seq in self._suspects:
            said = f"The target fails at this event and takes others. {aside.error}"
            return [self._settled(seq, Fate.REFUSED, said)]
        try:
            aside.work()
        except LineageRefusedError as error:
            return [self._settled(seq, Fate.REFUSED, str(error))]
        except LineageUnavailableError:
            self._suspects.add(seq)
            return []
        return [self._settled(seq, Fate.TAKEN)]

    def _settled(self, seq: int, fate: Fate, reason: str = "") -> Handed:
        del self._failures[seq]
        self._aside.pop(seq, None)
        self._suspects.discard(seq)
        return Handed(seq, fate, reason)
