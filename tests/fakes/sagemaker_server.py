"""SageMaker's jobs and CloudWatch's logs on a local port, scripted, beside moto.

Requests and answers are held against botocore's own service models (`aws_models`). S3, STS, KMS,
IAM and the model registry are moto's. It cannot prove: that AWS checks no more than its models say;
IAM (moto lets everybody do everything); real latency, quotas and late visibility; VPCs, isolation,
encryption and spot machines at work; the unpacking and packing that SageMaker does around a
container (input channels are copied to a folder, its output is packed here); how SageMaker sends
files to a container that scores, and under which names it stores the answers (they are sent and
stored here, to a real process that is started as the image starts it). moto's own gaps: it
ignores ClientToken, so one is not proved; an update of a model package replaces its properties
where AWS adds to them; it shows neither life cycle nor encryption of a model package.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aws_models import as_json, operation, problems
from moto.server import ThreadedMotoServer
from sagemaker_jobs import (
    ACCOUNT,
    BUCKET,
    ENDED,
    IMAGE,
    ROLE,
    THEIR_TRAINING,
    THEIR_TRANSFORM,
    UNKNOWN,
    Job,
    RefusedError,
    place,
)  # fmt: skip
from sagemaker_training import TrainingJobs
from sagemaker_transform import TransformJobs

__all__ = ["ACCOUNT", "BUCKET", "IMAGE", "ROLE", "SageMakerFake", "start"]

_CREATE = {"CreateTrainingJob", "CreateTransformJob"}
_FAILURES = {
    "throttle": (400, "ThrottlingException", "Rate exceeded"),
    "500": (500, "InternalFailure", ""),
    "expired": (400, "ExpiredTokenException", "The security token included is expired"),
    "skew": (400, "InvalidSignatureException", "Signature expired: 20261126T1 is now earlier"),
    "quota": (400, "ResourceLimitExceeded", "The account-level service limit is 0 Instances"),
    "denied": (400, "AccessDeniedException", "not authorized to perform this action"),
}


@dataclass
class SageMakerFake(TrainingJobs, TransformJobs):
    """See the module; `hang_s` is how long a call hangs before its connection is cut."""

    url: str
    moto: str
    jobs: dict[str, Job] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    container: Callable[[list[str], Path], int] | None = None
    reason: str = "AlgorithmError: it failed"
    hang_s: float = 1.0
    latency_s: float = 0.0
    calls: int = 0
    _states: list[str] = field(default_factory=lambda: ["succeeded"])
    _failures: list[str] = field(default_factory=list)
    _submit_failures: list[str] = field(default_factory=list)
    _hide: int = 0
    _corrupt: str = ""
    _drop: bool = False
    _lock: Any = field(default_factory=threading.RLock)
    _count_lock: Any = field(default_factory=threading.Lock)

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
        """Let somebody else have a training and a transform job of this name."""
        for noun, request in (("Training", THEIR_TRAINING), ("Transform", THEIR_TRANSFORM)):
            named = {**request, f"{noun}JobName": key}
            self.jobs[place(noun, key)] = Job(named, ["running"], "", ours=False, noun=noun)

    def corrupt(self, how: str) -> None:
        """Change what is stored of the last job's model, now or once it is stored."""
        last = self._last()
        if last.noun == "Transform":
            {"change": self.corrupt_package, "truncate": self.drop_scores}[how]()
            return
        self._corrupt = how
        if last.ran:
            self._store(last, self.stored(self._artefact(last)))

    def travel(self) -> None:
        """Count a call, of moto's services too, and let it take its time."""
        with self._count_lock:  # the other one is held while a container runs, which calls moto
            self.calls += 1
        time.sleep(self.latency_s)

    def answer(self, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Return status and body; None for a connection that is cut."""
        service = "logs" if target.startswith("Logs") else "sagemaker"
        name = target.rpartition(".")[2]
        with self._lock:
            self.requests.append((name, body))
            how = self._failures.pop(0) if self._failures else ""
            if name in _CREATE and self._submit_failures:
                how = self._submit_failures.pop(0)
            if how and how != "hang":
                return RefusedError(*_FAILURES[how]).answer
            try:
                said = self._answered(service, name, body)
            except RefusedError as error:
                said = error.answer
        if how == "hang":
            time.sleep(self.hang_s)
            return None
        return said

    def _answered(self, service: str, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        model = operation(service, name)
        if wrong := problems(model.input_shape, body):
            raise RefusedError(400, "ValidationException", f"botocore's model: {wrong}")
        said = getattr(self, f"_{name}")(body)
        states = {said.get("TrainingJobStatus"), said.get("TransformJobStatus")}
        if model.output_shape and "Dreaming" not in states:
            wrong = problems(model.output_shape, said)
            assert not wrong, f"this fake answers what AWS cannot: {wrong}"
        return 200, as_json(said)

    def _DescribeLogStreams(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        streams = self._streams(body["logGroupName"])
        if not streams:
            message = "The specified log group does not exist."
            raise RefusedError(400, "ResourceNotFoundException", message)
        prefix = body["logStreamNamePrefix"]
        return {"logStreams": [{"logStreamName": n} for n in streams if n.startswith(prefix)]}

    def _GetLogEvents(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        lines = self._streams(body["logGroupName"])[body["logStreamName"]]
        # Two lines in each millisecond.
        events = [{"timestamp": 1000 + n // 2, "message": line} for n, line in enumerate(lines)]
        later = [event for event in events if event["timestamp"] >= body["startTime"]]
        return {"events": later[: body["limit"]]}

    def _streams(self, group: str) -> dict[str, list[str]]:
        jobs = [each for each in self.jobs.values() if group == f"/aws/sagemaker/{each.noun}Jobs"]
        return {name: lines for job in jobs for name, lines in job.streams().items()}

    def _created(self, noun: str, body: dict[str, Any]) -> None:
        at = place(noun, body[f"{noun}JobName"])
        if at in self.jobs:
            raise RefusedError(400, "ResourceInUse", f"{noun} job names must be unique")
        states = list(self._states)
        self.jobs[at] = Job(body, states, self.reason, hidden=self._hide, noun=noun)
        self._hide = 0

    def _described(self, noun: str, body: dict[str, Any]) -> Job:
        """Return a job as the next look finds it; of one that has succeeded, after it ran."""
        job = self.jobs.get(place(noun, body[f"{noun}JobName"]))
        if job is not None and job.hidden:
            job.hidden -= 1
            job = None
        if job is None or job.gone:
            raise RefusedError(*UNKNOWN)
        if len(job.states) > 1:
            job.states.pop(0)
        if job.state == "succeeded" and not job.ran:
            job.ran = True
            (self._run if noun == "Training" else self._transform)(job)
        return job

    def _stopped(self, noun: str, body: dict[str, Any]) -> dict[str, Any]:
        job = self.jobs.get(place(noun, body[f"{noun}JobName"]))
        if job is None or job.gone:
            raise RefusedError(*UNKNOWN)
        if job.state in ENDED:
            raise RefusedError(400, "ValidationException", "The job is in status Completed")
        job.states = ["cancelled"]
        return {}

    def _last(self) -> Job:
        return list(self.jobs.values())[-1]


def _handler(fake: SageMakerFake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            target = self.headers["X-Amz-Target"]
            data = self.rfile.read(int(self.headers["Content-Length"]))
            fake.travel()
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


def _far(app: Callable[..., Any], fake: SageMakerFake) -> Callable[..., Any]:
    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        fake.travel()
        return app(environ, start_response)

    return answer


@contextmanager
def start() -> Iterator[SageMakerFake]:
    """Run SageMaker and moto; yield the fake."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request otherwise
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    fake = SageMakerFake("", f"http://{host}:{port}")
    moto._server.app = _far(moto._server.app, fake)
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
