"""What a store's index finds, with the index altered in every way that an insider could."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerIntegrityError, VersionNotFoundError
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.bundle import make_bundle
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

SIZE = 600
MODELS = ("mine", "other", "third")


class Home:
    """A ledger of 600 entries in a file, and what an insider does to it."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "ledger.db")
        self.ledger = Ledger(self.store, open_signers(folder / "keys"))

    def append(self, first: int, last: int, models: Sequence[str] = MODELS) -> None:
        for number in range(first, last):
            draft = EntryDraft(
                kind="model.scored",
                model=models[number % len(models)],
                version=Digest("a" * 64),
                body={"request_sha256": "sha256:" + "b" * 64, "target": "production"},
                identity=(str(number),),
            )
            self.ledger.append(draft)
        self.ledger.drain()

    def count(self) -> None:
        said = self.ledger.model_view("mine").count()
        identity = ("mine", str(said.size))
        draft = EntryDraft("model.indexed", "mine", None, said.as_body(), identity)
        self.ledger.seal(self.ledger.append(draft, role=KeyRole.LOG))

    def execute(self, *statements: str) -> None:
        with sqlite3.connect(self.store.path) as connection:
            for statement in statements:
                connection.execute(statement)

    def put_in_place(self, index: int, leaf: bytes) -> None:
        """Replace an entry and the hash beside it."""
        with sqlite3.connect(self.store.path) as connection:
            connection.execute(
                "UPDATE entries SET leaf = ?, leaf_hash = ? WHERE seq = ?",
                (leaf, leaf_hash(leaf), index),
            )

    def expected(self) -> list[int]:
        view = self.ledger.view()
        return [entry.index for entry in view.select(model="mine")]

    def bundle(self):
        gov = Governance(self.ledger, None, {}, {}, SystemClock())
        return make_bundle(gov, "mine")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grown")
    home = Home(folder)
    home.append(0, SIZE)
    home.store.close()
    return folder


@pytest.fixture
def home(grown: Path, tmp_path: Path) -> Home:
    shutil.copytree(grown, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path)


