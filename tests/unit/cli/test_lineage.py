"""``airflow mlgov lineage`` on a real outbox, with a fake Marquez and a folder as targets."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from marquez import FakeMarquez

from airflow_mlgov.cli import lineage as command
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.stores.spool import LineageSpool
from airflow_mlgov.stores.sqlite import SqliteOutbox

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def marquez():
    with FakeMarquez() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, configure, marquez, monkeypatch) -> Path:
    monkeypatch.setattr(command, "PATIENCE_S", 2.0)
    targets = tmp_path / "targets.yaml"
    targets.write_text(
        "version: 1\ntargets:\n"
        f"  - {{name: marquez, kind: marquez, url: '{marquez.url}'}}\n"
        f"  - {{name: archive, kind: folder, url: 'file://{tmp_path}/archive'}}\n"
    )
    configure(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        lineage_spool_dir=tmp_path / "spool",
        lineage_targets_path=targets,
    )
    return tmp_path


def event(number: int, state: str = "START", **more: Any) -> dict[str, Any]:
    seconds = 5 if state == "START" else 6
    return {
        "eventType": state,
        "eventTime": f"2026-01-02T00:00:0{seconds}Z",
        "run": {"runId": str(uuid.UUID(int=number, version=4))},
        "job": {"namespace": "bank", "name": f"dag.task{number}"},
        "inputs": [],
        "outputs": [],
        "producer": "urn:test",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    } | more


def run_id(number: int) -> str:
    return event(number)["run"]["runId"]


def put(home: Path, *events: dict[str, Any]) -> None:
    SqliteOutbox(home / "ledger.db").append([OutboxItem.of(each) for each in events], NOW)


def rows(ended: Any) -> dict[str, dict[str, Any]]:
    return {row["target"]: row for row in json.loads(ended.out)}


def test_what_waits_is_delivered_and_shown(airflow, home, marquez):
    put(home, event(1), event(1, "COMPLETE"))
    before = airflow("lineage", "status", "--output", "json")
    assert [(r["waiting"], r["since"]) for r in rows(before).values()] == [
        ("2", "2026-01-02T00:00:00.000Z")
    ] * 2
    ended = airflow("lineage", "ship", "--output", "json")
    assert ended.code == 0, ended.err
    assert [(r["waiting"], r["delivered"]) for r in rows(ended).values()] == [("0", "2")] * 2
    assert [each["eventType"] for each in marquez.events] == ["START", "COMPLETE"]
    assert len(list((home / "archive").rglob("*.json"))) == 2


def test_what_had_to_wait_on_this_machine_goes_too(airflow, home, marquez):
    LineageSpool(home / "spool").keep([OutboxItem.of(event(1))], NOW)
    status = airflow("lineage", "status")
    assert "On this machine wait 1 files of events" in status.err
    assert airflow("lineage", "ship", "--target", "marquez").code == 0
    assert [each["run"]["runId"] for each in marquez.events] == [run_id(1)]


def test_a_target_that_is_away_is_said_and_nothing_is_lost(airflow, home, marquez):
    put(home, event(1), event(1, "COMPLETE"))
    marquez.refuse()
    ended = airflow("lineage", "ship", "--output", "json")
    assert ended.code == 1
    assert marquez.url in ended.err
    assert rows(ended)["marquez"]["waiting"] == "2"
    assert rows(ended)["archive"]["waiting"] == "0"
    marquez.start()
    assert airflow("lineage", "ship").code == 0


def test_what_is_refused_stands_in_quarantine_until_it_is_replayed(airflow, home, marquez):
    poisonous = [{"namespace": "with a space", "name": "x"}]
    put(home, event(1, outputs=poisonous), event(2), event(2, "COMPLETE"))
    ended = airflow("lineage", "ship", "--output", "json")
    assert ended.code == 1
    assert rows(ended)["marquez"]["quarantined"] == "1"
    assert rows(ended)["archive"]["quarantined"] == "0"
    assert not marquez.is_poisoned
    (row,) = json.loads(airflow("lineage", "quarantine", "--output", "json").out)
    assert (row["target"], row["run"], row["event"]) == ("marquez", run_id(1), "START")
    assert "with a space" in row["reason"]
    told = airflow("lineage", "replay", "--run", run_id(2), "--target", "marquez")
    assert "2 events wait to be sent again" in told.err
    assert airflow("lineage", "ship", "--target", "marquez").code == 1
    # Sent again whole, and up to its end.
    assert [e["eventType"] for e in marquez.events] == ["START", "COMPLETE"] * 2


def test_nothing_in_quarantine_is_said(airflow, home):
    assert "Nothing is in quarantine." in airflow("lineage", "quarantine").err


def test_all_events_are_exported_also_those_that_nobody_has_numbered(airflow, home):
    put(home, event(1), event(2))
    ended = airflow("lineage", "export", "--file", str(home / "events.jsonl"))
    assert "Wrote 2 events" in ended.err
    lines = (home / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["run"]["runId"] for line in lines] == [run_id(1), run_id(2)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ship", "--target", "marques"), "There is no target 'marques'"),
        (("quarantine", "--target", "marques"), "Name one of marquez, archive"),
        (("replay",), "Nothing says what is to be sent again"),
        (("replay", "--run", "x", "--quarantined"), "Nothing says what is to be sent again"),
    ],
)
def test_what_is_asked_wrongly_is_said(airflow, home, arguments, said):
    ended = airflow("lineage", *arguments)
    assert ended.code == 64
    assert said in ended.err


def test_without_targets_events_are_kept_and_that_is_said(airflow, tmp_path, configure):
    configure(ledger_url=f"sqlite:///{tmp_path}/ledger.db")
    put(tmp_path, event(1))
    assert "events are kept, and go nowhere" in airflow("lineage", "status").err
    ended = airflow("lineage", "ship")
    assert ended.code == 64
    assert "[mlgov] lineage_targets_path" in ended.err
