"""The outbox in a SQLite file: full disks, other people's locks, altered rows, who may read."""

from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.service.outbox import Delivery, DeliveryState, OutboxItem
from airflow_mlgov.stores.sqlite import SqliteOutbox, SqliteStore
from airflow_mlgov.stores.sqlite.file_lock import file_lock

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def items(count: int, size: int = 10) -> list[OutboxItem]:
    return [OutboxItem(f"{n:064}", b"x" * size) for n in range(count)]


def delivered(*seqs: int) -> list[Delivery]:
    return [Delivery("marquez", seq, DeliveryState.DELIVERED, NOW) for seq in seqs]


@pytest.fixture
def outbox(tmp_path: Path) -> SqliteOutbox:
    return SqliteOutbox(tmp_path / "folder" / "ledger.db", timeout_s=5)


def test_it_stands_in_the_ledger_s_file(outbox: SqliteOutbox) -> None:
    store = SqliteStore(outbox.path)
    assert store.waiting() == 0
    outbox.append(items(2), NOW)
    assert outbox.take() == 2
    assert store.waiting() == 0
    assert SqliteOutbox(outbox.path, read_only=True).backlog("marquez").waiting == 2
    connection = outbox._connection()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_who_ships_keeps_a_lock_s_file_that_others_cannot_open(outbox: SqliteOutbox) -> None:
    with outbox.shipping("marquez") as mine:
        assert mine
        names = {file.name for file in outbox.path.parent.iterdir()}
        lock = outbox.path.with_name("ledger.db.ship-marquez.lock")
        assert lock.name in names
        assert stat.S_IMODE(lock.stat().st_mode) & 0o007 == 0
    assert lock.exists()  # removing it would let two ship


def test_a_full_disk_keeps_all_or_none_and_says_so(outbox: SqliteOutbox) -> None:
    outbox.append(items(3), NOW)
    outbox.take()
    connection = outbox._connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(LedgerUnavailableError, match="disk is full") as caught:
        outbox.append([OutboxItem("f" * 64, b"small"), OutboxItem("e" * 64, b"x" * 900_000)], NOW)
    assert caught.value.retryable
    assert outbox.take() == 0
    outbox.append([OutboxItem("f" * 64, b"small")], NOW)  # a new connection has the whole disk
    assert outbox.take() == 1


def test_a_disk_that_is_full_when_events_are_numbered_loses_none(outbox: SqliteOutbox) -> None:
    outbox.append(items(40, 20_000), NOW)
    connection = outbox._connection()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(LedgerUnavailableError, match="disk is full"):
        outbox.take()
    assert outbox.events(0, 99) == []
    assert outbox.backlog("marquez").waiting == 40
    assert outbox.take() == 40


def test_what_was_settled_long_ago_is_not_looked_at_again(outbox: SqliteOutbox) -> None:
    def floor() -> int:
        query = "SELECT settled_to FROM lineage_targets WHERE target = 'marquez'"
        return int(outbox._connection().execute(query).fetchone()[0])

    outbox.append(items(5), NOW)
    outbox.take()
    outbox.settle(delivered(1, 2, 4))
    assert floor() == 2
    outbox.settle(delivered(3))
    assert floor() == 4
    outbox.unsettle("marquez", [2, 9])
    assert floor() == 1
    outbox.settle(delivered(5, 2))
    assert floor() == 5


def test_reading_only(outbox: SqliteOutbox) -> None:
    outbox.append(items(1), NOW)
    outbox.take()
    outbox.append([OutboxItem("f" * 64, b"")], NOW)
    reader = SqliteOutbox(outbox.path, read_only=True)
    assert len(reader.undelivered("marquez", 9)) == 1
    for change in (
        lambda: reader.append([OutboxItem("e" * 64, b"")], NOW),
        reader.take,
        lambda: reader.settle(delivered(1)),
        lambda: reader.unsettle("marquez", [1]),
    ):
        with pytest.raises(LedgerUnavailableError, match="reading only"):
            change()


def test_another_process_s_lock_is_waited_for_and_then_named(outbox: SqliteOutbox) -> None:
    outbox.append(items(1), NOW)
    impatient = SqliteOutbox(outbox.path, timeout_s=0.2)
    with file_lock(outbox.path.with_name("ledger.db.lock"), 1):
        for change in (lambda: impatient.append(items(2), NOW), impatient.take):
            with pytest.raises(LedgerUnavailableError, match="held") as caught:
                change()
            assert caught.value.retryable
        assert impatient.backlog("marquez").waiting == 1  # reading needs no lock
    assert impatient.take() == 1


def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outbox = SqliteOutbox(tmp_path / "file" / "ledger.db")
    with pytest.raises(LedgerUnavailableError):
        outbox.append(items(1), NOW)
    with pytest.raises(LedgerUnavailableError), outbox.shipping("marquez"):
        pass


def test_what_is_raised_while_shipping_is_passed_on(outbox: SqliteOutbox) -> None:
    with pytest.raises(OSError, match="of the target"), outbox.shipping("marquez"):
        raise OSError("of the target")


ALTERATIONS = {
    "event as text": "UPDATE lineage_events SET event = 'text'",
    "time": "UPDATE lineage_events SET received_at = 'soon'",
    "time as a number": "UPDATE lineage_events SET received_at = x'07'",
    "key": "UPDATE lineage_events SET key = x'00'",
    "state": "UPDATE lineage_deliveries SET state = 'lost'",
    "reason": "UPDATE lineage_deliveries SET reason = x'00'",
    "time of delivery": "UPDATE lineage_deliveries SET at = 'soon'",
    "table": "DROP TABLE lineage_events",
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_rows_are_named(outbox: SqliteOutbox, name: str) -> None:
    outbox.append(items(1), NOW)
    outbox.take()
    outbox.settle(delivered(1))
    with sqlite3.connect(outbox.path) as connection:
        connection.execute(ALTERATIONS[name])
    with pytest.raises(LedgerIntegrityError, match="altered"):
        (outbox.deliveries("marquez"), outbox.events(0, 9))


def test_an_altered_time_is_named_in_a_backlog(outbox: SqliteOutbox) -> None:
    outbox.append(items(1), NOW)
    with sqlite3.connect(outbox.path) as connection:
        connection.execute("UPDATE lineage_inbox SET received_at = 'soon'")
    with pytest.raises(LedgerIntegrityError, match="altered"):
        outbox.backlog("marquez")
