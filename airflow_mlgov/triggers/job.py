"""The trigger that waits for a job of any platform; it decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.service.job_platform import JobHandle
from airflow_mlgov.service.job_watch import JobWatch

if TYPE_CHECKING:
    from airflow_mlgov.service.job_platform import Jobs

PROBLEM = "problem"
"""Key of the event: what is wrong, for people; empty if the job has ended."""
RETRYABLE = "retryable"
"""Key of the event: whether a retry of the task may help."""

_THREADS = 16

T = TypeVar("T")


class JobTrigger(BaseTrigger):
    """Wait until a job has ended, or nobody can say.

    All triggers of a process share one client for each platform, and a few threads. What a trigger
    knows is in its arguments and at the vendor, so one that moves to another triggerer goes on. A
    triggerer that stops leaves the job running; a person who fails or clears the task cancels it.

    Args:
        handle: The job, as `JobHandle.as_json` gives it.
        poll_s: Seconds between two looks.
        outage_s: How long the platform may be out of reach, in seconds.
    """

    def __init__(self, *, handle: dict[str, Any], poll_s: float, outage_s: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.handle = handle
        self.poll_s = poll_s
        self.outage_s = outage_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again elsewhere."""
        names = ("handle", "poll_s", "outage_s")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to be told."""
        handle = JobHandle.from_json(self.handle)
        try:
            jobs = await _in_thread(lambda: _opened(handle.platform, handle.purpose))
            watch = JobWatch(jobs, handle, self.poll_s, self.outage_s)
            while True:
                look = await _in_thread(watch.look)
                if look.note:
                    self.log.info("%s", look.note)
                if look.status is not None and look.status.state.ended:
                    yield _woken("", retryable=False)
                    return
                await asyncio.sleep(look.wait_s)
        except MlgovError as error:
            yield _woken(error.diagnostics(), retryable=error.retryable)

    async def on_kill(self) -> None:
        """Cancel the job: somebody failed or cleared the task, or said that it had succeeded."""
        handle = JobHandle.from_json(self.handle)
        try:
            await _in_thread(lambda: _opened(handle.platform, handle.purpose).cancel(handle))
        except MlgovError as error:
            self.log.error("%s was not cancelled, and goes on: %s", handle, error)  # noqa: TRY400
        else:
            self.log.info("%s is cancelled.", handle)


def _woken(problem: str, *, retryable: bool) -> TriggerEvent:
    return TriggerEvent({PROBLEM: problem, RETRYABLE: retryable})  # type: ignore[no-untyped-call]


async def _in_thread(call: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads(), call)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="mlgov-jobs")


@cache
def _opened(platform: str, purpose: str) -> Jobs:
    """Return the one client of a process for a platform and a purpose."""
    from airflow_mlgov.wiring import open_either

    return open_either(platform, purpose)
