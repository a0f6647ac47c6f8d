"""Heartbeats: entries of the log key by which silence shows.

A log that stands still looks like one whose newest entries were held back. So whoever sequences
says "I am here" at stated intervals, and a reader sees where that failed. A sequencer that was off
has altered nothing: what is found here is a remark, never a problem.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_mlgov.records.kinds import KeyRole

if TYPE_CHECKING:
    from airflow_mlgov.ledger.view import SealedEntry

KIND = "heartbeat"
GRACE = 0.1
"""How much later than stated the next heartbeat may come, as a part of the interval."""


class Pulse:
    """What the entries of the log key tell about silence; fed in the ledger's order.

    Attributes:
        newest_at: When the newest entry of the log key was written, by its clock; None without one.
        interval_s: What the newest heartbeat stated, in seconds; None without one.
    """

    def __init__(self) -> None:
        self.newest_at: datetime | None = None
        self.interval_s: int | None = None
        self._silences = 0
        self._longest: tuple[timedelta, datetime, datetime, int] | None = None

    def add(self, entry: SealedEntry) -> None:
        """Take the next sound entry into account."""
        if entry.signed_by is not KeyRole.LOG:
            return
        if is_silent(self.newest_at, self.interval_s, entry.at):
            self._add_silence(entry.at)
        self.newest_at = entry.at
        if entry.kind == KIND:
            self.interval_s = int(entry.body["interval_s"])

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
        if now is not None and is_silent(self.newest_at, self.interval_s, now):
            found.append(overdue(self.newest_at, self.interval_s, now))
        return tuple(found)

    def _add_silence(self, until: datetime) -> None:
        if self.newest_at is None or self.interval_s is None:
            return
        self._silences += 1
        length = until - self.newest_at
        if self._longest is None or length > self._longest[0]:
            self._longest = (length, self.newest_at, until, self.interval_s)


def is_silent(since: datetime | None, interval_s: int | None, until: datetime) -> bool:
    """Return whether more time passed than a heartbeat stated, and a tenth of it.

    Args:
        since: When the newest entry of the log key was written; None if there is none.
        interval_s: What the newest heartbeat stated, in seconds; None if there is none.
        until: The moment that is asked about.
    """
    if since is None or interval_s is None:
        return False
    return until - since > timedelta(seconds=interval_s * (1 + GRACE))


def overdue(since: datetime | None, interval_s: int | None, now: datetime) -> str:
    """Return the sentence that says since when heartbeats fail to come."""
    if since is None or interval_s is None:
        return "There is no heartbeat."
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
