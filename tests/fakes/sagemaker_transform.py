"""Models and batch transform jobs of the fake SageMaker; their containers are real processes.

A job that succeeds has its package unpacked, the image's own `serve` started on it, its health
asked for, and each file of its manifest sent, as SageMaker's documentation says it does.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_jobs import ENDED, Account, Job, RefusedError, arn_of, changed, split

SERVE = Path(__file__).parents[2] / "deploy/training/serve"

_STATES = {
    "queued": "InProgress",
    "running": "InProgress",
    "succeeded": "Completed",
    "failed": "Failed",
    "paused": "Dreaming",
    "unknown": "Dreaming",
    "cancelled": "Stopped",
}
_SAME = (
    "TransformJobName", "ModelName", "MaxConcurrentTransforms", "ModelClientConfig",
    "MaxPayloadInMB", "BatchStrategy", "Environment", "TransformInput", "TransformOutput",
    "TransformResources",
)  # fmt: skip
_NO_PING = "AlgorithmError: Model container failed to respond to ping"
_REFUSED = "ClientError: See job logs for more information"
_START_S = 30
_MB = 1024 * 1024


class TransformJobs(Account):
    jobs: dict[str, Job]
    models: dict[str, dict[str, Any]]
    _drop: bool
    _created: Callable[[str, dict[str, Any]], None]
    _described: Callable[[str, dict[str, Any]], Job]
    _stopped: Callable[[str, dict[str, Any]], dict[str, Any]]
    _last: Callable[[], Job]

    def corrupt_package(self) -> None:
        """Change the model in the package of the last job."""
        model = self.models[self._last().request["ModelName"]]
        uri = model["PrimaryContainer"]["ModelDataUrl"]
        self.store(uri, changed(self.stored(uri)))

    def drop_scores(self) -> None:
        """Lose the scores of one file of the last job, now or once they are stored."""
        self._drop = True
        if self._last().ran:
            self._drop_scores(self._last())

    def _CreateModel(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = body["ModelName"]
        if name in self.models:
            said = f'Cannot create already existing model "{arn_of(name, "model")}".'
            raise RefusedError(400, "ValidationException", said)
        self.models[name] = {**body, "CreationTime": datetime.now(UTC)}
        return {"ModelArn": arn_of(name, "model")}

    def _DescribeModel(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = body["ModelName"]
        if name not in self.models:
            said = f'Could not find model "{arn_of(name, "model")}".'
            raise RefusedError(400, "ValidationException", said)
        model = {key: value for key, value in self.models[name].items() if key != "Tags"}
        container = {**model["PrimaryContainer"], "Mode": "SingleModel"}
        return {**model, "PrimaryContainer": container, "ModelArn": arn_of(name, "model")}

    def _CreateTransformJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if body["ModelName"] not in self.models:
            said = f'Could not find model "{arn_of(body["ModelName"], "model")}".'
            raise RefusedError(400, "ValidationException", said)
        self._created("Transform", body)
        return {"TransformJobArn": arn_of(body["TransformJobName"], "transform-job")}

    def _DescribeTransformJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        job = self._described("Transform", body)
        said = {
            **{name: job.request[name] for name in _SAME if name in job.request},
            "TransformJobArn": arn_of(job.name, "transform-job"),
            "TransformJobStatus": _STATES[job.state],
            "CreationTime": job.made_at,
        }
        if job.state == "failed":
            said["FailureReason"] = job.reason
        if job.state in ENDED:
            said |= {"TransformStartTime": job.made_at, "TransformEndTime": job.end_reached()}
        return said

    def _StopTransformJob(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._stopped("Transform", body)

    def _transform(self, job: Job) -> None:
        """Play the machine: start the container, and send it each file."""
        model = self.models[job.request["ModelName"]]["PrimaryContainer"]
        variables = {**model["Environment"], **job.request["Environment"]}
        with tempfile.TemporaryDirectory() as folder:
            package, output = Path(folder, "model"), Path(folder, "output")
            with tarfile.open(fileobj=io.BytesIO(self.stored(model["ModelDataUrl"]))) as tar:
                tar.extractall(package, filter="data")
            with _container(package, variables, output) as (process, port):
                if not _answers_ping(process, port):
                    job.states, job.reason = ["failed"], _NO_PING
                else:
                    self._send_all(job, port)
            job.lines += output.read_text().splitlines()
        if self._drop:
            self._drop_scores(job)

    def _send_all(self, job: Job, port: int) -> None:
        source = job.request["TransformInput"]["DataSource"]["S3DataSource"]
        assert source["S3DataType"] == "ManifestFile"
        prefix, *names = json.loads(self.stored(source["S3Uri"]))
        for name in names:
            status, answer = self._send(job, port, self.stored(prefix["prefix"] + name))
            if status == 200:
                self.store(f"{job.request['TransformOutput']['S3OutputPath']}/{name}.out", answer)
                continue
            job.states, job.reason = ["failed"], _REFUSED
            job.said += [f"{name}: ClientError: {status}", f"{name}: Message: {answer.decode()}"]

    def _send(self, job: Job, port: int, data: bytes) -> tuple[int, bytes]:
        most_mb, config = job.request["MaxPayloadInMB"], job.request["ModelClientConfig"]
        if most_mb and len(data) > most_mb * _MB:
            return 413, b"the payload is larger than MaxPayloadInMB"
        headers = {"Content-Type": job.request["TransformInput"]["ContentType"]}
        body: Any = data
        if not most_mb:
            headers["Transfer-Encoding"] = "chunked"
            body = (data[at : at + 1000] for at in range(0, len(data), 1000))
        server = http.client.HTTPConnection(
            "127.0.0.1", port, timeout=config["InvocationsTimeoutInSeconds"]
        )
        try:
            server.request("POST", "/invocations", body, headers, encode_chunked=not most_mb)
            said = server.getresponse()
            return said.status, said.read()
        finally:
            server.close()

    def _drop_scores(self, job: Job) -> None:
        self._drop = False
        for uri in self.listed(job.request["TransformOutput"]["S3OutputPath"])[:1]:
            bucket, _, key = split(uri)
            self.client("s3").delete_object(Bucket=bucket, Key=key)


@contextmanager
def _container(
    package: Path, variables: dict[str, str], output: Path
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start what the image has on its PATH as `serve`, with the folder of this machine."""
    script = package.parent / "serve"
    script.write_text(SERVE.read_text().replace("/opt/ml/model", str(package)))
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (
        output.open("wb") as lines,
        subprocess.Popen(
            ["sh", str(script), "--port", str(port)],
            env={"PATH": path, "SAGEMAKER_BATCH": "true", **variables},
            stdout=lines,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield process, port
        finally:
            process.terminate()


def _answers_ping(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            server.request("GET", "/ping")
            return server.getresponse().status == 200
        except OSError:
            time.sleep(0.05)
        finally:
            server.close()
    return False
