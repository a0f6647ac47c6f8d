from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from marquez import FakeMarquez

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.hooks.marquez import MarquezHook
from airflow_mlgov.provider import get_provider_info

CONNECTION = "AIRFLOW_CONN_MARQUEZ_DEFAULT"
EVENT = {
    "eventType": "COMPLETE",
    "eventTime": "2026-11-23T02:59:00Z",
    "producer": "https://example.org/x",
    "run": {"runId": "e8f801c4-7729-5c69-a6f8-d797a80a582b", "facets": {"mlgov_x": {"a": 1}}},
    "job": {"namespace": "bank", "name": "register"},
    "outputs": [{"namespace": "file", "name": "raw/loans"}],
}
READER = EVENT | {
    "run": {"runId": "61eaedb1-e07a-5e4f-94dc-97c7c9a03d8e"},
    "job": {"namespace": "bank", "name": "read"},
    "inputs": EVENT["outputs"],
    "outputs": [],
}


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


def test_airflow_is_told_of_the_connection_type() -> None:
    (declared,) = (
        entry
        for entry in get_provider_info()["connection-types"]
        if entry["connection-type"] == MarquezHook.conn_type
    )
    assert declared["hook-class-name"] == f"{MarquezHook.__module__}.{MarquezHook.__name__}"
    assert declared["hook-name"] == MarquezHook.hook_name


def test_it_reads_what_marquez_has(fake: FakeMarquez, monkeypatch: pytest.MonkeyPatch) -> None:
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv(CONNECTION, f"marquez://:secret-word@127.0.0.1:{port}")
    hook, run_id = MarquezHook(), EVENT["run"]["runId"]
    hook.get_conn().post(json.dumps(EVENT).encode())
    assert hook.run(run_id)["state"] == "COMPLETED"
    assert hook.run_facets(run_id) == {"mlgov_x": {"a": 1}}
    hook.get_conn().post(json.dumps(READER).encode())
    reader = READER["run"]["runId"]
    assert [each["run"]["id"] for each in hook.upstream(reader)] == [reader, run_id]
    assert [each["run"]["id"] for each in hook.upstream(reader, depth=0)] == [reader]
    assert hook.dataset("file", "raw/loans")["name"] == "raw/loans"
    assert len(hook.events()) == 2
    assert hook.is_healthy()
    assert hook.test_connection() == (True, "Marquez answers, with 3 namespaces.")
    sent = {each.headers.get("authorization") for each in fake.requests}
    assert sent == {"Bearer secret-word"}


def test_another_header_and_the_whole_address(
    fake: FakeMarquez, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"authorization": "Basic abc", "timeout_s": 0.2}
    described = {"conn_type": "marquez", "host": fake.url, "password": "x", "extra": extra}
    monkeypatch.setenv(CONNECTION, json.dumps(described))
    assert MarquezHook().is_healthy()
    assert fake.requests[0].headers["authorization"] == "Basic abc"
    fake.hang_s = 30
    answered, said = MarquezHook().test_connection()
    assert not answered
    assert "no answer in 0.2 seconds" in said


@pytest.mark.parametrize(
    "described",
    [
        '{"conn_type": "marquez"}',
        '{"conn_type": "marquez", "host": "m", "extra": {"timeout_s": "soon"}}',
        '{"conn_type": "marquez", "host": "m", "extra": {"timeout_s": 0}}',
        '{"conn_type": "marquez", "host": "m", "extra": {"timeout_s": "nan"}}',
        '{"conn_type": "marquez", "host": "m", "extra": "[1]"}',
    ],
)
def test_a_malformed_connection_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, described: str
) -> None:
    monkeypatch.setenv(CONNECTION, described)
    with pytest.raises(ConfigurationError):
        MarquezHook().get_conn()
    assert MarquezHook().test_connection()[0] is False
