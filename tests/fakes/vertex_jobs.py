"""The fake's jobs of both kinds: what they pass through, what they write, what their log says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import vertex_batch as batch
import vertex_protos as protos
from google.cloud import aiplatform_v1 as v1

if TYPE_CHECKING:
    from vertex_machines import Machines

CUSTOM, BATCH = "customJobs", "batchPredictionJobs"

_COMMON = {"queued": "JOB_STATE_PENDING", "unknown": 42}
_ENDED = {
    "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED",
    "JOB_STATE_PARTIALLY_SUCCEEDED",
}  # fmt: skip
_OVER = _ENDED | {"JOB_STATE_CANCELLING"}
_LOG_FILTER = re.compile(
    r'resource\.type="ml_job" AND resource\.labels\.job_id="(\d+)"(?: AND timestamp>="([^"]+)")?'
)


@dataclass
class Job:
    """A job, what is yet to come of it, and how many look-ups do not show it.

    A batch prediction job's container is kept apart: Vertex AI takes it, and does not tell it.
    """

    kind: str
    job: Any
    script: list[Any]
    reason: str
    hidden: int
    ours: bool = True
    played: bool = False
    log: list[dict[str, Any]] = field(default_factory=list)
    container: Any = None

    @property
    def state(self) -> str:
        return str(getattr(self.job.state, "name", self.job.state))


@dataclass
class Jobs:
    """All jobs of a location.

    Attributes:
        location: Its resource name.
        bucket: Returns the one bucket.
        machines: On which containers of batch prediction jobs run.
        container: Plays the container of a custom job when it is polled as succeeded for the first
            time; that of a batch prediction job is run then, as it was asked for.
        idle: Whether no container of a batch prediction job is run.
        script: What the next jobs pass through.
        reason: With which they fail.
        hide: How many look-ups do not show the next one.
        page_most: Jobs, or log entries, on a page.
        spoil: How the next model that is stored is changed.
    """

    location: str
    bucket: Callable[[], Any]
    machines: Machines | None = None
    idle: bool = False
    container: Callable[[list[str], Path], int] | None = None
    script: list[Any] = field(default_factory=lambda: ["running", "succeeded"])
    reason: str = "The replica workerpool0-0 exited with a non-zero status of 1."
    hide: int = 0
    page_most: int = 100
    spoil: str = ""
    all: list[Job] = field(default_factory=list)

    @property
    def running(self) -> int:
        return sum(each.ours and each.state not in _OVER for each in self.all)

    def create(self, kind: str, body: Any) -> dict[str, Any]:
        job = (protos.custom_job if kind == CUSTOM else protos.batch_prediction_job)(body)
        hidden, self.hide = self.hide, 0
        return protos.written(self.add(kind, job, self.script, hidden=hidden).job)

    def add(
        self, kind: str, job: Any, script: list[Any], *, hidden: int = 0, ours: bool = True
    ) -> Job:
        job.name = f"{self.location}/{kind}/{1000 + len(self.all)}"
        job.create_time = datetime.now(UTC)
        job.state = v1.JobState.JOB_STATE_PENDING
        made = Job(kind, job, list(script), self.reason, hidden, ours)
        if kind == BATCH:
            made.container = job.unmanaged_container_model.container_spec
            model = {"artifact_uri": job.unmanaged_container_model.artifact_uri}
            job.unmanaged_container_model = v1.UnmanagedContainerModel(model)
        self.all.append(made)
        return made

    def list(self, kind: str, query: dict[str, str]) -> dict[str, Any]:
        shown, wanted = [], query.get("filter", "")
        for each in self.all:
            is_ours = (
                each.kind == kind
                and each.job.name != "gone"
                and protos.matches(wanted, dict(each.job.labels))
            )
            if is_ours and each.hidden:
                each.hidden -= 1
            elif is_ours:
                shown.append(each.job)
        newest_first = sorted(shown, key=lambda job: job.create_time, reverse=True)
        jobs, token = protos.page(newest_first, query, self.page_most)
        if kind == CUSTOM:
            answer = v1.ListCustomJobsResponse(custom_jobs=jobs, next_page_token=token)
        else:
            answer = v1.ListBatchPredictionJobsResponse(
                batch_prediction_jobs=jobs, next_page_token=token
            )
        return protos.written(answer)

    def get(self, name: str) -> dict[str, Any]:
        found = self._found(name)
        self._become(found, found.script[0])
        if len(found.script) > 1:
            found.script.pop(0)
        return protos.written(found.job)

    def cancel(self, name: str) -> dict[str, Any]:
        found = self._found(name)
        if found.state in _ENDED:
            raise protos.RefusedError(400, "FAILED_PRECONDITION", "The job has ended.")
        found.job.state = v1.JobState.JOB_STATE_CANCELLING
        found.script = ["JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"]
        return {}

    def entries(self, project: str, body: Any) -> dict[str, Any]:
        match = _LOG_FILTER.fullmatch(body["filter"])
        if match is None or body["resourceNames"] != [f"projects/{project}"]:
            raise protos.invalid(f"Invalid filter: {body['filter']}")
        log = next(each.log for each in self.all if each.job.name.endswith(f"/{match[1]}"))
        since = [entry for entry in log if entry["timestamp"] >= (match[2] or "")]
        query = {key: str(body[key]) for key in ("pageToken", "pageSize") if key in body}
        entries, token = protos.page(since, query, self.page_most)
        return {"entries": entries, **({"nextPageToken": token} if token else {})}

    def say(self, *lines: str, job: Job | None = None) -> None:
        """Let a job, by default the last, write lines; two of them in each second."""
        kept = (job or self.all[-1]).log
        for line in lines:
            at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=len(kept) // 2)
            name = f"i{len(kept)}"
            kept.append({"timestamp": at.isoformat(), "insertId": name, "textPayload": line})

    def corrupt(self, how: str) -> None:
        """Change a file of the last job's model, or scores, now or once it is stored."""
        self.spoil = how
        for blob in self._written():
            _change(blob, how)
            self.spoil = ""
            return

    def corrupt_package(self) -> None:
        """Change a model file of the last job's package."""
        folder = f"{batch.package_of(self.all[-1].job, self.bucket())}model/"
        _change(next(iter(self.bucket().list_blobs(prefix=folder))), "change")

    def drop_scores(self) -> None:
        """Remove the scores of one of the last job's files."""
        folder = batch.scores_of(self.all[-1].job, self.bucket())
        next(iter(self.bucket().list_blobs(prefix=folder))).delete()

    def _found(self, name: str) -> Job:
        for each in self.all:
            if each.job.name == name:
                return each
        raise protos.missing(f"Job {name}")

    def _become(self, found: Job, said: Any) -> None:
        job, state = found.job, _COMMON.get(str(said), said)
        if isinstance(state, str):
            state = v1.JobState["JOB_STATE_" + state.removeprefix("JOB_STATE_").upper()]
        job.state = state
        if found.state == "JOB_STATE_SUCCEEDED" and not found.played:
            self._play(found)
        if found.state == "JOB_STATE_FAILED":
            job.error = {"code": 3, "message": found.reason}
        if found.state in _ENDED | {"JOB_STATE_RUNNING"} and not job.start_time:
            job.start_time = datetime.now(UTC)
        if found.state in _ENDED and not job.end_time:
            job.end_time = job.start_time + timedelta(seconds=90)
            if found.kind == BATCH:
                job.resources_consumed = v1.ResourcesConsumed(replica_hours=90 / 3600)

    def _play(self, found: Job) -> None:
        """Run the container, once; what it leaves behind is spoilt if it is to be."""
        found.played = True
        (self._play_custom if found.kind == CUSTOM else self._play_batch)(found)
        if found.state == "JOB_STATE_FAILED":
            found.script = ["JOB_STATE_FAILED"]
        elif self.spoil:
            self.corrupt(self.spoil)

    def _play_batch(self, found: Job) -> None:
        if self.idle:
            return
        played = batch.run(found.job, found.container, self.bucket(), self.machines)
        self.say(*played.log, job=found)
        found.reason = played.problem or "The predictions of all instances failed."

    def _play_custom(self, found: Job) -> None:
        """Run the container on a copy of the bucket, and copy back what it wrote to its output."""
        if self.container is None:
            return
        spec = found.job.job_spec
        inside = spec.worker_pool_specs[0].container_spec
        bucket = self.bucket()
        with TemporaryDirectory(prefix="vertex-fake-") as folder:
            mount = Path(folder, "gcs", bucket.name)
            for blob in bucket.list_blobs():
                (mount / blob.name).parent.mkdir(parents=True, exist_ok=True)
                (mount / blob.name).write_bytes(blob.download_as_bytes())
            command = [
                re.sub(r"(^|=)/gcs/", rf"\g<1>{folder}/gcs/", each)
                for each in [*inside.command, *inside.args]
            ]
            status = self.container(command, Path(folder))
            output = spec.base_output_directory.output_uri_prefix.removeprefix("gs://")
            failure = Path(folder, "gcs", f"{output}.failure")
            for file in [*sorted(Path(folder, "gcs", output).rglob("*")), failure]:
                if file.is_file():
                    bucket.blob(str(file.relative_to(mount))).upload_from_filename(str(file))
        if status != 0:
            found.job.state = v1.JobState.JOB_STATE_FAILED

    def _written(self) -> Any:
        if not self.all:
            return []
        bucket = self.bucket()
        if self.all[-1].kind == BATCH:
            return bucket.list_blobs(prefix=batch.scores_of(self.all[-1].job, bucket))
        output = self.all[-1].job.job_spec.base_output_directory.output_uri_prefix
        return bucket.list_blobs(prefix=f"{output.removeprefix(f'gs://{bucket.name}/')}/model/")


def _change(blob: Any, how: str) -> None:
    data = blob.download_as_bytes()
    blob.upload_from_string(data[:-1] if how == "truncate" else data[:-1] + b"\x00")
