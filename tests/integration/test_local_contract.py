"""The contract of platforms where the script ends with its task: one at a time, or none.

What can befall a job of a cloud (late, paused, vanished, throttled ...) cannot befall a process of
the worker; `test_platforms_contract` is about those.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest

from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.service.score_batch import LocalBatch
from airflow_mlgov.service.train import train
from tests.integration.platform_tasks import TASKS, Task

SLOW = """\
import os, pathlib, time
pathlib.Path({0!r}).write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture(params=sorted(TASKS))
def task(request, tmp_path) -> Task:
    return TASKS[request.param](
        SimpleNamespace(terms=lambda: PlatformTerms("local", "local")), tmp_path
    )


def run(task: Task, platform: LocalPlatform | None = None):
    """Do all of it, as one try."""
    platform = platform or LocalPlatform()
    world, order = task.world, task.order
    if task.done == "model.trained":
        return train(order, world.gov, platform, world.registry, task.log.append)
    return LocalBatch(order, world.gov, platform, None, task.log.append).score(world.registry)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def slow(task, tmp_path):
    """Let the script wait for ever; return a function that says its process."""
    told = tmp_path / "pid"
    (task.code / "script.py").write_text(SLOW.format(str(told)))

    def pid() -> int:
        until(lambda: told.exists() and told.read_text())
        return int(told.read_text())

    return pid


def mend(task: Task) -> None:
    (task.code / "script.py").write_text(task.script)


def test_it_is_done_once_and_again_on_a_retry(task) -> None:
    first = run(task)
    assert len(task.kinds(task.done)) == 1
    again = run(task)
    assert first.as_json() == again.as_json()


def test_a_failure_is_told_with_its_reason_and_leaves_nothing(task) -> None:
    (task.code / "script.py").write_text('raise SystemExit("no convergence")\n')
    with pytest.raises(task.failure, match="no convergence") as caught:
        run(task)
    assert not caught.value.retryable
    assert task.kinds(task.done) == []
    mend(task)
    run(task)
    assert len(task.kinds(task.done)) == 1


def test_a_script_that_is_stopped_is_gone_and_leaves_nothing(task, slow) -> None:
    platform, failed = LocalPlatform(), []

    def work() -> None:
        try:
            run(task, platform)
        except task.failure as error:
            failed.append(str(error))

    worker = threading.Thread(target=work)
    worker.start()
    pid = slow()
    platform.cancel()
    worker.join(30)
    assert "was cancelled" in failed[0]
    assert not is_alive(pid)
    assert task.kinds(task.done) == []


def test_a_worker_killed_in_between_takes_its_script_along_and_a_retry_does_it(task, slow) -> None:
    worker = os.fork()
    if worker == 0:
        try:
            run(task)
        finally:
            os._exit(1)
    pid = slow()
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    until(lambda: not is_alive(pid))
    assert task.kinds(task.done) == []
    mend(task)
    run(task)
    assert len(task.kinds(task.done)) == 1
