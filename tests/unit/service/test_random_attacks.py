"""Threat 36: whatever is done to a ledger, it verifies if, and only if, it is an honest prefix.

A ledger in memory grows, is signed and has its checkpoints kept elsewhere; then its store is
attacked, by somebody who does not hold the log key. The oracle knows the honest history, and
shares no code with what verifies it: a state is fine exactly if its leaves begin that history, its
head is the one that was signed over just so many, nothing disclosed was altered or is gone but what
an entry of it says was erased, and it is not shorter than what was kept.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint, Vkey, sign_checkpoint
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Disclosure, Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import InboxItem, TreeHead
from airflow_mlgov.signers.file import open_signers

_FILE = Path(__file__).resolve().parents[2] / "fakes" / "memory_ledger.py"
_SPEC = importlib.util.spec_from_file_location("memory_ledger", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
fake: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fake)


class History:
    """A ledger, what honestly happened to it, and what was kept of it elsewhere."""

    def __init__(self, signers: Any, attacker: Any, seed: int) -> None:
        self.store: Any = fake.MemoryLedger()
        self.ledger = Ledger(self.store, signers)
        self.attacker = attacker
        self.dice = random.Random(seed)
        self.count = 0
        self.kept: list[Checkpoint] = []
        self.erased: dict[tuple[str, str], int] = {}
        """How long the ledger was once it said that a field was erased."""
        self.grow()
        self.trust = self.ledger.trust_root()
        self.leaves: list[bytes] = []
        self.heads: dict[int, TreeHead] = {}
        self.opened: dict[str, dict[str, Disclosure]] = {}
        self.note()

    def note(self) -> None:
        """Write down what is true now; called only while nothing was attacked yet."""
        head = self.store.head()
        self.leaves = list(self.store.leaves(0, head.size))
        self.heads[head.size] = head
        for key, fields in self.store._disclosures.items():
            self.opened.setdefault(key, dict(fields))

    def grow(self) -> None:
        for _ in range(self.dice.randint(1, 3)):
            self.count += 1
            body = {"task": "d/r/t", "state": "success"}
            who = Person(f"p{self.count}", f"P {self.count}")
            self.ledger.append(
                EntryDraft("state.changed_by_hand", "", None, body, (str(self.count),), {"by": who})
            )
        self.ledger.drain()

    def erase(self) -> None:
        """Erase a name by the rules: first the entry, then the name."""
        index = self.dice.randrange(1, len(self.store._entries))
        key, body = self.store._entries[index].key, {"because": "request", "count": 1}
        draft = EntryDraft("erased", "", None, {**body, "fields": [[index, "people.by"]]}, (key,))
        self.ledger.seal(self.ledger.append(draft, role=KeyRole.LOG))
        self.erased.setdefault((key, "people.by"), self.store.head().size)
        self.store.erase([(key, "people.by")])

    def keep(self) -> None:
        self.kept.append(self.ledger.checkpoint())

    def is_honest(self) -> bool:
        """What the oracle says of the state as it is."""
        head, entries = self.store._head, [item.leaf for item in self.store._entries]
        opened = all(
            self.store._disclosures[item.key].get(name) == disclosure
            or (
                name not in self.store._disclosures[item.key]
                and self.erased.get((item.key, name), len(entries) + 1) <= len(entries)
            )
            for item in self.store._entries
            for name, disclosure in self.opened[item.key].items()
        )
        return (
            entries == self.leaves[: len(entries)]
            and head == self.heads.get(len(entries))
            and opened
            and all(checkpoint.size <= len(entries) for checkpoint in self.kept)
        )

    def is_found_fine(self) -> bool:
        """What the verifier says of it, from the bytes, the trust file and what was kept."""
        reader = Ledger(self.store, {}, trust=self.trust)
        try:
            return reader.verify(self.trust, earlier=self.kept).is_fine
        except LedgerIntegrityError:
            return False


def one_of(history: History) -> int:
    return history.dice.randrange(len(history.store._entries))


def flip(history: History) -> None:
    index = one_of(history)
    item = history.store._entries[index]
    place = history.dice.randrange(len(item.leaf))
    leaf = bytearray(item.leaf)
    leaf[place] ^= 1 << history.dice.randrange(8)
    history.store._entries[index] = InboxItem(item.key, bytes(leaf))


def delete(history: History) -> None:
    del history.store._entries[one_of(history)]


def swap(history: History) -> None:
    entries, one, two = history.store._entries, one_of(history), one_of(history)
    entries[one], entries[two] = entries[two], entries[one]


def repeat(history: History) -> None:
    entries = history.store._entries
    entries.insert(one_of(history), entries[one_of(history)])


def cut_tail(history: History) -> None:
    size = history.dice.choice(sorted(history.heads))
    history.store._entries = history.store._entries[:size]
    history.store._head = history.heads[size]


def old_checkpoint(history: History) -> None:
    history.store._head = history.heads[history.dice.choice(sorted(history.heads))]


def other_peaks(history: History) -> None:
    head = history.store._head
    history.store._head = replace(head, peaks=tuple(reversed(head.peaks)))


def flip_note(history: History) -> None:
    head = history.store._head
    note = bytearray(head.note)
    note[history.dice.randrange(len(note))] ^= 1 << history.dice.randrange(8)
    history.store._head = replace(head, note=bytes(note))


def alter_name(history: History) -> None:
    named = {key: fields for key, fields in history.store._disclosures.items() if fields}
    if named:
        fields = named[history.dice.choice(sorted(named))]
        other = {"id": "x", "name": "x"}
        for name, disclosure in fields.items():
            fields[name] = Disclosure(disclosure.salt, other)


def erase_name(history: History) -> None:
    history.store._disclosures[history.dice.choice(sorted(history.store._disclosures))] = {}


def append_unsigned(history: History) -> None:
    history.store._entries.append(history.store._entries[-1])


def sign_with_another_key(history: History) -> None:
    """Rebuild the whole tree over what stands there now, and sign it with a key of one's own."""
    entries = history.store._entries
    peaks = append_leaves((), 0, [leaf_hash(item.leaf) for item in entries]).peaks
    key = history.attacker
    vkey = Vkey(history.trust.origin, key.public_key)
    root = root_of_peaks(peaks, len(entries))
    note = sign_checkpoint(history.trust.origin, len(entries), root, vkey, key.sign)
    history.store._head = TreeHead(len(entries), peaks, note)


