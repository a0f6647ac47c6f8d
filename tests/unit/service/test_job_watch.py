"""When to look at a job, when to worry and when to give up."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import PlatformError, PlatformUnavailableError
from airflow_mlgov.service.job_platform import JobHandle, JobState
from airflow_mlgov.service.job_watch import DOUBT_S, JobWatch
from tests.unit.service.conftest import load_fake

MemoryJobs = load_fake("memory_jobs").MemoryJobs
KEY = "mlgov-0123456789abcdef0123"


class Ticks:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def jobs(tmp_path: Path) -> MemoryJobs:
    return MemoryJobs(tmp_path)


@pytest.fixture
def watch(jobs, ticks) -> JobWatch:
    handle = JobHandle("frankfurt", KEY, "native/1", "https://console/1", None)
    jobs.jobs[KEY] = load_fake("memory_jobs").Job({}, [JobState.RUNNING], ran=True)
    return JobWatch(jobs, handle, poll_s=10.0, outage_s=600.0, now=ticks)


def test_a_job_that_runs_is_looked_at_again_about_every_poll(watch) -> None:
    waits = [watch.look().wait_s for _ in range(50)]
    assert all(9.0 <= wait <= 11.0 for wait in waits)
    assert len(set(waits)) > 10  # spread, so that a thousand do not ask at once


def test_only_a_change_is_worth_a_line(watch, jobs) -> None:
    assert watch.look().note == (
        "Job native/1 on platform frankfurt (https://console/1) is running (NativeRunning)."
    )
    assert watch.look().note == ""
    jobs.jobs[KEY].states = [JobState.SUCCEEDED]
    assert "is succeeded" in watch.look().note


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_ended_is_not_waited_for(watch, jobs, state) -> None:
    jobs.jobs[KEY].states = [state]
    look = watch.look()
    assert (look.status.state, look.wait_s) == (state, 0.0)


def test_waits_grow_while_the_platform_is_away_and_shrink_again(watch, jobs) -> None:
    jobs.failures = 8
    waits = [watch.look().wait_s for _ in range(8)]
    assert all(10.0 <= wait <= 300.0 for wait in waits)
    assert max(waits[5:]) > 100.0
    assert watch.look().wait_s <= 11.0
    jobs.failures = 1
    assert watch.look().wait_s <= 20.0


def test_an_outage_ends_the_watch_and_not_the_job(watch, jobs, ticks) -> None:
    jobs.failures = 10**6
    watch.look()
    ticks.at = 599.0
    watch.look()
    ticks.at = 600.0
    with pytest.raises(PlatformUnavailableError) as caught:
        watch.look()
    assert "native/1" in str(caught.value)
    assert "https://console/1" in str(caught.value)
    assert "not cancelled" in str(caught.value)
    assert caught.value.retryable
    assert jobs.cancelled == []


def test_an_outage_counts_from_its_own_start(watch, jobs, ticks) -> None:
    jobs.failures = 1
    watch.look()
    ticks.at = 599.0
    watch.look()
    jobs.failures = 2
    watch.look()
    ticks.at = 1198.0
    assert watch.look().status is None


@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.MISSING, JobState.UNKNOWN])
def test_a_doubtful_job_is_given_time_and_then_up(watch, jobs, ticks, state) -> None:
    jobs.jobs[KEY].states = [state]
    if state is JobState.MISSING:
        jobs.jobs.clear()
    watch.look()
    ticks.at = DOUBT_S - 1
    watch.look()
    ticks.at = DOUBT_S
    with pytest.raises(PlatformError, match=f"is {state}") as caught:
        watch.look()
    assert not caught.value.retryable
    assert "https://console/1" in str(caught.value)
    assert jobs.cancelled == []


def test_doubt_that_passes_is_forgotten(watch, jobs, ticks) -> None:
    job = jobs.jobs[KEY]
    job.states = [JobState.PAUSED]
    watch.look()
    ticks.at = DOUBT_S - 1
    job.states = [JobState.RUNNING]
    watch.look()
    job.states = [JobState.PAUSED]
    ticks.at = DOUBT_S + 1
    assert watch.look().wait_s > 0
