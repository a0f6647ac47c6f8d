from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_mlgov import wiring
from airflow_mlgov.cli import doctor as doctor_module
from airflow_mlgov.cli.installed import Diagnosis
from airflow_mlgov.errors import RegistryUnavailableError
from airflow_mlgov.stores.seen import SeenFolder

ROOT = Path(__file__).parents[3]
LOGIN = "sesame-7"


@pytest.fixture(autouse=True)
def packages(monkeypatch) -> None:
    """Leave the packages of this machine out: they have tests of their own."""
    rows = [Diagnosis("extra gx", "missing", "not installed: x")]
    monkeypatch.setattr(doctor_module, "diagnose_packages", lambda: iter(rows))


@pytest.fixture
def healthy(tmp_path: Path, configure, world, monkeypatch):
    configure(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        evidence_url=f"file://{tmp_path}/evidence",
        inventory_path=ROOT / "dags" / "inventory",
        policy_path=ROOT / "dags" / "policy",
        keys_dir=tmp_path / "keys",
        seen_dir=tmp_path / "seen",
    )
    monkeypatch.setattr(wiring, "open_registry", lambda conn_id: world.registry)
    return tmp_path


def states(ended) -> dict[str, str]:
    return {row["check"]: row["state"] for row in ended.json}


def row(ended, check: str) -> dict[str, str]:
    return next(row for row in ended.json if row["check"] == check)


def test_a_missing_extra_is_no_fault(airflow, healthy, world) -> None:
    world.gov.ledger.drain()
    world.validate_data()
    ended = airflow("doctor", "--output", "json")
    assert set(states(ended).values()) == {"ok", "missing"}
    assert ended.code == 0
    assert "2 entries" in row(ended, "ledger store")["detail"]
    assert row(ended, "keys")["detail"] == "attestor.key, log.key, writer.key"
    assert row(ended, "setting seen_dir")["detail"] == str(healthy / "seen")
    assert row(ended, "remembered checkpoints")["detail"] == "not there yet: made on first use"
    assert "only `airflow mlgov sequencer` writes" in row(ended, "heartbeats")["detail"]


@pytest.mark.parametrize(
    ("said", "state", "detail"),
    [
        ({}, "missing", "off: [openlineage] has 'disabled', or no transport"),
        ({"TRANSPORT": '{"type": "console"}'}, "ok", "on, transport console"),
        ({"TRANSPORT": '{"type": "console"}', "DISABLED": "True"}, "missing", "off: [openlineage]"),
        ({"CONFIG_PATH": "/etc/ol.yml"}, "ok", "on, transport of its own file"),
        (
            {
                "TRANSPORT": '{"type": "console"}',
                "EMISSION_POLICY": '[{"scope": {"dag_id": "d"}, "controls": {"emit": false}}, '
                '{"scope": {}, "controls": {"include_source_code": false}}]',
            },
            "remark",
            "on, but for what [openlineage] leaves out: 1 rule(s) of emission_policy",
        ),
        (
            {"TRANSPORT": '{"type": "console"}', "DISABLED_FOR_OPERATORS": "a.B"},
            "remark",
            "disabled_for_operators",
        ),
    ],
)
def test_what_the_deployment_makes_of_lineage(airflow, healthy, monkeypatch, said, state, detail):
    for name, value in said.items():
        monkeypatch.setenv(f"AIRFLOW__OPENLINEAGE__{name}", value)
    ended = airflow("doctor", "--output", "json")
    assert row(ended, "lineage")["state"] == state
    assert detail in row(ended, "lineage")["detail"]
    assert ended.code == 0


def test_nothing_is_made_by_looking(tmp_path: Path, airflow, healthy, configure) -> None:
    configure(ledger_url=f"sqlite:///{tmp_path}/new/ledger.db", keys_dir=tmp_path / "new" / "keys")
    ended = airflow("doctor", "--output", "json")
    assert ended.code == 0
    assert row(ended, "ledger store")["detail"] == "not there yet: made on first use"
    assert row(ended, "keys")["detail"] == "not there yet: made on first use"
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "evidence").exists()


def test_heartbeats_that_came_are_fine(airflow, healthy) -> None:
    assert airflow("sequencer", "--once").code == 0
    ended = airflow("doctor", "--output", "json")
    assert row(ended, "heartbeats")["state"] == "ok"
    assert row(ended, "heartbeats")["detail"].startswith("newest 0:00:0")
    assert row(ended, "remembered checkpoints")["detail"] == f"in {healthy / 'seen'}"
    assert ended.code == 0


