"""The server, and the ways in which it fails when told to."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from marquez import answers
from marquez.state import State, run_uuid


@dataclass(frozen=True)
class Request:
    """One request as it came, and the status that it was given (0: none)."""

    method: str
    target: str
    headers: dict[str, str]
    status: int


class FakeMarquez:
    """One Marquez on this machine, listening while inside ``with``.

    Attributes:
        url: Where it listens; the same after `restart`.
        events: Raw events that it keeps, in the order in which they came, refused ones too where
            the real one keeps them.
        requests: Every request, in the order in which they were answered.
        connections: How many connections were made to it.
        max_concurrent: Most posts that it ever had in hand at once.
        overlapped: Ids of runs of which two events were in hand at once. They stay RUNNING.
        hang_s: Seconds for which a request gets no answer; then the connection ends, and nothing
            was stored.
        slow_s: Seconds that each answer takes.
        drop_answer_after_store: How many of the next posts are stored without an answer.
        max_body: Longest body that it takes, in bytes; the real one takes any.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.max_concurrent = 0
        self.overlapped: set[str] = set()
        self.hang_s = 0.0
        self.slow_s = 0.0
        self.drop_answer_after_store: int = 0
        self.max_body: int | None = None
        self._state = State()
        self._lock = threading.Lock()
        self._in_hand: list[str] = []
        self._failures: list[int] = []
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._state.raw)

    @property
    def is_poisoned(self) -> bool:
        with self._lock:
            return self._state.is_poisoned

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def start(self) -> None:
        """Listen; on the same port as before, if there was one."""
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def refuse(self) -> None:
        """Stop listening and end every connection; what is stored stays."""
        server, self._server = self._server, None
        if server is None:
            return
        self._stopping.set()
        server.shutdown()
        server.server_close()
        for each in list(self._connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """Stop and listen again, with what was stored."""
        self.refuse()
        self.start()

    def fail_next(self, n: int, status: int = 500) -> None:
        """Answer the next posts of lineage with a status, and store nothing of them."""
        self._failures += [status] * n

    def respond(self, method: str, target: str, body: bytes) -> tuple[int, Any] | None:
        """Return an answer, or None if there is to be none."""
        if self.hang_s:
            self._stopping.wait(self.hang_s)
            return None
        is_event = (method, target) == ("POST", "/api/v1/lineage")
        if not is_event:
            self._stopping.wait(self.slow_s)
            with self._lock:
                return answers.answer(self._state, method, target, body)
        if self.max_body is not None and len(body) > self.max_body:
            return 413, ""
        if self._failures:
            return self._failures.pop(0), {"code": 500, "message": "Told to fail."}
        return self._take(method, target, body)

    def _take(self, method: str, target: str, body: bytes) -> tuple[int, Any] | None:
        run_id = _run_of(body)
        with self._lock:
            if run_id in self._in_hand:
                self.overlapped.add(run_id)
            self._in_hand.append(run_id)
            self.max_concurrent = max(self.max_concurrent, len(self._in_hand))
        time.sleep(self.slow_s)
        with self._lock:
            found = answers.answer(self._state, method, target, body)
            self._in_hand.remove(run_id)
            if run_id in self.overlapped and (run := self._state.runs.get(run_id)):
                run.state = "RUNNING"
            if self.drop_answer_after_store:
                self.drop_answer_after_store -= 1
                return None
        return found


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A client that goes away, or is made to, is no error here."""


def _handler(fake: FakeMarquez) -> type[BaseHTTPRequestHandler]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            fake.connections += 1
            fake._connections.add(self.connection)

        def finish(self) -> None:
            fake._connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            found = fake.respond(self.command, self.path, body)
            status = found[0] if found else 0
            headers = {key.lower(): value for key, value in self.headers.items()}
            fake.requests.append(Request(self.command, self.path, headers, status))
            if found is None:
                self.close_connection = True
                return
            is_text = isinstance(found[1], str)
            data = (found[1] if is_text else json.dumps(found[1])).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if is_text else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Requests


def _run_of(body: bytes) -> str:
    try:
        return run_uuid(json.loads(body)["run"]["runId"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
