"""How a job stands, in words that hold for every vendor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlgov.service.job_platform import JobState, JobStatus

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import BatchPredictionJob, CustomJob

ENDED = {
    JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING, JobState.MISSING,
}  # fmt: skip
"""States in which there is nothing left to cancel."""

_STATES = {
    "JOB_STATE_QUEUED": JobState.QUEUED,
    "JOB_STATE_PENDING": JobState.QUEUED,
    "JOB_STATE_RUNNING": JobState.RUNNING,
    "JOB_STATE_UPDATING": JobState.RUNNING,
    "JOB_STATE_SUCCEEDED": JobState.SUCCEEDED,
    "JOB_STATE_FAILED": JobState.FAILED,
    "JOB_STATE_EXPIRED": JobState.FAILED,
    "JOB_STATE_PARTIALLY_SUCCEEDED": JobState.FAILED,
    "JOB_STATE_CANCELLING": JobState.CANCELLING,
    "JOB_STATE_CANCELLED": JobState.CANCELLED,
    "JOB_STATE_PAUSED": JobState.PAUSED,
}
_REASONS = {
    "JOB_STATE_EXPIRED": "its time ran out before it ended",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "it succeeded in part only, and so may its output be",
}


def training_status(job: CustomJob) -> JobStatus:
    """Return how a custom job stands.

    Google bills by pool and machine and does not tell it here: `JobStatus.billable_s` is the time
    from start to end, by the number of machines.
    """
    pools = job.job_spec.worker_pool_specs
    billable_s = None
    if job.start_time and job.end_time:
        machines = sum(int(pool.replica_count) for pool in pools)
        billable_s = round((job.end_time - job.start_time).total_seconds() * machines, 3)
    said = {
        "image": pools[0].container_spec.image_uri if pools else "",
        "identity": job.job_spec.service_account,
        "instance": pools[0].machine_spec.machine_type if pools else "",
        "billable_by": "start to end, by machines" if job.end_time else "",
    }
    return _status(job, billable_s, said)


def scoring_status(job: BatchPredictionJob) -> JobStatus:
    """Return how a batch prediction job stands.

    One that is called a success, and of whose files some were not scored, has failed. Which image
    ran is not told: it is asked for, and not answered.
    """
    hours = job.resources_consumed.replica_hours
    model = job.unmanaged_container_model
    said = {
        "image": model.container_spec.image_uri,
        "identity": job.service_account,
        "instance": job.dedicated_resources.machine_spec.machine_type,
        "billable_by": "replica hours" if hours else "",
    }
    status = _status(job, round(hours * 3600, 3) if hours else None, said)
    unscored = _unscored(job)
    if status.state not in {JobState.SUCCEEDED, JobState.FAILED} or not unscored:
        return status
    return replace(status, state=JobState.FAILED, reason=f"{status.reason} {unscored}".strip())


def _unscored(job: BatchPredictionJob) -> str:
    """Return what a job says about files that were not scored; nothing if it says nothing."""
    said = [each.message for each in job.partial_failures]
    done = job.completion_stats
    if done.failed_count > 0 or done.incomplete_count > 0:
        count = max(done.failed_count, 0) + max(done.incomplete_count, 0)
        said.append(f"{count} files were not scored")
    return "; ".join(said)


def _status(job: CustomJob | BatchPredictionJob, billable_s: float | None, said: Any) -> JobStatus:
    native = str(getattr(job.state, "name", job.state))
    reason = job.error.message if job.error else ""
    parts = job.name.split("/")
    facts = {
        **said,
        "region": parts[3] if len(parts) > 3 else "",
        "key": job.encryption_spec.kms_key_name if job.encryption_spec else "",
        "started_at": job.start_time.isoformat() if job.start_time else "",
        "ended_at": job.end_time.isoformat() if job.end_time else "",
    }
    return JobStatus(
        state=_STATES.get(native, JobState.UNKNOWN),
        native_state=native,
        reason=reason or _REASONS.get(native, ""),
        billable_s=billable_s,
        facts={name: value for name, value in facts.items() if value},
    )
