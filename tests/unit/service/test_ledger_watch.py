"""One watch for many who wait; how often the store is read is counted."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    DocumentError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.inventory_file import parse_entry
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service import ledger_watch
from airflow_mlgov.service.await_decision import Awaited
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.ledger_watch import (
    FRESH_S,
    LONGEST_PAUSE_S,
    RECOUNT_S,
    LedgerWatch,
)
from airflow_mlgov.service.stop import stop_model
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.postgres import PostgresStore
from airflow_mlgov.stores.sqlite import SqliteStore

FAKE = Path(__file__).parents[2] / "fakes" / "memory_ledger.py"
OTHER = "another_model"


def memory_ledger():
    spec = importlib.util.spec_from_file_location("watched_memory_ledger", FAKE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.MemoryLedger()


class CountedStore:
    """A real store that counts what it is asked, and fails when told to."""

    def __init__(self, store) -> None:
        self.store, self.asked, self.error = store, Counter(), None

    def __getattr__(self, name):
        method = getattr(self.store, name)

        def counted(*args, **kwargs):
            self.asked[name] += 1
            if self.error is not None:
                raise self.error
            return method(*args, **kwargs)

        return counted


class Watched:
    """A watch, its store and its time."""

    def __init__(self, world, store, reader) -> None:
        self.world, self.store = world, store
        self.now, self.opened, self.rules = 0.0, 0, Counter()
        self.reader, self.rules_error = reader, None
        self.watch = LedgerWatch(self.open, self.with_rules_now, lambda: self.now)

    def open(self):
        self.opened += 1
        return replace(self.world.gov, ledger=self.reader())

    def with_rules_now(self, gov):
        self.rules["read"] += 1
        if self.rules_error is not None:
            raise self.rules_error
        return replace(gov, inventory=dict(self.world.gov.inventory))

    def has_answer(self, after_s: float = FRESH_S, **changes) -> bool:
        self.now += after_s
        awaited = {"model": "retail_pd", "target": "production"} | changes
        return self.watch.has_answer(Awaited(**awaited))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def watched(request, candidate, tmp_path):
    """The watch reads through one ledger; people write through another, as other processes do."""
    if request.param == "sqlite":
        read = SqliteStore.from_url(f"sqlite:///{tmp_path}/ledger.db")
    elif request.param == "memory":
        read = memory_ledger()
        move(candidate, read, tmp_path / "keys")
    else:
        url = request.getfixturevalue("postgres_url")
        move(candidate, PostgresStore(url), tmp_path / "keys")
        reader = url_of_reader(
            request.getfixturevalue("postgres"), request.getfixturevalue("postgres_database")
        )
        read = PostgresStore(reader)
    store = CountedStore(read)
    trust = candidate.gov.ledger.trust_root()
    return Watched(candidate, store, lambda: Ledger(store, {}, candidate.clock, trust=trust))


def move(world, store, keys) -> None:
    """Let the same model wait for its gate on another ledger."""
    world.gov = replace(world.gov, ledger=Ledger(store, open_signers(keys), world.clock))
    world.validate_data()
    world.train()
    world.validate_model()


def url_of_reader(server, database: str) -> str:
    """URL of a role that may do nothing but SELECT, as a triggerer's may be."""
    role = f"reader_{uuid.uuid4().hex}"
    server.execute(
        database,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA mlgov TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA mlgov TO {role}",
    )
    return server.url(database, role)


def test_tells_when_people_have_decided(watched):
    assert not watched.has_answer()
    request = watched.world.ask()
    assert not watched.has_answer()
    watched.world.answer(request, "olivia")
    assert not watched.has_answer()
    watched.world.answer(request, "victor")
    assert watched.has_answer()
    assert watched.has_answer(), "whoever asks again is told the same"


def test_tells_when_waiting_is_of_no_use(watched):
    watched.world.ask()
    assert not watched.has_answer()
    stop_model(watched.world.gov, "retail_pd", "nonsense", Person("zoe", "zoe"))
    assert watched.has_answer()


def test_a_thousand_who_wait_read_the_ledger_once(watched):
    watched.world.ask()
    waits = [Awaited("retail_pd", "production", Digest.of(b"%d" % n)) for n in range(500)]
    waits += [Awaited("retail_pd", "production")] * 500
    watched.store.asked.clear()
    for awaited in waits:
        assert not watched.watch.has_answer(awaited)
    assert watched.store.asked["head"] <= 5
    assert watched.store.asked["leaves"] <= 3

    watched.store.asked.clear()
    for _ in range(60):
        watched.now += FRESH_S
        for awaited in waits:
            assert not watched.watch.has_answer(awaited)
    assert watched.store.asked == {"head": 60}, "while nothing is new, one cheap question a second"

    watched.store.asked.clear()
    for awaited in waits * 10:
        watched.watch.has_answer(awaited)
    assert watched.store.asked == {}, "nothing is asked twice in the same second"


