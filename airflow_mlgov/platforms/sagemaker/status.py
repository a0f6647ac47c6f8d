"""What SageMaker says of a job, in common words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlgov.service.job_platform import JobState, JobStatus

_STATES = {
    "Completed": JobState.SUCCEEDED,
    "Failed": JobState.FAILED,
    "Stopping": JobState.CANCELLING,
    "Stopped": JobState.CANCELLED,
}
_WAITING = frozenset({"Pending", "Starting", "LaunchingMLInstances", "PreparingTrainingStack"})
_WORKING = frozenset(
    {
        "Downloading", "DownloadingTrainingImage", "Restarting", "Stopping", "Training",
        "Updating", "Uploading", "Completed", "Failed",
    }
)  # fmt: skip
_TOO_LONG = {
    "MaxRuntimeExceeded": "It was stopped because it ran longer than it may.",
    "MaxWaitTimeExceeded": "It was stopped because it waited for machines longer than it may.",
}


def status_of(said: Mapping[str, Any], region: str) -> JobStatus:
    """Return how a job stands.

    Args:
        said: Answer to DescribeTrainingJob.
        region: Of the API that gave it.
    """
    status, secondary = said["TrainingJobStatus"], said["SecondaryStatus"]
    reason = said.get("FailureReason", "")
    if secondary in _TOO_LONG and status in {"Completed", "Stopped"}:
        state, reason = JobState.FAILED, reason or _TOO_LONG[secondary]
    elif status == "InProgress":
        state = _in_progress(secondary, is_spot=bool(said.get("EnableManagedSpotTraining")))
    else:
        state = _STATES.get(status, JobState.UNKNOWN)
    billable = said.get("BillableTimeInSeconds")
    return JobStatus(
        state,
        f"{status}/{secondary}",
        reason,
        None if billable is None else float(billable),
        _facts(said, region),
    )


def transform_status_of(
    said: Mapping[str, Any], region: str, model: Mapping[str, Any]
) -> JobStatus:
    """Return how a batch transform job stands.

    Args:
        said: Answer to DescribeTransformJob.
        region: Of the API that gave it.
        model: Answer to DescribeModel, where image and role stand; empty if it was not asked.
    """
    status = said["TransformJobStatus"]
    state = JobState.RUNNING if status == "InProgress" else _STATES.get(status, JobState.UNKNOWN)
    started, ended = said.get("TransformStartTime"), said.get("TransformEndTime")
    resources = said.get("TransformResources", {})
    found = {
        "image": model.get("PrimaryContainer", {}).get("Image"),
        "region": region,
        "key": said.get("TransformOutput", {}).get("KmsKeyId"),
        "volume_key": resources.get("VolumeKmsKeyId"),
        "identity": model.get("ExecutionRoleArn"),
        "instance": resources.get("InstanceType"),
        "instances": resources.get("InstanceCount"),
        "started_at": _time(started),
        "ended_at": _time(ended),
    }
    return JobStatus(
        state,
        status,
        said.get("FailureReason", ""),
        (ended - started).total_seconds() if started and ended else None,
        _known(found),
    )


def _in_progress(secondary: str, *, is_spot: bool) -> JobState:
    if secondary in _WAITING:
        return JobState.QUEUED
    if secondary in _WORKING:
        return JobState.RUNNING
    if secondary == "Interrupted":
        # A spot job waits for another machine then; any other has no reason to be interrupted.
        return JobState.QUEUED if is_spot else JobState.PAUSED
    return JobState.UNKNOWN


def _facts(said: Mapping[str, Any], region: str) -> dict[str, Any]:
    resources = said.get("ResourceConfig", {})
    found = {
        "image": said.get("AlgorithmSpecification", {}).get("TrainingImage"),
        "region": region,
        "key": said.get("OutputDataConfig", {}).get("KmsKeyId"),
        "volume_key": resources.get("VolumeKmsKeyId"),
        "identity": said.get("RoleArn"),
        "instance": resources.get("InstanceType"),
        "instances": resources.get("InstanceCount"),
        "started_at": _time(said.get("TrainingStartTime")),
        "ended_at": _time(said.get("TrainingEndTime")),
    }
    return _known(found)


def _known(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value not in {None, ""}}


def _time(value: Any) -> str | None:
    return value.isoformat() if value else None
