"""What the sequencer answers over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_mlgov.cli.sequencer_status import STALE_AFTER_S, health, metrics, serving
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.service.sequencer import Progress

GOOD = Progress(rounds=7, failures=2, last_round_at=100.0, entries=12, waiting=3)


def test_a_sequencer_that_works_is_well() -> None:
    assert health(GOOD, 0.1, 100.25) == (
        True,
        {
            "status": "ok",
            "reason": "",
            "last_round_age_s": 0.25,
            "store_reachable": True,
            "entries": 12,
            "waiting": 3,
        },
    )


@pytest.mark.parametrize(
    ("progress", "now", "reason"),
    [
        (Progress(), 100.0, "no round has ended yet"),
        (GOOD, 100.0 + STALE_AFTER_S + 1, "the last round ended 31.0 seconds ago"),
        (replace(GOOD, away_since=101.5), 103.0, "the store is away for 1.5 seconds"),
    ],
)
def test_what_is_no_health(progress: Progress, now: float, reason: str) -> None:
    is_well, said = health(progress, 0.1, now)
    assert (is_well, said["status"], said["reason"]) == (False, "failing", reason)
    assert said["store_reachable"] is (progress.away_since is None)


def test_a_slow_pace_is_no_illness() -> None:
    assert health(GOOD, 60.0, 100.0 + STALE_AFTER_S + 59)[0]
    assert not health(GOOD, 60.0, 100.0 + STALE_AFTER_S + 61)[0]


def parsed(text: str) -> dict[str, float]:
    """Read Prometheus text, strictly: each sample after its HELP and TYPE."""
    found, lines = {}, text.split("\n")
    assert lines.pop() == ""
    for first, second, sample in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        name, value = re.fullmatch(r"(mlgov_[a-z_]+) (\S+)", sample).groups()
        assert re.fullmatch(rf"# HELP {name} [A-Z1][^\\]+\.", first)
        kind = re.fullmatch(rf"# TYPE {name} (gauge|counter)", second)[1]
        assert name.endswith("_total") == (kind == "counter")
        found[name] = float(value)
    return found


def test_metrics_are_prometheus_text() -> None:
    assert parsed(metrics(GOOD, 101.5)) == {
        "mlgov_ledger_entries": 12,
        "mlgov_ledger_waiting_entries": 3,
        "mlgov_sequencer_last_round_age_seconds": 1.5,
        "mlgov_sequencer_store_up": 1,
        "mlgov_sequencer_rounds_total": 7,
        "mlgov_sequencer_failures_total": 2,
    }
    away = parsed(metrics(replace(GOOD, away_since=1.0), 101.5))
    assert away["mlgov_sequencer_store_up"] == 0
    assert "mlgov_sequencer_last_round_age_seconds" not in parsed(metrics(Progress(), 5.0))


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    progress = Progress(entries=4)
    with serving(("127.0.0.1", 0), lambda: progress, 0.1, tuple) as address:
        yield address


def ask(address: tuple[str, int], method: str, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    connection.close()
    return answer


def test_health_and_metrics_are_answered(address: tuple[str, int]) -> None:
    answer = ask(address, "GET", "/health")
    assert (answer.status, answer.headers["Content-Type"]) == (
        503,
        "application/json; charset=utf-8",
    )
    assert json.loads(answer.text)["reason"] == "no round has ended yet"
    answer = ask(address, "GET", "/metrics?name[]=x")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parsed(answer.text)["mlgov_ledger_entries"] == 4
    head = ask(address, "HEAD", "/metrics")
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]


def test_head_has_no_body(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
def test_nothing_but_reading_is_allowed(address: tuple[str, int], method: str) -> None:
    answer = ask(address, method, "/health")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/health/", "/../etc/passwd", "/metricsx", "*"])
def test_there_is_nothing_else(address: tuple[str, int], path: str) -> None:
    answer = ask(address, "GET", path)
    assert (answer.status, answer.text) == (404, "There are /health and /metrics.\n")


@pytest.mark.parametrize(
    "request_", [b"junk\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n", b"GET " + b"x" * 70_000]
)
def test_a_malformed_request_is_not_repeated_and_harms_nobody(
    address: tuple[str, int], request_: bytes
) -> None:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := connection.recv(65_536):
                answer += part
        except ConnectionResetError:
            pass
    assert b"junk" not in answer
    assert b"Python" not in answer
    assert ask(address, "HEAD", "/metrics").status == 200


def test_answers_name_no_software_version(address: tuple[str, int]) -> None:
    assert ask(address, "GET", "/health").headers["Server"] == "mlgov"


def test_a_port_that_is_taken_is_a_clear_error(address: tuple[str, int]) -> None:
    with (
        pytest.raises(ConfigurationError, match=str(address[1])) as caught,
        serving(address, lambda: GOOD, 0.1, tuple),
    ):
        pass
    assert "--listen" in caught.value.remedy


def test_who_is_slow_to_ask_does_not_hold_up_the_end() -> None:
    with (
        serving(("127.0.0.1", 0), lambda: GOOD, 0.1, tuple) as address,
        socket.create_connection(address, timeout=10) as idle,
    ):
        idle.sendall(b"GET /hea")
        assert ask(address, "GET", "/metrics").status == 200
