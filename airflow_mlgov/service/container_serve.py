"""Answers a platform that sends a container what to score by HTTP; standard library only."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.service.container_script import ContainerScript, say

_BLOCK_BYTES = 1024 * 1024
_LINE_BYTES = 1024
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with.

    Attributes:
        body: Bytes.
        kind: Media type.
    """

    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"


Route: TypeAlias = Callable[[Path], Answer]
"""Takes the file that holds a request's body, and raises `MlgovError` for what it refuses."""


def serve(port: int, routes: Mapping[str, Route], script: ContainerScript) -> None:
    """Answer requests until the platform stops the container.

    Answers to POST are given one after the other; those to GET at any time.

    Args:
        port: On every interface.
        routes: What answers, by method and path: ``POST /invocations``.
        script: Knows when the platform wants the container to end.

    Raises:
        OSError: The port is taken.
    """
    lock = threading.Lock()
    server = ThreadingHTTPServer(("", port), partial(_Request, routes, lock))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(_LOOK_S,), daemon=True).start()
    try:
        script.wait_for_stop()
    finally:
        server.shutdown()
        server.server_close()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, routes: Mapping[str, Route], lock: threading.Lock, *rest: object) -> None:
        self._routes = routes
        self._lock = lock
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        with self._lock:
            self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Say nothing of each request: platforms ask for health all the time."""

    def _answer(self) -> None:
        status = HTTPStatus.OK
        try:
            with TemporaryDirectory(prefix="mlgov-request-") as folder:
                answer = self._routed(Path(folder, "body"))
            if answer is None:
                status, answer = HTTPStatus.NOT_FOUND, Answer()
        except MlgovError as error:
            say(str(error))
            refused, passing = HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE
            status = passing if error.retryable else refused
            answer = Answer(str(error).encode())
        except Exception as error:  # noqa: BLE001 - the text is all that leaves the container
            traceback.print_exc()
            problem = f"The entry point failed: {error!r}."
            status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, Answer(problem.encode())
            self.close_connection = True  # the rest of its body is no other request
        self._send(status, answer)

    def _routed(self, body: Path) -> Answer | None:
        self._receive(body)
        route = self._routes.get(f"{self.command} {self.path.partition('?')[0]}")
        return None if route is None else route(body)

    def _receive(self, body: Path) -> None:
        with body.open("wb") as file:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                while size := int(self.rfile.readline(_LINE_BYTES).split(b";")[0], 16):
                    self._copy(size, file.write)
                    self.rfile.readline(_LINE_BYTES)
                while self.rfile.readline(_LINE_BYTES).strip():
                    continue
            else:
                self._copy(int(self.headers.get("Content-Length") or 0), file.write)

    def _copy(self, size: int, write: Callable[[bytes], object]) -> None:
        while size > 0:
            block = self.rfile.read(min(size, _BLOCK_BYTES))
            if not block:
                raise ConnectionError("The request was cut short.")
            write(block)
            size -= len(block)

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)
