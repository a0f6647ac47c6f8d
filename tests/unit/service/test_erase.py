"""Erasing a person: what goes, what stays and until when, and every way to break off."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    GuardRefusedError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.governance import Choice, EraseReason
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service import erase as erase_module
from airflow_mlgov.service.approvals import standings
from airflow_mlgov.service.erase import erase_person, plan_erasure
from airflow_mlgov.service.holds import lift_hold, place_hold
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ports import InboxItem
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.verify_use import clear_scoring
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.stores.sqlite import store as sqlite_store

NOTHING_KEPT = "retention: {approval: 0, evidence: 0, operation: 0}\n"
YEAR = timedelta(days=366)


def keep(world, retention: str) -> None:
    world.with_pack("valid_days: 365\n", f"valid_days: 365\n{retention}")


@pytest.fixture
def least_assurance() -> str:
    return "L0"


@pytest.fixture
def fresh(world):
    """A candidate under a pack that keeps nothing longer than it is in use."""
    keep(world, NOTHING_KEPT)
    world.validate_data()
    world.train()
    world.validate_model()
    return world


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """The world's ledger through a store of its own, as the command line opens it."""
    return SqliteStore(tmp_path / "ledger.db", timeout_s=5)


def erased(world, store, person: str) -> list[tuple[str, str]]:
    _, fields = erase_person(world.gov, store, person, EraseReason.REQUEST)
    return [(field.entry.kind, field.name) for field in fields]


def kept(world, person: str) -> dict[tuple[str, str], datetime | None]:
    found = plan_erasure(world.gov, person).kept
    return {(f.entry.kind, f.name): f.obstacle.until for f in found}


def on_disk(tmp_path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))


def payloads(world) -> list[bytes]:
    ledger = world.gov.ledger
    leaves = ledger._store.leaves(0, ledger.checkpoint().size)
    return [base64.b64decode(json.loads(leaf)["payload"]) for leaf in leaves]


@pytest.mark.attack(33)
def test_threat_33_a_person_goes_and_the_ledger_verifies(fresh, store, tmp_path):
    request = fresh.ask()
    with pytest.raises(Exception, match="rejected"):
        fresh.answer(request, "victor", Choice.REJECT, "the victorious comment")
    before = fresh.gov.ledger.verify()
    checkpoint = fresh.gov.ledger.checkpoint()
    salt = store.disclosures(fresh.kinds("approval.voted")[0].key)["people.voter"].salt
    for trace in (b'"victor"', b"victorious", salt):
        assert trace in on_disk(tmp_path)
    assert erased(fresh, store, "victor") == [
        ("approval.voted", "people.voter"),
        ("approval.voted", "texts.comment"),
    ]
    for trace in (b'"victor"', b"victorious", salt):
        assert trace not in on_disk(tmp_path)
    after = fresh.gov.ledger.verify(earlier=[checkpoint])
    assert after.is_fine
    assert (after.closed, after.opened) == (before.closed + 2, before.opened - 2)
    assert after.earlier == 1
    (vote,) = fresh.kinds("approval.voted")
    assert (vote.person("voter"), vote.text("comment")) == (None, None)
    assert fresh.kinds("approval.requested")[0].person("requester") == fresh.ERIN
    assert standings(fresh.gov, fresh.gov.ledger.view())[0].decision is Decision.DENIED


def test_the_entry_names_nobody(fresh, store):
    vote_index = _rejected_by(fresh, "victor")
    erased(fresh, store, "victor")
    (entry,) = fresh.kinds("erased")
    assert entry.signed_by is KeyRole.LOG
    assert entry.body == {
        "because": "request",
        "count": 2,
        "fields": [[vote_index, "people.voter"], [vote_index, "texts.comment"]],
    }
    assert (entry.people, entry.texts, entry.model) == ({}, {}, "")
    assert not any(b"victor" in payload for payload in payloads(fresh))


