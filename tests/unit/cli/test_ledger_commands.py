"""``airflow mlgov ledger``: what it prints, writes and exits with."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.cli.ledger import ledger_commands
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore


def load_reader() -> Any:
    file = Path(__file__).resolve().parents[2] / "assets" / "tiles_reader.py"
    spec = importlib.util.spec_from_file_location("tiles_reader", file)
    assert spec is not None
    assert spec.loader is not None
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    return reader


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in ledger_commands():
        sub = commands.add_parser(command.name)
        for arg in command.args:
            arg.add_to_parser(sub)
        sub.set_defaults(func=command.func)
    try:
        args = parser.parse_args(words)
        args.func(args)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


DRAFT = EntryDraft("policy.changed", "", None, {"policy_sha256": "sha256:" + "b" * 64}, ("1",))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("AIRFLOW__MLGOV__SEEN_DIR", str(tmp_path / "seen"))
    ledger = Ledger(SqliteStore(tmp_path / "ledger.db"), open_signers(tmp_path / "keys"))
    for number, name in enumerate(["Ada", "[red]Eve\r\n\x1b[31m\u202e|<b>"]):
        ledger.append(
            EntryDraft(
                kind="model.scored",
                model="retail_pd",
                version=Digest("a" * 64),
                body={"request_sha256": "sha256:" + "b" * 64, "target": "production"},
                identity=(str(number),),
                people={"who": Person(str(number), name)},
                texts={"comment": "fine"},
            )
        )
        time.sleep(0.002)  # entries state milliseconds, and tests tell them apart by time
    ledger.drain()
    return tmp_path


def test_verify_says_what_was_checked_and_what_cannot_be(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify") == 0
    out = capsys.readouterr().out
    assert out.startswith("The ledger verifies.")
    assert "3 entries, re-hashed" in out
    assert "Not proven by this:" in out
    assert "name a file with --trust" in out


def test_verify_with_a_trust_file_a_copy_and_a_checkpoint(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust, note, copy = (str(home / name) for name in ("trust.json", "kept.note", "copy.db"))
    assert run("trust", "--file", trust, "--vkey", str(home / "log.vkey")) == 0
    assert run("checkpoint", "--file", note) == 0
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(home / "ledger.db", copy)
    capsys.readouterr()
    assert (
        run("verify", "--trust", trust, "--file", copy, "--checkpoint", note, "--output", "json")
        == 0
    )
    (report,) = json.loads(capsys.readouterr().out)
    shown = [str(report[name]) for name in ("fine", "entries", "earlier_checkpoints")]
    assert shown == ["True", "3", "1"]  # Airflow's own JSON output writes numbers as text
    assert {kind: int(count) for kind, count in report["kinds"].items()} == {
        "genesis": 1,
        "model.scored": 2,
    }
    root = TrustRoot.parse(Path(trust).read_bytes())
    assert Vkey.parse((home / "log.vkey").read_text().strip()) == root.log_keys[0]
    assert root.log_keys[0].name == root.origin == report["origin"]


def test_verify_exits_1_on_an_altered_ledger(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("DELETE FROM entries WHERE seq = 2")
    assert run("verify") == 1
    out = capsys.readouterr().out
    assert out.startswith("THE LEDGER DOES NOT VERIFY.")
    assert "removed" in out


def test_verify_exits_1_on_a_damaged_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "broken.db"
    path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 9000)
    assert run("trust", "--file", str(home / "t.json")) == 0
    assert run("verify", "--trust", str(home / "t.json"), "--file", str(path)) == 1
    assert "damaged" in capsys.readouterr().err


def test_verify_exits_3_on_an_unknown_key(home: Path) -> None:
    trust = home / "trust.json"
    assert run("trust", "--file", str(trust)) == 0
    value = json.loads(trust.read_text())
    other = open_signers(home / "other")
    value["log_keys"] = [str(Vkey(value["origin"], other["log"].public_key))]  # type: ignore[index]
    trust.write_text(json.dumps(value))
    assert run("verify", "--trust", str(trust)) == 3


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--trust", "{}/none.json"),
        ("verify", "--file", "{}/none.db"),
        ("trust", "--file", "{}/no/folder/t.json"),
    ],
)
def test_wrong_use_exits_64_and_makes_nothing(
    home: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    def there() -> set[str]:  # SQLite's -wal and -shm come and go with the connections
        return {path.name for path in home.iterdir() if not path.name.endswith(("-wal", "-shm"))}

    before = there()
    assert run(*(word.format(home) for word in words)) == 64
    assert str(home) in capsys.readouterr().err
    assert there() == before


def test_a_malformed_trust_file_exits_1(home: Path) -> None:
    (home / "trust.json").write_text('{"version": 1, "version": 1}')
    assert run("verify", "--trust", str(home / "trust.json")) == 1


@pytest.mark.attack(31)
def test_threat_31_show_prints_one_line_an_entry_whatever_the_names(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show") == 0
    table = capsys.readouterr().out
    assert "Ada" in table
    assert "[red]Eve" in table
    assert not set(table) & set("\x1b\u202e\r")
    assert run("show", "--output", "plain") == 0
    lines = [line for line in capsys.readouterr().out.split("\n") if line.strip()]
    assert len([line for line in lines if "model.scored" in line]) == 2


def test_show_filters_and_gives_programs_everything(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "--model", "retail_pd", "--kind", "model.scored", "--output", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [int(row["index"]) for row in rows] == [1, 2]
    assert rows[0]["people"] == {"who": {"id": "0", "name": "Ada"}}
    assert rows[0]["texts"] == {"comment": "fine"}
    assert rows[0]["body"] == {"request_sha256": "sha256:" + "b" * 64, "target": "production"}
    assert rows[0]["version"] == "sha256:" + "a" * 64
    assert run("show", "--model", "nobody", "--output", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def entries(
    capsys: pytest.CaptureFixture[str], *words: str, field: str = "index"
) -> list[dict[str, str]]:
    capsys.readouterr()
    assert run(*words, "--output", "json") == 0
    return [row[field] for row in json.loads(capsys.readouterr().out)]


def test_log_is_newest_first_and_tail_is_the_end(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entries(capsys, "show") == ["0", "1", "2"]
    assert entries(capsys, "log") == ["2", "1", "0"]
    assert entries(capsys, "log", "--limit", "2") == ["2", "1"]
    assert entries(capsys, "tail", "--limit", "2") == ["1", "2"]
    assert entries(capsys, "log", "--kind", "genesis") == ["0"]


def test_entries_are_filtered_by_time(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = entries(capsys, "show", field="at")[2]
    assert entries(capsys, "show", "--since", second) == ["2"]
    assert entries(capsys, "show", "--until", second) == ["0", "1"]
    assert entries(capsys, "show", "--since", "2001-01-01") == ["0", "1", "2"]
    assert entries(capsys, "show", "--until", "2001-01-01") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "--since", "yesterday"), "'yesterday' is not a time"),
        (("log", "--kind", "approval"), "'approval' is not a kind"),
    ],
)
def test_a_filter_that_makes_no_sense_is_an_error(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(*words) == 64
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_is_a_positive_number(home: Path, limit: str) -> None:
    assert run("log", "--limit", limit) == 2


def test_tail_follows_until_it_is_interrupted(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(SqliteStore(home / "ledger.db"), open_signers(home / "keys"))
    waits = iter([True, True])

    def sleep(_seconds: float) -> None:
        if not next(waits, False):
            raise KeyboardInterrupt
        body = {"request_sha256": "sha256:" + "b" * 64, "target": "staging"}
        draft = EntryDraft("model.scored", "m", Digest("c" * 64), body, (str(id(body)), "x"))
        ledger.append(draft)

    monkeypatch.setattr("airflow_mlgov.cli.ledger_reading.time.sleep", sleep)
    capsys.readouterr()
    assert run("tail", "--follow", "--limit", "1", "--output", "json") == 0
    shown = [row for line in capsys.readouterr().out.splitlines() for row in json.loads(line)]
    assert shown[0]["index"] == "2"
    assert {row["index"] for row in shown} >= {"2", "3"}


def test_stats_count_by_kind(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entries(capsys, "stats", field="kind") == ["genesis", "model.scored"]
    assert entries(capsys, "stats", field="entries") == ["1", "2"]
    assert entries(capsys, "stats", "--model", "retail_pd", field="signed by") == [["writer 2"]]


def copy_of(home: Path, name: str) -> Path:
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (home / name).mkdir()
    shutil.copy(home / "ledger.db", home / name / "ledger.db")
    return home / name / "ledger.db"


def add(file: Path, keys: Path, identity: str) -> None:
    body = {"request_sha256": "sha256:" + "b" * 64, "target": identity}
    ledger = Ledger(SqliteStore(file), open_signers(keys))
    ledger.append(EntryDraft("model.scored", "m", Digest("c" * 64), body, (identity,)))
    ledger.drain()


def test_diff_tells_equal_longer_and_contradicting_copies_apart(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_of(home, "copy")
    assert run("diff", "--file", str(copy)) == 0
    assert "the same 3 entries" in capsys.readouterr().err

    add(home / "ledger.db", home / "keys", "ours")
    assert run("diff", "--file", str(copy), "--output", "json") == 1
    said = capsys.readouterr()
    assert "ours holds 1 more" in said.err
    assert [(row["copy"], row["index"]) for row in json.loads(said.out)] == [("ours", "3")]

    add(copy, home / "keys", "theirs")
    assert run("diff", "--file", str(copy), "--output", "json") == 1
    said = capsys.readouterr()
    assert "CONTRADICT EACH OTHER from entry 3" in said.err
    assert [row["copy"] for row in json.loads(said.out)] == ["ours", "theirs"]


def test_an_export_is_read_by_an_outside_reader(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, key = home / "export", home / "log.vkey"
    assert run("export-tiles", str(folder)) == 0
    assert run("trust", "--file", str(home / "trust.json"), "--vkey", str(key)) == 0
    _, leaves = load_reader().check_log(folder, key.read_text())
    assert len(leaves) == 3


@pytest.mark.attack(5)
@pytest.mark.parametrize(
    "words", [("show",), ("verify",), ("checkpoint", "--file", "{}/kept.note")], ids=lambda w: w[0]
)
def test_threat_5_every_command_finds_a_ledger_whose_tail_was_cut_off(
    home: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = home / "earlier.note"
    ledger = Ledger(SqliteStore(home / "ledger.db"), open_signers(home / "keys"))
    ledger.seal(ledger.append(DRAFT))
    assert run("checkpoint", "--file", str(earlier)) == 0
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute("DELETE FROM entries WHERE seq = 3")
        connection.execute("DELETE FROM checkpoints WHERE size = 4")
    capsys.readouterr()
    assert run(*(word.format(home) for word in words)) == 1
    ended = capsys.readouterr()
    assert "contradict each other" in ended.out + ended.err
    assert not (home / "kept.note").exists()
    # What was kept is evidence that the command line itself can use.
    notes = sorted((home / "seen").glob("*.kept/*.note"))
    assert [note.name.partition("-")[0] for note in notes] == ["3", "4"]
    assert earlier.read_bytes() == notes[1].read_bytes()
    trust, copy = str(home / "trust.json"), str(home / "copy.db")
    with sqlite3.connect(home / "ledger.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
    assert run("trust", "--file", trust) == 0
    verify = ("verify", "--trust", trust, "--file", copy, "--checkpoint")
    assert run(*verify, str(notes[0])) == 0
    assert run(*verify, str(notes[1])) == 1


def test_verify_says_what_this_machine_remembers(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify") == 0
    assert "machine remembers" not in capsys.readouterr().out
    assert run("verify", "--output", "json") == 0  # the first one has remembered
    (report,) = json.loads(capsys.readouterr().out)
    assert int(report["remembered"]) == 3
    assert run("verify") == 0
    assert "it extends the 3 entries that this machine remembers" in capsys.readouterr().out
