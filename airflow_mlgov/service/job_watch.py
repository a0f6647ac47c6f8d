"""Watching a job to its end: when to look, when to worry, when to give up; it cancels nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_mlgov.errors import PlatformError, PlatformUnavailableError
from airflow_mlgov.service.job_platform import JobHandle, Jobs, JobStatus

DOUBT_S = 180.0
"""How long a job may be paused, not shown, or in a state that nobody knows."""

_LONGEST_WAIT_S = 300.0
_SPREAD = random.Random()  # noqa: S311 - spreads calls, keeps no secret


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a job came to.

    Attributes:
        status: How it stands; None if the platform could not be asked.
        wait_s: Seconds until the next look; 0 once it has ended.
        note: What is worth a line of the log; empty for nothing new.
    """

    status: JobStatus | None
    wait_s: float
    note: str


@dataclass
class JobWatch:
    """Looks at one job.

    Args:
        jobs: The platform.
        handle: The job.
        poll_s: Seconds between two looks.
        outage_s: How long the platform may not be asked before the watch ends.
        now: A clock that only runs forward, in seconds.
    """

    jobs: Jobs
    handle: JobHandle
    poll_s: float
    outage_s: float
    now: Callable[[], float] = time.monotonic
    _failures: int = field(default=0, init=False)
    _away_since: float | None = field(default=None, init=False)
    _doubt_since: float | None = field(default=None, init=False)
    _said: str = field(default="", init=False)

    def look(self) -> Look:
        """Ask the platform once.

        Waits grow, and are spread, while the platform cannot be asked.

        Raises:
            PlatformUnavailableError: It could not be asked for `outage_s`; a retry finds the job.
            PlatformError: The job is paused, not shown or in an unknown state for `DOUBT_S`, or the
                platform refuses; a retry does not help.
        """
        try:
            status = self.jobs.poll(self.handle)
        except PlatformUnavailableError as error:
            return self._away(error)
        self._failures, self._away_since = 0, None
        if status.state.doubtful:
            self._doubt(status)
        else:
            self._doubt_since = None
        wait_s = 0.0 if status.state.ended else self.poll_s * _SPREAD.uniform(0.9, 1.1)
        return Look(status, wait_s, self._news(f"is {status.state} ({status.native_state})"))

    def _away(self, error: PlatformUnavailableError) -> Look:
        now = self.now()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since >= self.outage_s:
            raise PlatformUnavailableError(
                f"{_first_upper(str(self.handle))} could not be asked about for "
                f"{self.outage_s / 60:g} minutes: {error.problem}",
                remedy="It was not cancelled. Look at it there; clear this task, or let it be "
                "retried, to go on with the same job.",
            ) from error
        self._failures += 1
        longest = min(self.poll_s * 2.0 ** min(self._failures, 10), _LONGEST_WAIT_S)
        note = self._news(f"cannot be asked about: {error.problem}")
        return Look(None, max(self.poll_s, _SPREAD.uniform(0.5, 1.0) * longest), note)

    def _doubt(self, status: JobStatus) -> None:
        now = self.now()
        self._doubt_since = now if self._doubt_since is None else self._doubt_since
        if now - self._doubt_since >= DOUBT_S:
            raise PlatformError(
                f"{_first_upper(str(self.handle))} is {status.state} ({status.native_state}) for "
                f"{DOUBT_S / 60:g} minutes{f': {status.reason}' if status.reason else ''}.",
                remedy="It was not cancelled. Look at it there; once it runs or has ended, clear "
                "this task to go on with the same job.",
            )

    def _news(self, said: str) -> str:
        if said == self._said:
            return ""
        self._said = said
        return f"{_first_upper(str(self.handle))} {said}."


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
