"""The trigger of jobs in an event loop, on a platform in memory."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from airflow.sdk.module_loading import import_string
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_mlgov.errors import PlatformError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobHandle, JobState
from airflow_mlgov.triggers import job
from airflow_mlgov.triggers.job import JobTrigger
from tests.unit.service.conftest import load_fake

memory = load_fake("memory_jobs")
HANDLE = JobHandle(
    "frankfurt", "mlgov-0123456789abcdef0123", "native/1", "https://console/1", Digest.of(b"")
)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch) -> memory.MemoryJobs:
    made = memory.MemoryJobs(tmp_path)
    made.jobs[HANDLE.key] = memory.Job({}, [JobState.RUNNING], ran=True)
    monkeypatch.setattr(job, "_opened", lambda platform, purpose: {"frankfurt": made}[platform])
    return made


def trigger(**changes) -> JobTrigger:
    return JobTrigger(**{"handle": HANDLE.as_json(), "poll_s": 0.01, "outage_s": 60.0, **changes})


def event_of(made: JobTrigger) -> dict:
    async def first() -> dict:
        return (await anext(aiter(made.run()))).payload

    return asyncio.run(asyncio.wait_for(first(), 20))


def test_it_can_be_made_again_in_another_triggerer() -> None:
    made = trigger()
    path, kwargs = BaseSerialization.deserialize(BaseSerialization.serialize(made.serialize()))
    again = import_string(path)(**kwargs)
    assert JobHandle.from_json(again.handle) == HANDLE
    assert (again.poll_s, again.outage_s) == (0.01, 60.0)


@pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_it_wakes_the_task_when_the_job_has_ended(jobs, end) -> None:
    jobs.jobs[HANDLE.key].states = [JobState.QUEUED, JobState.RUNNING, JobState.RUNNING, end]
    assert event_of(trigger()) == {"problem": "", "retryable": False}
    assert jobs.cancelled == []


def test_a_platform_that_is_away_for_a_while_is_waited_for(jobs) -> None:
    jobs.failures, jobs.jobs[HANDLE.key].states = 3, [JobState.SUCCEEDED]
    assert event_of(trigger())["problem"] == ""


def test_a_long_outage_is_told_and_cancels_nothing(jobs) -> None:
    jobs.failures = 10**6
    told = event_of(trigger(outage_s=0.05))
    assert told["retryable"] is True
    assert "native/1" in told["problem"]
    assert jobs.cancelled == []


def test_what_no_retry_helps_is_told_so(jobs, monkeypatch) -> None:
    def refuse(handle):
        raise PlatformError("The connection aws_training was refused.")

    monkeypatch.setattr(jobs, "poll", refuse)
    told = event_of(trigger())
    assert told["retryable"] is False
    assert "aws_training was refused" in told["problem"]


def test_failing_or_clearing_the_task_cancels_the_job(jobs) -> None:
    asyncio.run(trigger().on_kill())
    assert jobs.cancelled == [HANDLE.key]


def test_a_cancel_that_fails_is_said_and_raises_nothing(jobs, capsys) -> None:
    jobs.failures = 1
    asyncio.run(trigger().on_kill())
    assert "was not cancelled, and goes on" in capsys.readouterr().out


def test_a_triggerer_that_stops_leaves_the_job_running(jobs) -> None:
    async def stopped() -> None:
        task = asyncio.create_task(anext(aiter(trigger().run())))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stopped())
    assert jobs.cancelled == []


def test_many_triggers_share_one_client_and_a_few_threads(jobs, monkeypatch) -> None:
    seen = set()
    poll = jobs.poll

    def counted(handle):
        seen.add(threading.current_thread().name)
        return poll(handle)

    monkeypatch.setattr(jobs, "poll", counted)
    jobs.jobs[HANDLE.key].states = [JobState.SUCCEEDED]

    async def many() -> None:
        await asyncio.gather(*(anext(aiter(trigger().run())) for _ in range(300)))

    asyncio.run(many())
    assert len(seen) <= 16
    assert all(name.startswith("mlgov-jobs") for name in seen)
