"""What a container on Google's machines can reach, and the machine that runs it.

The metadata server gives tokens; Cloud Storage stands before the emulator, which knows neither
tokens nor generations nor pages, and keeps to all three. What it cannot prove: how long tokens are
valid there, that the machine's firewall lets both be reached, and how Cloud Storage paces uploads.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests

_TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
_LIST = re.compile(r"/storage/v1/b/[^/]+/o")
_START_S = 60.0


@dataclass
class Machines:
    """What a test says and sees.

    Attributes:
        store_url: Address of the emulator.
        url: Address of this.
        token_s: How long tokens are said to be valid.
        tokens: Those that are.
        given: How many were given.
        failures: Statuses with which the next calls to Cloud Storage fail.
        cut: How many downloads are cut short.
        lost: How many answers to uploads are lost, after the upload.
        page_most: Objects on a page.
        keys: Key that each stored object was to be encrypted with, by name.
        twice: Whether each prediction is asked for twice.
    """

    store_url: str
    url: str = ""
    token_s: int = 3600
    tokens: set[str] = field(default_factory=set)
    given: int = 0
    failures: list[int] = field(default_factory=list)
    cut: int = 0
    lost: int = 0
    page_most: int = 1000
    keys: dict[str, str] = field(default_factory=dict)
    twice: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """By which Google's own clients, and ours, come here."""
        host = self.url.removeprefix("http://")
        return {"GCE_METADATA_HOST": host, "STORAGE_EMULATOR_HOST": self.url}

    def token(self) -> dict[str, Any]:
        self.given += 1
        self.tokens.add(f"m{self.given}")
        return {
            "access_token": f"m{self.given}", "expires_in": self.token_s, "token_type": "Bearer",
        }  # fmt: skip

    def listed(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        start = int(query.pop("pageToken", "0"))
        found = requests.get(f"{self.store_url}{path}", params=query, timeout=10).json()
        items, end = found.get("items", []), start + self.page_most
        more = {"nextPageToken": str(end)} if end < len(items) else {}
        return {"items": items[start:end], **more}

    def read(self, path: str, query: dict[str, str]) -> tuple[int, bytes, str]:
        """Return status, bytes and generation of an object."""
        about = requests.get(f"{self.store_url}{path}", timeout=10)
        if about.status_code != 200:
            return about.status_code, b"No such object.", ""
        generation = about.json()["generation"]
        if query.get("generation", generation) != generation:
            return 404, b"No such object.", ""
        content = requests.get(f"{self.store_url}{path}", params={"alt": "media"}, timeout=30)
        return 200, content.content, generation

    def write(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Store an object, and return status and answer."""
        name = query["name"]
        there = f"{self.store_url}{path.removeprefix('/upload')}/{requests.utils.quote(name, '')}"
        if query.pop("ifGenerationMatch", "") == "0" and requests.get(there, timeout=10).ok:
            return 412, b"At least one of the pre-conditions you specified did not hold."
        self.keys[name] = query.pop("kmsKeyName", "")
        headers = {"Content-Type": "application/octet-stream"}
        answer = requests.post(
            f"{self.store_url}{path}", params=query, data=body, headers=headers, timeout=30
        )
        return answer.status_code, answer.content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        machines: Machines = self.server.machines
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if parts.path == _TOKEN:
            is_known = self.headers.get("Metadata-Flavor") == "Google"
            self._send(200 if is_known else 403, json.dumps(machines.token()).encode())
        elif self._is_let_in(machines):
            if _LIST.fullmatch(parts.path):
                self._send(200, json.dumps(machines.listed(parts.path, query)).encode())
            else:
                status, content, generation = machines.read(parts.path, query)
                is_cut, machines.cut = machines.cut > 0, max(machines.cut - 1, 0)
                self._send(status, content, generation, content[:-1] if is_cut else content)

    def do_POST(self) -> None:
        machines: Machines = self.server.machines
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_let_in(machines):
            answer = machines.write(parts.path, dict(parse_qsl(parts.query)), body)
            if machines.lost:
                machines.lost -= 1
                self.close_connection = True
            else:
                self._send(*answer)

    def _is_let_in(self, machines: Machines) -> bool:
        status = machines.failures.pop(0) if machines.failures else 200
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in machines.tokens:
            status = 401
        if status != 200:
            self._send(status, b"Not now.")
        return status == 200

    def _send(
        self, status: int, content: bytes, generation: str = "", sent: bytes | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if generation:
            self.send_header("x-goog-generation", generation)
        self.end_headers()
        self.wfile.write(content if sent is None else sent)
        self.close_connection = sent is not None and sent != content

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def start(store_url: str) -> Iterator[Machines]:
    """Serve what containers can reach."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    machines = Machines(store_url, f"http://127.0.0.1:{server.server_port}")
    server.machines = machines
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield machines
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Played:
    """What came of a container.

    Attributes:
        predictions: Each instance with its prediction.
        errors: Each instance with the status and text of a refusal.
        problem: Why the container served nothing.
        log: What it wrote.
    """

    predictions: list[tuple[Any, Any]] = field(default_factory=list)
    errors: list[tuple[Any, int, str]] = field(default_factory=list)
    problem: str = ""
    log: list[str] = field(default_factory=list)


def play(machines: Machines, container: Any, instances: list[Any]) -> Played:
    """Run a container as Vertex AI does, and send it instances one by one.

    Its port is one that is free here; Vertex AI's is the first of ``ports``.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    played = Played()
    with TemporaryDirectory(prefix="vertex-machine-") as folder:
        log = Path(folder, "log")
        variables = {
            "PATH": os.environ["PATH"],
            "AIP_MODE": "PREDICTION",
            "AIP_HTTP_PORT": str(port),
            "AIP_HEALTH_ROUTE": container.health_route,
            "AIP_PREDICT_ROUTE": container.predict_route,
            "AIP_STORAGE_URI": "gs://a-bucket-of-google-s/copy",
            **machines.variables,
            **{each.name: each.value for each in container.env},
        }
        command = [sys.executable, *container.command[1:], *container.args]
        with log.open("wb") as output, subprocess.Popen(
            command, cwd=folder, env=variables, stdout=output, stderr=output,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                _ask(f"http://127.0.0.1:{port}", machines, container, instances, process, played)
            finally:
                _end(process)
        played.log = log.read_text(errors="replace").splitlines()
    return played


def _ask(
    url: str, machines: Machines, container: Any, instances: list[Any], process: Any, played: Played
) -> None:
    until = time.monotonic() + _START_S
    while not _is_healthy(f"{url}{container.health_route}"):
        if process.poll() is not None:
            played.problem = (
                "Model server terminated: model server container terminated: exit_code: "
                f"{process.returncode}"
            )
            return
        if time.monotonic() > until:
            played.problem = "Model server never became ready."
            return
        time.sleep(0.05)
    for instance in instances:
        for _ in range(2 if machines.twice else 1):
            answer = requests.post(
                f"{url}{container.predict_route}", json={"instances": [instance]}, timeout=120
            )
        if answer.status_code == 200:
            (prediction,) = answer.json()["predictions"]
            played.predictions.append((instance, prediction))
        else:
            played.errors.append((instance, answer.status_code, answer.text))


def _is_healthy(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
