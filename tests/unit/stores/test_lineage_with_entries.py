"""An entry and the lineage events that go with it: both are kept, or neither is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_mlgov.errors import (
    LedgerConflictError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    MlgovError,
)
from airflow_mlgov.ledger.entry import Entry
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.outbox import Outbox, OutboxItem
from airflow_mlgov.service.ports import InboxItem, LedgerStore, Sequenced, TreeHead
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresOutbox, PostgresStore
from airflow_mlgov.stores.sqlite import SqliteOutbox, SqliteStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SHOWN = {"texts.comment": Disclosure.of("x")}

NewStore = Callable[[], LedgerStore]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, new_memory_ledger: Any, new_memory_outbox: Any
) -> tuple[NewStore, Outbox]:
    """What opens a ledger anew, and the outbox in the same store."""
    if request.param == "memory":
        outbox = new_memory_outbox()
        ledger = new_memory_ledger(outbox)
        return lambda: ledger, outbox
    if request.param == "sqlite":
        path = tmp_path / "ledger.db"
        return lambda: SqliteStore(path), SqliteOutbox(path)
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresStore(url), PostgresOutbox(url)


def events(*names: str) -> list[OutboxItem]:
    return [OutboxItem(f"{name:f>64}", name.encode()) for name in names]


def kept(outbox: Outbox) -> list[bytes]:
    outbox.take()
    return [event.event for event in outbox.events(0, 1_000)]


def integrate(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    return Sequenced(hashes, TreeHead(grown.size, grown.peaks, f"{grown.size}".encode()))


def test_both_are_kept(place: tuple[NewStore, Outbox]) -> None:
    store, outbox = place[0](), place[1]
    told = events("b", "a")
    assert store.insert(InboxItem("k", b"leaf"), SHOWN, NOW, lineage=told) is None
    assert store.insert(InboxItem("l", b"leaf"), {}, NOW) is None
    assert place[0]().get("k") == (b"leaf", None)
    assert store.disclosures("k") == SHOWN
    assert outbox.backlog("marquez").waiting == 2
    assert kept(outbox) == [b"b", b"a"]
    assert outbox.events(0, 1)[0].received_at == NOW


def test_an_entry_that_is_on_record_takes_nothing_with_it(place: tuple[NewStore, Outbox]) -> None:
    store, outbox = place[0](), place[1]
    assert store.insert(InboxItem("k", b"leaf"), {}, NOW) is None
    assert store.insert(InboxItem("k", b"other"), {}, NOW, lineage=events("a")) == b"leaf"
    assert kept(outbox) == []
    store.sequence(integrate)
    assert store.insert(InboxItem("k", b"leaf"), {}, NOW, lineage=events("a")) == b"leaf"
    assert kept(outbox) == []
    assert store.waiting() == 0


def test_an_event_that_is_kept_already_keeps_no_entry_out(place: tuple[NewStore, Outbox]) -> None:
    store, outbox = place[0](), place[1]
    outbox.append(events("a", "b"), NOW)
    outbox.take()
    outbox.append(events("c"), NOW)
    told = events("a", "c", "d", "d")
    assert store.insert(InboxItem("k", b"leaf"), {}, NOW, lineage=told) is None
    assert kept(outbox) == [b"a", b"b", b"c", b"d"]
    assert store.get("k") == (b"leaf", None)


def test_an_entry_that_is_refused_takes_nothing_with_it(place: tuple[NewStore, Outbox]) -> None:
    store, outbox = place[0](), place[1]
    with pytest.raises(LedgerIntegrityError):
        store.insert(InboxItem("k", b"x" * 16_385), {}, NOW, lineage=events("a"))
    assert kept(outbox) == []


def test_of_entries_that_race_one_takes_its_events_with_it(place: tuple[NewStore, Outbox]) -> None:
    new_store, outbox = place

    def insert(writer: int) -> list[bytes]:
        store, taken = new_store(), []
        for n in range(25):
            told = events(f"{n} {writer} a", f"{n} {writer} b")
            item = InboxItem(str(n), f"{writer}".encode())
            if store.insert(item, {}, NOW, lineage=told) is None:
                taken += [item.event for item in told]
            store.sequence(integrate)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [event for result in pool.map(insert, range(8)) for event in result]
    assert len(taken) == 2 * 25
    assert sorted(kept(outbox)) == sorted(taken)


def test_events_that_cannot_be_kept_keep_the_entry_out_of_a_file(tmp_path: Path) -> None:
    store, outbox = SqliteStore(tmp_path / "l.db"), SqliteOutbox(tmp_path / "l.db")
    assert store.waiting() == 0
    pages = store._connection().execute("PRAGMA page_count").fetchone()[0]
    store._connection().execute(f"PRAGMA max_page_count = {pages + 3}")
    long = [OutboxItem("f" * 64, b"x" * 900_000)]
    with pytest.raises(LedgerUnavailableError, match="disk is full"):
        store.insert(InboxItem("k", b"leaf"), SHOWN, NOW, lineage=long)
    assert (store.get("k"), store.disclosures("k"), kept(outbox)) == (None, {}, [])
    with sqlite3.connect(tmp_path / "l.db") as connection:
        connection.execute("DROP TABLE lineage_inbox")
    with pytest.raises(MlgovError):
        store.insert(InboxItem("k", b"leaf"), SHOWN, NOW, lineage=events("a"))
    assert (store.get("k"), store.disclosures("k")) == (None, {})


@pytest.mark.parametrize("timing", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_events_that_cannot_be_kept_keep_the_entry_out_of_a_database(
    postgres_url: str, timing: str
) -> None:
    store, outbox = PostgresStore(postgres_url), PostgresOutbox(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no event'; END $$"
        )
        owner.execute(
            f"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON mlgov.lineage_inbox {timing} "
            "FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        with pytest.raises(LedgerIntegrityError, match="no event"):
            store.insert(InboxItem("k", b"leaf"), SHOWN, NOW, lineage=events("a"))
        owner.execute("DROP TRIGGER late ON mlgov.lineage_inbox")
    assert (store.get("k"), store.disclosures("k"), kept(outbox)) == (None, {}, [])
    assert store.insert(InboxItem("k", b"leaf"), SHOWN, NOW, lineage=events("a")) is None
    assert kept(outbox) == [b"a"]


def draft(choice: str = "approve") -> EntryDraft:
    body = {"request_sha256": "sha256:" + "b" * 64, "choice": choice}
    return EntryDraft("approval.voted", "m", Digest("a" * 64), body, ("vote",))


def test_a_ledger_tells_what_goes_with_an_entry(
    place: tuple[NewStore, Outbox], tmp_path: Path
) -> None:
    ledger, outbox = Ledger(place[0](), open_signers(tmp_path / "keys")), place[1]
    told: list[Entry] = []

    def tell(entry: Entry) -> list[OutboxItem]:
        told.append(entry)
        return events(f"{len(told)}")

    receipt = ledger.append(draft(), lineage=tell)
    assert [(entry.key, entry.kind) for entry in told] == [(receipt.key, "approval.voted")]
    assert ledger.append(draft(), lineage=tell) == receipt
    with pytest.raises(LedgerConflictError):
        ledger.append(draft("reject"), lineage=tell)
    assert kept(outbox) == [b"1"]
    kinds = [entry.kind for entry in ledger.view().select()]
    assert kinds == ["genesis", "approval.voted", "append.refused"]


def test_a_ledger_whose_lineage_cannot_be_told_keeps_no_entry(
    place: tuple[NewStore, Outbox], tmp_path: Path
) -> None:
    ledger = Ledger(place[0](), open_signers(tmp_path / "keys"))

    def tell(entry: Entry) -> list[OutboxItem]:
        raise KeyError(entry.key)

    with pytest.raises(KeyError):
        ledger.append(draft(), lineage=tell)
    assert ledger.append(draft(), lineage=lambda _: []).key
    assert kept(place[1]) == []
