"""What the client makes of a Marquez that works, fails, hangs, lies or is none.

The fake Marquez is held against a real one's answers in `test_fake_marquez.py`.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from marquez import FakeMarquez

from airflow_mlgov.errors import (
    ConfigurationError,
    LineageError,
    LineageRefusedError,
    LineageUnavailableError,
)
from airflow_mlgov.lineage import marquez as room
from airflow_mlgov.lineage.marquez import MarquezClient

RECORDINGS = Path(__file__).parents[2] / "assets" / "marquez"
SCORED = "7551d051-bf3a-5e40-8747-a7bb4785aeb6"
APPROVED = "79fa219b-43aa-503c-a667-55b1cbb55b4c"
READ_TOO_EARLY = "cd2ef9f2-5caa-5368-bf28-ee2985db6490"


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


@pytest.fixture
def client(fake: FakeMarquez) -> Iterator[MarquezClient]:
    made = MarquezClient(fake.url, timeout_s=5)
    yield made
    made.close()


def posts(name: str) -> list[Any]:
    found = map(json.loads, next(RECORDINGS.glob(name)).read_text().splitlines())
    return [each["request"] for each in found if each["method"] == "POST"]


def event(**more: Any) -> bytes:
    return json.dumps({**posts("1-*")[0], **more}).encode()


def post_all(client: MarquezClient, name: str) -> None:
    for each in posts(name):
        client.post(json.dumps(each).encode())


def test_a_chain_is_posted_and_read_back(client: MarquezClient) -> None:
    post_all(client, "1-*")
    scored = client.run(SCORED)
    assert scored is not None
    assert scored["state"] == "COMPLETED"
    assert client.run_facets(APPROVED)["mlgov_approval"]["decision"] == "granted"
    assert client.run_facets(APPROVED, "job") == {}
    names = [each["job"]["name"] for each in client.upstream(SCORED)]
    assert names[0] == "pd.score"
    assert len(names) == 8
    model = client.dataset("mlflow://127.0.0.1:5000", "retail_pd/7")
    assert model is not None
    assert model["facets"]["version"]["datasetVersion"] == "7"
    assert len(client.dataset_versions("mlflow://127.0.0.1:5000", "retail_pd/7")) == 1
    assert len(client.events(limit=5)) == 5
    assert client.check() == "Marquez answers, with 6 namespaces."
    assert client.is_healthy()


def test_a_governed_run_can_be_walked_back(
    client: MarquezClient, recorded: list[dict[str, Any]]
) -> None:
    for each in recorded:
        client.post(json.dumps(each).encode())
    (scored,) = {
        each["run"]["runId"] for each in recorded if each["job"]["name"] == "retail_pd.score"
    }
    reached = {each["job"]["name"]: each for each in client.upstream(scored)}
    assert {"retail_pd.train", "retail_pd.gate.decide", "retail_pd.promote"} <= reached.keys()
    assert any(name.startswith("register.taiwan_credit.csv.") for name in reached)
    assert {each["run"]["status"] for each in reached.values()} == {"COMPLETED"}
    assert client.is_healthy()


def test_what_is_not_there_is_none(client: MarquezClient) -> None:
    assert client.run("x") is None
    assert client.run_facets("x") == {}
    assert client.upstream(SCORED) == []
    assert client.dataset("file", "x") is None
    assert client.dataset_versions("file", "x") == []
    assert client.events() == []


@pytest.mark.parametrize("name", ["a/b c?d#e%2F&ü", "../x", "a//b"])
def test_any_name_is_found_again(client: MarquezClient, name: str) -> None:
    output = {"namespace": "s3://bucket", "name": name}
    client.post(event(outputs=[output]))
    found = client.dataset("s3://bucket", name)
    assert found is not None
    assert found["name"] == name


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (event(run={}), "422: run.runId must not be null."),
        (event(eventTime="yesterday"), 'with 500: Cannot deserialize .* from String "yesterday"'),
        (b"{not json", r"with 500: Unexpected character \('n' \(code 110\)\)"),
        (event(outputs=[{"namespace": "not a name", "name": "x"}]), "with 400: "),
    ],
)
def test_a_refused_event_says_why(client: MarquezClient, sent: bytes, said: str) -> None:
    with pytest.raises(LineageRefusedError, match=said) as refused:
        client.post(sent)
    assert not refused.value.retryable
    assert "Source" not in refused.value.problem


def test_an_event_that_is_too_long_for_the_door_is_refused(
    fake: FakeMarquez, client: MarquezClient
) -> None:
    fake.max_body = 100
    with pytest.raises(LineageRefusedError, match="413"):
        client.post(event())


@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 429, 500, 502, 503, 504, 302, 200])
def test_any_other_answer_says_nothing_about_the_event(
    fake: FakeMarquez, client: MarquezClient, status: int
) -> None:
    fake.fail_next(1, status)
    with pytest.raises(LineageUnavailableError, match=f"answers {status} to POST") as failed:
        client.post(event())
    assert failed.value.retryable
    assert ("token" in failed.value.remedy) == (status in {401, 403})
    client.post(event())


def test_a_page_of_the_servlet_is_not_marquezs_word(client: MarquezClient) -> None:
    with pytest.raises(LineageUnavailableError, match="nothing that can be read"):
        client.post(event(eventType=None))


def test_the_audit_query_that_fails_is_an_error_of_its_own(client: MarquezClient) -> None:
    post_all(client, "2-*")
    with pytest.raises(LineageError, match="answers 500 to what run cd2ef9f2") as gap:
        client.upstream(READ_TOO_EARLY)
    assert type(gap.value) is LineageError
    assert not gap.value.retryable
    assert "had written" in gap.value.remedy


class Script:
    """Answers each request with the next bytes that it was given, and then closes."""

    def __init__(self, *answers: bytes, wait_s: float = 0) -> None:
        self.answers, self.wait_s, self.seen = list(answers), wait_s, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for answer in self.answers:
            taken, _ = self.listener.accept()
            with taken:
                self.seen += taken.recv(65_536)
                for index in range(len(answer)) if self.wait_s else ():
                    try:
                        taken.sendall(answer[index : index + 1])
                    except OSError:
                        return
                    time.sleep(self.wait_s)
                if not self.wait_s:
                    taken.sendall(answer)


def answered(status: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return (
        f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode() + body
    )


BROKEN = answered("500 X", b'{"code": 500, "message": "It has been logged."}')
RUN = answered("200 OK", b'{"state": "COMPLETED"}')


def test_a_database_that_was_away_for_a_moment_is_no_gap() -> None:
    server = Script(BROKEN, RUN, answered("200 OK", b'{"runs": []}'))
    assert MarquezClient(server.url).upstream("x") == []
    server = Script(BROKEN, BROKEN)
    with pytest.raises(LineageUnavailableError, match="answers 500 to GET /jobs/runs/x"):
        MarquezClient(server.url).upstream("x")


def test_half_an_answer_is_none() -> None:
    server = Script(answered("200 OK", b'{"runs": []}', length=500))
    with pytest.raises(LineageUnavailableError, match="cannot be used"):
        MarquezClient(server.url).upstream("x")


def test_an_answer_without_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ANSWER_BYTES", 1000)
    server = Script(answered("200 OK", b" " * 2000))
    with pytest.raises(LineageUnavailableError, match="the whole of its answer"):
        MarquezClient(server.url).run("x")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", b"", b'"x"'])
def test_an_answer_of_something_else_is_none(body: bytes) -> None:
    server = Script(answered("200 OK", body))
    with pytest.raises(LineageUnavailableError, match="answers 200 to GET /jobs/runs/x"):
        MarquezClient(server.url).run("x")


def test_an_answer_that_lacks_the_matter_is_not_an_empty_one() -> None:
    def other() -> MarquezClient:
        return MarquezClient(Script(answered("200 OK", b'{"status": "ok"}')).url)

    asked: list[Callable[[], object]] = [
        lambda: other().upstream("x"),
        lambda: other().events(),
        lambda: other().dataset_versions("file", "x"),
        lambda: other().run_facets("x"),
        lambda: other().check(),
    ]
    for ask in asked:
        with pytest.raises(LineageUnavailableError, match="an answer without"):
            ask()
    server = Script(answered("404 Not Found", b'{"code": 404, "message": "Run not found."}'))
    assert MarquezClient(server.url).upstream("x") == []


def test_a_404_of_somebody_else_is_not_a_missing_run() -> None:
    server = Script(answered("404 Not Found", b"<html>nginx</html>"))
    with pytest.raises(LineageUnavailableError, match="Is this the address of a Marquez"):
        MarquezClient(server.url).run("x")


def test_who_answers_byte_by_byte_is_cut_off() -> None:
    server = Script(RUN, wait_s=0.05)
    began = time.monotonic()
    with pytest.raises(LineageUnavailableError, match=r"no answer in 0\.3 seconds"):
        MarquezClient(server.url, timeout_s=0.3).run("x")
    assert time.monotonic() - began < 2


def test_who_hangs_is_left(fake: FakeMarquez) -> None:
    fake.hang_s = 30
    with pytest.raises(LineageUnavailableError, match=r"no answer in 0\.2 seconds"):
        MarquezClient(fake.url, timeout_s=0.2).post(event())


def test_who_hung_is_asked_on_a_new_connection(fake: FakeMarquez) -> None:
    fake.hang_s = 30
    client = MarquezClient(fake.url, timeout_s=0.5)
    with pytest.raises(LineageUnavailableError):
        client.post(event())
    fake.hang_s = 0
    client.post(event())
    assert fake.connections == 2


def test_who_does_not_listen_is_unavailable(fake: FakeMarquez, client: MarquezClient) -> None:
    fake.refuse()
    with pytest.raises(LineageUnavailableError, match=r"cannot be used: .*refused"):
        client.post(event())
    assert not client.is_healthy()


def test_a_connection_is_kept_and_made_anew_after_a_restart(
    fake: FakeMarquez, client: MarquezClient
) -> None:
    for _ in range(3):
        client.post(event())
    assert fake.connections == 1
    fake.restart()
    client.post(event())
    assert fake.connections == 2
    assert len(fake.events) == 4


def test_a_lost_answer_is_not_sent_again_by_itself(
    fake: FakeMarquez, client: MarquezClient
) -> None:
    fake.drop_answer_after_store = 1
    with pytest.raises(LineageUnavailableError):
        client.post(event())
    assert len(fake.events) == 1
    assert len(fake.requests) == 1


def test_each_thread_has_a_connection(fake: FakeMarquez, client: MarquezClient) -> None:
    fake.slow_s = 0.1
    runs = [event(run={"runId": str(uuid4())}) for _ in range(4)]
    threads = [threading.Thread(target=_post_twice, args=(client, each)) for each in runs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (fake.max_concurrent, fake.connections) == (4, 4)
    assert len(fake.events) == 8


def _post_twice(client: MarquezClient, sent: bytes) -> None:
    client.post(sent)
    client.post(sent)


def test_the_header_is_sent_and_never_told(fake: FakeMarquez) -> None:
    client = MarquezClient(fake.url, "Bearer hidden-word")
    fake.fail_next(1, 401)
    with pytest.raises(LineageUnavailableError) as failed:
        client.post(event())
    assert "hidden-word" not in failed.value.diagnostics()
    assert fake.requests[0].headers["authorization"] == "Bearer hidden-word"


def test_a_path_before_the_api_is_kept() -> None:
    server = Script(RUN)
    assert MarquezClient(f"{server.url}/lineage/").run("x") == {"state": "COMPLETED"}
    assert server.seen.startswith(b"GET /lineage/api/v1/jobs/runs/x HTTP/1.1")


def test_a_server_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = tmp_path / "both.pem"
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        client = MarquezClient(f"https://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(LineageUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            client.run("x")


def _accept(listener: ssl.SSLSocket) -> None:
    try:
        listener.accept()
    except OSError:
        return


@pytest.mark.parametrize(
    "url",
    ["", "marquez:5000", "ftp://marquez", "http://", "http://u:p@marquez", "http://marquez:port"],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError):
        MarquezClient(url)
