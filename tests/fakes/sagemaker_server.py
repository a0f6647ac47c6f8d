"""SageMaker's training jobs and CloudWatch's logs on a local port, scripted, beside moto.

Requests and answers are held against botocore's own service models (`aws_models`). S3, STS, KMS,
IAM and the model registry are moto's. It cannot prove: that AWS checks no more than its models say;
IAM (moto lets everybody do everything); real latency, quotas and late visibility; VPCs, isolation,
encryption and spot machines at work; the unpacking and packing that SageMaker does around a
container (input channels are copied to a folder, its output is packed here). moto's own gaps: it
ignores ClientToken, so one is not proved; an update of a model package replaces its properties
where AWS adds to them; it shows neither life cycle nor encryption of a model package.
"""

from __future__ import annotations

import io
import json
import logging
import tarfile
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from aws_models import as_json, operation, problems
from moto.server import ThreadedMotoServer
from sagemaker_jobs import (
    ACCOUNT,
    BUCKET,
    CONNECTION,
    ENDED,
    IMAGE,
    REGION,
    ROLE,
    Job,
    arn_of,
    changed,
    split,
    theirs,
)  # fmt: skip

from airflow_mlgov.policy.platforms_file import Instance, Network, PlatformTerms, RegistryTerms

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
_FAILURES = {
    "throttle": (400, "ThrottlingException", "Rate exceeded"),
    "500": (500, "InternalFailure", ""),
    "expired": (400, "ExpiredTokenException", "The security token included is expired"),
    "skew": (400, "InvalidSignatureException", "Signature expired: 20261126T1 is now earlier"),
    "quota": (400, "ResourceLimitExceeded", "The account-level service limit is 0 Instances"),
    "denied": (400, "AccessDeniedException", "not authorized to perform this action"),
}


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = status, {"__type": code, "message": message}


_UNKNOWN = (400, "ValidationException", "Requested resource not found.")