def test_a_silent_sequencer_is_a_remark_and_no_fault(airflow, healthy) -> None:
    assert airflow("sequencer", "--once", "--heartbeat", "1").code == 0
    time.sleep(1.2)
    ended = airflow("doctor", "--output", "json")
    found = row(ended, "heartbeats")
    assert found["state"] == "remark"
    assert found["detail"].startswith("No heartbeat for 0:00:0")
    assert "sequencer` runs" in found["remedy"]
    assert ended.code == 0
    verified = airflow("ledger", "verify")
    assert verified.code == 0
    assert "Remarks:\n  No heartbeat for 0:00:0" in verified.out


def test_a_ledger_that_contradicted_itself_is_wrong_until_somebody_has_looked(
    airflow, healthy
) -> None:
    kept = SeenFolder(healthy / "seen").keep("airflow-mlgov/1", "3-abc.note", b"a note")
    ended = airflow("doctor", "--output", "json")
    found = row(ended, "remembered checkpoints")
    assert found["state"] == "wrong"
    assert kept in found["detail"]
    assert (ROOT / found["remedy"].partition(" ")[0]).is_file()
    assert ended.code == 1


def test_a_place_to_remember_that_is_no_folder_is_wrong(airflow, healthy) -> None:
    (healthy / "seen").write_text("")
    ended = airflow("doctor", "--output", "json")
    assert row(ended, "remembered checkpoints")["state"] == "wrong"
    assert ended.code == 1


def test_unset_settings(airflow, configure, monkeypatch, world) -> None:
    monkeypatch.setattr(wiring, "open_registry", lambda conn_id: world.registry)
    ended = airflow("doctor", "--output", "json")
    assert ended.code == 1
    wrong = {check for check, state in states(ended).items() if state == "wrong"}
    assert wrong == {f"setting {name}" for name in doctor_module.SETTINGS}
    assert "AIRFLOW__MLGOV__LEDGER_URL" in row(ended, "setting ledger_url")["remedy"]


def test_what_is_wrong_with_each(tmp_path: Path, airflow, healthy, configure, monkeypatch) -> None:
    class Gone:
        def by_alias(self, name: str, alias: str):
            raise RegistryUnavailableError("MLflow does not answer.", remedy="Start it.")

    monkeypatch.setattr(wiring, "open_registry", lambda conn_id: Gone())
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 100)
    (tmp_path / "keys").mkdir(exist_ok=True)
    (tmp_path / "keys" / "log.key").write_text("x")
    (tmp_path / "keys" / "log.key").chmod(0o644)
    (tmp_path / "i").mkdir()
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "bad.yaml").write_text("x: 1\n")
    configure(evidence_url="nonsense", inventory_path=tmp_path / "i", policy_path=tmp_path / "p")
    ended = airflow("doctor", "--registry", "mine", "--output", "json")
    assert ended.code == 1
    wrong = {check for check, state in states(ended).items() if state == "wrong"}
    assert wrong == {
        "ledger store",
        "keys",
        "evidence store",
        "inventory",
        "policy packs",
        "registry mine",
    }
    assert row(ended, "keys")["detail"] == "others may read log.key"
    assert row(ended, "policy packs")["remedy"] == "airflow mlgov policy check"
    assert row(ended, "registry mine")["remedy"] == "Start it."


@pytest.mark.parametrize("output", ["table", "json", "plain", "yaml"])
def test_never_a_secret(airflow, healthy, configure, monkeypatch, output: str) -> None:
    class Chatty:
        def by_alias(self, name: str, alias: str):
            raise RegistryUnavailableError(f"http://user:{LOGIN}@host:5000/x refused.")

    monkeypatch.setattr(wiring, "open_registry", lambda conn_id: Chatty())
    configure(
        ledger_url=f"postgresql://user:{LOGIN}@db/ledger",
        evidence_url=f"nosuch://key:{LOGIN}@bucket/x",
    )
    ended = airflow("doctor", "--output", output)
    assert ended.code == 1
    assert LOGIN not in ended.out + ended.err
    assert "http://***@host:5000/x" in ended.out
    assert "set (postgresql)" in ended.out
