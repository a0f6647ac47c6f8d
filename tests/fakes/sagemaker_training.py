"""Training jobs of the fake SageMaker: scripted, their containers played here."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagemaker_jobs import ENDED, Account, Job, arn_of, changed

_STATES = {
    "queued": ("InProgress", "Pending"),
    "running": ("InProgress", "Training"),
    "succeeded": ("Completed", "Completed"),
    "failed": ("Failed", "Failed"),
    "paused": ("InProgress", "Interrupted"),
    "unknown": ("Dreaming", "Dreaming"),
    "cancelled": ("Stopped", "Stopped"),
    "too long": ("Stopped", "MaxRuntimeExceeded"),
}


class TrainingJobs(Account):
    container: Callable[[list[str], Path], int] | None
    _corrupt: str
    _created: Callable[[str, dict[str, Any]], None]
    _described: Callable[[str, dict[str, Any]], Job]
    _stopped: Callable[[str, dict[str, Any]], dict[str, Any]]

    def _CreateTrainingJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._created("Training", body)
        return {"TrainingJobArn": arn_of(body["TrainingJobName"])}

    def _DescribeTrainingJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self._described("Training", body)
        status, secondary = _STATES[job.state]
        asked, ended = job.request, job.state in ENDED
        same = (
            "TrainingJobName", "AlgorithmSpecification", "RoleArn", "InputDataConfig",
            "OutputDataConfig", "ResourceConfig", "VpcConfig", "StoppingCondition", "Environment",
            "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption",
            "EnableManagedSpotTraining",
        )  # fmt: skip
        said = {
            **{name: asked[name] for name in same if name in asked},
            "TrainingJobArn": arn_of(asked["TrainingJobName"]),
            "TrainingJobStatus": status,
            "SecondaryStatus": secondary,
            "ModelArtifacts": {"S3ModelArtifacts": self._artefact(job)},
            "CreationTime": job.made_at,
        }
        if job.state == "failed":
            said["FailureReason"] = job.reason
        if ended:
            billed = max(1, round((job.end_reached() - job.made_at).total_seconds()))
            said |= {"TrainingStartTime": job.made_at, "TrainingEndTime": job.ended_at}
            said["BillableTimeInSeconds"] = billed
        return said

    def _StopTrainingJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._stopped("Training", body)

    def _artefact(self, job: Job) -> str:
        folder = job.request["OutputDataConfig"]["S3OutputPath"]
        return f"{folder}/{job.request['TrainingJobName']}/output/model.tar.gz"

    def _run(self, job: Job) -> None:
        """Play the container, with the folders that SageMaker gives it."""
        if self.container is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for each in ("input/data", "model", "output"):
                (root / "opt/ml" / each).mkdir(parents=True)
            for channel in job.request["InputDataConfig"]:
                self._mount(channel, root / "opt/ml/input/data" / channel["ChannelName"])
            does = job.request["AlgorithmSpecification"]
            words = [*does["ContainerEntrypoint"], *does["ContainerArguments"]]
            status = self.container([w.replace("/opt/ml", f"{root}/opt/ml") for w in words], root)
            job.lines.append(f"exit status {status}")
            if status:
                failure = root / "opt/ml/output/failure"
                told = failure.read_text()[:1000] if failure.exists() else f"exit code {status}"
                job.states, job.reason = ["failed"], f"AlgorithmError: {told}"
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as tar:
                for path in sorted((root / "opt/ml/model").iterdir()):
                    tar.add(path, path.name)
            self._store(job, packed.getvalue())

    def _mount(self, channel: dict[str, Any], target: Path) -> None:
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        start = uri.rpartition("/")[0]
        for each in self.listed(uri):
            path = target / each.removeprefix(start).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.stored(each))

    def _store(self, job: Job, data: bytes) -> None:
        how, self._corrupt = self._corrupt, ""
        if how == "truncate":
            data = data[:-20]
        elif how == "change":
            data = changed(data)
        self.store(self._artefact(job), data)
