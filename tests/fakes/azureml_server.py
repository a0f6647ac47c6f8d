"""A scripted Azure: its resource manager with Azure ML, and blob storage, on one port in a thread.

Every request and answer is held against `azureml_schemas`, which were written by hand from the REST
reference: that and this file were never compared with Azure itself. So it cannot prove that Azure
takes a request as it is meant; that ``PUT`` of a name that is there starts no second run (the
reference says that it replaces tags); that a datastore without credentials lets a job write; what a
job's output looks like when its machine is taken away; how long a new job stays invisible; when
tokens expire; which code a quota has. Time does not pass: each look takes a job one state further.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from azureml_account import (
    ACCOUNT,
    CONNECTION,
    CONTAINER,
    IMAGE,
    ML,
    STORAGE,
    WORKSPACE,
    account_resources,
    connection,
    split_path,
)
from azureml_blobs import Blob, Blobs
from azureml_container import play
from azureml_replies import Reply, failure, json_reply, refusal
from azureml_schemas import ANSWERS, NAME, REQUESTS
from azureml_tampering import Tampering
from jsonschema import Draft202012Validator

from airflow_mlgov.policy.platforms_file import Instance, PlatformTerms, RegistryTerms

_NATIVE = {
    "queued": "Queued", "running": "Running", "succeeded": "Completed", "failed": "Failed",
    "paused": "Paused", "unknown": "SomethingNew",
}  # fmt: skip
_ENDED = {"Completed", "Failed", "Canceled"}


@dataclass
class Job:
    name: str
    properties: dict[str, Any]
    states: list[str]
    reason: str
    hidden: int
    played: bool = False
    gone: bool = False


@dataclass
class FakeAzure(Tampering):
    """See the module; `start` gives one.

    Attributes:
        started: Jobs that Azure would have been paid for.
        requests: Method, path, query and body of everything that came.
        violations: What broke a schema; `start` raises about them at its end.
        provisioning: States of what a registry writes, one for each look at it.
        pages_at: Server that the next page of a list is on; empty for this one.
        denied: Parts of paths that the connection's identity may not read or write.
        token: The bearer token that is accepted.
    """

    port: int = 0
    started: int = 0
    reason: str = "the script ended with exit status 1"
    container: Callable[[list[str], Path], int] | None = None
    token: str = "token-1"
    hang_s: float = 1.0
    requests: list[tuple[str, str, str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    blobs: Blobs = field(default_factory=Blobs)
    jobs: dict[str, Job] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    permissions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    before_put: Callable[[str], None] | None = None
    _next: list[str] = field(default_factory=lambda: ["queued", "running", "succeeded"])
    _failing: list[str] = field(default_factory=list)
    _refusing: list[str] = field(default_factory=list)
    provisioning: list[str] = field(default_factory=lambda: ["Creating", "Succeeded"])
    pages_at: str = ""
    _hide: int = 0
    _settling: dict[str, list[str]] = field(default_factory=dict)
    _last: Job | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return f"{self.url}/{ACCOUNT}/{CONTAINER}/training"

    @property
    def running(self) -> int:
        ended = {*_ENDED, "CancelRequested"}
        return sum(not each.gone and each.states[0] not in ended for each in self.jobs.values())

    def terms(self, **changes: Any) -> PlatformTerms:
        entry: dict[str, Any] = {
            "name": "azure", "kind": "azureml", "connection": CONNECTION, "account": WORKSPACE,
            "region": "westeurope", "endpoint": self.url, "image": IMAGE,
            "instance": Instance(type="Standard_DS3_v2"), "output": self.output,
            "identity": "11111111-2222-3333-4444-555555555555", "tags": {"cost-centre": "4711"},
            "poll_s": 0.05,
        }  # fmt: skip
        return PlatformTerms(**{**entry, **changes})

    def registry_terms(self, **changes: Any) -> RegistryTerms:
        entry: dict[str, Any] = {
            "name": "azure_models", "kind": "azureml", "connection": CONNECTION,
            "account": WORKSPACE, "region": "westeurope", "endpoint": self.url,
            "store": f"{self.url}/{ACCOUNT}/{CONTAINER}/models", "tags": {"cost-centre": "4711"},
        }  # fmt: skip
        return RegistryTerms(**{**entry, **changes})

    def environment(self) -> dict[str, str]:
        return {f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(connection(self.token))}

    def script(self, *states: str) -> None:
        """Name the states of the next job, common or Azure's own, one for each look at it."""
        self._next = list(states)

    def fail(self, n: int, how: str) -> None:
        """Let the next n calls of the resource manager, or the next n new jobs, fail.

        A call that hangs does what it asks for, and its connection is cut; one that fails by ""
        goes well.
        """
        (self._refusing if how in {"quota", "denied"} else self._failing).extend([how] * n)

    def hide(self, n: int) -> None:
        """Do not show the next job in the first n looks at it."""
        self._hide = n

    def vanish(self) -> None:
        self._job().gone = True

    def cancel_behind_our_back(self) -> None:
        self._job().states[:] = ["Canceled"]

    def taken(self, key: str) -> None:
        """Let somebody else have a job of this name."""
        body = {"jobType": "Command", "command": "sleep 1", "environmentId": f"{WORKSPACE}/e/1"}
        self.jobs[key] = Job(key, {**body, "tags": {"owner": "else"}}, ["Running"], "", 0)

    def _job(self) -> Job:
        assert self._last is not None, "no job was started"
        return self._last

    # Answering

    def answer(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> Reply | None:
        """Return an answer; None to say nothing at all."""
        if not path.startswith("/subscriptions/"):
            return self.blobs.answer(method, path, query, headers, body)
        value = json.loads(body) if body else None
        with self._lock:
            self.requests.append((method, path, query, value))
            how = self._failing.pop(0) if self._failing else ""
        if how not in {"", "hang"} or headers.get("authorization") != f"Bearer {self.token}":
            return failure(how if how not in {"", "hang"} else "expired")
        if any(part in path for part in self.denied):
            return failure("denied")
        with self._lock:
            reply = self._arm(method, urllib.parse.unquote(path), query, value)
        if how == "hang":
            time.sleep(self.hang_s)
            return None
        return reply

    def _arm(self, method: str, path: str, query: str, value: Any) -> Reply:
        asked = urllib.parse.parse_qs(query)
        scope, right, _ = path.partition("/providers/Microsoft.Authorization/permissions")
        if right:
            return json_reply(200, {"value": self.permissions.get(scope, [])})
        wanted = "2023-05-01" if "/Microsoft.Storage/" in path else "2024-10-01"
        if asked.get("api-version") != [wanted]:
            self.violations.append(f"{method} {path}: api-version {asked.get('api-version')}")
            return refusal(400, "InvalidApiVersionParameter", "No such version.")
        owner, kind, name = split_path(path)
        if kind == "jobs":
            return self._jobs(method, owner, name, value)
        if kind == "models" and re.fullmatch(r"[^/]+/versions", name):
            return self._list(path, asked)
        if method == "PUT":
            return self._put(path, kind, value)
        return self._show(path, kind)

    def _show(self, path: str, kind: str) -> Reply:
        found = self.resources.get(path)
        if found is None:
            return refusal(404, "ResourceNotFound", f"There is no {path}.")
        shown = json.loads(json.dumps(found))
        if (left := self._settling.get(path)) and len(left) > 1:
            left.pop(0)
            found["properties"]["provisioningState"] = left[0]
        return self._checked(200, kind, shown)

    def _jobs(self, method: str, owner: str, name: str, value: Any) -> Reply:
        key, _, action = name.partition("/")
        job = self.jobs.get(key)
        if method == "PUT":
            return self._put_job(owner, key, job, value)
        if job is None or job.gone:
            return refusal(404, "NotFound", f"There is no job {key}.")
        if action == "cancel":
            if job.states[0] in _ENDED:
                return refusal(400, "UserError", "The job is in a terminal state.")
            job.states[:] = ["CancelRequested", "Canceled"]
            return Reply(202, headers={"Location": f"{self.url}{owner}/jobs/{key}"})
        if job.hidden > 0:
            job.hidden -= 1
            return refusal(404, "NotFound", f"There is no job {key}.")
        return self._look(owner, job)

    def _put_job(self, owner: str, key: str, job: Job | None, value: Any) -> Reply:
        if self._refusing:
            return failure(self._refusing.pop(0))
        if not re.fullmatch(NAME, key) or not self._valid(REQUESTS["jobs"], value, f"PUT {key}"):
            return refusal(400, "UserError", "The request is malformed.")
        properties = value["properties"]
        for needed in (properties["environmentId"], properties.get("computeId")):
            if needed and needed not in self.resources:
                return refusal(400, "UserError", f"There is no {needed}.")
        if job is not None:
            job.properties["tags"] = properties.get("tags", {})
            return self._checked(200, "jobs", self._shown(owner, job))
        states = [_NATIVE.get(state, state) for state in self._next]
        job = Job(key, properties, states, self.reason, self._hide)
        self.jobs[key], self._last, self._hide = job, job, 0
        self.started += 1
        return self._checked(201, "jobs", self._shown(owner, job, "NotStarted"))

    def _look(self, owner: str, job: Job) -> Reply:
        state = job.states[0]
        if state == "Completed" and self.container and not job.played:
            job.played = True
            if self._play(job, self.container) != 0:
                state = job.states[0] = "Failed"
        elif state == "Failed" and not job.played:
            job.played = True
            self._store(job, "mlgov_failure", "reason.txt", job.reason.encode())
        reply = self._checked(200, "jobs", self._shown(owner, job, state))
        if len(job.states) > 1:
            job.states.pop(0)
        return reply

    def _shown(self, owner: str, job: Job, state: str = "") -> dict[str, Any]:
        state = state or job.states[0]
        times = {"StartTimeUtc": "2026-11-26 18:14:56", "EndTimeUtc": "2026-11-26 18:18:41"}
        properties = {**job.properties.get("properties", {}), **(times if state in _ENDED else {})}
        studio = f"https://ml.azure.com/runs/{job.name}?wsid={owner}"
        return {
            "id": f"{owner}/jobs/{job.name}",
            "name": job.name,
            "type": f"{ML}/workspaces/jobs",
            "properties": {
                **job.properties,
                "properties": properties,
                "status": state,
                "services": {"Studio": {"endpoint": studio, "jobServiceType": "Studio"}},
            },
        }

    def _put(self, path: str, kind: str, value: Any) -> Reply:
        if self.before_put is not None:
            self.before_put(path)
        if not self._valid(REQUESTS.get(kind, {"not": {}}), value, f"PUT {path}"):
            return refusal(400, "UserError", "The request is malformed.")
        found, asked = self.resources.get(path), dict(value["properties"])
        if found is not None:
            held = found["properties"]
            if kind == "models" and asked.get("modelUri") != held.get("modelUri"):
                return refusal(400, "UserError", "modelUri cannot be changed.")
            asked["properties"] = {**asked.get("properties", {}), **held.get("properties", {})}
        in_registry = "/registries/" in path
        if in_registry:
            self._settling[path] = list(self.provisioning)
            asked["provisioningState"] = self.provisioning[0]
        name = path.rpartition("/")[2]
        shape = {"id": path, "name": name, "type": f"{ML}/workspaces/{kind}", "properties": asked}
        self.resources[path] = shape
        if in_registry:
            return Reply(202, headers={"Azure-AsyncOperation": "https://elsewhere.example/op/1"})
        return self._checked(201 if found is None else 200, kind, shape)

    def _list(self, path: str, asked: dict[str, list[str]]) -> Reply:
        """Two a page."""
        view = asked.get("listViewType", ["ActiveOnly"])[0]
        found = [
            each
            for name, each in sorted(self.resources.items())
            if name.startswith(f"{path}/")
            and (view == "All" or not each["properties"].get("isArchived"))
        ]
        start = int(asked.get("$skip", ["0"])[0])
        page: dict[str, Any] = {"value": found[start : start + 2]}
        if len(found) > start + 2:
            link = f"api-version=2024-10-01&listViewType={view}&$skip={start + 2}"
            page["nextLink"] = f"{self.pages_at or self.url}{path}?{link}"
        for each in page["value"]:
            self._valid(ANSWERS["models"], each, f"list {path}")
        return json_reply(200, page)

    def _checked(self, status: int, kind: str, shape: dict[str, Any]) -> Reply:
        self._valid(ANSWERS[kind], shape, f"answer {shape['id']}")
        return json_reply(status, shape)

    def _valid(self, schema: dict[str, Any], value: Any, what: str) -> bool:
        errors = list(Draft202012Validator(schema).iter_errors(value))
        self.violations += [f"{what}: {error.json_path}: {error.message}" for error in errors]
        return not errors

    def _play(self, job: Job, container: Callable[[list[str], Path], int]) -> int:
        status, written = play(job.properties, container, self._place)
        for output, path, data in written:
            self._store(job, output, path, data)
        return status

    def _store(self, job: Job, output: str, path: str, data: bytes) -> None:
        uri = job.properties.get("outputs", {}).get(output, {}).get("uri")
        if uri:
            held, folder = self._place(uri)
            held[f"{folder}/{path}"] = Blob(data)

    def _place(self, uri: str) -> tuple[dict[str, Blob], str]:
        """Return the container that a datastore's address is in, and the path in it."""
        name, _, path = uri.removeprefix("azureml://datastores/").partition("/paths/")
        store = self.resources[f"{WORKSPACE}/datastores/{name}"]["properties"]
        return self.blobs.of(store["accountName"], store["containerName"]), path


@contextmanager
def start() -> Iterator[FakeAzure]:
    """Serve until the end of the block, which raises if a request or an answer broke a schema."""
    fake = FakeAzure()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def _serve(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            reply = fake.answer(self.command, path, query, headers, body)
            if reply is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for key, value in reply.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake.port = server.server_port
    fake.resources.update(account_resources(fake.port))
    everything = {"actions": ["*"], "notActions": [], "dataActions": ["*"], "notDataActions": []}
    fake.permissions.update({WORKSPACE: [dict(everything)], STORAGE: [dict(everything)]})
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
    assert not fake.violations, fake.violations
