"""Vertex AI on a local port, scripted: its REST interface for jobs, models and operations, Cloud
Logging's entries and the permission tests beside it, and Cloud Storage by gcp-storage-emulator.

Requests and answers are held against the messages of Google's client (`vertex_protos`). What it
cannot prove: that Google checks no more than that; quotas, latency and visibility as they are; what
rights a role holds (every permission is held unless taken away); FUSE's mount of buckets in a
container (files are copied to and fro); encryption; the gRPC transport, which speaks TLS only; and
that a job's billed time is its start to its end. Of batch prediction jobs see also `vertex_batch`
and `vertex_machines`: their containers run here, as they were asked for.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import vertex_machines
import vertex_protos as protos
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from google.cloud import storage
from vertex_jobs import BATCH, CUSTOM, Jobs
from vertex_models import Models

from airflow_mlgov.policy.platforms_file import Instance, Network, PlatformTerms, RegistryTerms

PROJECT, REGION, BUCKET = "bank-models", "europe-west3", "bank-mlgov"
CONNECTION = "mlgov_vertex_fake"
IMAGE = f"europe-west3-docker.pkg.dev/bank/train/python@sha256:{'a' * 64}"
KEY = f"projects/{PROJECT}/locations/{REGION}/keyRings/ring/cryptoKeys/models"
NETWORK = "projects/123456/global/networks/bank"
ACCOUNT = f"training@{PROJECT}.iam.gserviceaccount.com"

_LOCATION = f"projects/{PROJECT}/locations/{REGION}"
_QUOTA = (
    "The following quota metrics exceed quota limits: "
    "aiplatform.googleapis.com/custom_model_training_cpus"
)
_FAILURES = {
    "throttle": (
        429,
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'.",
        "RATE_LIMIT_EXCEEDED",
    ),
    "500": (500, "INTERNAL", "Internal error encountered."),
    "expired": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "quota": (429, "RESOURCE_EXHAUSTED", _QUOTA),
    "denied": (403, "PERMISSION_DENIED", "Permission 'aiplatform.customJobs.create' denied."),
}


@dataclass
class VertexFake:
    """What a test says and sees; the interface that all vendors' fakes have comes first.

    Attributes:
        url: Address.
        store_url: Address of Cloud Storage.
        requests: Everything that was asked: method, path, query, body.
        lacking: Permissions that who asks does not hold.
        hang_s: How long a call hangs before its connection is cut; what it asks for is done.
        clock_wrong: Whether no token is given, since the clock of who asks is wrong.
        tokens: How many tokens were given.
        machines: What containers of batch prediction jobs can reach.
    """

    url: str
    store_url: str
    machines: vertex_machines.Machines
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    lacking: set[str] = field(default_factory=set)
    hang_s: float = 1.0
    clock_wrong: bool = False
    tokens: int = 0
    models: Models = field(default_factory=Models)
    lock: Any = field(default_factory=threading.RLock)
    _failures: list[str] = field(default_factory=list)
    _submit_failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = Jobs(_LOCATION, self.bucket, self.machines)

    def terms(self, **changes: Any) -> PlatformTerms:
        """Return an entry that works here."""
        said: dict[str, Any] = {
            "name": "gcp",
            "kind": "vertex",
            "connection": CONNECTION,
            "account": PROJECT,
            "region": REGION,
            "endpoint": self.url,
            "image": IMAGE,
            "instance": Instance("n2-standard-4"),
            "identity": ACCOUNT,
            "keys": {"output": KEY, "volume": KEY},
            "network": Network(name=NETWORK),
            "output": f"gs://{BUCKET}/mlgov",
            "tags": {"cost-centre": "risk"},
            "poll_s": 0.1,
            "file": "platforms.yaml",
            "line": 3,
        }
        return PlatformTerms(**{**said, **changes})

    def registry_terms(self, **changes: Any) -> RegistryTerms:
        """Return an entry of a registry that works here."""
        said: dict[str, Any] = {
            "name": "gcp-models",
            "kind": "vertex",
            "connection": CONNECTION,
            "account": PROJECT,
            "region": REGION,
            "endpoint": self.url,
            "image": IMAGE,
            "store": f"gs://{BUCKET}/models",
            "keys": {"model": KEY},
            "tags": {"cost-centre": "risk"},
            "file": "platforms.yaml",
            "line": 20,
        }
        return RegistryTerms(**{**said, **changes})

    def environment(self) -> dict[str, str]:
        """Return the variables that a process needs."""
        extra = {"is_anonymous": True, "project": PROJECT}
        connection = {"conn_type": "google_cloud_platform", "extra": extra}
        return {
            f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(connection),
            "STORAGE_EMULATOR_HOST": self.store_url,
        }

    @property
    def started(self) -> int:
        """How many jobs were ever started."""
        return sum(each.ours for each in self.jobs.all)

    @property
    def running(self) -> int:
        """How many jobs run, and were not asked to end."""
        return self.jobs.running

    @property
    def reason(self) -> str:
        """With which "failed" jobs fail."""
        return self.jobs.reason

    @reason.setter
    def reason(self, said: str) -> None:
        self.jobs.reason = said

    @property
    def container(self) -> Callable[[list[str], Path], int] | None:
        """What plays the container when a job is polled as succeeded for the first time."""
        return self.jobs.container

    @container.setter
    def container(self, played: Callable[[list[str], Path], int] | None) -> None:
        self.jobs.container = played

    def script(self, *states: str) -> None:
        """Say what the next jobs pass through, one state a poll; the last one stays."""
        self.jobs.script = list(states)

    def fail(self, n: int, how: str) -> None:
        """Let the next calls fail; "quota" and "denied" the next submits."""
        kept = self._submit_failures if how in {"quota", "denied"} else self._failures
        kept += [how] * n

    def hide(self, n: int) -> None:
        """Keep the next new job from the next look-ups."""
        self.jobs.hide = n

    def vanish(self) -> None:
        """Lose the last job; it was paid for."""
        self.jobs.all[-1].job.name = "gone"

    def cancel_behind_our_back(self) -> None:
        """Cancel the last job in the console."""
        self.jobs.all[-1].script = ["JOB_STATE_CANCELLED"]

    def taken(self, key: str) -> None:
        """Let somebody else's jobs, one of each kind, have our label."""
        for kind, message in ((CUSTOM, v1.CustomJob), (BATCH, v1.BatchPredictionJob)):
            job = message(display_name=key, labels={"mlgov-key": key})
            self.jobs.add(kind, job, ["JOB_STATE_RUNNING"], ours=False)

    def corrupt(self, how: str) -> None:
        """Change what is stored of the last job's model, or scores, now or once it is stored."""
        self.jobs.corrupt(how)

    def corrupt_package(self) -> None:
        """Change a model file of the last batch prediction job's package."""
        self.jobs.corrupt_package()

    def drop_scores(self) -> None:
        """Remove the scores of one of the last batch prediction job's files."""
        self.jobs.drop_scores()

    def bucket(self) -> Any:
        """Return the bucket, by Google's own client."""
        client = storage.Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.store_url},
        )
        return client.bucket(BUCKET)

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Any
    ) -> dict[str, Any] | None:
        """Return the answer to a call; None for none at all.

        Raises:
            protos.RefusedError: The answer is an error.
        """
        with self.lock:
            self.requests.append((method, path, query, body))
            if path == "/token":
                return self._token()
            how = self._failures.pop(0) if self._failures else ""
            if how and how != "hang":
                raise protos.RefusedError(*_FAILURES[how])
            said = self._routed(method, path, query, body)
        if how == "hang":
            time.sleep(self.hang_s)
            return None
        return said

    def _token(self) -> dict[str, Any]:
        if self.clock_wrong:
            raise _TokenRefusedError
        self.tokens += 1
        return {"access_token": f"t{self.tokens}", "expires_in": 3600, "token_type": "Bearer"}

    def _routed(self, method: str, path: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        if path.endswith(":testIamPermissions"):
            return {"permissions": [p for p in body["permissions"] if p not in self.lacking]}
        if path == "/v2/entries:list":
            return self.jobs.entries(PROJECT, body)
        if re.fullmatch(rf"/v1/{_LOCATION}/models/[^/]+/operations/\d+", path):
            return self.models.operation(path.removeprefix("/v1/"))
        match = re.fullmatch(rf"/v1/({_LOCATION})/([a-zA-Z]+)(?:/([^:/]+))?(?::(\w+))?", path)
        if match is None:
            raise protos.RefusedError(404, "NOT_FOUND", f"There is no {path} here.")
        location, kind, ident, verb = match.groups()
        if query.pop("$alt", "") != "json;enum-encoding=int":
            raise protos.invalid("The client of the messages asks with $alt.")
        name = f"{location}/{kind}/{ident}"
        routes: dict[tuple[str, str, bool, str | None], Callable[[], dict[str, Any]]] = {
            ("POST", "models", False, "upload"): lambda: self.models.upload(location, body),
            ("GET", "models", False, None): dict,
            ("GET", "models", True, None): lambda: self.models.get(name),
            ("PATCH", "models", True, None): lambda: self.models.update(name, query, body),
            ("GET", "models", True, "listVersions"): lambda: self.models.list_versions(name, query),
            ("POST", "models", True, "mergeVersionAliases"): lambda: self.models.merge_aliases(
                name, body
            ),
        }
        if kind in {CUSTOM, BATCH}:
            routes = {
                ("POST", kind, False, None): lambda: self._create(kind, body),
                ("GET", kind, False, None): lambda: self.jobs.list(kind, query),
                ("GET", kind, True, None): lambda: self.jobs.get(name),
                ("POST", kind, True, "cancel"): lambda: self.jobs.cancel(name),
            }
        route = routes.get((method, kind, ident is not None, verb))
        if route is None:
            raise protos.RefusedError(404, "NOT_FOUND", f"There is no {method} {path} here.")
        return route()

    def _create(self, kind: str, body: Any) -> dict[str, Any]:
        if self._submit_failures:
            raise protos.RefusedError(*_FAILURES[self._submit_failures.pop(0)])
        return self.jobs.create(kind, body)


class _TokenRefusedError(Exception):
    """No token is given: the clock is wrong."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        fake: VertexFake = self.server.fake
        parts = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = "json" in (self.headers.get("Content-Type") or "")
        body = json.loads(data) if data and is_json else None
        code, said = 200, None
        try:
            said = fake.answer(
                self.command, unquote(parts.path), dict(parse_qsl(parts.query)), body
            )
        except protos.RefusedError as refused:
            code, said = refused.code, refused.body
        except _TokenRefusedError:
            code, said = 400, {"error": "invalid_grant", "error_description": _CLOCK}
        if said is None:
            self.close_connection = True
            return
        answer = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


_CLOCK = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


@contextmanager
def start() -> Iterator[VertexFake]:
    """Run Vertex AI and Cloud Storage, with one bucket as a bank would have it."""
    from gcp_storage_emulator.server import create_server

    for noisy in ("gcp_storage_emulator", "api"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    store = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    store.start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    store_port = store._api._httpd.server_address[1]
    store_url = f"http://127.0.0.1:{store_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    try:
        with vertex_machines.start(store_url) as machines:
            fake = VertexFake(f"http://127.0.0.1:{server.server_port}", store_url, machines)
            server.fake = fake
            thread.start()
            change_bucket(fake)
            yield fake
    finally:
        server.shutdown()
        server.server_close()
        # It looks twice a second whether it is to stop; nobody has to wait for that.
        threading.Thread(target=store.stop, daemon=True).start()


def change_bucket(fake: VertexFake, **changes: Any) -> None:
    """Set what the bucket is like: a bank's own, or changed."""
    import requests

    said = {
        "location": REGION.upper(),
        "encryption": {"defaultKmsKeyName": KEY},
        "iamConfiguration": {
            "publicAccessPrevention": "enforced",
            "uniformBucketLevelAccess": {"enabled": True},
        },
    }
    url = f"{fake.store_url}/storage/v1/b/{BUCKET}"
    requests.patch(url, json={**said, **changes}, timeout=10).raise_for_status()
