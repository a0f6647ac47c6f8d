"""``airflow mlgov keys``: what it lists and says; and the commands that follow a rotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

DRAFT = EntryDraft("policy.changed", "", None, {"policy_sha256": "sha256:" + "b" * 64}, ("1",))


@pytest.fixture
def home(tmp_path: Path, configure) -> Path:
    configure(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        keys_dir=tmp_path / "keys",
        seen_dir=tmp_path / "seen",
    )
    ledger = Ledger(SqliteStore(tmp_path / "ledger.db"), open_signers(tmp_path / "keys"))
    ledger.seal(ledger.append(DRAFT))
    return tmp_path


def test_a_rotation_and_what_follows_it(airflow, home: Path) -> None:
    before, checkpoint = home / "before.json", home / "checkpoint"
    assert airflow("ledger", "trust", "--file", before).code == 0
    ended = airflow("keys", "rotate", "--role", "log")
    assert (ended.code, ended.out) == (0, "")
    assert "The log key was rotated; entry 2 of the ledger says so." in ended.err
    assert "Write a new trust file" in ended.err

    rows = airflow("keys", "show", "--output", "json").json
    assert [(row["role"], row["state"]) for row in rows] == [
        ("log", "in use"),
        ("log", "retired"),
        ("attestor", "in use"),
        ("writer", "in use"),
    ]
    assert {row["algorithm"] for row in rows} == {"Ed25519"}
    assert rows[0]["where"] == str(home / "keys" / "log.key")
    shown = airflow("keys", "show").out
    assert "PRIVATE" not in shown

    assert airflow("ledger", "checkpoint", "--file", checkpoint).code == 0
    after = home / "after.json"
    assert airflow("ledger", "trust", "--file", after).code == 0
    for trust in (before, after):
        ended = airflow("ledger", "verify", "--trust", trust, "--checkpoint", checkpoint)
        assert (ended.code, "extends 1 checkpoint" in ended.out) == (0, True), ended
    assert len(airflow("ledger", "show", "--kind", "key.rotated", "-o", "json").json) == 1


def test_a_key_that_is_not_here_is_not_rotated(airflow, home: Path, monkeypatch) -> None:
    airflow("ledger", "trust", "--file", home / "trust.json")
    monkeypatch.setenv("AIRFLOW__MLGOV__TRUST_PATH", str(home / "trust.json"))
    (home / "keys" / "log.key").unlink()
    ended = airflow("keys", "rotate", "--role", "log")
    assert (ended.code, "no log key" in ended.err) == (64, True)


def test_a_key_of_a_connection_is_refused(airflow, home: Path) -> None:
    ended = airflow("keys", "rotate", "--role", "writer", "--new-uri", "conn:my_key")
    assert (ended.code, "Every task can read those" in ended.err) == (64, True)


def test_the_doctor_names_keys_of_a_kms_by_their_role(airflow, home: Path) -> None:
    (home / "keys" / "log.key").unlink()
    (home / "keys" / "log.uri").write_text("variable:x")
    rows = airflow("doctor", "--output", "json").json
    (row,) = [row for row in rows if row["check"] == "keys"]
    assert (row["state"], "Every task" in row["detail"]) == ("wrong", True)


def test_status_says_how_many_entries_count_for_nothing(airflow, governed) -> None:
    assert "count for nothing" not in airflow("status", "retail_pd").out
    store = governed.gov.ledger._store
    stranger = Ledger(store, open_signers(Path(store.path).parent / "others"))
    stranger.append(DRAFT)
    ended = airflow("status", "retail_pd")
    assert "1 entries of the ledger count for nothing: airflow mlgov ledger verify" in ended.out
    assert airflow("status", "retail_pd", "-o", "json").json[0]["ledger"] == {
        "counts_for_nothing": "1"
    }
