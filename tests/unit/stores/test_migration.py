"""Ledgers of the first release, with data, brought to the tables of this one; or left as they were.

The tables of version 1 stand here as that release made them, so that no change to the code can
change what is migrated.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.outbox import Outbox, OutboxItem
from airflow_mlgov.service.ports import LedgerStore
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresOutbox, PostgresStore, schema
from airflow_mlgov.stores.sqlite import SqliteOutbox, SqliteStore

SQLITE_V1 = """
CREATE TABLE inbox (
    n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    leaf BLOB NOT NULL CHECK (length(leaf) <= 16384),
    leaf_hash BLOB NOT NULL, received_at TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, leaf BLOB NOT NULL, leaf_hash BLOB NOT NULL,
    received_at TEXT NOT NULL);
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL, peaks BLOB NOT NULL);
CREATE TABLE disclosures (
    key TEXT NOT NULL, field TEXT NOT NULL, salt BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (key, field)) WITHOUT ROWID;
PRAGMA application_id = 1835820918; PRAGMA user_version = 1;
"""
POSTGRES_V1 = """
CREATE SCHEMA mlgov;
CREATE TABLE mlgov.inbox (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE,
    leaf bytea NOT NULL CHECK (octet_length(leaf) <= 16384),
    leaf_hash bytea NOT NULL, received_at text NOT NULL);
CREATE TABLE mlgov.entries (
    seq bigint PRIMARY KEY, key text NOT NULL UNIQUE, leaf bytea NOT NULL, leaf_hash bytea NOT NULL,
    received_at text NOT NULL);
CREATE TABLE mlgov.checkpoints (size bigint PRIMARY KEY, note bytea NOT NULL, peaks bytea NOT NULL);
CREATE TABLE mlgov.disclosures (
    key text NOT NULL, field text NOT NULL, salt bytea NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (key, field));
CREATE TABLE mlgov.sequencing (only_row boolean PRIMARY KEY CHECK (only_row));
INSERT INTO mlgov.sequencing VALUES (true);
CREATE TABLE mlgov.schema_version (version_num varchar(32) NOT NULL PRIMARY KEY);
INSERT INTO mlgov.schema_version VALUES ('v0001');
"""
ENTRIES = 1_100
TABLES = {
    "entries": "seq, key, leaf, leaf_hash, received_at",
    "checkpoints": "size, note, peaks",
    "disclosures": "key, field, salt, value",
    "inbox": "key, leaf, leaf_hash, received_at",
}


def draft(number: int) -> EntryDraft:
    return EntryDraft(
        kind="approval.voted",
        model=f"model_{number % 3}",
        version=Digest("a" * 64),
        body={"request_sha256": "sha256:" + "b" * 64, "choice": "approve"},
        identity=(str(number),),
        people={"voter": Person("7", "Ada")},
    )


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys and a ledger of this release: four full subtrees, one entry waiting."""
    folder = tmp_path_factory.mktemp("grown")
    store = SqliteStore(folder / "now.db")
    ledger = Ledger(store, open_signers(folder / "keys"))
    with sqlite3.connect(folder / "now.db") as connection:
        connection.execute("PRAGMA synchronous = OFF")
    for number in range(ENTRIES):
        ledger.append(draft(number))
        if number in {5, 700}:
            ledger.drain()
    ledger.drain()
    ledger.append(draft(ENTRIES))
    store.close()
    return folder


def rows_of(grown: Path) -> dict[str, list[tuple]]:
    with sqlite3.connect(grown / "now.db") as connection:
        return {
            table: connection.execute(f"SELECT {columns} FROM {table}").fetchall()
            for table, columns in TABLES.items()
        }


@pytest.fixture
def old_file(grown: Path, tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SQLITE_V1)
        for table, rows in rows_of(grown).items():
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} ({TABLES[table]}) VALUES ({marks})", rows)
    return path


@pytest.fixture
def old_database(grown: Path, postgres, postgres_database: str) -> str:
    url = postgres.url(postgres_database)
    with psycopg.connect(url) as connection:
        connection.execute(POSTGRES_V1)
        for table, rows in rows_of(grown).items():
            with connection.cursor().copy(
                f"COPY mlgov.{table} ({TABLES[table]}) FROM STDIN"
            ) as copy:
                for row in rows:
                    copy.write_row(row)
    return url


