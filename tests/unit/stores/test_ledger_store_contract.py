"""What every ledger store promises, asked of each of them.

The store in memory is the tests' own; it shows that the suite asks for nothing that only a database
could do, and proves nothing about durability.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import MerkleTree, append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.ports import Anchored, InboxItem, LedgerStore, Sequenced, TreeHead
from airflow_mlgov.service.store_check import store_problems
from airflow_mlgov.stores.postgres import PostgresStore
from airflow_mlgov.stores.sqlite import SqliteStore

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WRITERS, EACH = 16, 12
CONTEXT = multiprocessing.get_context("fork")

NewStore = Callable[[], LedgerStore]


def integrate(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    return Sequenced(hashes, TreeHead(grown.size, grown.peaks, f"note over {grown.size}".encode()))


def put(store: LedgerStore, *names: str) -> None:
    for name in names:
        assert store.insert(InboxItem(name, f"leaf {name}".encode()), {}, NOW) is None


def assert_sound(store: LedgerStore) -> list[bytes]:
    """Return the leaves after checking that the head is over exactly these."""
    head = store.head()
    leaves = list(store.leaves(0, head.size + 10))
    assert len(leaves) == head.size
    tree = MerkleTree(map(leaf_hash, leaves))
    assert tree.root() == root_of_peaks(head.peaks, head.size)
    return leaves


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def new_store(request: pytest.FixtureRequest, tmp_path, new_memory_ledger) -> NewStore:
    """Return what opens the same ledger anew, as another process would."""
    if request.param == "memory":
        only = new_memory_ledger()
        return lambda: only
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "ledger.db")
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresStore(url)


@pytest.fixture
def store(new_store: NewStore) -> LedgerStore:
    return new_store()


def test_a_fresh_store_is_empty(store: LedgerStore) -> None:
    assert store.head() == TreeHead(0, (), b"")
    assert store.get("a") is None
    assert list(store.leaves(0, 5)) == []
    assert store.disclosures("a") == {}
    assert store.waiting() == 0
    assert store.sequence(integrate) == TreeHead(0, (), b"")


def test_entries_wait_until_they_are_sequenced_in_the_order_they_came(
    store: LedgerStore, new_store: NewStore
) -> None:
    put(store, "b", "a")
    assert store.get("a") == (b"leaf a", None)
    assert store.waiting() == 2
    head = store.sequence(integrate)
    assert (head.size, head.note) == (2, b"note over 2")
    assert store.get("b") == (b"leaf b", 0)
    put(store, "c")
    assert store.sequence(integrate).size == 3
    other = new_store()
    assert other.head() == store.head()
    assert list(other.leaves(0, 3)) == [b"leaf b", b"leaf a", b"leaf c"]
    assert list(other.leaves(1, 2)) == [b"leaf a"]
    assert list(other.leaves(2, 9)) == [b"leaf c"]
    assert other.waiting() == 0


@pytest.mark.attack(7)
def test_threat_7_the_first_content_under_a_key_stays(store: LedgerStore) -> None:
    first = {"texts.comment": Disclosure.of("first")}
    second = {"texts.comment": Disclosure.of("second")}
    assert store.insert(InboxItem("a", b"one"), first, NOW) is None
    assert store.insert(InboxItem("a", b"one"), first, NOW) == b"one"
    assert store.insert(InboxItem("a", b"two"), second, NOW) == b"one"
    store.sequence(integrate)
    assert store.insert(InboxItem("a", b"two"), second, NOW) == b"one"
    assert store.insert(InboxItem("a", b"one"), first, NOW) == b"one"
    assert store.waiting() == 0
    assert store.disclosures("a") == first
    assert store.disclosures("b") == {}


def test_what_waits_can_be_read_in_the_order_it_came(store: LedgerStore) -> None:
    assert store.inbox() == []
    put(store, "b", "a")
    assert store.inbox() == [InboxItem("b", b"leaf b"), InboxItem("a", b"leaf a")]
    store.sequence(integrate)
    put(store, "c")
    assert store.inbox() == [InboxItem("c", b"leaf c")]


@pytest.mark.attack(33)
def test_threat_33_what_opens_a_commitment_can_be_erased(new_store: NewStore) -> None:
    store = new_store()
    shown = {name: Disclosure.of(name) for name in ("people.voter", "texts.comment")}
    for key in ("a", "b"):
        assert store.insert(InboxItem(key, key.encode()), shown, NOW) is None
    store.sequence(integrate)
    fields = [("a", "people.voter"), ("b", "people.voter"), ("b", "texts.comment")]
    assert store.erase([*fields, ("a", "people.nobody"), ("c", "people.voter")]) == 3
    assert store.erase(fields) == 0
    assert store.erase([]) == 0
    assert new_store().disclosures("a") == {"texts.comment": shown["texts.comment"]}
    assert new_store().disclosures("b") == {}
    assert len(assert_sound(new_store())) == 2


def test_what_anchors_gave_is_kept_once(store: LedgerStore, new_store: NewStore) -> None:
    assert store.anchored() == store.anchored(newest=True) == []
    first, other, later, longest = (
        Anchored("b", "witness", 9, b"note 9", b"line 9", NOW),
        Anchored("a", "directory", 9, b"note 9", b"", NOW),
        Anchored("b", "witness", 10, b"note 10", b"line 10", NOW),
        Anchored("B", "timestamp", 2**40, b"note", b"\x00\xff" * 9_000, NOW),
    )
    for anchored in (longest, later, first, other):
        store.keep_anchored(anchored)
    store.keep_anchored(replace(first, data=b"other", note=b"other"))
    assert new_store().anchored() == [other, first, later, longest]
    assert new_store().anchored(newest=True) == [other, later, longest]
    assert store.head() == TreeHead(0, (), b"")


def test_a_round_that_fails_leaves_everything_as_it_was(store: LedgerStore) -> None:
    put(store, "a")

    def fail(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
        raise KeyboardInterrupt

    def short(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
        return Sequenced((), TreeHead(1, (b"x" * 32,), b"note"))

    with pytest.raises(KeyboardInterrupt):
        store.sequence(fail)
    with pytest.raises(ValueError, match="zip"):
        store.sequence(short)
    assert store.head().size == 0
    assert (store.waiting(), store.get("a")) == (1, (b"leaf a", None))
    assert store.sequence(integrate).size == 1


def test_a_round_may_read_the_store(store: LedgerStore) -> None:
    put(store, "a")
    seen = []

    def look(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
        seen.append((store.get("a"), store.head().size))
        return integrate(head, items)

    assert store.sequence(look).size == 1
    assert seen == [((b"leaf a", None), 0)]


def about(model: object, note: str) -> bytes:
    """A leaf that says it is about a model; nothing else in it is as it should be."""
    payload = json.dumps({"kind": note, "model": model, "version": ""}).encode()
    return json.dumps({"payload": base64.b64encode(payload).decode()}).encode()


def test_the_index_lists_entries_under_the_model_that_they_name(
    store: LedgerStore, new_store: NewStore
) -> None:
    models = ["a", "b", "", "a", "no name", "\ud800", "nul\0", "x" * 257, 7, "a"]
    leaves = [about(model, f"{n}") for n, model in enumerate(models)]
    for number, leaf in enumerate(leaves):
        store.insert(InboxItem(str(number), leaf), {}, NOW)
        if number in {1, 6}:
            store.sequence(integrate)
    put(store, "no entry at all")
    store.sequence(integrate)
    store.insert(InboxItem("waits", about("a", "waits")), {}, NOW)
    other = new_store()
    assert list(other.about("a")) == [(n, leaves[n]) for n in (0, 3, 9)]
    assert list(other.about("b")) == [(1, leaves[1])]
    assert list(other.about("c")) == []
    listed = ["a", "b", "", "a", "", "", "", "", "7", "a", ""]
    assert list(other.indexed(99)) == list(enumerate(listed))
    assert list(other.indexed(2)) == [(0, "a"), (1, "b")]
    assert store_problems(other, 11) == []


def test_more_entries_of_a_model_than_are_read_at_once(store: LedgerStore) -> None:
    leaves = [about("ab"[n % 2], str(n)) for n in range(2_300)]
    for number, leaf in enumerate(leaves):
        store.insert(InboxItem(str(number), leaf), {}, NOW)
    store.sequence(integrate)
    assert list(store.about("b")) == list(enumerate(leaves))[1::2]
    assert [model for _, model in store.indexed(2_300)] == ["a", "b"] * 1_150


@pytest.mark.parametrize("rounds", [(1, 254, 1, 1, 300), (600,), (255, 2, 512)])
def test_the_index_keeps_full_subtrees_whatever_the_rounds(
    store: LedgerStore, rounds: tuple[int, ...]
) -> None:
    for number, size in enumerate(rounds):
        put(store, *(f"{number} {n}" for n in range(size)))
        store.sequence(integrate)
    hashes = [leaf_hash(leaf) for leaf in assert_sound(store)]
    full = len(hashes) // 256
    expected = [MerkleTree(hashes[256 * n : 256 * (n + 1)]).root() for n in range(full)]
    assert store.subtrees(full) == expected
    assert store.subtrees(1) == expected[:1]
    assert store.subtrees(0) == []
    assert list(store.leaf_hashes(3, 300)) == hashes[3:300]
    with pytest.raises(LedgerIntegrityError, match="lacks subtrees"):
        store.subtrees(full + 1)


def test_an_entry_that_is_too_long_is_not_taken(store: LedgerStore) -> None:
    with pytest.raises(LedgerIntegrityError):
        store.insert(InboxItem("a", b"x" * 16_385), {}, NOW)
    assert store.waiting() == 0
    assert store.insert(InboxItem("a", b"x" * 16_384), {}, NOW) is None


def race(store: LedgerStore, writer: int) -> dict[str, bytes]:
    """Append, now and then sequence; return what was acknowledged."""
    acknowledged = {}
    for number in range(EACH):
        # Every third key is one that all writers want, each with other bytes.
        key = f"shared {number}" if number % 3 == 0 else f"{writer} {number}"
        leaf = f"{key} by {writer}".encode()
        acknowledged[key] = store.insert(InboxItem(key, leaf), {}, NOW) or leaf
        if number % 4 == writer % 4:
            store.sequence(integrate)
    return acknowledged


def assert_none_lost(store: LedgerStore, results: Sequence[dict[str, bytes]]) -> None:
    acknowledged = {pair for result in results for pair in result.items()}
    shared = EACH // 3
    assert len(acknowledged) == WRITERS * (EACH - shared) + shared  # one content for each key
    store.sequence(integrate)
    leaves = assert_sound(store)
    assert sorted(leaves) == sorted(leaf for _, leaf in acknowledged)  # no duplicate, none lost
    assert all(store.get(key)[0] == leaf for key, leaf in acknowledged)


@pytest.mark.attack(15, 16)
def test_threats_15_and_16_sixteen_threads_race(store: LedgerStore) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        results = list(pool.map(lambda writer: race(store, writer), range(WRITERS)))
    assert_none_lost(store, results)


@pytest.mark.attack(15, 16)
def test_threats_15_and_16_sixteen_forked_processes_race(
    store: LedgerStore, new_store: NewStore
) -> None:
    if new_store() is store:
        pytest.skip("memory is not shared between processes")
    store.head()  # the children inherit an open connection, and must not use it
    queue = CONTEXT.Queue()

    def work(writer: int) -> None:
        queue.put(race(store, writer))
        queue.close()
        queue.join_thread()
        os._exit(0)

    workers = [CONTEXT.Process(target=work, args=(n,)) for n in range(WRITERS)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert_none_lost(store, results)


@pytest.mark.attack(16)
def test_threat_16_a_key_raced_against_the_rounds_that_move_it(new_store: NewStore) -> None:
    stop = threading.Event()

    def sequence() -> None:
        store = new_store()
        while not stop.is_set():
            store.sequence(integrate)

    def insert(number: int) -> set[bytes]:
        store, kept = new_store(), set()
        for n in range(60):
            leaf = f"{n} by {number}".encode()
            kept.add(store.insert(InboxItem(str(n), leaf), {}, NOW) or leaf)
        return kept

    with ThreadPoolExecutor(6) as pool:
        sequencers = [pool.submit(sequence) for _ in range(2)]
        results = list(pool.map(insert, range(4)))
        stop.set()
        for sequencer in sequencers:
            sequencer.result(30)
    assert all(result == results[0] for result in results)
    store = new_store()
    store.sequence(integrate)
    assert sorted(assert_sound(store)) == sorted(results[0])
