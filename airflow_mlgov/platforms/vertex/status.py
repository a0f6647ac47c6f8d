"""How a custom job stands, in words that hold for every vendor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlgov.service.job_platform import JobState, JobStatus

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import CustomJob

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


def status_of(job: CustomJob) -> JobStatus:
    """Return how a job stands.

    Google bills by pool and machine and does not tell it here: `JobStatus.billable_s` is the time
    from start to end, by the number of machines.
    """
    native = str(getattr(job.state, "name", job.state))
    reason = job.error.message if job.error else ""
    return JobStatus(
        state=_STATES.get(native, JobState.UNKNOWN),
        native_state=native,
        reason=reason or _REASONS.get(native, ""),
        billable_s=_billable_s(job),
        facts=_facts(job),
    )


def _billable_s(job: CustomJob) -> float | None:
    if not job.start_time or not job.end_time:
        return None
    machines = sum(int(pool.replica_count) for pool in job.job_spec.worker_pool_specs)
    seconds: float = (job.end_time - job.start_time).total_seconds()
    return round(seconds * machines, 3)


def _facts(job: CustomJob) -> dict[str, Any]:
    parts = job.name.split("/")
    pools = job.job_spec.worker_pool_specs
    facts = {
        "image": pools[0].container_spec.image_uri if pools else "",
        "region": parts[3] if len(parts) > 3 else "",
        "key": job.encryption_spec.kms_key_name if job.encryption_spec else "",
        "identity": job.job_spec.service_account,
        "instance": pools[0].machine_spec.machine_type if pools else "",
        "started_at": job.start_time.isoformat() if job.start_time else "",
        "ended_at": job.end_time.isoformat() if job.end_time else "",
        "billable_by": "start to end, by machines" if job.end_time else "",
    }
    return {name: value for name, value in facts.items() if value}