def assert_verified(store: LedgerStore, grown: Path) -> None:
    """Everything is there, verifies with its index, and goes on."""
    ledger = Ledger(store, open_signers(grown / "keys"))
    now = SqliteStore(grown / "now.db", read_only=True)
    size = now.head().size
    assert (store.head(), store.waiting()) == (now.head(), 1)
    report = ledger.verify()
    assert (report.problems, report.size) == ((), size)
    assert store.subtrees(size // 256) == now.subtrees(size // 256)
    assert list(store.indexed(size)) == list(now.indexed(size))
    ledger.drain()
    view = ledger.model_view("model_1")
    assert len(view.select("approval.voted")) == len(range(1, ENTRIES + 1, 3))
    assert ledger.verify().problems == ()


def assert_has_outbox(outbox: Outbox) -> None:
    assert outbox.take() == 0
    outbox.append([OutboxItem("f" * 64, b"{}")], datetime.now(UTC))
    assert outbox.take() == 1


def test_a_file_of_the_first_release_is_migrated_with_its_data(old_file: Path, grown: Path) -> None:
    SqliteStore(old_file).migrate()
    assert_verified(SqliteStore(old_file), grown)
    assert_has_outbox(SqliteOutbox(old_file))
    SqliteStore(old_file).migrate()
    assert SqliteOutbox(old_file).backlog("marquez").waiting == 1
    assert Ledger(SqliteStore(old_file), open_signers(grown / "keys")).verify().is_fine


def test_a_database_of_the_first_release_is_migrated_with_its_data(
    old_database: str, grown: Path
) -> None:
    assert schema.migrate(old_database) == "v0004"
    assert_verified(PostgresStore(old_database), grown)
    assert_has_outbox(PostgresOutbox(old_database))


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_of_the_first_release_is_not_altered_by_opening_it(
    old_file: Path, read_only: bool
) -> None:
    with pytest.raises(ConfigurationError, match="schema version 1") as caught:
        SqliteStore(old_file, read_only=read_only).head()
    assert "airflow mlgov db migrate" in str(caught.value)
    assert_is_version_1(old_file)


def test_a_database_of_the_first_release_is_named(old_database: str) -> None:
    with pytest.raises(ConfigurationError, match="v0001") as caught:
        PostgresStore(old_database).head()
    assert "airflow mlgov db migrate" in str(caught.value)
    assert ("revision", False, "v0001; needed: v0004") in schema.findings(old_database)


def assert_is_version_1(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert {"models", "subtrees", "models_by_model", "lineage_inbox"}.isdisjoint(names)
        assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] > ENTRIES
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


MIGRATE_SLOWLY = """
import sys, time
from airflow_mlgov.stores.sqlite import SqliteStore, index

def slow(leaf, label_of=index.label_of):
    slow.read += 1
    if slow.read == 1_050:
        print("in the middle", flush=True)
        time.sleep(60)
    return label_of(leaf)

slow.read = 0
index.label_of = slow
SqliteStore(sys.argv[1]).migrate()
"""


def test_a_migration_that_is_killed_leaves_version_1_whole(old_file: Path, grown: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", MIGRATE_SLOWLY, str(old_file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert child.stdout.readline() == "in the middle\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    assert_is_version_1(old_file)
    SqliteStore(old_file).migrate()
    assert_verified(SqliteStore(old_file), grown)


def test_a_server_that_ends_the_migration_has_version_1_whole(
    old_database: str, grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_mlgov.errors import LedgerUnavailableError
    from airflow_mlgov.stores.postgres import index

    read = []

    def ended(leaf: bytes) -> str:
        read.append(leaf)
        if len(read) == 1_050:
            with psycopg.connect(old_database, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            time.sleep(0.2)
        return ""

    monkeypatch.setattr(index, "label_of", ended)
    with pytest.raises(LedgerUnavailableError):
        schema.migrate(old_database)
    monkeypatch.undo()
    with psycopg.connect(old_database) as connection:
        query = "SELECT version_num, to_regclass('mlgov.models') FROM mlgov.schema_version"
        assert connection.execute(query).fetchall() == [("v0001", None)]
    schema.migrate(old_database)
    assert_verified(PostgresStore(old_database), grown)


@pytest.mark.parametrize("change", ["DELETE FROM {} WHERE seq = 700", "UPDATE {} SET leaf = ''"])
def test_what_is_damaged_is_not_migrated(old_file: Path, old_database: str, change: str) -> None:
    with sqlite3.connect(old_file) as connection:
        connection.execute(change.format("entries").replace("''", "x'00'"))
    with pytest.raises(LedgerIntegrityError):
        SqliteStore(old_file).migrate()
    with sqlite3.connect(old_file) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    with psycopg.connect(old_database) as connection:
        connection.execute(change.format("mlgov.entries"))
    with pytest.raises(LedgerIntegrityError):
        schema.migrate(old_database)
    assert ("revision", False, "v0001; needed: v0004") in schema.findings(old_database)


def test_what_is_no_ledger_or_of_a_newer_release_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE inbox (x)")
    with pytest.raises(ConfigurationError, match="not a ledger"):
        SqliteStore(path).migrate()
    newer = SqliteStore(tmp_path / "newer.db")
    newer.migrate()
    with sqlite3.connect(newer.path) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigurationError, match="newer one"):
        newer.migrate()


@pytest.mark.parametrize("damage", ["UPDATE {}models SET model = 'x'", "DELETE FROM {}subtrees"])
@pytest.mark.parametrize("where", ["file", "database"])
def test_an_index_is_made_anew(
    old_file: Path, old_database: str, grown: Path, where: str, damage: str
) -> None:
    if where == "file":
        store: LedgerStore = SqliteStore(old_file)
        store.migrate()
        with sqlite3.connect(old_file) as connection:
            connection.execute(damage.format(""))
    else:
        schema.migrate(old_database)
        store = PostgresStore(old_database)
        with psycopg.connect(old_database) as connection:
            connection.execute(damage.format("mlgov."))
    ledger = Ledger(store, open_signers(grown / "keys"))
    assert len(ledger.verify().problems) == 1
    with pytest.raises(LedgerIntegrityError) as caught:
        ledger.model_view("model_1")
    assert "db reindex" in str(caught.value)
    if where == "file":
        store.reindex()
    else:
        schema.reindex(old_database)
    assert ledger.verify().problems == ()
    assert ledger.model_view("model_1").indices
