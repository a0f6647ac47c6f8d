"""The ledger as the service uses it, in one process."""

from __future__ import annotations

import base64
import json
import multiprocessing
import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerConflictError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    UnknownKeyError,
)
from airflow_mlgov.ledger.checkpoint import Vkey, sign_checkpoint
from airflow_mlgov.ledger.entry import decode_leaf
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.ledger import EntryDraft, Ledger, Receipt
from airflow_mlgov.service.ports import InboxItem
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore


class FakeClock:
    """Stands where it is put; proves nothing about real clocks."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


DRAFT = EntryDraft(
    kind="model.trained",
    model="retail_pd",
    version=Digest("a" * 64),
    body={
        "evidence_sha256": "sha256:" + "b" * 64,
        "inputs": [{"name": "train", "uri": "file:///d.csv", "sha256": "sha256:" + "c" * 64}],
        "ok": True,
    },
    identity=("run-1",),
    people={"developer": Person("7", "Ada")},
    texts={"summary": "first"},
    source=Source("dag", "run-1", "train", -1, 1),
)


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()

    def store(self, **more: Any) -> SqliteStore:
        return SqliteStore(self.folder / "ledger.db", **more)

    def ledger(self, *roles: KeyRole, **more: Any) -> Ledger:
        signers = open_signers(self.folder / "keys")
        return Ledger(
            self.store(), {role: signers[role] for role in roles or KeyRole}, self.clock, **more
        )

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.folder / "ledger.db") as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_append_seal_view(home: Home) -> None:
    ledger = home.ledger()
    receipt = ledger.append(DRAFT)
    sealed = ledger.seal(receipt)
    assert (sealed.key, sealed.index, sealed.tree_size) == (receipt.key, 1, 2)
    view = home.ledger().view()
    assert (view.checkpoint.size, view.checkpoint.root_hash) == (2, sealed.root_hash)
    assert view.checkpoint.origin == ledger.origin
    genesis, entry = view.select()
    assert (genesis.kind, genesis.signed_by) == ("genesis", KeyRole.LOG)
    assert (entry.kind, entry.model, entry.version, entry.body) == (
        "model.trained",
        "retail_pd",
        DRAFT.version,
        DRAFT.body,
    )
    assert (entry.leaf_hash, entry.key, entry.source, entry.at) == (
        receipt.leaf_hash,
        receipt.key,
        DRAFT.source,
        home.clock.moment,
    )
    assert entry.person("developer") == Person("7", "Ada")
    assert entry.text("summary") == "first"
    assert view.violations == []
    assert ledger.verify().is_fine


def test_no_name_and_no_text_stands_in_a_leaf(home: Home) -> None:
    ledger = home.ledger()
    ledger.seal(
        ledger.append(replace(DRAFT, people={"developer": Person("ada@bank.example", "Ada L.")}))
    )
    for leaf in home.store().leaves(0, 2):
        payload = base64.b64decode(json.loads(leaf)["payload"])
        assert not any(secret in payload for secret in (b"ada@bank", b"Ada L", b"first"))


@pytest.mark.attack(7)
def test_threat_7_the_same_draft_again_is_one_entry(home: Home) -> None:
    ledger = home.ledger()
    first = ledger.append(DRAFT)
    home.clock.moment += timedelta(hours=1)
    again = replace(
        DRAFT,
        source=replace(DRAFT.source, try_number=2),
        body={**DRAFT.body, "inputs": tuple(DRAFT.body["inputs"])},
    )
    assert ledger.append(again) == first  # in the inbox
    ledger.seal(first)
    assert ledger.append(again) == first  # in the tree
    assert home.ledger().append(DRAFT) == first  # from another process
    assert len(ledger.view().select("model.trained")) == 1


DIFFERENT: dict[str, EntryDraft] = {
    "model": replace(DRAFT, model="other"),
    "version": replace(DRAFT, version=Digest("d" * 64)),
    "body.ok": replace(DRAFT, body={**DRAFT.body, "ok": 1}),
    "body.inputs": replace(DRAFT, body={**DRAFT.body, "inputs": []}),
    "body.more": replace(DRAFT, body={**DRAFT.body, "more": None}),
    "people.developer": replace(DRAFT, people={"developer": Person("7", "Eve")}),
    "people": replace(DRAFT, people={}),
    "texts.summary": replace(DRAFT, texts={"summary": "second"}),
    "texts": replace(DRAFT, texts={"summary": "first", "more": "x"}),
    "source": replace(DRAFT, source=replace(DRAFT.source, task_id="other")),
}


@pytest.mark.attack(8)
@pytest.mark.parametrize("differs", DIFFERENT)
def test_threat_8_another_content_under_the_same_identity_is_a_conflict_on_record(
    home: Home, differs: str
) -> None:
    ledger = home.ledger()
    first = ledger.append(DRAFT)
    for _ in range(2):  # before and after sequencing
        with pytest.raises(LedgerConflictError, match=differs):
            ledger.append(DIFFERENT[differs])
        ledger.seal(first)
    view = ledger.view()
    assert [entry.leaf_hash for entry in view.select("model.trained")] == [first.leaf_hash]
    (refused,) = view.select("append.refused")
    assert refused.body == {"key": first.key, "kind": "model.trained", "differs": [differs]}


@pytest.mark.attack(8)
def test_threat_8_another_signer_is_a_conflict(home: Home) -> None:
    ledger = home.ledger()
    vote = replace(DRAFT, kind="approval.voted", body=VOTE)
    ledger.append(vote)
    with pytest.raises(LedgerConflictError, match="signer"):
        ledger.append(vote, role=KeyRole.ATTESTOR)


def test_what_was_erased_counts_as_the_same(home: Home) -> None:
    ledger = home.ledger()
    first = ledger.append(DRAFT)
    ledger.seal(first)
    home.sql("DELETE FROM disclosures")
    assert ledger.append(replace(DRAFT, texts={"summary": "who knows"})) == first
    (entry,) = ledger.view().select("model.trained")
    assert (entry.person("developer"), entry.text("summary")) == (None, None)


def erased(*fields: tuple[int, str]) -> EntryDraft:
    """What puts on record that fields were erased."""
    body = {"because": "request", "count": len(fields), "fields": [list(f) for f in fields]}
    return EntryDraft("erased", "", None, body, (str(fields),))


@pytest.mark.attack(33)
def test_threat_33_what_was_removed_is_told_from_what_was_erased(home: Home) -> None:
    ledger = home.ledger()
    receipt = ledger.append(DRAFT)
    ledger.seal(ledger.append(erased((1, "people.developer")), role=KeyRole.LOG))
    home.store().erase([(receipt.key, "people.developer")])
    report = ledger.verify()
    assert (report.is_fine, report.closed, report.unaccounted) == (True, 1, ())
    home.sql("DELETE FROM disclosures")
    report = ledger.verify()
    assert (report.exit_code, report.closed) == (1, 2)
    assert report.unaccounted == ((1, "texts.summary"),)
    assert report.as_json()["unaccounted"] == [[1, "texts.summary"]]
    (problem,) = report.problems
    assert problem.startswith("1 name(s) or text(s) cannot be read, and no `erased` entry accounts")
    assert "(first: texts.summary of entry 1)" in problem
    ledger.seal(ledger.append(erased((1, "texts.summary")), role=KeyRole.LOG))
    assert ledger.verify().is_fine


@pytest.mark.attack(33)
def test_threat_33_what_an_entry_announces_before_there_is_anything_to_erase_is_no_account(
    home: Home,
) -> None:
    ledger = home.ledger()
    ledger.append(erased((2, "people.developer"), (2, "texts.summary")), role=KeyRole.LOG)
    ledger.seal(ledger.append(DRAFT))
    home.sql("DELETE FROM disclosures")
    assert len(ledger.verify().unaccounted) == 2


@pytest.mark.attack(33)
@pytest.mark.parametrize("names", ["people.developer", "texts.summary"])
def test_threat_33_an_erasure_during_a_verification_is_no_problem_and_hides_none(
    home: Home, names: str
) -> None:
    """What was erased after the head was read is accounted for after it."""
    ledger = home.ledger()
    receipt = ledger.append(DRAFT)
    ledger.drain()
    honest, other = ledger._store.disclosures, home.ledger()  # type: ignore[attr-defined]

    def disclosures(key: str) -> Any:
        if key == receipt.key and other._store.head().size == 2:  # type: ignore[attr-defined]
            other.seal(other.append(erased((1, names)), role=KeyRole.LOG))
            home.store().erase([(receipt.key, names)])
        return honest(key)

    ledger._store.disclosures = disclosures  # type: ignore[attr-defined]
    report = ledger.verify()
    assert (report.is_fine, report.size, report.closed) == (True, 2, 1)
    home.sql("DELETE FROM disclosures")
    assert len(home.ledger().verify().unaccounted) == 1


@pytest.mark.attack(33)
def test_threat_33_who_does_not_know_the_key_cannot_tell_what_was_erased(home: Home) -> None:
    ledger = home.ledger()
    receipt = ledger.append(DRAFT)
    trust = ledger.trust_root()
    ledger.seal(ledger.append(erased((1, "texts.summary")), role=KeyRole.LOG))
    home.store().erase([(receipt.key, "texts.summary")])
    ledger.seal(
        ledger.append(replace(DRAFT, kind="approval.voted", body=VOTE), role=KeyRole.ATTESTOR)
    )
    stranger = replace(trust, attestor_keys=())
    assert home.ledger(KeyRole.LOG).verify(stranger).exit_code == 3
    home.sql("DELETE FROM disclosures")
    report = home.ledger(KeyRole.LOG).verify(stranger)
    assert (report.exit_code, report.problems) == (3, ())
    assert "one of an unknown key may" in report.remarks[0]
    assert home.ledger().verify(trust).exit_code == 1


VOTE = {"request_sha256": "sha256:" + "c" * 64, "choice": "approve"}


def test_texts_are_normalised_and_identities_are_not(home: Home) -> None:
    ledger = home.ledger()
    first = ledger.append(
        replace(DRAFT, texts={"summary": "e\u0301"}, people={"developer": Person("7", "Zoe\u0308")})
    )
    assert (
        ledger.append(
            replace(
                DRAFT, texts={"summary": "\u00e9"}, people={"developer": Person("7", "Zo\u00eb")}
            )
        )
        == first
    )
    with pytest.raises(LedgerIntegrityError, match="normalisation"):
        ledger.append(replace(DRAFT, identity=("e\u0301",)))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "model.invented"},
        {"body": {}},
        {"body": {**DRAFT.body, "auc": 0.7}},
        {"model": "a b"},
        {"body": {**DRAFT.body, "pad": "x" * 16_384}},
        {"texts": {"a b": "x"}},
        {"texts": {"x": "\ud800"}},
    ],
)
def test_a_draft_that_may_not_stand_in_the_ledger_leaves_nothing(
    home: Home, changes: dict[str, Any]
) -> None:
    ledger = home.ledger()
    with pytest.raises(LedgerIntegrityError):
        ledger.append(replace(DRAFT, **changes))
    assert [entry.kind for entry in ledger.view().select()] in ([], ["genesis"])


def test_a_key_signs_only_what_it_may_and_only_where_it_is(home: Home) -> None:
    with pytest.raises(LedgerIntegrityError, match=r"attestor key may not sign model\.trained"):
        home.ledger().append(DRAFT, role=KeyRole.ATTESTOR)
    with pytest.raises(LedgerIntegrityError, match=r"writer key may not sign finding\.closed"):
        home.ledger().append(replace(DRAFT, kind="finding.closed", body={"finding": "F-00000001"}))
    with pytest.raises(ConfigurationError, match="does not hold the writer key"):
        home.ledger(KeyRole.LOG).append(DRAFT)


def test_without_a_sequencer_seal_waits_and_gives_up_closed(home: Home) -> None:
    trust = home.ledger().trust_root()
    writer = home.ledger(KeyRole.WRITER, trust=trust)
    receipt = writer.append(DRAFT)
    with pytest.raises(LedgerUnavailableError, match="sequencer") as caught:
        writer.seal(receipt, timeout_s=0.2)
    assert caught.value.retryable
    with pytest.raises(LedgerUnavailableError, match="no signed checkpoint"):
        writer.view()
    threading.Timer(0.3, home.ledger().drain).start()
    assert writer.seal(receipt, timeout_s=10).index == 1
    assert [entry.kind for entry in writer.view().select()] == ["genesis", "model.trained"]


def test_without_log_key_a_ledger_is_not_begun_nor_believed(home: Home) -> None:
    writer = home.ledger(KeyRole.WRITER)
    with pytest.raises(LedgerUnavailableError, match="not been started"):
        writer.append(DRAFT)
    home.ledger().drain()
    _ = home.ledger().origin
    home.ledger().drain()
    with pytest.raises(ConfigurationError, match="trust file"):
        writer.view()


def test_trust_of_another_log_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = Home(tmp_path / "b").ledger().trust_root()
    with pytest.raises(LedgerIntegrityError, match="trust file is of"):
        home.ledger(trust=other).trust_root()
    home.ledger().seal(home.ledger().append(DRAFT))
    assert home.ledger().verify(other).exit_code == 1


def test_a_new_log_key_does_not_sign_over_the_old_one_s_log(home: Home) -> None:
    home.ledger().seal(home.ledger().append(DRAFT))
    (home.folder / "keys" / "log.key").unlink()
    ledger = home.ledger()
    receipt = ledger.append(replace(DRAFT, identity=("2",)))
    with pytest.raises(UnknownKeyError):
        ledger.seal(receipt)
    assert home.store().waiting() == 1
    assert ledger.verify().exit_code == 3


COPY = (
    "INSERT INTO entries SELECT {}, 'copy', leaf, leaf_hash, received_at "
    "FROM entries WHERE seq = {}"
)
STORE_ATTACKS = {
    "1 payload": ["UPDATE entries SET leaf = x'7b7d' WHERE seq = 1"],
    "4 middle": ["DELETE FROM entries WHERE seq = 1"],
    "4 first": ["DELETE FROM entries WHERE seq = 0"],
    "5 tail without its checkpoint": ["DELETE FROM entries WHERE seq = 3"],
    "6 swap": [
        "UPDATE entries SET seq = 90 WHERE seq = 1",
        "UPDATE entries SET seq = 1 WHERE seq = 2",
        "UPDATE entries SET seq = 2 WHERE seq = 90",
    ],
    "7 duplicate": [COPY.format(4, 1)],
    "9 back-dated": [
        "UPDATE entries SET seq = -seq WHERE seq > 0",
        "UPDATE entries SET seq = 1 - seq WHERE seq < 0",
        COPY.format(1, 2),
    ],
    "14 leaf hash": ["UPDATE entries SET leaf_hash = zeroblob(32) WHERE seq = 1"],
    "14 node": ["UPDATE checkpoints SET peaks = zeroblob(32) WHERE size = 4"],
    "14 note": [
        "UPDATE checkpoints SET note = CAST(replace(note, '4', '5') AS BLOB) WHERE size = 4"
    ],
    "5 newest checkpoint": ["DELETE FROM checkpoints WHERE size = 4"],
    "5 all checkpoints": ["DELETE FROM checkpoints"],
    "disclosure": ["UPDATE disclosures SET salt = zeroblob(32)"],
    "disclosures swapped": [
        "UPDATE disclosures SET value = x'2278220a' WHERE field = 'texts.summary'"
    ],
}


@pytest.mark.attack(1, 4, 6, 9, 14)
@pytest.mark.parametrize("name", STORE_ATTACKS)
def test_rows_altered_in_the_database_are_found_by_verify(home: Home, name: str) -> None:
    ledger = home.ledger()
    for number in range(3):
        ledger.seal(ledger.append(replace(DRAFT, identity=(str(number),))))
    trust = ledger.trust_root()
    assert ledger.verify().is_fine
    home.sql(*STORE_ATTACKS[name])
    assert home.ledger().verify(trust).exit_code == 1
    assert home.store().waiting() == 0


@pytest.mark.attack(1, 4, 6, 9, 14)
@pytest.mark.parametrize(
    "name", [n for n in STORE_ATTACKS if not n.startswith(("7", "disc", "5 newest"))]
)
def test_rows_altered_in_the_database_are_refused_by_readers(home: Home, name: str) -> None:
    ledger = home.ledger()
    for number in range(3):
        ledger.seal(ledger.append(replace(DRAFT, identity=(str(number),))))
    home.sql(*STORE_ATTACKS[name])
    with pytest.raises((LedgerIntegrityError, LedgerUnavailableError)):
        home.ledger().view()


@pytest.mark.parametrize(
    "name", ["14 node", "14 note", "5 newest checkpoint", "5 all checkpoints", "7 duplicate"]
)
def test_nothing_is_signed_over_an_altered_tree(home: Home, name: str) -> None:
    ledger = home.ledger()
    for number in range(3):
        ledger.seal(ledger.append(replace(DRAFT, identity=(str(number),))))
    home.sql(*STORE_ATTACKS[name])
    before = home.store().head()
    receipt = ledger.append(replace(DRAFT, identity=("later",)))
    with pytest.raises(LedgerIntegrityError):
        ledger.seal(receipt)
    assert home.store().head() == before
    assert home.store().waiting() == 1


def test_what_is_known_of_a_ledger_is_not_worked_out_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def counted(leaf: bytes) -> Any:
        read.append(leaf)
        return decode_leaf(leaf)

    for module in ("service.sequencing", "ledger.view"):
        monkeypatch.setattr(f"airflow_mlgov.{module}.decode_leaf", counted)
    ledger = home.ledger()
    for number in (1, 2):
        ledger.seal(ledger.append(replace(DRAFT, identity=(str(number),))))
        assert len(ledger.view().select()) == 1 + number
    # The genesis entry for the origin and before the first signature, and each entry once.
    assert len(read) == 2 + 3


def _put_in_place(home: Home, index: int, leaf: bytes) -> None:
    with sqlite3.connect(home.folder / "ledger.db") as connection:
        connection.execute(
            "UPDATE entries SET leaf = ?, leaf_hash = ? WHERE seq = ?",
            (leaf, leaf_hash(leaf), index),
        )


def test_threat_2_another_genesis_entry_is_seen_by_who_knew_the_first(home: Home) -> None:
    (home.folder / "other").mkdir()
    other = Home(home.folder / "other")
    ledger, origin = home.ledger(), other.ledger().origin
    other.ledger().drain()
    ledger.seal(ledger.append(DRAFT))
    assert ledger.trust_root().origin == ledger.origin != origin
    _put_in_place(home, 0, next(other.store().leaves(0, 1)))
    receipt = ledger.append(replace(DRAFT, identity=("later",)))  # does not look again
    for call in (ledger.trust_root, ledger.drain, lambda: ledger.seal(receipt), ledger.view):
        with pytest.raises(LedgerIntegrityError, match="another genesis entry"):
            call()
    assert home.store().waiting() == 1
    with pytest.raises(LedgerIntegrityError, match="checkpoint is of log"):
        home.ledger().checkpoint()


def test_a_ledger_that_was_emptied_is_not_begun_anew_by_who_knew_it(home: Home) -> None:
    ledger = home.ledger()
    ledger.seal(ledger.append(DRAFT))
    home.sql("DELETE FROM entries", "DELETE FROM checkpoints")
    for call in (ledger.trust_root, ledger.view):
        with pytest.raises(LedgerIntegrityError, match="genesis entry is missing"):
            call()
    assert home.store().waiting() == 0


def test_an_append_asks_the_store_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = home.ledger()
    ledger.append(DRAFT)
    calls: list[str] = []
    for name in ("get", "head", "waiting", "insert"):
        kept = getattr(ledger._store, name)

        def counted(*args: Any, _name: str = name, _kept: Any = kept, **named: Any) -> Any:
            calls.append(_name)
            return _kept(*args, **named)

        monkeypatch.setattr(ledger._store, name, counted)
    ledger.append(replace(DRAFT, identity=("another",)))
    assert calls == ["insert"]


@pytest.mark.attack(2)
def test_threat_2_a_second_view_finds_what_was_altered_after_the_first(home: Home) -> None:
    ledger = home.ledger()
    ledger.seal(ledger.append(DRAFT))
    assert len(ledger.view().select()) == 2
    leaf = list(home.store().leaves(0, 2))[1]
    _put_in_place(home, 1, leaf.replace(b'"sig":"', b'"sig":"A'))
    with pytest.raises(LedgerIntegrityError, match="root hash"):
        ledger.view()


def test_a_ledger_without_its_genesis_is_not_begun_anew(home: Home) -> None:
    home.ledger().seal(home.ledger().append(DRAFT))
    home.sql("DELETE FROM entries WHERE seq = 0")
    for call in (
        home.ledger().verify,
        home.ledger().trust_root,
        home.ledger().view,
        lambda: home.ledger().append(DRAFT),
    ):
        with pytest.raises(LedgerIntegrityError, match="genesis"):
            call()
    assert home.store().waiting() == 0


@pytest.mark.attack(3)
def test_threat_3_all_nodes_recomputed_without_the_key(home: Home) -> None:
    ledger = home.ledger()
    ledger.seal(ledger.append(DRAFT))
    honest = ledger.checkpoint().note.split("\n")
    changed = (b'{"a":1}', b'{"b":2}')
    tree = MerkleTree(leaf_hash(leaf) for leaf in changed)
    root = base64.b64encode(tree.root()).decode()
    for note in (
        "\n".join([*honest[:2], root, *honest[3:]]),
        sign_with(home, "writer", tree, ledger.origin),
    ):
        with sqlite3.connect(home.folder / "ledger.db") as connection:
            for seq, leaf in enumerate(changed):
                connection.execute(
                    "UPDATE entries SET leaf = ?, leaf_hash = ? WHERE seq = ?",
                    (leaf, leaf_hash(leaf), seq),
                )
            connection.execute(
                "UPDATE checkpoints SET note = ?, peaks = ?", (note.encode(), tree.root())
            )
        trust = TrustRoot(ledger_origin := honest[0], (log_vkey(home, ledger_origin),))
        report = Ledger(home.store(), {}).verify(trust)
        assert report.exit_code == 1


def log_vkey(home: Home, origin: str) -> Vkey:
    return Vkey(origin, open_signers(home.folder / "keys")[KeyRole.LOG].public_key)


def sign_with(home: Home, role: str, tree: MerkleTree, origin: str) -> str:
    signer = open_signers(home.folder / "keys")[KeyRole(role)]
    return sign_checkpoint(
        origin, tree.size, tree.root(), Vkey(origin, signer.public_key), signer.sign
    ).decode()


def test_an_entry_slipped_into_the_inbox_without_a_key_is_on_record_and_counts_for_nothing(
    home: Home,
) -> None:
    ledger = home.ledger()
    ledger.append(DRAFT)
    outsider = Home(home.folder / "outsider")
    outsider.folder.mkdir()
    foreign = outsider.ledger()
    foreign.append(DRAFT)
    leaf, _ = outsider.store().get(foreign.append(DRAFT).key)  # type: ignore[misc]
    home.store().insert(InboxItem("planted", leaf), {}, home.clock.moment)
    view = ledger.view()
    assert [entry.index for entry in view.select()] == [0, 1]
    assert [(v.index, v.is_unknown_key) for v in view.violations] == [(2, True)]
    assert ledger.verify().exit_code == 3


class BrokenSigner:
    """Signs wrongly, as failing hardware might."""

    def __init__(self, signer: Any) -> None:
        self.role, self.name, self.public_key = signer.role, signer.name, signer.public_key

    def sign(self, message: bytes) -> bytes:
        return b"\x00" * 64


def test_a_checkpoint_whose_own_signature_does_not_verify_is_not_kept(home: Home) -> None:
    ledger = home.ledger()
    ledger.seal(ledger.append(DRAFT))
    before = home.store().head()
    ledger.append(replace(DRAFT, identity=("2",)))
    signers = open_signers(home.folder / "keys")
    broken = Ledger(home.store(), {**signers, KeyRole.LOG: BrokenSigner(signers[KeyRole.LOG])})
    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        broken.drain()
    assert home.store().head() == before
    ledger.drain()
    assert ledger.verify().is_fine


def test_a_squatted_key_is_refused(home: Home) -> None:
    ledger = home.ledger()
    first = ledger.append(DRAFT)
    ledger.append(replace(DRAFT, identity=("2",)))
    home.sql(
        f"DELETE FROM inbox WHERE key = '{first.key}'",
        f"UPDATE inbox SET key = '{first.key}' WHERE n = 3",
    )
    with pytest.raises(LedgerIntegrityError, match="under another's key"):
        ledger.append(DRAFT)


def test_an_acknowledged_entry_that_vanished_is_noticed(home: Home) -> None:
    ledger = home.ledger()
    receipt = ledger.append(DRAFT)
    home.sql(f"DELETE FROM inbox WHERE key = '{receipt.key}'")
    with pytest.raises(LedgerIntegrityError, match="not on record"):
        ledger.seal(receipt)
    with pytest.raises(LedgerIntegrityError, match="not on record"):
        ledger.seal(Receipt(receipt.key, "0" * 64))


@pytest.mark.attack(12)
def test_threat_12_a_deleted_write_ahead_log_is_found_by_a_checkpoint_kept_elsewhere(
    home: Home,
) -> None:
    ledger = home.ledger()
    ledger.seal(ledger.append(DRAFT))
    with sqlite3.connect(home.folder / "ledger.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.seal(ledger.append(replace(DRAFT, identity=("2",))))
    kept = ledger.checkpoint()
    rest = Home(home.folder / "rest")
    rest.folder.mkdir()
    (rest.folder / "ledger.db").write_bytes(
        (home.folder / "ledger.db").read_bytes()
    )  # as after `rm *-wal`
    (rest.folder / "keys").symlink_to(home.folder / "keys")
    assert rest.ledger().verify().is_fine  # by itself it is a sound, shorter ledger
    assert rest.ledger().verify(earlier=[kept]).exit_code == 1


@pytest.mark.attack(20)
@pytest.mark.parametrize("days", [-365, 365])
def test_threat_20_a_clock_that_is_a_year_off_is_recorded_and_orders_nothing(
    home: Home, days: int
) -> None:
    ledger = home.ledger()
    ledger.append(DRAFT)
    home.clock.moment += timedelta(days=days)
    ledger.append(replace(DRAFT, identity=("2",)))
    first, second = ledger.view().select("model.trained")
    assert (second.at - first.at).days == days
    assert first.index < second.index


def test_verify_an_empty_ledger(home: Home) -> None:
    with pytest.raises(LedgerUnavailableError, match="empty"):
        home.ledger().verify()


def test_waiting_entries_are_counted(home: Home) -> None:
    ledger = home.ledger()
    ledger.seal(ledger.append(DRAFT))
    ledger.append(replace(DRAFT, identity=("2",)))
    report = ledger.verify()
    assert (report.is_fine, report.waiting, report.size) == (True, 1, 2)


def _origin(folder: Path, start: Any, queue: Any) -> None:
    start.wait()
    queue.put(Home(folder).ledger().origin)


def test_eight_processes_begin_one_ledger(home: Home) -> None:
    context = multiprocessing.get_context("fork")
    start, queue = context.Event(), context.Queue()
    workers = [context.Process(target=_origin, args=(home.folder, start, queue)) for _ in range(8)]
    for worker in workers:
        worker.start()
    start.set()
    origins = {queue.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(origins) == 1
    assert home.ledger().origin in origins
    assert len(home.ledger().view().select("genesis")) == 1
