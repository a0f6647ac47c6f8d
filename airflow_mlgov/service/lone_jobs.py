"""Jobs of clouds that still run, and that no task of Airflow waits for any more.

Failing a waiting task cancels its job, unless the triggerer was away, the platform refused, or the
run was deleted: then the job goes on, is paid for, and nobody will take what it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import AirflowRecords, DagRun
from airflow_mlgov.service.discrepancies import JOB, Discrepancy, Judged, Unchecked
from airflow_mlgov.service.job_platform import SCORING, TRAINING, JobHandle, Jobs, JobState
from airflow_mlgov.service.ledger import LedgerView

OpenJobs: TypeAlias = Callable[[str, str], Jobs]
"""Opens the jobs of a platform, by its name, for a purpose."""

SETTLED = timedelta(minutes=10)
"""How long the end of a task may take to reach its job."""

_ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


@dataclass(frozen=True, slots=True)
class JobOnRecord:
    """A job that passed its controls, and of whose end the ledger has nothing.

    Attributes:
        key: Name that it was to be submitted under.
        platform: Entry of the platform file.
        model: Inventory id.
        task: Which task was to wait for it.
        at: When a try last was about to submit it.
    """

    key: str
    platform: str
    model: str
    task: Source
    at: datetime


def jobs_without_end(view: LedgerView, since: datetime) -> list[JobOnRecord]:
    """Return the jobs that may still run, in ledger order.

    Args:
        view: Verified ledger.
        since: Those that were examined before are left out.
    """
    ended = {entry.body["job"] for entry in view.select("job.ended")}
    taken_at = {e.source.task: e.at for e in view.select("model.trained", "batch.scored")}
    found: dict[str, JobOnRecord] = {}
    for entry in view.select("job.examined"):
        body, task = entry.body, entry.source
        is_taken = task.task in taken_at and taken_at[task.task] >= entry.at
        if body["passed"] and body["job"] not in ended and not is_taken and entry.at >= since:
            key, platform = body["job"], body["platform"]
            found[key] = JobOnRecord(key, platform, entry.model, task, entry.at)
    return list(found.values())


def judge_job(
    job: JobOnRecord, airflow: AirflowRecords, open_jobs: OpenJobs, now: datetime
) -> Iterator[Judged]:
    """Yield what is wrong with a job: that it goes on although its task does not wait.

    Raises:
        AirflowUnavailableError: Airflow cannot be reached; a retry may help.
        AirflowRefusedError: It does not let us read; a retry does not help.
    """
    left = _left(airflow.run(job.task.dag_id, job.task.run_id), job, now - SETTLED)
    if not left:
        return
    try:
        going_on = _going_on(job, open_jobs)
    except MlgovError as error:
        what = f"Job {job.key} on platform {job.platform}: {error.problem}"
        yield Unchecked(job.model, what)
        return
    if going_on is not None:
        handle, state = going_on
        yield Discrepancy(
            JOB,
            job.key,
            Severity.MEDIUM,
            job.model,
            None,
            f"The {handle} is {state}, and no task waits for it: task {job.task.task_id!r} of run "
            f"{job.task.run_id!r} of DAG {job.task.dag_id!r} {left}. Cancel the job there, or "
            "clear the task, which goes on with it.",
        )


def _left(run: DagRun | None, job: JobOnRecord, before: datetime) -> str:
    """Return how a task left its job alone, before a moment; empty if it may still wait for it."""
    ended_at, left = job.at, ""
    if run is None:
        left = "is gone with its run"
    else:
        (task,) = [each for each in run.tasks if each.task.task == job.task.task] or (None,)
        if task is not None:
            state, ended_at = task.present.state, task.present.ended_at or job.at
            left = f"is in state {state!r}" if state in _ENDED else ""
        elif run.state in _ENDED:  # before that, it may be a task whose operator is not known here
            left = f"is not among those of its run, which is in state {run.state!r}"
    return left if max(ended_at, job.at) <= before else ""


def _going_on(job: JobOnRecord, open_jobs: OpenJobs) -> tuple[JobHandle, JobState] | None:
    """Return a job that has not ended and is not about to; the key does not say its purpose."""
    for purpose in (TRAINING, SCORING):
        jobs = open_jobs(job.platform, purpose)
        handle = jobs.find(job.key)
        if handle is not None:
            state = jobs.poll(handle).state
            over = state.ended or state in {JobState.CANCELLING, JobState.MISSING}
            return None if over else (handle, state)
    return None
