"""Transports of the OpenLineage client as targets; Dataplex, DataZone and Kafka are stand-ins."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from lineage_events import event, run_of
from marquez import FakeMarquez

from airflow_mlgov.errors import (
    ConfigurationError,
    LineageRefusedError,
    LineageUnavailableError,
)
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.targets.client import ClientTarget

RUN = "01890000-0000-7000-8000-000000000001"
PARENT = {"run": {"runId": RUN}, "job": {"namespace": "bank", "name": "dag"}}


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


def http(url: str, **more) -> dict:
    return {"type": "http", "url": url, "timeout": 1, "retry": {"total": 0}} | more


def whole_event() -> dict:
    said = run_of("a", 0, reads=["x"], writes=["y"])[1]
    said["run"]["facets"] = {"parent": PARENT, "mlgov_x": {"deep": [{"n": 1.5, "b": True}]}}
    said["outputs"][0]["outputFacets"] = {"outputStatistics": {"rowCount": 3}}
    said["inputs"][0]["facets"] = {"documentation": {"description": "d"}}
    return said


def test_an_event_arrives_as_it_was_kept(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    target = ClientTarget("file", {"type": "file", "log_file_path": str(log), "append": True})
    said = whole_event()
    assert target.problem(said) == ""
    target.send(OutboxItem.of(said).event)
    found = json.loads(log.read_text())
    assert found == said


def test_http_takes_it_and_its_refusals_and_outages_are_told_apart(fake: FakeMarquez) -> None:
    target = ClientTarget("catalogue", http(fake.url))
    item = OutboxItem.of(event("a", "START", 0))
    target.send(item.event)
    assert len(fake.events) == 1
    fake.fail_next(1, status=422)
    with pytest.raises(LineageRefusedError, match=r"catalogue: 422"):
        target.send(item.event)
    for status in (500, 401, 429):
        fake.fail_next(1, status=status)
        with pytest.raises(LineageUnavailableError, match=str(status)):
            target.send(item.event)
    fake.refuse()
    with pytest.raises(LineageUnavailableError):
        target.send(item.event)


def test_composite_fails_if_one_of_its_transports_fails(fake: FakeMarquez, tmp_path: Path) -> None:
    log = {"type": "file", "log_file_path": str(tmp_path / "log"), "append": True}
    both = {"type": "composite", "transports": {"log": log, "there": http(fake.url)}}
    target = ClientTarget("both", both)
    target.send(OutboxItem.of(event("a", "START", 0)).event)
    assert len(fake.events) == 1
    fake.fail_next(1, status=400)
    with pytest.raises(LineageRefusedError):
        target.send(OutboxItem.of(event("a", "COMPLETE", 1)).event)
    fake.refuse()
    with pytest.raises(LineageUnavailableError):
        target.send(OutboxItem.of(event("a", "COMPLETE", 1)).event)
    assert both == {"type": "composite", "transports": {"log": log, "there": http(fake.url)}}


@pytest.mark.parametrize(
    ("transport", "says"),
    [
        ({"type": "noop"}, "sends nothing"),
        ({"type": "async_http", "url": "http://x"}, "tells nobody"),
        ({"type": "composite", "transports": [{"type": "noop"}]}, "sends nothing"),
        ({"type": "transform", "transport": {"type": "async_http"}}, "tells nobody"),
        (
            {"type": "composite", "continue_on_failure": True, "transports": [http("http://x")]},
            "goes on after a failure",
        ),
        ({"type": "htpp", "url": "http://x"}, "refuses its transport"),
        ({"type": "http"}, "refuses its transport"),
        ({}, "transport"),
    ],
)
def test_a_transport_that_would_not_say_what_became_of_events_is_refused(transport, says) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ClientTarget("there", transport)


def test_a_client_that_is_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    with pytest.raises(ConfigurationError, match="OPENLINEAGE_DISABLED"):
        ClientTarget("there", http("http://x"))


DATAPLEX = {"type": "gcplineage", "project_id": "bank", "location": "europe-west3"}
DATAZONE = {"type": "amazon_datazone_api", "domainId": "dzd_1", "region": "eu-west-1"}


def linked(inputs: int, outputs: int) -> dict:
    reads = [f"in{n}" for n in range(inputs)]
    return event("a", "COMPLETE", 0, reads=reads, writes=[f"out{n}" for n in range(outputs)])


def named(length: int, letter: str = "x") -> dict:
    return event("a", "START", 0, reads=[letter * (length - len("file:"))])


def long(size: int) -> dict:
    said = event("a", "COMPLETE", 0)
    said["run"]["facets"] = {"x": {"y": ""}}
    said["run"]["facets"]["x"]["y"] = "z" * (size - len(json.dumps(said)))
    return said


def job_event() -> dict:
    said = event("a", "COMPLETE", 0)
    del said["run"]
    return said


@pytest.mark.parametrize(
    ("transport", "fits", "does_not"),
    [
        (DATAPLEX, linked(10, 10), linked(101, 1)),
        (DATAPLEX, linked(100, 0), linked(11, 10)),
        (DATAPLEX, named(4_000), named(4_001)),
        (DATAPLEX, long(5_000_000), long(5_000_001)),
        (DATAPLEX, linked(1, 1), job_event()),
        (DATAZONE, long(300_000), long(300_001)),
        (DATAZONE, named(49_000, "ü"), named(60_000, "ü")),
        (DATAZONE, linked(200, 200), job_event()),
        (http("http://x"), long(6_000_000), job_event()),
        ({"type": "composite", "transports": [DATAPLEX]}, linked(10, 10), linked(101, 1)),
    ],
)
def test_what_is_over_a_limit_is_not_sent(
    transport, fits: dict, does_not: dict, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    target = ClientTarget("there", transport)
    assert target.problem(fits) == ""
    assert target.problem(does_not) != ""


class GoogleError(Exception):
    code = 400


class AwsError(Exception):
    def __init__(self, status: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def wrapped(error: Exception) -> Exception:
    made = RuntimeError("Failed to send")
    made.__cause__ = error
    return made


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (GoogleError("bad"), LineageRefusedError),
        (wrapped(AwsError(400)), LineageRefusedError),
        (wrapped(AwsError(503)), LineageUnavailableError),
        (wrapped(OSError("reset")), LineageUnavailableError),
        (ValueError("?"), LineageUnavailableError),
    ],
)
def test_errors_of_each_cloud_are_told_apart(error, wanted, monkeypatch) -> None:
    target = ClientTarget("there", DATAPLEX)

    def emit(_event) -> None:
        raise error

    monkeypatch.setattr(target._transport, "emit", emit)
    with pytest.raises(wanted):
        target.send(OutboxItem.of(event("a", "START", 0)).event)


class Producer:
    """A Kafka producer whose broker refuses what its key names."""

    def __init__(self, _config: dict) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.waiting: list = []
        self.is_silent = False

    def produce(self, topic: str, key: str, value: bytes, on_delivery) -> None:
        self.waiting.append((key, value, on_delivery))

    def flush(self, timeout: float = -1) -> int:
        if self.is_silent:
            return len(self.waiting)
        for key, value, told in self.waiting:
            refused = b"poison" in value
            told("message too large" if refused else None, object())
            if not refused:
                self.taken.append((key, value))
        self.waiting.clear()
        return 0


def test_kafka_says_what_its_broker_did_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's transport logs it, and returns as if all were well."""
    module = types.ModuleType("confluent_kafka")
    module.Producer = Producer
    monkeypatch.setitem(sys.modules, "confluent_kafka", module)
    target = ClientTarget(
        "kafka", {"type": "kafka", "topic": "lineage", "config": {}, "flush": True}
    )
    said = whole_event()
    target.send(OutboxItem.of(said).event)
    producer = target._kafka[0]._producer
    ((key, value),) = producer.taken
    assert (key, json.loads(value)) == ("run:bank/dag", said)
    with pytest.raises(LineageUnavailableError, match="message too large"):
        target.send(OutboxItem.of(event("poison", "START", 0)).event)
    target.send(OutboxItem.of(event("b", "START", 0)).event)
    assert len(producer.taken) == 2
    producer.is_silent = True
    with pytest.raises(LineageUnavailableError, match="in a minute"):
        target.send(OutboxItem.of(event("c", "START", 0)).event)
