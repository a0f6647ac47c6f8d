"""A POST to servers that are slow, large, elsewhere or gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from airflow_mlgov.anchors.post import MAX_ANSWER_BYTES, post
from airflow_mlgov.errors import AnchorError, AnchorUnavailableError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=x\r\n"


@pytest.fixture
def served():
    """Return a function that makes a server which reads a request and then does as it likes."""
    ended = threading.Event()
    listening = []

    def start(act: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    try:
                        act(connection)
                    except OSError:
                        continue

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield start
    ended.set()
    for server in listening:
        server.close()


def sending(*parts: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(b"".join(parts))


def test_an_answer(served) -> None:
    answer = post(served(sending(HEAD, b"Content-Length: 2\r\n\r\nok")), b"x", "text/plain")
    assert (answer.status, answer.content_type, answer.body) == (200, "text/plain", b"ok")


def test_errors_are_answers_too(served) -> None:
    head = HEAD.replace(b"200 OK", b"409 Conflict")
    answer = post(served(sending(head, b"Content-Length: 2\r\n\r\n7\n")), b"x", "text/plain")
    assert (answer.status, answer.body) == (409, b"7\n")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(served, status) -> None:
    asked = []
    goal = served(lambda connection: asked.append(connection.sendall(HEAD + b"\r\n")))
    head = HEAD.replace(b"200", str(status).encode()) + f"Location: {goal}\r\n".encode()
    with pytest.raises(AnchorError, match="redirects"):
        post(served(sending(head, b"Content-Length: 0\r\n\r\n")), b"x", "text/plain")
    assert asked == []


@pytest.mark.parametrize("head", [HEAD + b"Content-Length: 9999999\r\n\r\n", HEAD + b"\r\n"])
def test_a_huge_body_is_not_read(served, head) -> None:
    sent = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(head)
        sent.extend(connection.send(b"x" * 65_536) for _ in range(10_000))

    with pytest.raises(AnchorError, match=f"more than {MAX_ANSWER_BYTES} bytes"):
        post(served(flood), b"x", "text/plain")
    assert sum(sent) < 64 * 2**20


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD, b"Content-Length: 20\r\n\r\nhalf"),
        (HEAD, b"Transfer-Encoding: chunked\r\n\r\n20\r\nhalf"),
        (b"junk\r\n\r\n",),
        (),
    ],
)
def test_a_broken_answer(served, parts) -> None:
    with pytest.raises(AnchorUnavailableError):
        post(served(sending(*parts)), b"x", "text/plain")


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"\r\n", HEAD + b"Content-Length: 9\r\n\r\n"])
def test_a_server_that_drips_is_cut_off(served, first) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(200):
            connection.sendall(b"H")
            time.sleep(0.05)

    begun = time.monotonic()
    with pytest.raises(AnchorUnavailableError, match=r"no answer in 0\.4|not send the whole"):
        post(served(drip), b"x", "text/plain", timeout_s=0.4)
    assert time.monotonic() - begun < 3


def test_a_server_that_says_nothing(served) -> None:
    begun = time.monotonic()
    with pytest.raises(AnchorUnavailableError):
        post(served(lambda connection: time.sleep(5)), b"x", "text/plain", timeout_s=0.4)
    assert time.monotonic() - begun < 3


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    with pytest.raises(AnchorUnavailableError, match="Connection refused"):
        post(url, b"x", "text/plain")
