"""The connection type, and servers that do not behave; the real one is read elsewhere."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlgov.errors import (
    AirflowRefusedError,
    AirflowUnavailableError,
    ConfigurationError,
)
from airflow_mlgov.hooks.airflow_api import AirflowApi
from airflow_mlgov.hooks.airflow_server import AirflowServerHook
from airflow_mlgov.provider import get_provider_info

SINCE, UNTIL = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC)
CONNECTION = "AIRFLOW_CONN_MLGOV_AIRFLOW"


class Server:
    """Answers each path as it is told to; cannot prove what a real Airflow says."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.seen: list[tuple[str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.path, self.headers.get("Authorization")))
                path = self.path.partition("?")[0]
                status, body = outer.answers.get(path, (404, {}))
                body = body.pop(0) if isinstance(body, list) else body
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", body)
                self.end_headers()
                self.wfile.write(
                    body.encode() if isinstance(body, str) else json.dumps(body).encode()
                )

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def api(server: Server) -> AirflowApi:
    return AirflowApi(server.url, lambda: "a-token")


def test_airflow_is_told_of_the_connection_type() -> None:
    (declared,) = (
        entry
        for entry in get_provider_info()["connection-types"]
        if entry["connection-type"] == AirflowServerHook.conn_type
    )
    home = f"{AirflowServerHook.__module__}.{AirflowServerHook.__name__}"
    assert declared["hook-class-name"] == home
    assert declared["hook-name"] == AirflowServerHook.hook_name


@pytest.mark.parametrize("how", ["host", "parts"])
def test_the_hook_signs_in_and_reads(
    how: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = server.server.server_port
    address = {"host": server.url} if how == "host" else {"host": "127.0.0.1", "port": port}
    user = {"conn_type": "mlgov_airflow", "login": "viewer", "password": "hidden-word"}
    monkeypatch.setenv(CONNECTION, json.dumps(user | address))
    server.answers = {
        "/auth/token": (201, {"access_token": "a-token"}),
        "/api/v2/eventLogs": (200, {"event_logs": [], "total_entries": 0}),
        "/api/v2/version": (200, {"version": "3.3.2"}),
    }
    assert AirflowServerHook().test_connection() == (True, "Airflow 3.3.2 lets us read.")
    assert [token for _, token in server.seen] == [None, "Bearer a-token", "Bearer a-token"]
    server.answers["/auth/token"] = (401, {})
    answered, message = AirflowServerHook().test_connection()
    assert not answered
    assert "gave 'viewer' no token" in message
    assert "hidden-word" not in message


@pytest.mark.parametrize(
    ("connection", "match"),
    [
        ({"host": "http://a"}, "no login and password"),
        ({"host": "ftp://a", "login": "x", "password": "y"}, "no address of an api-server"),
        ({"login": "x", "password": "y"}, "no address of an api-server"),
    ],
)
def test_a_malformed_connection_is_one_clear_error(
    connection: dict[str, str], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps(connection | {"conn_type": "mlgov_airflow"}))
    with pytest.raises(ConfigurationError, match=match):
        AirflowServerHook().get_conn()
    assert AirflowServerHook().test_connection()[0] is False


def test_a_server_that_is_not_there(server: Server) -> None:
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(AirflowUnavailableError, match="cannot be reached"):
        api(server).version()


@pytest.mark.parametrize(
    ("status", "body", "error", "match"),
    [
        (500, {"detail": "oh"}, AirflowUnavailableError, "answers 500 to /api/v2/eventLogs: oh"),
        (429, "slow down", AirflowUnavailableError, "answers 429"),
        (403, {"detail": "Forbidden"}, AirflowRefusedError, "may read DAGs"),
        (200, "<html>", AirflowRefusedError, "no answer of Airflow's API"),
        (200, "[]", AirflowRefusedError, "no answer of Airflow's API"),
    ],
)
def test_what_is_no_answer(
    server: Server, status: int, body: object, error: type[Exception], match: str
) -> None:
    server.answers = {"/api/v2/eventLogs": (status, body)}
    with pytest.raises(error, match=match):
        api(server).version()


def test_the_token_goes_to_nobody_else(server: Server) -> None:
    other = Server()
    server.answers = {"/api/v2/eventLogs": (302, f"{other.url}/api/v2/eventLogs")}
    with pytest.raises(AirflowRefusedError, match="answers 302"):
        api(server).version()
    assert other.seen == []


def test_an_audit_log_that_shrinks_is_not_taken_for_complete(server: Server) -> None:
    row = dict.fromkeys(("dag_id", "run_id", "task_id", "extra"))
    row |= {"event_log_id": 1, "when": SINCE.isoformat(), "event": "delete_dag"}
    pages = [{"event_logs": [row], "total_entries": 2}, {"event_logs": [], "total_entries": 2}]
    server.answers = {"/api/v2/eventLogs": (200, pages)}
    with pytest.raises(AirflowUnavailableError, match="shrank"):
        list(api(server).changes(SINCE, UNTIL))


@pytest.mark.parametrize("extra", ["not JSON", "[1]", None])
def test_a_row_whose_extra_nobody_can_read_is_a_row_all_the_same(
    server: Server, extra: str | None
) -> None:
    row = {"event_log_id": 1, "when": SINCE.isoformat(), "event": "delete_dag", "extra": extra}
    row |= dict.fromkeys(("dag_id", "run_id", "task_id"))
    server.answers = {"/api/v2/eventLogs": (200, {"event_logs": [row], "total_entries": 1})}
    (found,) = api(server).changes(SINCE, UNTIL)
    assert found.extra == {}
