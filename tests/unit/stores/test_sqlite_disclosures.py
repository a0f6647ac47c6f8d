"""What was erased is gone from the files, not only from the answers."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerError, LedgerUnavailableError
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.ports import InboxItem
from airflow_mlgov.stores.sqlite import SqliteStore, store
from airflow_mlgov.stores.sqlite import disclosures as disclosures_module

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PEOPLE = 300


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


def fill(kept: SqliteStore, count: int) -> dict[str, dict[str, Disclosure]]:
    """Insert people under keys in no order, so that pages are split everywhere."""
    rows = {}
    for n in range(count):
        key = f"sha256:{n * 7919 % 10007:064d}"
        name = f"name-{n:04d}@bank.example"
        opened = {
            "people.voter": Disclosure.of({"id": name, "name": name}),
            "texts.comment": Disclosure.of(f"comment of {name}: " + "x" * (n % 200)),
        }
        kept.insert(InboxItem(key, b"leaf %d" % n), opened, NOW)
        rows[key] = opened
    return rows


@pytest.fixture
def kept(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "ledger.db", timeout_s=0.2)


@pytest.mark.attack(33)
def test_threat_33_bytes_of_who_was_erased_are_in_no_file(kept: SqliteStore) -> None:
    rows = fill(kept, PEOPLE)
    gone = {key: opened for n, (key, opened) in enumerate(rows.items()) if n % 3 == 0}
    before = on_disk(kept.path.parent)
    for opened in rows.values():
        for disclosure in opened.values():
            assert disclosure.salt in before
    fields = [(key, field) for key, opened in gone.items() for field in opened]
    assert kept.erase(fields) == len(fields)
    after = on_disk(kept.path.parent)
    for key, opened in rows.items():
        name = opened["people.voter"].value["name"].encode()
        assert (name in after) is (key not in gone)
        for disclosure in opened.values():
            assert (disclosure.salt in after) is (key not in gone)
        assert kept.disclosures(key) == ({} if key in gone else opened)
    assert kept.waiting() == PEOPLE


def test_one_field_goes_and_the_others_stay(kept: SqliteStore) -> None:
    (key, opened), *_ = fill(kept, 2).items()
    assert kept.erase([(key, "texts.comment"), (key, "texts.nothing")]) == 1
    assert kept.disclosures(key) == {"people.voter": opened["people.voter"]}
    assert kept.erase([(key, "texts.comment")]) == 0


@pytest.mark.parametrize("step", ["DELETE", "CREATE", "INSERT", "DROP", "ALTER", "COMMIT"])
def test_all_goes_or_nothing(kept: SqliteStore, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Each step fails in turn: nothing is gone, and the same call then erases."""
    rows = fill(kept, 5)
    key = next(iter(rows))

    class Failing:
        """A connection on which one statement fails; that it is SQLite's own is not shown."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
            if statement.lstrip().startswith(step):
                raise sqlite3.OperationalError("disk I/O error")
            return self._connection.execute(statement, *parameters)

    real = kept._connection()
    with monkeypatch.context() as context:
        context.setattr(kept, "_connection", lambda: Failing(real))
        with pytest.raises(LedgerError):
            kept.erase([(key, "people.voter")])
    assert {each: kept.disclosures(each) for each in rows} == rows
    assert kept.erase([(key, "people.voter")]) == 1
    assert {each: kept.disclosures(each) for each in list(rows)[1:]} == {
        each: rows[each] for each in list(rows)[1:]
    }


def test_a_reader_of_an_older_state_is_named_and_the_same_call_completes(
    kept: SqliteStore,
) -> None:
    (key, opened), *_ = fill(kept, 2).items()
    reader = sqlite3.connect(kept.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM disclosures").fetchone()
    with pytest.raises(LedgerUnavailableError, match="still stands in its write-ahead log"):
        kept.erase([(key, "people.voter")])
    assert "people.voter" not in kept.disclosures(key)
    assert opened["people.voter"].salt in on_disk(kept.path.parent)
    reader.execute("ROLLBACK")
    assert kept.erase([]) == 0
    assert opened["people.voter"].salt not in on_disk(kept.path.parent)
    reader.close()


def test_without_these_two_settings_the_bytes_would_stay(
    kept: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the search of the files finds what it must not find, where it is there."""
    (key, opened), *_ = fill(kept, 40).items()
    with monkeypatch.context() as context:
        context.setattr(store, "empty_log", lambda *_: None)
        kept.erase([(key, "people.voter")])
    assert opened["people.voter"].salt in on_disk(kept.path.parent)
    kept._connection().execute("PRAGMA secure_delete = OFF")
    kept.erase([(key, "texts.comment")])
    assert opened["texts.comment"].salt in on_disk(kept.path.parent)
    assert kept._connection().execute("PRAGMA secure_delete").fetchone() == (0,)
    kept.close()
    assert kept._connection().execute("PRAGMA secure_delete").fetchone() == (1,)


def test_only_a_writer_erases(kept: SqliteStore) -> None:
    (key, _), *_ = fill(kept, 1).items()
    with pytest.raises(LedgerUnavailableError, match="reading only"):
        SqliteStore(kept.path, read_only=True).erase([(key, "people.voter")])


def test_a_full_log_that_cannot_be_copied_is_no_success(kept: SqliteStore) -> None:
    class Busy:
        def execute(self, statement: str) -> Busy:
            return self

        def fetchone(self) -> tuple[int, int, int]:
            return (1, 5, 0)

    with pytest.raises(LedgerUnavailableError):
        disclosures_module.empty_log(Busy(), kept.path)  # type: ignore[arg-type]