def _rejected_by(world, who: str) -> int:
    with pytest.raises(Exception, match="rejected"):
        world.answer(world.ask(), who, Choice.REJECT)
    return world.kinds("approval.voted")[-1].index


def test_a_plan_changes_nothing(fresh):
    _rejected_by(fresh, "victor")
    size = fresh.gov.ledger.checkpoint().size
    plan = plan_erasure(fresh.gov, "victor")
    assert [field.name for field in plan.erasable] == ["people.voter", "texts.comment"]
    assert (plan.kept, plan.unread) == ([], ())
    assert fresh.gov.ledger.checkpoint().size == size
    assert fresh.kinds("approval.voted")[0].person("voter") == Person("victor", "victor")


def test_again_is_nothing(fresh, store):
    _rejected_by(fresh, "victor")
    erased(fresh, store, "victor")
    size = fresh.gov.ledger.checkpoint().size
    assert erased(fresh, store, "victor") == []
    assert erased(fresh, store, "nobody") == []
    assert fresh.gov.ledger.checkpoint().size == size


def test_texts_go_with_their_author_and_with_nobody_else(fresh, store):
    """The owner of a finding did not write its summary; who placed a hold wrote its reason."""
    fresh.open_finding("low")
    olivia = Person("olivia", "olivia")
    place_hold(fresh.gov, "retail_pd", "a lawsuit", olivia)
    lift_hold(fresh.gov, "retail_pd", "settled", olivia)
    assert erased(fresh, store, "olivia") == [
        ("finding.opened", "people.owner"),
        ("hold.placed", "people.placed_by"),
        ("hold.placed", "texts.reason"),
        ("hold.lifted", "people.lifted_by"),
        ("hold.lifted", "texts.reason"),
    ]
    assert fresh.kinds("finding.opened")[0].text("summary") == "AUC fell"


def test_only_the_very_id(fresh, store):
    """One person under two ids (the auth manager's and a name) is told, not guessed."""
    ada = Person("7", "ada")
    fresh.entry("model.trained", _TRAINED, version=fresh.version, people={"developer": ada})
    fresh.train('{"points": [9]}', run_id="run-2", by=Person("ada", "ada"))
    assert plan_erasure(fresh.gov, "ADA").fields == ()
    assert plan_erasure(fresh.gov, "ada").other_ids == ("7",)
    assert plan_erasure(fresh.gov, "7").other_ids == ("ada",)
    assert plan_erasure(fresh.gov, "erin").other_ids == ()
    assert erased(fresh, store, "7") == [("model.trained", "people.developer")]
    assert len(plan_erasure(fresh.gov, "ada").erasable) == 1


def test_other_ids_are_found_both_ways_round(fresh):
    fresh.open_finding("low")  # owned by olivia, id and name
    for n, person in enumerate((Person("12", "olivia"), Person("Olga", "13"), Person("13", "x"))):
        fresh.entry(
            "model.trained",
            _TRAINED,
            version=fresh.version,
            people={"developer": person},
            identity=(str(n),),
        )
    assert plan_erasure(fresh.gov, "12").other_ids == ("olivia",)
    assert plan_erasure(fresh.gov, "x").other_ids == ("13",)
    assert plan_erasure(fresh.gov, "Olga").other_ids == ("13",)


_TRAINED = {"evidence_sha256": "sha256:" + "4" * 64, "inputs": []}


# --- what may not be erased yet


def test_each_class_is_kept_for_its_years(world, store):
    keep(world, "retention: {approval: 3, evidence: 2, operation: 0}\n")
    world.validate_data()
    world.train()
    world.validate_model()
    world.ask()
    at = world.clock.now()
    assert kept(world, "erin") == {
        ("model.trained", "people.developer"): at.replace(year=2028),
        ("approval.requested", "people.requester"): at.replace(year=2029),
    }
    world.clock.moment = at.replace(year=2028) - timedelta(seconds=1)
    assert erased(world, store, "erin") == []
    world.clock.moment = at.replace(year=2028)
    assert erased(world, store, "erin") == [("model.trained", "people.developer")]
    assert kept(world, "erin") == {
        ("approval.requested", "people.requester"): at.replace(year=2029)
    }


