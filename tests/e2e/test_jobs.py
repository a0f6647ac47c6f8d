"""Training elsewhere, on a live Airflow: whoever dies or clears, there is one job or none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

pytestmark = pytest.mark.e2e

DAG = "elsewhere"
RUNNING = ("running",)
CANCELLED = {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}


@pytest.fixture
def train(live, cloud) -> Iterator[Train]:
    made = Train(live, cloud)
    yield made
    live.client("admin").set_run_state(DAG, made.run, "failed")


class Train:
    """A run of the DAG, and the jobs that were started since."""

    def __init__(self, live, cloud) -> None:
        self.live, self.cloud = live, cloud
        self.client = live.client("admin")
        self.client.wait_for_dags([DAG])
        self.before = cloud.started
        cloud.script(*RUNNING)
        self.run = self.client.trigger(DAG, {"model": "elsewhere"})

    @property
    def started(self) -> int:
        return self.cloud.started - self.before

    def wait(self, task: str, *states: str) -> str:
        return self.client.wait_for_task(DAG, self.run, task, states)

    def jobs_of(self, task: str):
        """The jobs of a task, oldest first, by what they were asked for."""
        jobs = self.cloud.jobs.all[self.before :]
        return [each for each in jobs if f'"task": "{task}"' in self._spec(each)]

    def _spec(self, job) -> str:
        inside = job.job.job_spec.worker_pool_specs[0].container_spec
        command = [*inside.command, *inside.args]
        place = command[command.index("--spec") + 1].removeprefix("/gcs/").partition("/")[2]
        return self.cloud.bucket().blob(place).download_as_text()

    def watched(self):
        """Wait until the triggerer looks at the deferred task's job; the job.

        Before that a triggerer knows nothing, and nothing that a person does reaches the job.
        """
        self.wait("deferred", "deferred")
        (job,) = self.jobs_of("deferred")
        until(lambda: job.state == "JOB_STATE_RUNNING", "nobody looks at the job")
        return job

    def end(self, task: str) -> None:
        """Let a task's newest job end well at its next look."""
        self.jobs_of(task)[-1].script[:] = ["JOB_STATE_SUCCEEDED"]

    def log(self, task: str, try_number: int = 1) -> str:
        return self.client.log(DAG, self.run, task, try_number)

    def versions(self) -> set[str]:
        view = self.live.governance().ledger.view()
        entries = view.select("model.trained", model="elsewhere")
        return {e.source.task_id for e in entries if e.source.run_id == self.run}


def until(holds: Callable[[], bool], otherwise: str, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.2)


def test_a_job_is_waited_for_in_the_triggerer_and_its_model_taken(train) -> None:
    train.wait("deferred", "deferred")
    links = train.client.call("GET", f"{train.client._task_path(DAG, train.run, 'deferred')}/links")
    address = links["extra_links"]["Job"]
    assert address.startswith("https://console.cloud.google.com/")
    train.end("deferred")
    train.wait("deferred", "success")
    assert "said in the container" in train.log("deferred")
    assert "deferred" in train.versions()
    assert len(train.jobs_of("deferred")) == 1


def test_a_triggerer_that_is_killed_loses_nothing_and_cancels_nothing(train) -> None:
    job = train.watched()
    train.live.deployment.restart("triggerer", grace_s=0)
    assert job.state == "JOB_STATE_RUNNING"
    train.end("deferred")
    train.wait("deferred", "success")
    assert len(train.jobs_of("deferred")) == 1


def test_a_task_that_is_killed_goes_on_with_its_job(train) -> None:
    until(lambda: bool(train.jobs_of("held")), "the job is not submitted")
    until(lambda: "is running" in train.log("held"), "the task does not wait yet")
    os.kill(train.client.task(DAG, train.run, "held")["pid"], signal.SIGKILL)
    until(lambda: "Going on with" in train.log("held", 2), "the retry does not find the job")
    train.end("held")
    train.wait("held", "success")
    assert len(train.jobs_of("held")) == 1


def test_clearing_a_deferred_task_cancels_its_job_and_starts_another(train) -> None:
    first = train.watched()
    train.client.clear(DAG, train.run, "deferred")
    until(lambda: len(train.jobs_of("deferred")) == 2, "no second job")
    _, second = train.jobs_of("deferred")
    assert first.state in CANCELLED
    second.script[:] = ["JOB_STATE_SUCCEEDED"]
    train.wait("deferred", "success")


def test_marking_a_deferred_task_failed_cancels_its_job(train) -> None:
    job = train.watched()
    train.client.mark(DAG, train.run, "deferred", "failed")
    until(lambda: job.state in CANCELLED, "the job goes on")
    assert "deferred" not in train.versions()
