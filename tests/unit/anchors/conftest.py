"""A real ledger with its log key, and anchors for it."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_mlgov.anchors.directory import DirectoryAnchor
from airflow_mlgov.anchors.timestamp_authority import TimestampAnchor
from airflow_mlgov.anchors.witness import WitnessAnchor
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.cosignature import WitnessKey
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.anchor import Anchoring, Due
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

FAKES = Path(__file__).parents[2] / "fakes"


def load_fake(name: str):
    spec = importlib.util.spec_from_file_location(f"{name}_of_anchors", FAKES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class SettableClock:
    moment: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@dataclass
class Place:
    """A ledger in a file; whoever holds a `Place` holds its log key and database."""

    folder: Path
    clock: SettableClock = field(default_factory=SettableClock)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = SqliteStore(self.folder / "ledger.db")
        self.signers = open_signers(self.folder / "keys")
        self.grow(0)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, self.signers, self.clock)

    @property
    def origin(self) -> str:
        return self.ledger.origin

    def grow(self, count: int = 1, text: str = "honest") -> Checkpoint:
        """Append so many entries; what they say differs with the text."""
        ledger, size = self.ledger, self.store.head().size
        for number in range(count):
            body = {"policy_sha256": "sha256:" + "0" * 64}
            ledger.append(EntryDraft("policy.changed", "", None, body, (text, f"{size}/{number}")))
        _ = ledger.origin
        ledger.drain()
        return ledger.checkpoint()

    def tree(self) -> MerkleTree:
        size = self.store.head().size
        return MerkleTree(leaf_hash(leaf) for leaf in self.store.leaves(0, size))

    def rewrite(self, *, keep: int, then: int, text: str = "forged") -> Checkpoint:
        """Cut the ledger off, with its checkpoints and what anchors gave, and sign another tail."""
        leaves = list(self.store.leaves(0, keep))
        with closing(sqlite3.connect(self.store.path)) as connection, connection:
            tables = ("entries", "checkpoints")
            for table in tables:
                column = "seq" if table == "entries" else "size"
                bound = keep if table == "entries" else keep + 1
                connection.execute(f"DELETE FROM {table} WHERE {column} >= ?", (bound,))
            if not connection.execute(
                "SELECT count(*) FROM checkpoints WHERE size = ?", (keep,)
            ).fetchone()[0]:
                note, peaks = self._signed(leaves)
                connection.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", (keep, note, peaks))
        self.forget()
        return self.grow(then, text)

    def forget(self) -> None:
        """Delete what anchors gave."""
        with closing(sqlite3.connect(self.store.path)) as connection, connection:
            connection.execute("DELETE FROM anchored")

    def _signed(self, leaves: list[bytes]) -> tuple[bytes, bytes]:
        from airflow_mlgov.ledger.checkpoint import Vkey, sign_checkpoint
        from airflow_mlgov.ledger.merkle import append_leaves, root_of_peaks

        peaks = append_leaves((), 0, map(leaf_hash, leaves)).peaks
        signer, origin = self.signers[KeyRole.LOG], self.origin
        root = root_of_peaks(peaks, len(leaves))
        key = Vkey(origin, signer.public_key)
        return sign_checkpoint(origin, len(leaves), root, key, signer.sign), b"".join(peaks)

    def anchoring(self, *anchors, every: timedelta = timedelta(minutes=10)) -> Anchoring:
        dues = [Due(anchor, every) for anchor in anchors]
        return Anchoring(self.ledger, self.store, self.clock, dues, self.said.append)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "ledger")


@pytest.fixture
def folder(tmp_path: Path) -> DirectoryAnchor:
    path = tmp_path / "elsewhere"
    path.mkdir()
    return DirectoryAnchor("vault", path)


@pytest.fixture
def new_witness(place: Place, tmp_path: Path):
    started = []

    def new(name: str = "witness.example/w1"):
        made = load_fake("witness").Witness(
            tmp_path, {place.origin: place.signers[KeyRole.LOG].public_key}, name
        )
        made.url = made.start()
        started.append(made)
        return made

    yield new
    for made in started:
        made.stop()


@pytest.fixture
def witness(new_witness):
    return new_witness()


def anchor_to(witness, **more) -> WitnessAnchor:
    return WitnessAnchor("w1", witness.url, WitnessKey.parse(witness.vkey), **more)


@pytest.fixture
def watched(witness) -> WitnessAnchor:
    return anchor_to(witness)


@pytest.fixture
def new_authority(tmp_path: Path) -> Callable:
    started = []

    def new(name: str = "tsa", **more):
        made = load_fake("timestamp_authority").Authority(tmp_path / name, **more)
        made.url = made.start()
        made.anchor = TimestampAnchor(name, made.url, made.root)
        started.append(made)
        return made

    yield new
    for made in started:
        made.stop()


@pytest.fixture
def authority(new_authority):
    return new_authority()