def test_without_a_word_in_the_pack_ten_years(candidate):
    at = candidate.clock.now()
    assert kept(candidate, "erin") == {("model.trained", "people.developer"): at.replace(year=2036)}
    reason = plan_erasure(candidate.gov, "erin").kept[0].obstacle.reason
    assert "class evidence are kept 10 years" in reason


def test_the_longest_of_every_pack_that_ever_applied(candidate):
    """A pack of today cannot shorten what was written under a promise, and can lengthen it."""
    at = candidate.clock.now()
    key = ("model.trained", "people.developer")
    candidate.gov.evidence.put(candidate.gov.packs["retail_credit"].source)
    keep(candidate, NOTHING_KEPT)  # the ledger names the ten-year pack: the model was validated
    assert kept(candidate, "erin") == {key: at.replace(year=2036)}
    candidate.with_pack(NOTHING_KEPT, "retention: {evidence: 30}\n")
    assert kept(candidate, "erin") == {key: at.replace(year=2056)}


def test_a_pack_that_only_a_request_names_applies_too(world):
    world.with_pack("model.trained, model.validated]", "model.trained]")
    world.validate_data()
    world.train()
    world.ask()
    keep(world, NOTHING_KEPT)
    key = ("model.trained", "people.developer")
    assert kept(world, "erin")[key] == world.clock.now().replace(year=2036)


def test_a_pack_that_never_applied_to_the_model_counts_for_nothing(fresh):
    other = fresh.gov.packs["retail_credit"]
    fresh.gov.packs["other"] = replace(
        other, id="other", retention=dict.fromkeys(other.retention, 40)
    )
    assert kept(fresh, "erin") == {}
    fresh.gov.inventory.clear()  # whose model it is cannot be told any more: the longest of all
    assert set(kept(fresh, "erin").values()) == {fresh.clock.now().replace(year=2066)}


def test_what_a_lost_pack_said_cannot_be_told(candidate):
    pack = candidate.gov.packs["retail_credit"]
    assert candidate.kinds("model.validated")[0].body["policy_sha256"] == str(pack.digest)
    keep(candidate, NOTHING_KEPT)
    (field,) = plan_erasure(candidate.gov, "erin").kept
    assert field.obstacle.until is None
    assert "cannot be told" in field.obstacle.reason
    candidate.gov.evidence.put(pack.source)
    assert None not in kept(candidate, "erin").values()


def test_a_hold_keeps_everything_about_its_model_and_nothing_else(fresh, store):
    fresh.entry("guard.refused", {"check": "x", "reason": "y", "target": "z"})
    draft = EntryDraft(
        "finding.opened",
        "other",
        fresh.version,
        {"finding": "F-00000009", "severity": "low", "test": "t", "due_at": _DUE},
        ("other",),
        people={"owner": fresh.ERIN},
    )
    fresh.gov.ledger.seal(fresh.gov.ledger.append(draft))
    for pack in fresh.gov.packs.values():
        assert set(pack.retention.values()) == {0}
    lara = Person("lara", "lara")
    hold = place_hold(fresh.gov, "retail_pd", "a lawsuit", lara)
    assert kept(fresh, "erin") == {("model.trained", "people.developer"): None}
    assert hold.id in plan_erasure(fresh.gov, "erin").kept[0].obstacle.reason
    assert erased(fresh, store, "erin") == [("finding.opened", "people.owner")]
    assert erased(fresh, store, "lara") == []
    lift_hold(fresh.gov, "retail_pd", "settled", lara)
    assert erased(fresh, store, "erin") == [("model.trained", "people.developer")]


_DUE = "2026-07-01T00:00:00.000Z"