ATTACKS: dict[str, Callable[[History], None]] = {
    attack.__name__: attack
    for attack in (
        flip,
        delete,
        swap,
        repeat,
        cut_tail,
        old_checkpoint,
        other_peaks,
        flip_note,
        alter_name,
        erase_name,
        append_unsigned,
        sign_with_another_key,
    )
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("keys")
    return open_signers(folder / "own"), open_signers(folder / "attacker")[KeyRole.LOG]


@pytest.mark.attack(36)
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    past=st.lists(st.sampled_from(["grow", "keep", "erase"]), max_size=6),
    attacks=st.lists(st.sampled_from(sorted(ATTACKS)), max_size=3),
)
def test_threat_36_a_state_verifies_exactly_if_it_is_honest(
    keys: Any, seed: int, past: list[str], attacks: list[str]
) -> None:
    own, attacker = keys
    history = History(own, attacker, seed)
    for step in past:
        getattr(history, step)()
        history.note()
    for name in attacks:
        if history.store._entries:
            ATTACKS[name](history)
    assert history.is_found_fine() == history.is_honest(), (past, attacks)


@pytest.mark.attack(36)
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_threat_36_the_oracle_sees_both_kinds_of_outcome(keys: Any, name: str) -> None:
    own, attacker = keys
    outcomes = set()
    for seed in range(40):
        history = History(own, attacker, seed)
        history.grow()
        history.note()
        ATTACKS[name](history)
        assert history.is_found_fine() == history.is_honest()
        outcomes.add(history.is_honest())
    assert outcomes == EXPECTED.get(name, {False})


EXPECTED = {
    "cut_tail": {True},  # nothing was kept elsewhere: a shorter ledger is an honest one
    "erase_name": {True, False},  # the same if the entry names nobody
    "old_checkpoint": {True, False},
    "other_peaks": {True, False},  # the same if there is one peak
    "swap": {True, False},
}
