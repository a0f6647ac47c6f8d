"""What is checked before the log key signs; each check has a test in which nothing is signed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import Vkey, open_checkpoint
from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import InboxItem, Sequenced, TreeHead
from airflow_mlgov.service.sequencing import GENESIS_KEY, checked_head, integrate
from airflow_mlgov.signers.file import FileSigner, open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

ORIGIN = "airflow-mlgov/test"
EMPTY = TreeHead(0, (), b"")


class Bench:
    """One log key, and rounds with it."""

    def __init__(self, folder: Path) -> None:
        self.signers: dict[KeyRole, FileSigner] = dict(open_signers(folder / "keys"))
        self.key = self.signers[KeyRole.LOG]
        log = Vkey(ORIGIN, self.key.public_key)
        writer = Vkey("writer", self.signers[KeyRole.WRITER].public_key)
        self.trust = TrustRoot(ORIGIN, (log,), writer_keys=(writer,))

    def genesis(self, role: KeyRole = KeyRole.LOG, **changes: Any) -> InboxItem:
        at = datetime(2026, 1, 2, tzinfo=UTC)
        entry = Entry(ORIGIN, "genesis", GENESIS_KEY, at, "", None, {"origin": ORIGIN})
        signer = self.signers[role]
        entry = replace(entry, **changes)
        return InboxItem(GENESIS_KEY, encode_leaf(entry, signer.public_key, signer.sign))

    def round(self, head: TreeHead, *items: InboxItem, **more: Any) -> Sequenced:
        given = {"keyring": Keyring(self.trust), "signer": self.key, **more}
        return integrate(head, items, **given)

    def checkpoint(self, head: TreeHead) -> Any:
        return checked_head(head, Keyring(self.trust))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def item(name: str) -> InboxItem:
    return InboxItem(entry_key(ORIGIN, "x", name), name.encode())


def test_rounds_give_the_tree_of_all_leaves(bench: Bench) -> None:
    items = [bench.genesis(), *(item(str(number)) for number in range(9))]
    first = bench.round(EMPTY, *items[:4])
    second = bench.round(first.head, *items[4:])
    tree = MerkleTree(leaf_hash(each.leaf) for each in items)
    assert (*first.leaf_hashes, *second.leaf_hashes) == tuple(leaf_hash(i.leaf) for i in items)
    newest = open_checkpoint(second.head.note, bench.trust.log_keys, origin=ORIGIN)
    assert (newest.size, newest.root_hash) == (10, tree.root().hex())
    assert (second.head.size, len(second.head.peaks)) == (10, 2)


def test_only_the_log_key_names_the_log(bench: Bench) -> None:
    with pytest.raises(LedgerIntegrityError, match="writer key may not sign genesis"):
        bench.round(EMPTY, bench.genesis(KeyRole.WRITER))
    with pytest.raises(UnknownKeyError):
        bench.round(EMPTY, bench.genesis(KeyRole.ATTESTOR))
    with pytest.raises(LedgerIntegrityError, match="not a genesis entry"):
        bench.round(EMPTY, bench.genesis(kind="heartbeat", body={"interval_s": 1}))
    with pytest.raises(LedgerIntegrityError, match="another log"):
        bench.round(EMPTY, bench.genesis(origin="other/log"))
    with pytest.raises(LedgerIntegrityError):
        bench.round(EMPTY, InboxItem(GENESIS_KEY, b"junk"))


@pytest.mark.parametrize(
    "head",
    [TreeHead(1, (b"x" * 32,), b""), TreeHead(0, (b"x" * 32,), b""), TreeHead(1, (), b"")],
)
def test_entries_without_a_checkpoint_are_not_signed_over(bench: Bench, head: TreeHead) -> None:
    with pytest.raises(LedgerIntegrityError, match="without a signed checkpoint"):
        bench.round(head, bench.genesis())


def test_a_first_round_that_does_not_begin_with_genesis_is_not_signed(bench: Bench) -> None:
    with pytest.raises(LedgerIntegrityError, match="without a signed checkpoint"):
        bench.round(EMPTY, item("x"), bench.genesis())


def test_the_old_root_must_be_the_one_that_was_signed(bench: Bench) -> None:
    head = bench.round(EMPTY, bench.genesis(), item("a"), item("b")).head
    other = bench.round(EMPTY, bench.genesis(), item("a"), item("c")).head
    for altered in (
        replace(head, peaks=other.peaks),
        replace(head, peaks=head.peaks[:1]),
        replace(head, size=2),
        replace(head, size=5),
        replace(head, note=head.note.replace(b"\n3\n", b"\n4\n")),
        replace(head, note=head.note[:-5] + b"AAA=\n"),
    ):
        with pytest.raises(LedgerIntegrityError):
            bench.round(altered, item("d"))


def test_a_head_behind_what_this_process_knows_is_not_signed_over(bench: Bench) -> None:
    first = bench.round(EMPTY, bench.genesis(), item("a")).head
    second = bench.round(first, item("b")).head
    other = bench.round(first, item("c")).head
    with pytest.raises(LedgerIntegrityError, match=r"went back to 2 entries behind .* over 3"):
        bench.round(first, item("d"), last=bench.checkpoint(second))
    with pytest.raises(LedgerIntegrityError, match="went back"):
        bench.round(other, item("d"), last=bench.checkpoint(second))
    with pytest.raises(LedgerIntegrityError, match="without a signed checkpoint"):
        bench.round(EMPTY, bench.genesis(), last=bench.checkpoint(first))
    # Another sequencer was faster: its head is beyond, and what it signed stands.
    assert bench.round(second, item("d"), last=bench.checkpoint(first)).head.size == 4
    assert bench.round(second, item("d"), last=bench.checkpoint(second)).head.size == 4


def test_a_signature_of_our_own_that_does_not_verify_is_not_kept(bench: Bench) -> None:
    class Broken:
        role, name, public_key = KeyRole.LOG, "log", bench.key.public_key

        def sign(self, message: bytes) -> bytes:
            return bytes(64)

    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        bench.round(EMPTY, bench.genesis(), signer=Broken())


def _draft(name: str) -> EntryDraft:
    body = {"policy_sha256": "sha256:" + "0" * 64}
    return EntryDraft("policy.changed", "", None, body, (name,))


@pytest.mark.attack(14)
@pytest.mark.parametrize("number", [0, 7, 100, -1])
def test_threat_14_a_bit_that_flips_while_an_entry_waits_is_not_signed_over(
    tmp_path: Path, number: int
) -> None:
    store = SqliteStore(tmp_path / "ledger.db")
    ledger = Ledger(store, open_signers(tmp_path / "keys"))
    ledger.seal(ledger.append(_draft("a")))
    receipt = ledger.append(_draft("b"))
    kept = store.get(receipt.key)
    assert kept is not None
    leaf = bytearray(kept[0])
    leaf[number] ^= 1
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("UPDATE inbox SET leaf = ? WHERE key = ?", (bytes(leaf), receipt.key))
        connection.commit()
    before = store.head()
    with pytest.raises(LedgerIntegrityError, match="one was altered"):
        ledger.drain()
    assert (store.head(), store.waiting()) == (before, 1)