@dataclass
class SageMakerFake:
    """See the module; `hang_s` is how long a call hangs before its connection is cut."""

    url: str
    moto: str
    jobs: dict[str, Job] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    container: Callable[[list[str], Path], int] | None = None
    reason: str = "AlgorithmError: it failed"
    hang_s: float = 1.0
    _states: list[str] = field(default_factory=lambda: ["succeeded"])
    _failures: list[str] = field(default_factory=list)
    _submit_failures: list[str] = field(default_factory=list)
    _hide: int = 0
    _corrupt: str = ""
    _lock: Any = field(default_factory=threading.RLock)

    def terms(self, **changes: Any) -> PlatformTerms:
        said: dict[str, Any] = {
            "name": "aws", "kind": "sagemaker", "connection": CONNECTION, "account": ACCOUNT,
            "region": REGION, "endpoint": self.url, "image": IMAGE, "identity": ROLE,
            "instance": Instance("ml.m5.xlarge"), "output": f"s3://{BUCKET}/mlgov",
            "keys": {"output": self.key, "volume": self.key}, "tags": {"cost-centre": "risk"},
            "network": Network(("subnet-1",), ("sg-1",), isolated=True, encrypted=True),
            "file": "platforms.yaml", "line": 1,
        }  # fmt: skip
        return PlatformTerms(**{**said, **changes})

    def registry_terms(self, **changes: Any) -> RegistryTerms:
        said: dict[str, Any] = {
            "name": "aws-models", "kind": "sagemaker", "connection": CONNECTION,
            "account": ACCOUNT, "region": REGION, "image": IMAGE,
            "store": f"s3://{BUCKET}/models", "keys": {"model": self.key},
            "tags": {"cost-centre": "risk"}, "file": "platforms.yaml", "line": 9,
        }  # fmt: skip
        return RegistryTerms(**{**said, **changes})

    def environment(self) -> dict[str, str]:
        extra = {
            "region_name": REGION,
            "endpoint_url": self.moto,
            "service_config": {"logs": {"endpoint_url": self.url}},
            "config_kwargs": {"read_timeout": 5},
        }
        connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
        return {f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(connection)}

    @property
    def started(self) -> int:
        return sum(job.ours for job in self.jobs.values())

    @property
    def running(self) -> int:
        jobs = self.jobs.values()
        return sum(job.ours and not job.gone and job.state not in ENDED for job in jobs)

    def script(self, *states: str) -> None:
        self._states = list(states)

    def fail(self, n: int, how: str) -> None:
        kept = self._submit_failures if how in {"quota", "denied"} else self._failures
        kept += [how] * n

    def hide(self, n: int) -> None:
        self._hide = n

    def vanish(self) -> None:
        self._last().gone = True

    def cancel_behind_our_back(self) -> None:
        self._last().states = ["cancelled"]

    def taken(self, key: str) -> None:
        request = {**next(iter(theirs())), "TrainingJobName": key}
        self.jobs[key] = Job(request, ["running"], "", ours=False)

    def corrupt(self, how: str) -> None:
        """Change what is stored of the last job's model, now or once it is stored."""
        self._corrupt = how
        if self._last().ran:
            self._store(self._last(), self._stored(self._last()))

    @property
    def key(self) -> str:
        return str(self._keys[0])

    def client(self, service: str, region: str = REGION) -> Any:
        return boto3.client(
            service, endpoint_url=self.moto, region_name=region,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def prepare(self) -> None:
        """Make a bank's bucket, and its key."""
        s3 = self.client("s3")
        made = self.client("kms").create_key()["KeyMetadata"]
        self._keys = [made["Arn"]]
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        by = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": made["Arn"]}
        s3.put_bucket_encryption(
            Bucket=BUCKET,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": by}]
            },
        )
        blocks = (
            "BlockPublicAcls",
            "IgnorePublicAcls",
            "BlockPublicPolicy",
            "BlockPublicAcls",
            "IgnorePublicAcls",
            "BlockPublicPolicy",
            "RestrictPublicBuckets",
        )
        s3.put_public_access_block(
            Bucket=BUCKET, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True)
        )

    def answer(self, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Return status and body; None for a connection that is cut."""
        service = "logs" if target.startswith("Logs") else "sagemaker"
        name = target.rpartition(".")[2]
        with self._lock:
            self.requests.append((name, body))
            how = self._failures.pop(0) if self._failures else ""
            if name == "CreateTrainingJob" and self._submit_failures:
                how = self._submit_failures.pop(0)
            if how and how != "hang":
                return _RefusedError(*_FAILURES[how]).answer
            try:
                said = self._answered(service, name, body)
            except _RefusedError as error:
                said = error.answer
        if how == "hang":
            time.sleep(self.hang_s)
            return None
        return said

    def _answered(self, service: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        model = operation(service, name)
        if wrong := problems(model.input_shape, body):
            raise _RefusedError(400, "ValidationException", f"botocore's model: {wrong}")
        said = getattr(self, f"_{name}")(body)
        if model.output_shape and said.get("TrainingJobStatus") != "Dreaming":
            wrong = problems(model.output_shape, said)
            assert not wrong, f"this fake answers what AWS cannot: {wrong}"
        return 200, as_json(said)

    def _CreateTrainingJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        key = body["TrainingJobName"]
        if key in self.jobs:
            raise _RefusedError(400, "ResourceInUse", "Training job names must be unique")
        self.jobs[key] = Job(body, list(self._states), self.reason, hidden=self._hide)
        self._hide = 0
        return {"TrainingJobArn": arn_of(key)}

    def _DescribeTrainingJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self._shown(body["TrainingJobName"])
        if len(job.states) > 1:
            job.states.pop(0)
        if job.state == "succeeded" and not job.ran:
            job.ran = True
            self._run(job)
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
            job.ended_at = job.ended_at or datetime.now(UTC)
            billed = max(1, round((job.ended_at - job.made_at).total_seconds()))
            said |= {"TrainingStartTime": job.made_at, "TrainingEndTime": job.ended_at}
            said["BillableTimeInSeconds"] = billed
        return said

    def _StopTrainingJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self.jobs.get(body["TrainingJobName"])
        if job is None or job.gone:
            raise _RefusedError(*_UNKNOWN)
        if job.state in ENDED:
            raise _RefusedError(400, "ValidationException", "The job is in status Completed")
        job.states = ["cancelled"]
        return {}

    def _DescribeLogStreams(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        written = [job for job in self.jobs.values() if job.lines]
        if not written:
            message = "The specified log group does not exist."
            raise _RefusedError(400, "ResourceNotFoundException", message)
        names = [f"{job.request['TrainingJobName']}/algo-1-17" for job in written]
        prefix = body["logStreamNamePrefix"]
        return {"logStreams": [{"logStreamName": n} for n in names if n.startswith(prefix)]}

    def _GetLogEvents(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self.jobs[body["logStreamName"].partition("/")[0]]
        # Two lines in each millisecond.
        events = [{"timestamp": 1000 + n // 2, "message": line} for n, line in enumerate(job.lines)]
        later = [event for event in events if event["timestamp"] >= body["startTime"]]
        return {"events": later[: body["limit"]]}

    def _shown(self, key: str) -> Job:
        job = self.jobs.get(key)
        if job is not None and job.hidden:
            job.hidden -= 1
            job = None
        if job is None or job.gone:
            raise _RefusedError(*_UNKNOWN)
        return job

    def _last(self) -> Job:
        return list(self.jobs.values())[-1]

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
        bucket, _, prefix = split(channel["DataSource"]["S3DataSource"]["S3Uri"])
        s3, start = self.client("s3"), prefix.rpartition("/")[0]
        for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
            path = target / each["Key"].removeprefix(start).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, each["Key"], str(path))

    def _stored(self, job: Job) -> bytes:
        bucket, _, key = split(self._artefact(job))
        return bytes(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def _store(self, job: Job, data: bytes) -> None:
        how, self._corrupt = self._corrupt, ""
        if how == "truncate":
            data = data[:-20]
        elif how == "change":
            data = changed(data)
        bucket, _, key = split(self._artefact(job))
        self.client("s3").put_object(Bucket=bucket, Key=key, Body=data)


def _handler(fake: SageMakerFake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            target = self.headers["X-Amz-Target"]
            data = self.rfile.read(int(self.headers["Content-Length"]))
            said = fake.answer(target, json.loads(data))
            if said is None:
                self.close_connection = True
                return
            status, body = said
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: Any) -> None:
            return

    return Handler


@contextmanager
def start() -> Iterator[SageMakerFake]:
    """Run SageMaker and moto; yield the fake."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request otherwise
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    fake = SageMakerFake("", f"http://{host}:{port}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        # moto keeps one account for the whole process.
        reset = urllib.request.Request(f"{fake.moto}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=10).close()
        fake.prepare()
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        moto.stop()
