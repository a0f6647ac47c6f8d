"""The SQLite store: its promises one by one, and its file damaged in many ways."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.stores.sqlite.file_lock import file_lock

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def integrate(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    return Sequenced(hashes, TreeHead(grown.size, grown.peaks, f"note over {grown.size}".encode()))


def put(store: SqliteStore, *names: str) -> None:
    for name in names:
        assert store.insert(InboxItem(name, f"leaf {name}".encode()), {}, NOW) is None


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "folder" / "ledger.db", timeout_s=5)


def test_a_fresh_store_is_empty(store: SqliteStore) -> None:
    assert store.head() == TreeHead(0, (), b"")
    assert store.get("a") is None
    assert list(store.leaves(0, 5)) == []
    assert store.disclosures("a") == {}
    assert store.waiting() == 0
    assert store.sequence(integrate) == TreeHead(0, (), b"")


def test_entries_wait_in_the_inbox_until_they_are_sequenced(store: SqliteStore) -> None:
    put(store, "a", "b")
    assert store.get("a") == (b"leaf a", None)
    assert store.waiting() == 2
    assert store.inbox() == [InboxItem("a", b"leaf a"), InboxItem("b", b"leaf b")]
    head = store.sequence(integrate)
    assert (head.size, head.note) == (2, b"note over 2")
    assert store.head() == head
    assert store.get("b") == (b"leaf b", 1)
    assert store.waiting() == 0
    assert store.inbox() == []
    put(store, "c")
    assert store.sequence(integrate).size == 3
    assert list(store.leaves(0, 3)) == [b"leaf a", b"leaf b", b"leaf c"]
    assert list(store.leaves(1, 2)) == [b"leaf b"]
    assert list(store.leaves(2, 9)) == [b"leaf c"]


@pytest.mark.attack(7)
def test_threat_7_a_key_is_kept_once_in_the_inbox_and_after(store: SqliteStore) -> None:
    disclosure = Disclosure.of("first")
    assert store.insert(InboxItem("a", b"one"), {"texts.comment": disclosure}, NOW) is None
    other = {"texts.comment": Disclosure.of("second")}
    assert store.insert(InboxItem("a", b"two"), other, NOW) == b"one"
    store.sequence(integrate)
    assert store.insert(InboxItem("a", b"two"), other, NOW) == b"one"
    assert store.disclosures("a") == {"texts.comment": disclosure}
    assert store.waiting() == 0


def test_a_round_that_fails_leaves_everything_as_it_was(store: SqliteStore) -> None:
    put(store, "a")

    def fail(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
        raise LedgerIntegrityError("no")

    def short(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
        return Sequenced((), TreeHead(1, (b"x" * 32,), b"note"))

    with pytest.raises(LedgerIntegrityError, match="no"):
        store.sequence(fail)
    with pytest.raises(ValueError, match="zip"):
        store.sequence(short)
    assert store.head().size == 0
    assert store.waiting() == 1
    assert store.sequence(integrate).size == 1


def test_more_leaves_than_are_read_at_once(store: SqliteStore) -> None:
    store.head()
    with sqlite3.connect(store.path) as connection:
        rows = [(n, f"k{n}", b"%d" % n, leaf_hash(b"%d" % n), "") for n in range(2500)]
        connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", rows)
    assert list(store.leaves(3, 2500)) == [b"%d" % n for n in range(3, 2500)]


@pytest.mark.parametrize("path", [":memory:", "ledger.db", "./ledger.db", "file::memory:", ""])
def test_a_path_that_processes_would_not_share_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute"):
        SqliteStore(path)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///rel.db", "sqlite:///:memory:", "postgresql://u:secret@h/d", ""]
)
def test_urls_that_name_no_absolute_file_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SqliteStore.from_url(url)
    assert "secret" not in str(caught.value)


def test_a_url_with_four_slashes(tmp_path: Path) -> None:
    assert SqliteStore.from_url(f"sqlite:///{tmp_path}/l.db").path == tmp_path / "l.db"


@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"),
    [(0o022, 0o640, 0o750), (0, 0o640, 0o750), (0o077, 0o600, 0o700)],
)
def test_nobody_else_reads_names_and_comments(
    store: SqliteStore, umask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(umask)
    try:
        store.insert(InboxItem("a", b"one"), {"texts.comment": Disclosure.of("x")}, NOW)
    finally:
        os.umask(before)
    folder = store.path.parent
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert modes == {
        "ledger.db": file_mode,
        "ledger.db-wal": file_mode,
        "ledger.db-shm": file_mode,
        "ledger.db.lock": 0o660 & ~umask,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == folder_mode


def test_what_is_there_keeps_its_permissions(store: SqliteStore) -> None:
    put(store, "a")
    store.close()
    store.path.chmod(0o660)
    store.path.parent.chmod(0o770)
    assert SqliteStore(store.path).waiting() == 1
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o660
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o770


def test_a_ledger_that_another_process_makes_first_is_taken(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a")
    late = SqliteStore(store.path)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert late.waiting() == 1
    assert [file.name for file in store.path.parent.iterdir() if file.name.startswith(".")] == []


def test_durability_is_what_the_docs_say(store: SqliteStore) -> None:
    store.head()
    connection = store._connection()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_somebody_else_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="not a ledger"):
        SqliteStore(path).head()
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(store: SqliteStore) -> None:
    store.head()
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigurationError, match="schema version 9"):
        SqliteStore(store.path).head()


ALTERATIONS = {
    "leaf": "UPDATE entries SET leaf = x'00' WHERE seq = 1",
    "leaf hash": "UPDATE entries SET leaf_hash = zeroblob(32) WHERE seq = 1",
    "leaf as text": "UPDATE entries SET leaf = 'text' WHERE seq = 1",
    "leaf hash as null-like": "UPDATE entries SET leaf_hash = '' WHERE seq = 1",
    "removed": "DELETE FROM entries WHERE seq = 1",
    "renumbered": "UPDATE entries SET seq = 9 WHERE seq = 1",
    "table dropped": "DROP TABLE entries",
}


@pytest.mark.attack(1, 4, 14)
@pytest.mark.parametrize("name", ALTERATIONS)
def test_threats_1_2_4_14_rows_altered_in_the_file(store: SqliteStore, name: str) -> None:
    put(store, "a", "b", "c")
    store.sequence(integrate)
    with sqlite3.connect(store.path) as connection:
        connection.execute(ALTERATIONS[name])
    with pytest.raises(LedgerIntegrityError):
        list(store.leaves(0, 3))


@pytest.mark.attack(14)
@pytest.mark.parametrize("change", ["leaf = x'00'", "leaf_hash = zeroblob(32)", "leaf = 'text'"])
def test_threat_14_what_changed_in_the_inbox_is_not_sequenced(
    store: SqliteStore, change: str
) -> None:
    put(store, "a", "b")
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"UPDATE inbox SET {change} WHERE key = 'b'")
    with pytest.raises(LedgerIntegrityError, match="leaf hash"):
        store.sequence(integrate)
    with pytest.raises(LedgerIntegrityError, match="leaf hash"):
        store.get("b")
    with pytest.raises(LedgerIntegrityError, match="leaf hash"):
        store.insert(InboxItem("b", b"leaf b"), {}, NOW)
    with pytest.raises(LedgerIntegrityError, match="leaf hash"):
        store.inbox()
    assert store.head().size == 0


@pytest.mark.parametrize("change", ["note = 'text'", "peaks = 1.5", "size = 'x'"])
def test_malformed_heads(store: SqliteStore, change: str) -> None:
    put(store, "a")
    store.sequence(integrate)
    with sqlite3.connect(store.path) as connection:
        try:
            connection.execute(f"UPDATE checkpoints SET {change}")
        except sqlite3.IntegrityError:
            return  # SQLite itself keeps the type of an integer primary key
    with pytest.raises(LedgerIntegrityError, match="malformed"):
        store.head()


@pytest.mark.parametrize(
    "change", ["salt = x'00'", "value = 'text'", "value = x'7b'", "field = x'00'", "salt = 'text'"]
)
def test_malformed_disclosures(store: SqliteStore, change: str) -> None:
    store.insert(InboxItem("a", b"one"), {"texts.comment": Disclosure.of("x")}, NOW)
    with sqlite3.connect(store.path) as connection:
        connection.execute(f"UPDATE disclosures SET {change}")
    with pytest.raises(LedgerIntegrityError):
        store.disclosures("a")


def test_two_entries_with_one_number_cannot_be(store: SqliteStore) -> None:
    put(store, "a")
    store.sequence(integrate)
    with sqlite3.connect(store.path) as connection:
        connection.execute("INSERT INTO entries VALUES (1, 'planted', x'00', x'00', '')")
    put(store, "b")
    with pytest.raises(LedgerIntegrityError, match="UNIQUE"):
        store.sequence(integrate)
    assert store.head().size == 1


def test_an_entry_that_is_too_long_is_not_taken(store: SqliteStore) -> None:
    with pytest.raises(LedgerIntegrityError):
        store.insert(InboxItem("a", b"x" * 16_385), {}, NOW)


@pytest.mark.attack(13)
def test_threat_13_a_file_cut_at_many_lengths_is_damaged_or_shorter_and_never_a_crash(
    store: SqliteStore, tmp_path: Path
) -> None:
    put(store, *[f"k{n}" for n in range(200)])
    store.sequence(integrate)
    store.close()
    whole = store.path.read_bytes()
    refused = 0
    for length in [
        1,
        15,
        99,
        100,
        1000,
        4095,
        *range(4096, len(whole), 4096),
        *range(5000, len(whole), 9973),
    ]:
        path = tmp_path / f"{length}.db"
        path.write_bytes(whole[:length])
        cut = SqliteStore(path, read_only=True)
        try:
            head = cut.head()
            leaves = list(cut.leaves(0, 200))
            assert head.size == 200
            assert leaves == [f"leaf k{n}".encode() for n in range(200)]
        except (LedgerError, ConfigurationError):
            refused += 1
        cut.close()
    assert refused >= len(whole) // 4096 - 2


@pytest.mark.parametrize(
    "data",
    [
        b"not a database, though long enough to have a header" * 50,
        b"SQLite format 3\x00" + b"\xff" * 5000,
    ],
)
def test_a_file_that_is_no_database(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "l.db"
    path.write_bytes(data)
    for read_only in (True, False):
        with pytest.raises(LedgerIntegrityError, match="damaged"):
            SqliteStore(path, read_only=read_only).head()


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "l.db").mkdir()
    with pytest.raises(LedgerUnavailableError, match="cannot be opened"):
        SqliteStore(tmp_path / "l.db").head()
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailableError):
        SqliteStore(tmp_path / "file" / "l.db").head()


def fill(store: SqliteStore) -> None:
    for n in range(100):
        store.insert(InboxItem(f"big{n}", b"x" * 16_000), {}, NOW)


@pytest.mark.attack(18)
def test_threat_18_a_full_disk_loses_nothing_and_says_so(store: SqliteStore) -> None:
    put(store, "a")
    connection = store._connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerUnavailableError, match="disk is full") as caught:
        fill(store)
    assert caught.value.retryable
    assert store.get("a") == (b"leaf a", None)
    put(store, "b")  # a new connection has the whole disk again
    assert store.sequence(integrate).size == store.head().size


@pytest.mark.attack(18)
def test_threat_18_reading_only(store: SqliteStore) -> None:
    put(store, "a")
    store.sequence(integrate)
    reader = SqliteStore(store.path, read_only=True)
    assert list(reader.leaves(0, 1)) == [b"leaf a"]
    with pytest.raises(LedgerUnavailableError, match="reading only"):
        put(reader, "b")
    with pytest.raises(ConfigurationError, match="no ledger at"):
        SqliteStore(store.path.with_name("none.db"), read_only=True).head()
    assert not store.path.with_name("none.db").exists()


def test_threat_18_a_copy_without_its_write_ahead_log_is_read(
    store: SqliteStore, tmp_path: Path
) -> None:
    put(store, "a")
    store.sequence(integrate)
    store.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(store.path, copy / "ledger.db")
    reader = SqliteStore(copy / "ledger.db", read_only=True)
    assert list(reader.leaves(0, 1)) == [b"leaf a"]


def test_another_process_s_lock_is_waited_for_and_then_named(store: SqliteStore) -> None:
    put(store, "a")
    impatient = SqliteStore(store.path, timeout_s=0.2)
    impatient.head()
    lock = store.path.with_name("ledger.db.lock")
    with file_lock(lock, 1), pytest.raises(LedgerUnavailableError, match="held"):
        put(impatient, "b")
    put(impatient, "b")  # who gave up does not keep the lock


def test_a_lock_is_handed_on_to_who_waits(tmp_path: Path) -> None:
    lock = tmp_path / "l.lock"
    taken: list[float] = []

    def wait() -> None:
        with file_lock(lock, 5):
            taken.append(time.monotonic())

    with file_lock(lock, 1):
        waiters = [threading.Thread(target=wait) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        time.sleep(0.2)
        assert taken == []
        released = time.monotonic()
    for waiter in waiters:
        waiter.join(5)
    assert len(taken) == 4
    assert max(taken) - released < 2


def test_sqlite_s_own_lock_is_waited_for_and_then_named(store: SqliteStore) -> None:
    put(store, "a")
    impatient = SqliteStore(store.path, timeout_s=0.2)
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError, match="another process"):
        put(impatient, "b")
    foreign.execute("ROLLBACK")
    put(impatient, "b")


def test_a_file_removed_in_use_is_not_silently_begun_anew(store: SqliteStore) -> None:
    put(store, "a")
    store.path.unlink()
    for _ in range(2):
        with pytest.raises(LedgerIntegrityError, match="removed"):
            put(store, "b")
    assert not store.path.exists()


def test_a_file_replaced_in_use_is_opened_anew(store: SqliteStore, tmp_path: Path) -> None:
    put(store, "a")
    other = SqliteStore(tmp_path / "other.db")
    put(other, "b")
    other.close()
    store.path.with_name("ledger.db-wal").unlink()
    store.path.with_name("ledger.db-shm").unlink()
    other.path.replace(store.path)
    assert store.get("b") == (b"leaf b", None)
    assert store.get("a") is None


def _child(store: SqliteStore, queue: Any) -> None:
    put(store, "child")
    queue.put(store.get("parent"))


def test_a_forked_process_uses_its_own_connection(store: SqliteStore) -> None:
    put(store, "parent")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(store, queue))
    child.start()
    assert queue.get(timeout=10) == (b"leaf parent", None)
    child.join(10)
    assert child.exitcode == 0
    put(store, "after")
    assert [store.get(name) for name in ("child", "after")] == [
        (b"leaf child", None),
        (b"leaf after", None),
    ]
    assert store.sequence(integrate).size == 3


def test_threads_have_their_own_connections(store: SqliteStore) -> None:
    def work(n: int) -> None:
        put(store, *[f"{n}.{i}" for i in range(10)])
        store.sequence(integrate)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(list(store.leaves(0, 40))) == 40


def test_a_malformed_row_of_an_anchor(tmp_path) -> None:
    path = tmp_path / "ledger.db"
    row = Anchored("w", "witness", 1, b"note", b"line", NOW)
    SqliteStore(path).keep_anchored(row)
    assert SqliteStore(path, read_only=True).anchored() == [row]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE anchored SET at = 7")
    with pytest.raises(LedgerIntegrityError, match="malformed"):
        SqliteStore(path).anchored()