def test_people_on_an_approval_in_use_are_not_erased_before_it_ends(fresh, store):
    """The guard counts the votes anew: it would close if one of these names were missing."""
    fresh.approve(fresh.ask())
    promote(fresh.gov, fresh.registry, fresh.use())
    scoring = fresh.use("score", "run-9")

    def guard():
        clear_scoring(fresh.gov, fresh.gov.ledger.view(), scoring, fresh.version)

    guard()
    (standing,) = standings(fresh.gov, fresh.gov.ledger.view())
    end = standing.expires_at
    assert kept(fresh, "olivia") == {
        ("approval.voted", "people.voter"): end,
        ("approval.voted", "texts.comment"): end,
    }
    assert kept(fresh, "erin") == {
        ("model.trained", "people.developer"): end,
        ("approval.requested", "people.requester"): end,
    }
    for person in ("olivia", "victor", "erin"):
        assert erased(fresh, store, person) == []
    guard()
    fresh.clock.moment = end - timedelta(milliseconds=1)
    assert erased(fresh, store, "olivia") == []
    guard()
    fresh.clock.moment = end
    assert len(erased(fresh, store, "olivia")) == 2
    assert fresh.gov.ledger.verify().is_fine
    with pytest.raises(GuardRefusedError):
        guard()


def test_of_two_approvals_in_use_the_later_one_counts(fresh):
    first = fresh.ask()
    source = fresh.use("gate", run_id="run-2").source
    second = fresh.ask(version=fresh.version, source=source)
    fresh.approve(first)
    fresh.clock.moment += timedelta(days=30)
    fresh.approve(second)
    ends = [s.expires_at for s in standings(fresh.gov, fresh.gov.ledger.view())]
    assert ends[0] + timedelta(days=30) <= ends[1]
    key = ("model.trained", "people.developer")
    assert kept(fresh, "erin")[key] == ends[1]
    fresh.clock.moment = ends[0]
    assert kept(fresh, "erin")[key] == ends[1]


@pytest.mark.parametrize(("years", "reason"), [(0, "in use"), (2, "kept 2 years")])
def test_of_two_reasons_the_longer_one_counts(world, years, reason):
    keep(world, f"retention: {{approval: {years}}}\n")
    world.validate_data()
    world.train()
    world.validate_model()
    world.approve(world.ask())
    cast_at = world.kinds("approval.voted")[0].at
    (field, _) = plan_erasure(world.gov, "olivia").kept
    assert reason in field.obstacle.reason
    assert field.obstacle.until > cast_at.replace(year=cast_at.year + max(1, years)) - YEAR / 366


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("approval.voted", "people.voter"),
        ("approval.voted", "texts.comment"),
        ("approval.requested", "people.requester"),
        ("model.trained", "people.developer"),
    ],
)
def test_each_of_these_would_close_the_guard(fresh, store, kind, field):
    fresh.approve(fresh.ask())
    promote(fresh.gov, fresh.registry, fresh.use())
    view = fresh.gov.ledger.view()
    clear_scoring(fresh.gov, view, fresh.use("score"), fresh.version)
    store.erase([(fresh.kinds(kind)[0].key, field)])
    with pytest.raises(GuardRefusedError, match="open seats"):
        clear_scoring(fresh.gov, view, fresh.use("score"), fresh.version)


def test_a_vote_that_was_refused_on_an_approval_in_use_stays_too(fresh, store):
    """Erased, a developer's rejection would become one that counts."""
    request = fresh.ask()
    fresh.answer(request, "erin", Choice.REJECT)
    fresh.approve(request)
    found = kept(fresh, "erin")
    assert {("approval.voted", "people.voter"), ("approval.voted", "texts.comment")} <= set(found)
    assert erased(fresh, store, "erin") == [("approval.vote_refused", "people.voter")]
    (standing,) = standings(fresh.gov, fresh.gov.ledger.view())
    assert standing.decision is Decision.GRANTED


# --- whose clock counts


