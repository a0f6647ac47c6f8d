"""``airflow mlgov sequencer``: its options, how it ends, and what it says."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from airflow_mlgov import wiring
from airflow_mlgov.cli import sequencer as command
from airflow_mlgov.cli import sequencer_status
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore


@pytest.fixture
def home(tmp_path: Path, configure) -> Path:
    configure(
        ledger_url=f"sqlite:///{tmp_path}/ledger.db",
        keys_dir=tmp_path / "keys",
        seen_dir=tmp_path / "seen",
    )
    return tmp_path


def ledger_in(home: Path) -> Ledger:
    return Ledger(SqliteStore(home / "ledger.db"), open_signers(home / "keys"))


def draft(name: str) -> EntryDraft:
    body = {"policy_sha256": "sha256:" + "0" * 64}
    return EntryDraft("policy.changed", "", None, body, (name,))


def test_once_drains_and_exits(airflow, home: Path) -> None:
    for number in range(3):
        ledger_in(home).append(draft(str(number)))
    ended = airflow("sequencer", "--once", "--heartbeat", "31536000")
    assert (ended.code, ended.out) == (0, "")
    assert "5 entries under a signed checkpoint, 0 waiting." in ended.err
    kinds = [entry.kind for entry in ledger_in(home).view().select()]
    assert kinds == ["genesis", *["policy.changed"] * 3, "heartbeat"]
    again = airflow("sequencer", "--once", "--heartbeat", "31536000")
    assert "5 entries" in again.err  # one heartbeat an interval


def test_once_without_heartbeats(airflow, home: Path) -> None:
    assert airflow("sequencer", "--once", "--heartbeat", "0").code == 0
    assert [entry.kind for entry in ledger_in(home).view().select()] == ["genesis"]


@pytest.mark.parametrize(
    "words",
    [
        ("--tick", "0"),
        ("--tick", "0.009"),
        ("--tick", "61"),
        ("--tick", "-1"),
        ("--tick", "nan"),
        ("--tick", "inf"),
        ("--tick", "soon"),
        ("--heartbeat", "-1"),
        ("--heartbeat", "0.5"),
        ("--heartbeat", "31536001"),
        ("--heartbeat", "nan"),
        ("--listen", "8975"),
        ("--listen", ":8975"),
        ("--listen", "localhost"),
        ("--listen", "localhost:"),
        ("--listen", "localhost:65536"),
        ("--listen", "localhost:-1"),
        ("--listen", "localhost:http"),
    ],
)
def test_bounds_are_checked(airflow, home: Path, words: tuple[str, str], capsys) -> None:
    with pytest.raises(SystemExit) as end:
        airflow("sequencer", *words)
    assert end.value.code == 2
    assert words[0] in capsys.readouterr().err
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8975", ("127.0.0.1", 8975)),
        ("[::1]:0", ("::1", 0)),
        ("::1:80", ("::1", 80)),
        ("host.example:65535", ("host.example", 65_535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert command._address(text) == address
    assert command._address(command.LISTEN)[0] == "127.0.0.1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_after_the_round_in_hand(airflow, home: Path, number: int) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    answers = []

    def watch() -> None:
        file = home / "ledger.db"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not answers:
            time.sleep(0.02)
            if file.exists() and addresses:
                connection = http.client.HTTPConnection(*addresses[0], timeout=10)
                connection.request("GET", "/health")
                answer = connection.getresponse()
                said = json.loads(answer.read())
                if answer.status == 200:
                    answers.append(said)
        os.kill(os.getpid(), number)

    addresses: list[tuple[str, int]] = []
    honest = sequencer_status.serving

    def serving(*args):
        context = honest(*args)
        address = context.__enter__()
        addresses.append(address)

        class Entered:
            def __enter__(self):
                return address

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Entered()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sequencer_status, "serving", serving)
        thread = threading.Thread(target=watch)
        thread.start()
        ended = airflow("sequencer", "--listen", "127.0.0.1:0", "--tick", "0.01")
        thread.join(30)
    assert ended.code == 0
    assert "/health and /metrics on 127.0.0.1:" in ended.err
    assert ended.err.rstrip().endswith("Stopped after the round in hand.")
    assert answers[0]["entries"] == 2
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.mark.parametrize("once", [True, False])
def test_a_ledger_that_does_not_verify_ends_it_with_1(airflow, home: Path, once: bool) -> None:
    ledger = ledger_in(home)
    ledger.seal(ledger.append(draft("a")))
    ledger.append(draft("b"))
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        connection.execute("UPDATE checkpoints SET peaks = zeroblob(length(peaks))")
        connection.commit()
    before = SqliteStore(home / "ledger.db").head()
    words = ("--once",) if once else ("--listen", "127.0.0.1:0")
    ended = airflow("sequencer", "--heartbeat", "0", *words)
    assert ended.code == 1
    assert "ledger.integrity: The stored nodes" in ended.err
    assert SqliteStore(home / "ledger.db").head() == before
    assert SqliteStore(home / "ledger.db").waiting() == 1


def test_threat_11_a_restored_backup_ends_it_with_1(airflow, home: Path) -> None:
    assert airflow("sequencer", "--once").code == 0
    with (
        closing(sqlite3.connect(home / "ledger.db")) as source,
        closing(sqlite3.connect(home / "backup.db")) as target,
    ):
        source.backup(target)
    ledger_in(home).append(draft("a"))
    assert airflow("sequencer", "--once").code == 0
    for suffix in ("-wal", "-shm"):
        (home / f"ledger.db{suffix}").unlink(missing_ok=True)
    (home / "backup.db").replace(home / "ledger.db")
    ledger_in(home).append(draft("b"))
    ended = airflow("sequencer", "--once")
    assert ended.code == 1
    assert "contradict each other" in ended.err
    assert SqliteStore(home / "ledger.db").head().size == 2


def test_another_log_key_ends_it_with_3(airflow, home: Path) -> None:
    ledger = ledger_in(home)
    ledger.seal(ledger.append(draft("a")))
    (home / "keys" / "log.key").unlink()
    ledger.append(draft("b"))
    assert airflow("sequencer", "--once").code == 3


def test_once_with_a_store_that_is_away_ends_with_1(airflow, home: Path, configure) -> None:
    (home / "file").write_text("")
    configure(
        ledger_url=f"sqlite:///{home}/file/ledger.db", keys_dir=home / "keys", seen_dir=home / "s"
    )
    ended = airflow("sequencer", "--once")
    assert ended.code == 1
    assert "ledger.unavailable" in ended.err


def test_a_port_that_is_taken_ends_it_with_64(airflow, home: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = airflow("sequencer", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert ended.code == 64
    assert "--listen" in ended.err


def test_an_unset_setting_ends_it_with_64(airflow, configure) -> None:
    ended = airflow("sequencer", "--once")
    assert ended.code == 64
    assert "[mlgov] ledger_url" in ended.err


def test_it_uses_the_log_key_only(airflow, home: Path, monkeypatch) -> None:
    opened = []
    honest = wiring.open_sequencer

    def spied(*args):
        opened.append(honest(*args))
        return opened[-1]

    monkeypatch.setattr(wiring, "open_sequencer", spied)
    assert airflow("sequencer", "--once").code == 0
    assert set(opened[0]._ledger._signers) == {KeyRole.LOG}
