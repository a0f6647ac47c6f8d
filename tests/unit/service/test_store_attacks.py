"""A whole ledger in a real database, whose rows and bytes are attacked; numbers are the threats'.

What must come out is in tests/README.md: `verify` finds a state fine if, and only if, it is an
honest beginning that holds all that was anchored.
"""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerError, LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import LedgerStore
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresStore
from airflow_mlgov.stores.sqlite import SqliteStore

SIZE = 7
"""Entries of the ledger that is attacked; its newest checkpoint has three nodes."""


def draft(name: str) -> EntryDraft:
    body = {"task": "d/r/t", "state": "success"}
    who = {"by": Person(f"id of {name}", f"Name of {name}")}
    return EntryDraft(
        "state.changed_by_hand", "", None, body, (name,), who, {"why": f"text of {name}"}
    )


@dataclass
class Kept:
    """A ledger in a database, and what somebody keeps of it elsewhere."""

    open_store: Callable[[], LedgerStore]
    execute: Callable[..., list[tuple[Any, ...]]]
    keys: Path
    anchors: list[Checkpoint] = field(default_factory=list)
    trust: TrustRoot | None = None

    def ledger(self) -> Ledger:
        return Ledger(self.open_store(), open_signers(self.keys))

    def grow(self, *names: str) -> None:
        """Append in one round each, and keep every checkpoint."""
        ledger = self.ledger()
        for name in names:
            ledger.seal(ledger.append(draft(name)))
            self.anchors.append(ledger.checkpoint())
        self.trust = ledger.trust_root()

    def is_fine(self, *anchors: Checkpoint) -> bool:
        """What the verifier says, with nothing but the trust file and what was kept elsewhere."""
        assert self.trust is not None
        try:
            reader = Ledger(self.open_store(), {}, trust=self.trust)
            return reader.verify(self.trust, earlier=anchors).is_fine
        except LedgerIntegrityError:
            return False


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "sqlite":
        only = SqliteStore(tmp_path / "ledger.db")
        made = Kept(lambda: only, _in_sqlite(tmp_path / "ledger.db"), tmp_path / "keys")
        made.grow(*(str(number) for number in range(1, SIZE)))
        yield made
        return
    url = request.getfixturevalue("postgres_url")
    store = PostgresStore(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = mlgov")

        def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.replace("?", "%s"), values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

        made = Kept(lambda: store, execute, tmp_path / "keys")
        made.grow(*(str(number) for number in range(1, SIZE)))
        yield made


def _in_sqlite(path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    return execute


def leaf_at(kept: Kept, index: int) -> bytes:
    ((leaf,),) = kept.execute("SELECT leaf FROM entries WHERE seq = ?", index)
    return bytes(leaf)


def put(kept: Kept, index: int, leaf: bytes) -> None:
    kept.execute("UPDATE entries SET leaf = ? WHERE seq = ?", leaf, index)


def put_hashed(kept: Kept, index: int, leaf: bytes) -> None:
    values = leaf, leaf_hash(leaf), index
    kept.execute("UPDATE entries SET leaf = ?, leaf_hash = ? WHERE seq = ?", *values)


def edited(leaf: bytes) -> bytes:
    """Return the leaf with another state in its payload, under the same signature."""
    value = json.loads(leaf)
    payload = base64.b64decode(value["payload"])
    assert b'"success"' in payload
    changed = payload.replace(b'"success"', b'"failure"')
    return leaf.replace(value["payload"].encode(), base64.b64encode(changed))


def edit_payload(kept: Kept) -> None:
    put(kept, 3, edited(leaf_at(kept, 3)))


def edit_payload_and_hash(kept: Kept) -> None:
    put_hashed(kept, 3, edited(leaf_at(kept, 3)))


def edit_every_node(kept: Kept) -> None:
    put_hashed(kept, 3, edited(leaf_at(kept, 3)))
    hashes = (leaf_hash(leaf_at(kept, index)) for index in range(SIZE))
    peaks = append_leaves((), 0, hashes).peaks
    root = root_of_peaks(peaks, SIZE)
    assert root.hex() != kept.anchors[-1].root_hash
    kept.execute("UPDATE checkpoints SET peaks = ? WHERE size = ?", b"".join(peaks), SIZE)


def shift(kept: Kept, first: int, by: int) -> None:
    kept.execute("UPDATE entries SET seq = -seq WHERE seq >= ?", first)
    kept.execute("UPDATE entries SET seq = ? - seq WHERE seq < 0", by)


def delete_from_the_middle(kept: Kept) -> None:
    kept.execute("DELETE FROM entries WHERE seq = 3")


def delete_from_the_middle_and_close_the_gap(kept: Kept) -> None:
    kept.execute("DELETE FROM entries WHERE seq = 3")
    shift(kept, 4, -1)


def swap(kept: Kept) -> None:
    for old, new in ((2, 90), (3, 2), (90, 3)):
        kept.execute("UPDATE entries SET seq = ? WHERE seq = ?", new, old)


def insert_back_dated(kept: Kept) -> None:
    """An entry that the ledger has taken, moved to where it would have stood earlier."""
    kept.execute("UPDATE entries SET seq = -99 WHERE seq = 6")
    shift(kept, 2, 1)
    kept.execute("UPDATE entries SET seq = 2 WHERE seq = 100")
    assert kept.execute("SELECT count(*), max(seq) FROM entries") == [(SIZE, SIZE - 1)]


def insert_a_copy_back_dated(kept: Kept) -> None:
    shift(kept, 2, 1)
    kept.execute(
        "INSERT INTO entries SELECT 2, 'copy', leaf, leaf_hash, received_at FROM entries "
        "WHERE seq = 5"
    )


ATTACKS = (
    edit_payload,
    edit_payload_and_hash,
    edit_every_node,
    delete_from_the_middle,
    delete_from_the_middle_and_close_the_gap,
    swap,
    insert_back_dated,
    insert_a_copy_back_dated,
)


@pytest.mark.attack(1, 2, 3, 4, 6, 9)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_altered_rows_are_found_without_any_anchor(
    kept: Kept, attack: Callable[[Kept], None]
) -> None:
    assert kept.is_fine(*kept.anchors)
    attack(kept)
    assert not kept.is_fine()


@pytest.mark.attack(5)
@pytest.mark.parametrize("size", range(1, SIZE))
def test_threat_5_every_shorter_ledger_is_found_by_every_longer_anchor(
    kept: Kept, size: int
) -> None:
    kept.execute("DELETE FROM entries WHERE seq >= ?", size)
    kept.execute("DELETE FROM checkpoints WHERE size > ?", size)
    if size == 1:  # genesis and the first entry came under one checkpoint
        assert not kept.is_fine()
        return
    assert kept.is_fine()  # by itself it is a sound, shorter ledger
    for anchor in kept.anchors:
        assert kept.is_fine(anchor) is (anchor.size <= size)


COLUMNS = {
    "entry": ("entries", "leaf", "seq = 3"),
    "leaf hash": ("entries", "leaf_hash", "seq = 3"),
    "node": ("checkpoints", "peaks", f"size = {SIZE}"),
    "note and signature": ("checkpoints", "note", f"size = {SIZE}"),
    "salt": ("disclosures", "salt", "field = 'people.by' AND key = ?"),
    "name": ("disclosures", "value", "field = 'people.by' AND key = ?"),
    "text": ("disclosures", "value", "field = 'texts.why' AND key = ?"),
}


@pytest.mark.attack(14)
@pytest.mark.parametrize("column", COLUMNS)
def test_threat_14_one_bit_in_every_class_of_bytes(
    kept: Kept, column: str, request: pytest.FixtureRequest
) -> None:
    """Every byte in SQLite, some in PostgreSQL; in each byte another one of its bits."""
    table, name, where = COLUMNS[column]
    values = ()
    if table == "disclosures":
        values = kept.execute("SELECT key FROM entries WHERE seq = 3")[0]
    ((honest,),) = kept.execute(f"SELECT {name} FROM {table} WHERE {where}", *values)
    every = 23 if "postgresql" in request.node.name else 1
    assert len(honest) >= 10
    for at in range(0, len(honest), every):
        broken = bytearray(honest)
        broken[at] ^= 1 << (at % 8)
        kept.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", bytes(broken), *values)
        assert not kept.is_fine(), at
    kept.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", bytes(honest), *values)
    assert kept.is_fine(*kept.anchors)


@pytest.mark.attack(21)
def test_threat_21_sizes_around_powers_of_two(kept: Kept) -> None:
    """Grown in rounds that end at each size, and there compared with all that was kept."""
    ledger = kept.ledger()
    for size in (8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65):
        held = ledger.view().checkpoint.size
        for number in range(held, size):
            ledger.append(draft(f"more {number}"))
        ledger.drain()
        kept.anchors.append(ledger.checkpoint())
        assert kept.anchors[-1].size == len(ledger.view().select()) == size
        assert kept.is_fine(*kept.anchors)
    kept.execute("DELETE FROM checkpoints WHERE size = 65")
    assert not kept.is_fine()  # an entry that no checkpoint covers, and none is waiting


@pytest.mark.attack(21)
def test_threat_21_a_ledger_of_no_entry_and_of_one(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "ledger.db")
    ledger = Ledger(store, open_signers(tmp_path / "keys"))
    with pytest.raises(LedgerError, match="empty"):
        ledger.verify()
    _ = ledger.origin
    with pytest.raises(LedgerError, match="empty"):
        ledger.verify()
    ledger.drain()
    report = ledger.verify()
    assert (report.is_fine, report.size, report.kinds) == (True, 1, {"genesis": 1})


@pytest.mark.attack(33)
def test_threat_33_a_name_that_vanished_is_found_and_one_that_was_erased_is_not(kept: Kept) -> None:
    (key,) = kept.execute("SELECT key FROM entries WHERE seq = 3")[0]
    kept.execute("DELETE FROM disclosures WHERE field = 'people.by' AND key = ?", key)
    assert not kept.is_fine()
    body = {"because": "request", "count": 1, "fields": [[3, "people.by"]]}
    ledger = kept.ledger()
    ledger.seal(ledger.append(EntryDraft("erased", "", None, body, ("x",)), role="log"))  # type: ignore[arg-type]
    assert kept.is_fine(*kept.anchors)


# --- the file itself


def read(path: Path, trust: TrustRoot, anchors: list[Checkpoint]) -> tuple[bool, list[bytes]]:
    """What a verifier says of a file, and the leaves that it holds; refused is not fine."""
    store = SqliteStore(path, read_only=True)
    try:
        report = Ledger(store, {}, trust=trust).verify(trust, earlier=anchors)
        leaves = list(store.leaves(0, report.size)) if report.is_fine else []
    except (LedgerError, ConfigurationError):
        return False, []
    finally:
        store.close()
    return report.is_fine, leaves


@pytest.mark.attack(12, 13)
@pytest.mark.parametrize("part", ["ledger.db", "ledger.db-wal"])
def test_threat_13_a_file_cut_at_any_length_is_refused_or_an_honest_beginning(
    tmp_path: Path, part: str
) -> None:
    """Half of the ledger is in the main file, half in the write-ahead log beside it."""
    path = tmp_path / "ledger.db"
    store = SqliteStore(path)
    kept = Kept(lambda: store, _in_sqlite(path), tmp_path / "keys")
    kept.grow(*(f"{number} {'x' * 300}" for number in range(12)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept.grow(*(f"later {number}" for number in range(6)))
    trust, newest = kept.trust, kept.anchors[-1]
    assert trust is not None
    honest = list(store.leaves(0, newest.size))
    length = (tmp_path / part).stat().st_size
    assert length > 20_000
    cuts = sorted({0, 1, 15, 31, 32, 33, 56, 99, 100, length, *range(1000, length, 1511)})
    sizes = set()
    for cut in cuts:
        folder = tmp_path / f"{part} {cut}"
        folder.mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            shutil.copy(tmp_path / name, folder / name)
        with (folder / part).open("r+b") as file:
            file.truncate(cut)
        is_fine, leaves = read(folder / "ledger.db", trust, [])
        assert not is_fine or leaves == honest[: len(leaves)], cut
        assert read(folder / "ledger.db", trust, [newest])[0] is (len(leaves) == len(honest)), cut
        sizes.add(len(leaves))
        shutil.rmtree(folder)
    assert len(honest) in sizes  # the whole file is fine
    if part == "ledger.db-wal":  # whole transactions are lost from the end, one after the other
        assert sizes >= {13, 14, 16, 18}
        assert 0 not in sizes