def test_threat_20_an_entry_that_looks_old_is_as_young_as_what_came_before_it(world):
    keep(world, "retention: {approval: 1, evidence: 1, operation: 0}\n")
    assert world.gov.ledger.origin  # genesis, signed with the log key, at the world's time
    begun = world.clock.now()
    world.clock.moment = begun - 20 * YEAR
    world.train()
    world.clock.moment = begun
    until = begun.replace(year=begun.year + 1)
    assert kept(world, "erin") == {("model.trained", "people.developer"): until}


def test_threat_20_an_entry_that_looks_young_is_as_old_as_what_came_after_it(world):
    keep(world, "retention: {approval: 1, evidence: 1, operation: 0}\n")
    assert world.gov.ledger.origin
    begun = world.clock.now()
    world.clock.moment = begun + 50 * YEAR
    world.train()
    world.clock.moment = begun
    key = ("model.trained", "people.developer")
    assert kept(world, "erin") == {key: begun.replace(year=2027)}
    world.clock.moment = later = begun + timedelta(days=30)
    assert kept(world, "erin") == {key: later.replace(year=2027)}  # nothing vouches for it yet
    place_hold(world.gov, "retail_pd", "x", world.ERIN)
    lift_hold(world.gov, "retail_pd", "x", world.ERIN)  # signed with the attestor's key
    world.clock.moment = later + timedelta(days=30)
    assert kept(world, "erin")[key] == later.replace(year=2027)


# --- breaking off


class Broken(SqliteStore):
    """A store whose deletion fails before it begins."""

    def erase(self, fields):
        raise LedgerUnavailableError("no")


def test_a_run_that_dies_before_the_entry_erases_nothing(fresh, store, monkeypatch):
    _rejected_by(fresh, "victor")

    def dies(*_, **__):
        raise LedgerUnavailableError("no")

    with monkeypatch.context() as context:
        context.setattr(fresh.gov.ledger, "append", dies)
        with pytest.raises(LedgerUnavailableError):
            erased(fresh, store, "victor")
    assert fresh.kinds("erased") == []
    assert fresh.kinds("approval.voted")[0].person("voter")
    assert len(erased(fresh, store, "victor")) == 2


@pytest.mark.parametrize("then", ["victor", "somebody else"])
def test_a_run_that_dies_while_the_entry_waits_is_completed(fresh, store, monkeypatch, then):
    """By the next run, whoever it is about."""
    _rejected_by(fresh, "victor")

    def dies(*_, **__):
        raise LedgerUnavailableError("no")

    with monkeypatch.context() as context:
        context.setattr(fresh.gov.ledger, "seal", dies)
        with pytest.raises(LedgerUnavailableError):
            erased(fresh, store, "victor")
    assert len(store.disclosures(fresh.kinds("approval.voted")[0].key)) == 2
    assert len(erased(fresh, store, then)) == 2
    assert len(fresh.kinds("erased")) == 1


@pytest.mark.parametrize("then", ["victor", "somebody else"])
def test_a_run_that_dies_before_the_deletion_is_on_record_and_completed(
    fresh, store, tmp_path, then
):
    vote = _rejected_by(fresh, "victor")
    with pytest.raises(LedgerUnavailableError):
        erased(fresh, Broken(tmp_path / "ledger.db"), "victor")
    assert fresh.gov.ledger.verify().is_fine
    assert [field.place for field in plan_erasure(fresh.gov, "nobody").erasable] == [
        (vote, "people.voter"),
        (vote, "texts.comment"),
    ]
    assert len(erased(fresh, store, then)) == 2
    assert len(fresh.kinds("erased")) == 1


def test_a_run_that_dies_after_the_deletion_has_its_entry(fresh, store, monkeypatch):
    _rejected_by(fresh, "victor")
    real = store.erase

    def dies(fields):
        real(fields)
        raise LedgerUnavailableError("no")

    with monkeypatch.context() as context:
        context.setattr(store, "erase", dies)
        with pytest.raises(LedgerUnavailableError):
            erased(fresh, store, "victor")
    assert fresh.kinds("erased")[0].body["count"] == 2
    calls = []
    monkeypatch.setattr(store, "erase", calls.append)
    assert erased(fresh, store, "victor") == []
    assert calls == [[]]  # the store still sees to the bytes that the first call left


