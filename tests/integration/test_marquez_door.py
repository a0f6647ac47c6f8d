"""The door before Marquez: the real nginx with the configuration that is shipped, and the fake.

Changed in it for the test are the port and the folder of its logs. nginx is Debian's, older than
the image that the compose file names, which `test_compose_file.py` looks at.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import yaml
from marquez import FakeMarquez

from airflow_mlgov.errors import LineageRefusedError, LineageUnavailableError
from airflow_mlgov.lineage import emission
from airflow_mlgov.lineage.events import StepLineage
from airflow_mlgov.lineage.marquez import MarquezClient

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "deploy" / "nginx" / "marquez.conf.template"
TOKEN = "7d3a.Word+hidden"
RUN = "e8f801c4-7729-5c69-a6f8-d797a80a582b"
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
BEARER = {"Authorization": f"Bearer {TOKEN}"}

MAIN = """daemon off; master_process off; pid $here/pid; error_log $here/error.log info;
events {}
http {
    client_body_temp_path $here/body; proxy_temp_path $here/proxy; fastcgi_temp_path $here/fcgi;
    uwsgi_temp_path $here/uwsgi; scgi_temp_path $here/scgi;
    include $here/door.conf;
}
"""


def program(name: str) -> str:
    if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed: the door of Marquez cannot be tried.")
    pytest.skip(f"{name} is not installed: the door of Marquez is not tried.")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Web:
    """Stands for the web interface: says which method came through, as the real one passes on."""

    def __init__(self) -> None:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = f"{self.command} {self.path}".encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@dataclass
class Door:
    port: int
    folder: Path
    fake: FakeMarquez

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
            answer = connection.getresponse()
            self.challenge = answer.headers.get("WWW-Authenticate")
            return answer.status, answer.read()
        finally:
            connection.close()

    def passed(self) -> list[tuple[str, str]]:
        return [(each.method, each.target) for each in self.fake.requests]


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def door(tmp_path: Path, web: Web) -> Iterator[Door]:
    nginx, port = program("nginx"), free_port()
    with FakeMarquez() as fake:
        written = Template(TEMPLATE.read_text()).safe_substitute(
            MARQUEZ_WRITE_TOKEN=TOKEN,
            MARQUEZ_API=fake.url.removeprefix("http://"),
            MARQUEZ_WEB=f"127.0.0.1:{web.server.server_port}",
        )
        assert "listen 8080;" in written
        written = written.replace("listen 8080;", f"listen 127.0.0.1:{port};")
        written = written.replace("/var/log/nginx/", f"{tmp_path}/")
        (tmp_path / "door.conf").write_text(written)
        (tmp_path / "nginx.conf").write_text(Template(MAIN).substitute(here=tmp_path))
        command = [nginx, "-p", tmp_path, "-e", tmp_path / "error.log", "-c", "nginx.conf"]
        running = subprocess.Popen(command)
        try:
            wait_for(port, running, tmp_path)
            yield Door(port, tmp_path, fake)
        finally:
            running.terminate()
            running.wait(10)


def wait_for(port: int, running: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and running.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"nginx does not listen: {(folder / 'error.log').read_text()}")


def event(**more: Any) -> bytes:
    said = {
        "eventType": "COMPLETE",
        "eventTime": "2026-11-23T02:59:00Z",
        "producer": "https://example.org/x",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": RUN},
        "job": {"namespace": "bank", "name": "register"},
        "outputs": [{"namespace": "s3://bucket", "name": "raw/loans 1%2F?#ü"}],
    }
    return json.dumps(said | more).encode()


def test_a_writer_posts_and_a_reader_reads(door: Door) -> None:
    writer, reader = MarquezClient(door.url, f"Bearer {TOKEN}"), MarquezClient(door.url)
    writer.post(event())
    found = reader.run(RUN)
    assert found is not None
    assert found["state"] == "COMPLETED"
    dataset = reader.dataset("s3://bucket", "raw/loans 1%2F?#ü")
    assert dataset is not None
    assert dataset["name"] == "raw/loans 1%2F?#ü"
    assert len(reader.upstream(RUN)) == 1
    assert reader.is_healthy()
    node = quote("job:bank:register", safe="")
    status, body = door.ask("GET", f"/api/v1/lineage?nodeId={node}&depth=3")
    assert (status, len(json.loads(body)["graph"])) == (200, 2)
    assert not any("authorization" in each.headers for each in door.fake.requests)


def test_the_stock_transport_gets_in_with_the_token(door: Door) -> None:
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    settings = {"url": door.url, "auth": {"type": "api_key", "apiKey": TOKEN}}
    transport = HttpTransport(HttpConfig.from_dict(settings))
    transport.emit(emission.run_event(StepLineage(), emission.Run("bank", "x", RUN), "START", NOW))
    assert [each["run"]["runId"] for each in door.fake.events] == [RUN]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer x{TOKEN}",
        f"x Bearer {TOKEN}",
        f"Bearer {TOKEN.lower()}",
        "Bearer 7d3aXWord+hidden",
        "Bearer 7d3a.Worddhidden",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN} {TOKEN}",
    ],
)
def test_who_has_no_token_writes_nothing(door: Door, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    assert door.ask("POST", "/api/v1/lineage", event(), **headers)[0] == 401
    assert door.challenge == "Bearer"
    assert door.fake.requests == []
    with pytest.raises(LineageUnavailableError, match="Check the token"):
        MarquezClient(door.url, header).post(event())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/v1/namespaces/bank"),
        ("DELETE", "/api/v1/namespaces/bank/jobs/register"),
        ("DELETE", "/api/v1/namespaces/file/datasets/x"),
        ("DELETE", "/api/v1/lineage"),
        ("PUT", "/api/v1/lineage"),
        ("PATCH", "/api/v1/lineage"),
        ("PUT", "/api/v1/namespaces/bank"),
        ("POST", f"/api/v1/jobs/runs/{RUN}/fail"),
        ("POST", "/api/v1/lineage/"),
        ("POST", "/api/v1/namespaces/bank/jobs/register/runs"),
        ("POST", "/api/v2beta/search"),
        ("POST", "/api/v1-beta/graphql"),
        ("GET", "/api/v1-beta/graphql"),
        ("POST", "/"),
        ("DELETE", "/"),
        ("PUT", "/x/../api/v1/lineage"),
        ("get", "/api/v1/namespaces"),
        ("HEAD", "/api/v1/namespaces"),
        ("FOO", "/api/v1/lineage"),
        ("OPTIONS", "/api/v1/lineage"),
        ("TRACE", "/api/v1/lineage"),
    ],
)
def test_nothing_else_gets_in(door: Door, method: str, path: str) -> None:
    body = b"{}" if method == "POST" else None
    for headers in ({}, BEARER):
        assert door.ask(method, path, body, **headers)[0] in {400, 404, 405}
    assert door.passed() == []


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/jobs/runs/{RUN}/fail;a=%2f..%2f..%2f..%2f..%2flineage",
        f"/api/v1/jobs/runs/{RUN}/fail/..%2f..%2f..%2f..%2flineage",
        "/api//v1/./lineage",
    ],
)
def test_a_writer_reaches_one_path_however_it_is_written(door: Door, path: str) -> None:
    assert door.ask("POST", path, event(), **BEARER)[0] in {201, 405}
    assert set(door.passed()) <= {("POST", "/api/v1/lineage")}


def test_the_web_interface_is_read_only(door: Door) -> None:
    assert door.ask("GET", "/lineage/job/x") == (200, b"GET /lineage/job/x")
    assert door.ask("POST", "/lineage/job/x", b"")[0] == 405
    assert door.fake.requests == []


def test_an_event_of_more_than_a_megabyte_is_refused(door: Door) -> None:
    fits, too_long = event(pad="x" * 1_000_000), event(pad="x" * 1_050_000)
    assert door.ask("POST", "/api/v1/lineage", fits, **BEARER)[0] == 201
    with pytest.raises(LineageRefusedError, match="413"):
        MarquezClient(door.url, f"Bearer {TOKEN}").post(too_long)
    chunks = iter([b"x" * 65_536] * 32)
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    connection.request("POST", "/api/v1/lineage", chunks, BEARER, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert len(door.fake.events) == 1


def test_no_token_is_in_the_logs(door: Door) -> None:
    door.ask("POST", "/api/v1/lineage", event(), **BEARER)
    door.ask("POST", "/api/v1/lineage", event(), Authorization="Bearer other-hidden-word")
    door.ask("GET", "/api/v1/namespaces?token=third-hidden-word", Referer="fourth-hidden-word")
    door.ask("POST", "/api/v1/lineage", event(pad="x" * 1_050_000), **BEARER)
    time.sleep(0.1)
    access = (door.folder / "access.log").read_text()
    assert [line.split()[2:5] for line in access.splitlines()] == [
        ["POST", "/api/v1/lineage", "201"],
        ["POST", "/api/v1/lineage", "401"],
        ["GET", "/api/v1/namespaces", "200"],
        ["POST", "/api/v1/lineage", "413"],
    ]
    assert "hidden" not in access + (door.folder / "error.log").read_text()


def test_a_lost_answer_of_marquez_is_not_asked_for_again(door: Door) -> None:
    client = MarquezClient(door.url, f"Bearer {TOKEN}")
    client.post(event(run={"runId": str(uuid4())}))
    door.fake.drop_answer_after_store = 1
    with pytest.raises(LineageUnavailableError, match="502"):
        client.post(event())
    assert len(door.fake.events) == 2
    door.fake.refuse()
    with pytest.raises(LineageUnavailableError, match="502"):
        client.post(event())


def test_marquezs_own_configuration_deletes_and_serves_nothing_more() -> None:
    written = (ROOT / "deploy" / "marquez" / "marquez.yml").read_text()
    settings = yaml.safe_load(written)
    assert not {"search", "dbRetention"} & settings.keys()
    assert settings["graphql"] == {"enabled": False}
