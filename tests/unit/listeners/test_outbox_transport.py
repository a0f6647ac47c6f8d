"""The transport as OpenLineage's own client uses it: by configuration, with its own events."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Dataset, DatasetEvent, Job, Run, RunEvent, RunState

from airflow_mlgov import wiring
from airflow_mlgov.errors import LedgerUnavailableError, LineageError
from airflow_mlgov.listeners import embedded_shipper
from airflow_mlgov.stores.sqlite import SqliteOutbox

TRANSPORT = "airflow_mlgov.listeners.outbox_transport.OutboxTransport"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path


@pytest.fixture
def client(home) -> OpenLineageClient:
    return OpenLineageClient(config={"transport": {"type": TRANSPORT}})


def event(number: int = 1, **changes: Any) -> RunEvent:
    run_id = str(uuid.UUID(int=number, version=4))
    arguments = {
        "eventType": RunState.START,
        "eventTime": datetime(2026, 1, 2, tzinfo=UTC).isoformat(),
        "run": Run(run_id),
        "job": Job("bank", "dag.tâche"),
    }
    return RunEvent(**(arguments | changes))


def kept(home) -> list[dict[str, Any]]:
    outbox = SqliteOutbox(home / "ledger.db")
    outbox.take()
    return [each.decoded() for each in outbox.events(0, 1_000)]


def test_an_event_is_kept_once_as_it_is(home, client):
    client.emit(event())
    client.emit(event())
    (found,) = kept(home)
    assert found["run"]["runId"] == str(uuid.UUID(int=1, version=4))
    assert found["job"]["name"] == "dag.tâche"
    assert found["eventType"] == "START"
    assert not list((home / "spool").glob("*"))


def test_what_is_no_event_of_a_run_is_refused_and_nothing_is_kept(home, client):
    about_data = DatasetEvent(
        eventTime=datetime(2026, 1, 2, tzinfo=UTC).isoformat(),
        dataset=Dataset("file", "/data.csv"),
    )
    with pytest.raises(LineageError, match="no event of an OpenLineage run"):
        client.emit(about_data)
    assert kept(home) == []


def test_while_the_store_is_away_events_wait_on_this_machine_and_go_in_with_the_next(
    home, client, monkeypatch
):
    def away(*_: object) -> None:
        raise LedgerUnavailableError("The ledger cannot be used: the disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteOutbox, "append", away)
        client.emit(event(1))
        client.emit(event(2))
    assert kept(home) == []
    client.emit(event(3))
    found = [uuid.UUID(each["run"]["runId"]).int & 0xF for each in kept(home)]
    assert sorted(found) == [1, 2, 3]
    assert wiring.open_spool().waiting().waiting == 0


def test_a_store_of_an_older_release_is_one_that_is_away(home, client):
    with closing(sqlite3.connect(home / "ledger.db")) as db:
        db.execute("CREATE TABLE of_somebody (n)")
    client.emit(event())
    assert wiring.open_spool().waiting().waiting == 1


def test_where_neither_can_keep_it_whoever_emits_is_told(home, client, monkeypatch):
    def away(*_: object) -> None:
        raise LedgerUnavailableError("The ledger cannot be used.")

    (home / "spool").write_text("in the way")
    monkeypatch.setattr(SqliteOutbox, "append", away)
    with pytest.raises(LedgerUnavailableError, match="spool"):
        client.emit(event())


def test_many_threads_lose_nothing(home, client):
    def emit(first: int) -> None:
        for number in range(first, first + 20):
            client.emit(event(number))

    threads = [threading.Thread(target=emit, args=(n,)) for n in range(100, 260, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each["run"]["runId"] for each in kept(home)}) == 160


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(
        embedded_shipper.subprocess, "Popen", lambda command, **_: calls.append(command)
    )
    return calls


def test_nobody_is_started_without_targets(client, started):
    client.emit(event())
    assert started == []


def test_one_is_started_with_targets_unless_one_runs(home, client, monkeypatch, started):
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_TARGETS_PATH", str(home / "targets.yaml"))
    with SqliteOutbox(home / "ledger.db").shipping(embedded_shipper.LOCK) as is_mine:
        assert is_mine
        client.emit(event(1))
        assert started == []
    client.emit(event(2))
    assert [command[-1] for command in started] == ["airflow_mlgov.listeners.embedded_shipper"]


def test_what_is_kept_is_json_of_openlineage(home, client):
    client.emit(event())
    outbox = SqliteOutbox(home / "ledger.db")
    outbox.take()
    (found,) = outbox.events(0, 1)
    assert json.loads(found.event)["schemaURL"].endswith("/RunEvent")