@pytest.fixture
def read_from(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Return where the leaves that were read whole, one after the other, began."""
    begun: list[int] = []
    leaves = SqliteStore.leaves

    def told(store: SqliteStore, start: int, end: int):
        if end - start > 1:
            begun.append(start)
        return leaves(store, start, end)

    monkeypatch.setattr(SqliteStore, "leaves", told)
    return lambda: begun


def test_all_entries_of_a_model_are_found_and_proven(home: Home, read_from) -> None:
    view = home.ledger.model_view("mine")
    assert view.indices == home.expected()
    assert [entry.index for entry in view.select()] == view.indices
    assert read_from()[0] == 0  # nobody has counted yet
    home.count()
    home.append(SIZE, SIZE + 30)
    read_from().clear()
    view = home.ledger.model_view("mine")
    assert read_from() == [SIZE + 1]
    assert view.indices == home.expected()
    assert view.select("model.scored", version=Digest("b" * 64)) == []
    home.count()  # rests on the first count and what came since
    assert home.ledger.verify().is_fine


def test_a_model_that_nothing_is_about(home: Home) -> None:
    for name in ("nobody", "no name", "\ud800"):
        view = home.ledger.model_view(name)
        assert (view.indices, view.select()) == ([], [])


HIDING = {
    "an entry": "UPDATE models SET model = 'other' WHERE seq = 4",
    "the newest entry": "UPDATE models SET model = '' WHERE seq = 598",
    "a row": "DELETE FROM models WHERE seq = 4",
    "all of a model": "UPDATE models SET model = '' WHERE model = 'mine'",
    "one too many": "UPDATE models SET model = 'mine' WHERE seq = 2",
    "all rows": "DELETE FROM models",
}


@pytest.mark.parametrize("name", HIDING)
@pytest.mark.parametrize("is_counted", [True, False])
def test_threat_3_an_entry_that_the_index_hides_is_missed(
    home: Home, name: str, is_counted: bool
) -> None:
    if is_counted:
        home.count()
    home.append(SIZE, SIZE + 10)
    home.execute(HIDING[name])
    size = home.store.head().size
    if name == "one too many":
        # It says itself that it is about another model, so it is not taken.
        assert home.ledger.model_view("mine").indices == home.expected()
    else:
        with pytest.raises(LedgerIntegrityError, match="index") as caught:
            home.bundle()
        assert "ledger verify" in str(caught.value)
    assert home.store.head().size == size  # nothing was counted
    report = home.ledger.verify()
    assert len(report.problems) == 1
    assert "index lists" in report.problems[0]
    home.store.reindex()
    assert home.ledger.verify().is_fine
    assert home.ledger.model_view("mine").indices == home.expected()


def test_threat_3_an_entry_hidden_since_the_count_is_missed(home: Home) -> None:
    home.bundle()
    home.append(SIZE, SIZE + 10)
    home.execute(f"UPDATE models SET model = 'other' WHERE seq = {SIZE + 4} AND model = 'mine'")
    home.execute(f"UPDATE models SET model = 'other' WHERE seq = {SIZE + 5} AND model = 'mine'")
    home.execute(f"UPDATE models SET model = 'other' WHERE seq = {SIZE + 3} AND model = 'mine'")
    with pytest.raises(LedgerIntegrityError, match="index"):
        home.bundle()


def test_a_count_that_the_index_hides_is_not_rested_on(home: Home, read_from) -> None:
    home.count()
    home.execute(f"UPDATE models SET model = '' WHERE seq = {SIZE + 1}")
    with pytest.raises(LedgerIntegrityError, match="index"):
        home.ledger.model_view("mine")
    assert read_from()[-1] == 0


def test_a_count_of_the_log_key_that_is_not_true_is_not_rested_on(home: Home) -> None:
    body = {"size": SIZE, "count": 3, "leaves_sha256": "sha256:" + "0" * 64}
    later = {"size": 10**6, "count": 3, "leaves_sha256": "sha256:" + "0" * 64}
    for number, said in enumerate((body, later)):
        draft = EntryDraft("model.indexed", "mine", None, said, (str(number),))
        home.ledger.seal(home.ledger.append(draft, role=KeyRole.LOG))
    view = home.ledger.model_view("mine")
    assert view.indices == home.expected()
    assert len(home.ledger.verify().problems) == 2


DAMAGE = {
    "a subtree": "UPDATE subtrees SET hash = zeroblob(32) WHERE n = 1",
    "subtrees swapped": "UPDATE subtrees SET hash = (SELECT hash FROM subtrees s "
    "WHERE s.n = 1 - subtrees.n)",
    "a subtree removed": "DELETE FROM subtrees WHERE n = 0",
    "a subtree of no bytes": "UPDATE subtrees SET hash = 'text' WHERE n = 0",
    "a subtree of another number": "UPDATE subtrees SET n = 9 WHERE n = 0",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_threat_3_damaged_subtrees_prove_nothing(home: Home, name: str) -> None:
    home.count()
    home.execute(DAMAGE[name])
    with pytest.raises(LedgerIntegrityError, match="index"):
        home.bundle()
    (problem,) = home.ledger.verify().problems
    assert "index" in problem
    home.store.reindex()
    home.bundle()
    assert home.ledger.verify().is_fine


def test_threat_1_an_altered_entry_is_not_bundled_though_its_hash_was_altered_too(
    home: Home,
) -> None:
    home.count()
    home.put_in_place(4, other_leaf(home))
    with pytest.raises(LedgerIntegrityError, match="entry"):
        home.bundle()
    home.store.reindex()  # an index that fits the altered entries does not fit the checkpoint
    with pytest.raises(LedgerIntegrityError, match="root hash"):
        home.bundle()


def test_threat_3_an_entry_altered_so_that_it_is_about_another_model_is_missed(home: Home) -> None:
    home.count()
    home.append(SIZE, 800, ["other"])
    home.append(800, 801, ["mine"])
    home.append(801, 1_040, ["other"])
    hidden = home.expected()[-1]
    # It alone is about the model in its subtree, whose kept root stays: no proof comes by it.
    assert 768 < hidden < 1_024 < home.store.head().size
    home.put_in_place(hidden, other_leaf(home))
    home.execute(f"UPDATE models SET model = 'other' WHERE seq = {hidden}")
    with pytest.raises(LedgerIntegrityError, match="the root that was signed"):
        home.bundle()


def other_leaf(home: Home) -> bytes:
    """A sound leaf of another ledger, about another model."""
    other = Home(home.store.path.parent / "other")
    other.append(0, 5, ["other"])
    (leaf,) = other.store.leaves(4, 5)
    return leaf


def test_a_bundle_out_of_several_subtrees_verifies(home: Home) -> None:
    home.bundle()
    home.append(SIZE, SIZE + 300)
    made = home.bundle()
    report = check_bundle(made.data, home.ledger.trust_root(), now=SystemClock().now())
    assert report.findings == ()
    assert made.counted.count == made.entries - 1
    assert home.ledger.verify().is_fine


def test_a_bundle_of_nothing_counts_nothing(home: Home) -> None:
    gov = Governance(home.ledger, None, {}, {}, SystemClock())
    with pytest.raises(VersionNotFoundError):
        make_bundle(gov, "nobody")
    assert home.store.head().size == SIZE + 1
