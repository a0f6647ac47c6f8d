"""The trigger in an event loop, on a real ledger in SQLite."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from airflow.sdk.module_loading import import_string
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_mlgov import wiring
from airflow_mlgov.errors import LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.service import ledger_watch
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.triggers import approval
from airflow_mlgov.triggers.approval import ApprovalTrigger

TESTS = Path(__file__).resolve().parents[2]
SOON_S = 0.02


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


service = load("trigger_world", TESTS / "unit" / "service" / "conftest.py")
world, candidate = service.world, service.candidate
least_assurance = pytest.fixture(lambda: "L1")


def trigger(**changes) -> ApprovalTrigger:
    arguments = {
        "model": "retail_pd",
        "target": "production",
        "version": None,
        "alias": "",
        "poke_interval": SOON_S,
    }
    return ApprovalTrigger(**(arguments | changes))


class Reading:
    """What the triggerer's process reads the ledger through."""

    def __init__(self, world, folder) -> None:
        self.world = world
        self.store = SqliteStore.from_url(f"sqlite:///{folder}/ledger.db")
        self.trust = world.gov.ledger.trust_root()
        self.asked, self.threads, self.opened = [], set(), 0
        self.error: Exception | None = None
        for name in ("head", "leaves"):
            setattr(self.store, name, self.counted(name, getattr(self.store, name)))

    def counted(self, name, method):
        def asked(*args):
            self.asked.append(name)
            self.threads.add(threading.current_thread().name)
            if self.error is not None:
                raise self.error
            return method(*args)

        return asked

    def open(self):
        self.opened += 1
        ledger = Ledger(self.store, {}, self.world.clock, trust=self.trust)
        return replace(self.world.gov, ledger=ledger)


@pytest.fixture
def reading(candidate, tmp_path, monkeypatch):
    found = Reading(candidate, tmp_path)
    monkeypatch.setattr(wiring, "open_governance", found.open)
    monkeypatch.setattr(wiring, "with_rules_now", lambda gov: gov)
    monkeypatch.setattr(approval, "FRESH_S", SOON_S)
    monkeypatch.setattr(ledger_watch, "FRESH_S", SOON_S)
    approval._watch.cache_clear()
    yield found
    approval._watch.cache_clear()


async def first_event(one: ApprovalTrigger):
    async for event in one.run():
        return event
    raise AssertionError("it ended without an event")


def waiting(*triggers, while_they_wait=lambda: None, for_s: float = 0.3):
    """Run triggers in one loop; return their events once something has happened."""

    async def run():
        tasks = [asyncio.create_task(first_event(one)) for one in triggers]
        await asyncio.sleep(for_s)
        assert not any(task.done() for task in tasks), "it did not wait"
        await asyncio.to_thread(while_they_wait)
        return [(await task).payload for task in tasks]

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_serialises_so_that_another_triggerer_goes_on():
    one = trigger(version="sha256:" + "a" * 64, alias="champion", poke_interval=30.0)
    path, arguments = one.serialize()
    stored = BaseSerialization.serialize(arguments)
    again = import_string(path)(**BaseSerialization.deserialize(stored))
    assert type(again) is ApprovalTrigger
    assert again.serialize() == (path, arguments)
    assert again.serialize()[1] == {
        "model": "retail_pd",
        "target": "production",
        "version": "sha256:" + "a" * 64,
        "alias": "champion",
        "poke_interval": 30.0,
    }


def test_waits_for_a_decision_and_wakes(reading):
    request = reading.world.ask()
    assert waiting(trigger(), while_they_wait=lambda: reading.world.approve(request)) == [
        {"problem": ""}
    ]
    assert reading.threads == {"mlgov-ledger_0"}, "the event loop, or a second connection, read"


def test_a_thousand_wait_with_one_reading(reading):
    request = reading.world.ask()
    reading.asked.clear()
    triggers = [trigger(version=str(reading.world.version)) for _ in range(1000)]
    events = waiting(*triggers, while_they_wait=lambda: reading.world.approve(request), for_s=1.0)
    assert events == [{"problem": ""}] * 1000
    assert reading.opened == 1
    # Two votes and a grant: read at first, and once for each of what was new; in two parts each.
    assert reading.asked.count("leaves") <= 2 * 5
    assert reading.threads == {"mlgov-ledger_0"}


def test_a_triggerer_that_is_started_anew_goes_on(reading):
    request = reading.world.ask()
    first = trigger()

    async def cut_short():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(first_event(first), 0.3)

    asyncio.run(cut_short())
    reading.world.approve(request)
    approval._watch.cache_clear()  # another process
    path, arguments = first.serialize()
    again = import_string(path)(**arguments)
    assert asyncio.run(first_event(again)).payload == {"problem": ""}


def test_a_store_that_is_away_is_waited_for(reading):
    request = reading.world.ask()

    def away_and_back():
        reading.error = LedgerUnavailableError("gone")
        threading.Event().wait(0.3)
        reading.error = None
        reading.world.approve(request)

    assert waiting(trigger(), while_they_wait=away_and_back) == [{"problem": ""}]


def test_a_ledger_that_does_not_verify_wakes_with_what_is_wrong(reading):
    request = reading.world.ask()

    def alter():
        reading.world.answer(request, "olivia")
        reading.error = LedgerIntegrityError("an entry was altered", remedy="Find out who did it.")

    (event,) = waiting(trigger(), while_they_wait=alter)
    assert "an entry was altered" in event["problem"]
    assert "Find out who did it." in event["problem"]


def test_looks_at_most_once_a_second_whatever_the_interval(reading, monkeypatch):
    reading.world.ask()
    monkeypatch.setattr(approval, "FRESH_S", 0.2)
    looked = []
    real = approval._has_answer
    monkeypatch.setattr(approval, "_has_answer", lambda one: looked.append(one) or real(one))

    async def run():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(first_event(trigger(poke_interval=0)), 1.1)

    asyncio.run(run())
    assert 3 <= len(looked) <= 5