def _die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def _after(step):
    def dies(*more, **options):
        step(*more, **options)
        _die()

    return dies


@pytest.mark.parametrize(
    ("step", "is_announced", "is_deleted"),
    [
        ((erase_module, "_announce", lambda step: _die), False, False),
        ((erase_module, "_announce", _after), True, False),
        ((sqlite_store, "delete_disclosures", _after), True, False),  # before the commit
        ((sqlite_store, "empty_log", lambda step: _die), True, True),
        ((sqlite_store, "empty_log", _after), True, True),
    ],
)
def test_killed_at_each_step_nothing_is_lost_unseen(
    fresh, tmp_path, monkeypatch, step, is_announced, is_deleted
):
    """A process of its own is killed with SIGKILL; the next run completes what it began."""
    _rejected_by(fresh, "victor")
    key = fresh.kinds("approval.voted")[0].key
    path = tmp_path / "ledger.db"
    owner, name, wrap = step
    with monkeypatch.context() as context:
        context.setattr(owner, name, wrap(getattr(owner, name)))
        child = multiprocessing.get_context("fork").Process(
            target=erase_person,
            args=(fresh.gov, SqliteStore(path), "victor", EraseReason.REQUEST),
        )
        child.start()
        child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert len(fresh.kinds("erased")) == is_announced
    assert (SqliteStore(path).disclosures(key) == {}) is is_deleted
    assert fresh.gov.ledger.verify().is_fine
    erased(fresh, SqliteStore(path), "victor")
    assert len(fresh.kinds("erased")) == 1
    assert SqliteStore(path).disclosures(key) == {}
    assert b'"victor"' not in on_disk(tmp_path)


def test_a_hold_placed_in_the_last_moment_keeps_what_was_announced(fresh, store, monkeypatch):
    _rejected_by(fresh, "victor")
    real = erase_module._announce

    def announce_then_hold(gov, *more):
        real(gov, *more)
        place_hold(gov, "retail_pd", "a lawsuit", fresh.ERIN)

    monkeypatch.setattr(erase_module, "_announce", announce_then_hold)
    assert erased(fresh, store, "victor") == []
    assert fresh.kinds("approval.voted")[0].person("voter")
    lift_hold(fresh.gov, "retail_pd", "settled", fresh.ERIN)
    assert len(erased(fresh, store, "nobody")) == 2


def test_a_restored_table_is_erased_again(fresh, store):
    """As after a backup of the side table alone was restored; the log says what must go."""
    _rejected_by(fresh, "victor")
    key = fresh.kinds("approval.voted")[0].key
    backup = store.disclosures(key)
    erased(fresh, store, "victor")
    with store._writing() as connection:
        connection.executemany(
            "INSERT INTO disclosures VALUES (?, ?, ?, ?)",
            [
                (key, name, each.salt, json.dumps(each.value, separators=(",", ":")).encode())
                for name, each in backup.items()
            ],
        )
    assert fresh.kinds("approval.voted")[0].person("voter").id == "victor"
    assert len(erased(fresh, store, "nobody")) == 2
    assert store.disclosures(key) == {}


def test_many_fields_are_announced_in_several_entries_and_an_entry_s_stay_together(
    fresh, store, monkeypatch
):
    monkeypatch.setattr(erase_module, "MAX_FIELDS", 3)
    request = fresh.ask()
    for _ in range(3):
        fresh.answer(request, "gustav")  # on no seat: a vote, and a refusal without a comment
    assert len(erased(fresh, store, "gustav")) == 9
    announced = [entry.body["fields"] for entry in fresh.kinds("erased")]
    assert [len(fields) for fields in announced] == [3, 3, 3]
    for fields in announced:
        voted = {index for index, name in fields if name == "texts.comment"}
        assert all([index, "people.voter"] in fields for index in voted)


