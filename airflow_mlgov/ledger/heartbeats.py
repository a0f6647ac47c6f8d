"""Heartbeats: entries of the log key by which silence shows.

A log that stands still looks like one whose newest entries were held back. So whoever sequences
says "I am here" at stated intervals, and a reader sees where that failed. A sequencer that was off
has altered nothing: what is found here is a remark, never a problem.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from airflow_mlgov.records.kinds import KeyRole

if TYPE_CHECKING:
    from airflow_mlgov.ledger.view import SealedEntry

KIND = "heartbeat"
GRACE = 0.1
"""How much later than stated the next heartbeat may come, as a part of the interval."""


_Silence: TypeAlias = tuple[timedelta, datetime, datetime, int]
"""How long, from when, to when, and what was stated, in seconds."""


class Pulse:
    """What the entries of the log key tell about silence; fed in the ledger's order.

    Attributes:
        newest_at: When the newest entry of the log key was written, by its clock; None without one.
    """

    def __init__(self) -> None:
        self.newest_at: datetime | None = None
        self._stated: tuple[datetime, int] | None = None  # newest_at, and within how many seconds
        self._silences = 0
        self._longest: _Silence | None = None

    def add(self, entry: SealedEntry) -> None:
        """Take the next sound entry into account."""
        if entry.signed_by is not KeyRole.LOG:
            return
        silence = self._silence_until(entry.at)
        if silence is not None:
            self._silences += 1
            self._longest = max(silence, self._longest or silence)
        self.newest_at = entry.at
        if entry.kind == KIND:
            self._stated = entry.at, int(entry.body["interval_s"])
        elif self._stated is not None:
            self._stated = entry.at, self._stated[1]

    def remarks(self, now: datetime | None = None) -> tuple[str, ...]:
        """Return what there is to say about silences, in sentences.

        Args:
            now: The reader's present moment in UTC; without it, the end of the log is not judged.
        """
        found = []
        if self._longest is not None:
            length, since, until, interval_s = self._longest
            found.append(
                f"Heartbeats came later than stated {self._silences} time(s); the longest silence "
                f"was {in_words(length)}, from {_at(since)} to {_at(until)}, where "
                f"{_interval(interval_s)} was stated."
            )
        last = None if now is None else self._silence_until(now)
        if last is not None:
            _, since, until, interval_s = last
            found.append(overdue(since, interval_s, until))
        return tuple(found)

    def _silence_until(self, until: datetime) -> _Silence | None:
        if self._stated is None:
            return None
        since, interval_s = self._stated
        silence = until - since, since, until, interval_s
        return silence if is_silent(since, interval_s, until) else None


def is_silent(since: datetime, interval_s: int, until: datetime) -> bool:
    """Return whether more time passed than a heartbeat stated, and a tenth of it.

    Args:
        since: When the newest entry of the log key was written.
        interval_s: What the newest heartbeat stated, in seconds.
        until: The moment that is asked about.
    """
    return until - since > timedelta(seconds=interval_s * (1 + GRACE))


def overdue(since: datetime, interval_s: int, now: datetime) -> str:
    """Return the sentence that says since when heartbeats fail to come."""
    return (
        f"No heartbeat for {in_words(now - since)}, where {_interval(interval_s)} was stated: "
        "either no sequencer runs, or its heartbeats were turned off, or the newest entries do "
        "not reach this reader."
    )


def in_words(length: timedelta) -> str:
    """Return a length of time as days, hours, minutes and seconds (``1 day, 2:03:04``)."""
    return str(timedelta(seconds=int(length.total_seconds())))


def _interval(interval_s: int) -> str:
    return in_words(timedelta(seconds=interval_s))


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