def test_only_waits_for_the_model_that_something_new_is_about_are_counted_again(
    watched, monkeypatch
):
    counted = []
    real = ledger_watch.answer_now

    def noted(gov, view, awaited):
        counted.append(awaited.model)
        return real(gov, view, awaited)

    monkeypatch.setattr(ledger_watch, "answer_now", noted)
    entry = watched.world.gov.inventory["retail_pd"]
    text = Path(entry.file).read_bytes().replace(b"id: retail_pd", f"id: {OTHER}".encode())
    watched.world.gov.inventory[OTHER] = parse_entry(text, entry.file)

    def look():
        counted.clear()
        assert not watched.has_answer()
        assert not watched.has_answer(0, model=OTHER)
        return counted

    assert look() == ["retail_pd", OTHER]
    assert look() == []
    watched.world.ask()
    assert look() == ["retail_pd"]
    ledger = watched.world.gov.ledger
    beat = EntryDraft("heartbeat", "", None, {"interval_s": 3600}, ("3600", "1"))
    ledger.seal(ledger.append(beat, role=KeyRole.LOG))
    watched.store.asked.clear()
    assert look() == []
    assert watched.store.asked["leaves"] > 0, "the heartbeat was not seen"


def test_time_alone_changes_an_answer_sooner_or_later(watched):
    watched.world.approve(watched.world.ask())
    assert not watched.has_answer(alias="champion")
    watched.world.clock.moment += timedelta(days=365)
    assert not watched.has_answer(alias="champion")
    assert watched.has_answer(RECOUNT_S, alias="champion")


def test_rules_are_read_again_with_what_is_new_and_after_a_while(watched):
    assert not watched.has_answer()
    assert watched.rules["read"] == 0
    watched.world.ask()
    assert not watched.has_answer()
    assert watched.rules["read"] == 1
    assert not watched.has_answer(RECOUNT_S)
    assert watched.rules["read"] == 2
    del watched.world.gov.inventory["retail_pd"]
    with pytest.raises(UnknownSubjectError):
        watched.has_answer(RECOUNT_S)


def test_rules_that_somebody_is_at_work_on_end_no_wait(watched, caplog):
    request = watched.world.ask()
    assert not watched.has_answer()
    watched.rules_error = DocumentError("not YAML", file="retail_pd.yaml", line=3)
    watched.world.approve(request)
    assert watched.has_answer()
    assert "retail_pd.yaml:3" in caplog.text


def test_a_store_that_is_away_is_left_alone_for_longer_and_longer(watched):
    assert not watched.has_answer()
    watched.now += FRESH_S
    watched.store.error = LedgerUnavailableError("gone")
    watched.store.asked.clear()
    start, tried = watched.now, []
    while watched.now < start + 300:
        before = sum(watched.store.asked.values())
        with pytest.raises(LedgerUnavailableError):
            watched.has_answer(0.5)
        if sum(watched.store.asked.values()) > before:
            tried.append(watched.now)
    pauses = [round(later - earlier) for earlier, later in pairwise(tried)]
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert max(pauses) == LONGEST_PAUSE_S
    watched.store.error = None
    watched.world.approve(watched.world.ask())
    assert watched.has_answer(LONGEST_PAUSE_S)


def test_a_store_that_goes_away_while_votes_are_counted_is_left_alone_too(watched):
    request = watched.world.ask()
    watched.world.answer(request, "olivia")
    real = watched.store.store.disclosures
    failing = [LedgerUnavailableError("gone")]

    def disclosures(key):
        if failing:
            raise failing[0]
        return real(key)

    watched.store.store.disclosures = disclosures
    with pytest.raises(LedgerUnavailableError):
        watched.has_answer()
    watched.store.asked.clear()
    for _ in range(100):
        with pytest.raises(LedgerUnavailableError):
            watched.has_answer(0)
    assert watched.store.asked == {}
    failing.clear()
    watched.world.answer(request, "victor")
    assert watched.has_answer()


def test_a_ledger_that_was_altered_is_no_answer(watched):
    assert not watched.has_answer()
    request = watched.world.ask()
    real = watched.store.store.leaves
    watched.store.store.leaves = lambda start, end: (
        leaf.replace(b"A", b"B") for leaf in real(start, end)
    )
    with pytest.raises(LedgerIntegrityError):
        watched.has_answer()
    watched.store.asked.clear()
    for _ in range(100):
        with pytest.raises(LedgerIntegrityError):
            watched.has_answer(0)
    assert watched.store.asked == {}, "a thousand triggers read a damaged ledger once"
    assert watched.opened == 1

    watched.store.store.leaves = real
    watched.world.approve(request)
    assert watched.has_answer(LONGEST_PAUSE_S), "what was mended is opened anew"
    assert watched.opened == 2


def test_settings_that_are_wrong_are_told_to_everybody(watched):
    def wrong():
        watched.opened += 1
        raise ConfigurationError("ledger_url is missing")

    watch = LedgerWatch(wrong, watched.with_rules_now, lambda: watched.now)
    for _ in range(10):
        with pytest.raises(ConfigurationError):
            watch.has_answer(Awaited("retail_pd", "production"))
    assert watched.opened == 1