def test_the_longest_entry_fits(fresh, store, monkeypatch):
    """Two hundred fields with names and indices that are as long as they get."""
    places = [(10_000_000 + n, "people.independent_validator") for n in range(200)]

    class Field:
        def __init__(self, place):
            self.place = place

    erase_module._announce(fresh.gov, [Field(place) for place in places], EraseReason.REQUEST)
    assert fresh.kinds("erased")[0].body["count"] == 200


# --- who may, and what cannot be believed


def test_only_with_the_log_key(fresh, store, tmp_path):
    _rejected_by(fresh, "victor")
    signers = open_signers(tmp_path / "keys")
    trust = fresh.gov.ledger.trust_root()
    keys = {role: signers[role] for role in (KeyRole.WRITER, KeyRole.ATTESTOR)}
    gov = replace(fresh.gov, ledger=Ledger(store, keys, fresh.clock, trust=trust))
    assert len(plan_erasure(gov, "victor").erasable) == 2
    with pytest.raises(ConfigurationError, match="log key"):
        erase_person(gov, store, "victor", EraseReason.REQUEST)
    draft = EntryDraft("erased", "", None, {"because": "request", "count": 0, "fields": []}, ("x",))
    with pytest.raises(LedgerIntegrityError, match="writer key may not sign erased"):
        gov.ledger.append(draft)


def test_without_the_log_key_nothing_that_was_announced_is_deleted_either(fresh, store, tmp_path):
    _rejected_by(fresh, "victor")
    with pytest.raises(LedgerUnavailableError):
        erased(fresh, Broken(tmp_path / "ledger.db"), "victor")
    writer = open_signers(tmp_path / "keys")[KeyRole.WRITER]
    trust = fresh.gov.ledger.trust_root()
    ledger = Ledger(store, {KeyRole.WRITER: writer}, fresh.clock, trust=trust)
    with pytest.raises(ConfigurationError, match="log key"):
        erase_person(replace(fresh.gov, ledger=ledger), store, "victor", EraseReason.REQUEST)
    assert fresh.kinds("approval.voted")[0].person("voter")


def test_an_entry_that_counts_for_nothing_is_named(fresh, store):
    store.insert(InboxItem("sha256:" + "6" * 64, b"no entry"), {}, fresh.clock.now())
    plan = plan_erasure(fresh.gov, "erin")
    assert plan.unread == (fresh.gov.ledger.checkpoint().size - 1,)
    assert len(plan.fields) == 1


def test_an_altered_disclosure_is_left_and_named(fresh, store):
    vote = _rejected_by(fresh, "victor")
    with store._writing() as connection:
        key = fresh.kinds("approval.voted")[0].key
        connection.execute("UPDATE disclosures SET salt = zeroblob(32) WHERE key = ?", (key,))
    plan = plan_erasure(fresh.gov, "victor")
    assert (plan.fields, plan.unread) == ((), (vote,))
    assert len(erased(fresh, store, "erin")) > 0


@pytest.mark.parametrize(
    "body",
    [
        {"because": "spite", "count": 0, "fields": []},
        {"because": "request", "count": -1, "fields": []},
        {"because": "request", "count": 1, "fields": [[1, "voter"]]},
        {"because": "request", "count": 1, "fields": [["1", "people.voter"]]},
        {"because": "request", "count": 1},
    ],
)
def test_a_malformed_entry_cannot_be_written(fresh, body):
    with pytest.raises(LedgerIntegrityError):
        fresh.gov.ledger.append(EntryDraft("erased", "", None, body, ("x",)), role=KeyRole.LOG)


def test_times_are_utc(fresh):
    fresh.approve(fresh.ask())
    assert all(until.tzinfo is UTC for until in kept(fresh, "olivia").values())
