"""One HTTP POST to somebody who may be slow, broken or hostile."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from airflow_mlgov.errors import AnchorError, AnchorUnavailableError

TIMEOUT_S = 20.0
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status; never a redirect.
        content_type: Without parameters, in lower case.
        body: At most 64 KiB.
    """

    status: int
    content_type: str
    body: bytes


def post(url: str, body: bytes, content_type: str, *, timeout_s: float = TIMEOUT_S) -> Answer:
    """Send a body and return the whole answer, whatever its status.

    Args:
        url: ``http://`` or ``https://``; a proxy that the environment names is used.
        body: What to send.
        content_type: What it is.
        timeout_s: For everything from connecting to the last byte, in seconds.

    Raises:
        AnchorUnavailableError: No whole answer in time; a retry may help.
        AnchorError: The answer is a redirect, or too long.
    """
    headers = {"Content-Type": content_type, "User-Agent": "airflow-mlgov"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
    with _Deadline(timeout_s) as deadline:
        opener = urllib.request.build_opener(_AsItIs, _Http(deadline), _Https(deadline))
        try:
            with opener.open(request, timeout=timeout_s) as response:
                data = response.read(MAX_ANSWER_BYTES + 1)
                lacking = bool(response.length) and len(data) <= MAX_ANSWER_BYTES
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            said = f"no answer in {timeout_s:g} seconds" if deadline.is_over else str(reason)
            raise AnchorUnavailableError(f"{url} cannot be used: {said}.") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise AnchorError(f"{url} sent more than {MAX_ANSWER_BYTES} bytes.")
    if lacking or deadline.is_over:
        raise AnchorUnavailableError(f"{url} did not send the whole of its answer.")
    if 300 <= response.status < 400:
        raise AnchorError(
            f"{url} redirects, which is not followed.", remedy="Name the address that it leads to."
        )
    return Answer(response.status, response.headers.get_content_type(), data)


class _Deadline:
    """Shuts connections down when the time is over: a timeout of sockets starts anew each byte."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def watch(self, connected: socket.socket) -> None:
        self._sockets.append(connected)
        if self.is_over:
            self._cut()

    def _cut(self) -> None:
        self.is_over = True
        for connected in self._sockets:
            with suppress(OSError):  # TLS's own shutdown is not for another thread
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, *args: Any, deadline: _Deadline, **more: Any) -> None:
        super().__init__(*args, **more)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, deadline: _Deadline, **more: Any) -> None:
        super().__init__(*args, **more)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.watch(self.sock)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpConnection, deadline=self._deadline), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpsConnection, deadline=self._deadline), req)


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hands every status back: nothing is followed, nothing is asked a second time."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:  # noqa: ARG002
        return response

    https_response = http_response
