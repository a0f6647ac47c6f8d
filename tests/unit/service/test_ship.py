"""The shipper against a target that does as it is told; against Marquez: integration tests."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from lineage_events import BEGAN, event, run_id_of, run_of

from airflow_mlgov.errors import (
    LedgerUnavailableError,
    LineageRefusedError,
    LineageUnavailableError,
)
from airflow_mlgov.service.outbox import Backlog, DeliveryState, OutboxItem
from airflow_mlgov.service.ship import MAX_PAUSE_S, Shipper, status
from airflow_mlgov.service.ship_courier import MAX_ASIDE, TRIES
from airflow_mlgov.stores.postgres import PostgresOutbox
from airflow_mlgov.stores.sqlite import SqliteOutbox

DOWN = LineageUnavailableError("It is down.")


@dataclass
class Clock:
    moment: datetime = BEGAN

    def now(self) -> datetime:
        return self.moment

    def pass_s(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class Target:
    """Takes events, unless told otherwise, and remembers the order."""

    binds_on_arrival: bool = True
    name: str = "there"
    sent: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    fails: dict[str, list[Exception]] = field(default_factory=lambda: defaultdict(list))
    always: dict[str, Exception] = field(default_factory=dict)
    differs: list[str] = field(default_factory=list)
    read_back: list[list[str]] = field(default_factory=list)
    read_fails: list[str] = field(default_factory=list)
    on_send: Callable[[str], None] = lambda _: None

    def problem(self, said: dict) -> str:
        return self.problems.get(label(said), "")

    def send(self, data: bytes) -> None:
        name = label(json.loads(data))
        self.on_send(name)
        if name in self.always:
            raise self.always[name]
        if "*" in self.always:
            raise self.always["*"]
        if self.fails[name]:
            error = self.fails[name].pop(0)
            if isinstance(error, AnswerLostError):
                self.sent.append(name)
            raise error
        self.sent.append(name)

    def difference(self, events: list[dict]) -> str:
        self.read_back.append([label(each) for each in events])
        if label(events[-1]) in self.read_fails:
            self.read_fails.remove(label(events[-1]))
            raise DOWN
        if label(events[-1]) not in self.sent:
            return "it is not there"
        return self.differs.pop(0) if self.differs else ""


class AnswerLostError(LineageUnavailableError):
    """The answer was lost, not the event."""


def label(said: dict) -> str:
    return f"{said['job']['name']}.{said['eventType']}"


@dataclass
class Desk:
    outbox: object
    clock: Clock = field(default_factory=Clock)
    target: Target = field(default_factory=Target)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shipper = self.another()

    def another(self) -> Shipper:
        return Shipper(self.outbox, self.target, self.clock, self.said.append, chance=lambda: 1.0)

    def append(self, *said: dict) -> None:
        self.outbox.append([OutboxItem.of(each) for each in said], self.clock.now())

    def states(self) -> dict[str, str]:
        kept = {each.seq: label(each.decoded()) for each in self.outbox.events(0, 100_000)}
        found = self.outbox.deliveries(self.target.name, limit=100_000)
        return {kept[d.seq]: d.state.value for d in found}

    def reason(self, name: str) -> str:
        kept = {label(each.decoded()): each.seq for each in self.outbox.events(0, 100_000)}
        found = self.outbox.deliveries(self.target.name, limit=100_000)
        return next(d.reason for d in found if d.seq == kept[name])


@pytest.fixture
def desk(new_memory_outbox) -> Desk:
    return Desk(new_memory_outbox())


SOURCE = run_of("register", 0, writes=["raw"])[1]


def chain() -> list[dict]:
    return [
        SOURCE,
        *run_of("prepare", 1, reads=["raw"], writes=["data"]),
        *run_of("train", 2, reads=["data"], writes=["model"]),
    ]


CHAIN = ["register.COMPLETE", "prepare.START", "prepare.COMPLETE", "train.START", "train.COMPLETE"]


def test_a_chain_is_delivered_and_each_end_read_back_with_its_start(desk: Desk) -> None:
    desk.append(*chain())
    progress = desk.shipper.round()
    assert desk.target.sent == CHAIN
    assert desk.target.read_back == [CHAIN[:1], CHAIN[1:3], CHAIN[3:]]
    assert progress.backlog == Backlog(0, None, 5, 0, 0)
    assert (progress.problem, progress.lag_s) == ("", 0.0)
    desk.shipper.round()
    assert desk.target.sent == CHAIN


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_from_each_store(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> None:
    if store == "sqlite":
        outbox = SqliteOutbox(tmp_path / "ledger.db")
        outbox.migrate()
    else:
        outbox = PostgresOutbox(request.getfixturevalue("postgres_url"))
    desk = Desk(outbox)
    desk.append(*reversed(chain()), event("train", "RUNNING", 2.1))
    assert desk.shipper.round().backlog == Backlog(0, None, 5, 1, 0)
    desk.shipper.replay([run_id_of("train")])
    desk.shipper.round()
    assert desk.target.sent == [*CHAIN, *CHAIN[3:]]


def test_readers_before_their_writers_are_put_right(desk: Desk) -> None:
    desk.append(*reversed(chain()))
    desk.shipper.round()
    assert desk.target.sent == CHAIN


def test_a_reader_waits_for_a_late_writer_and_then_its_input_is_registered(desk: Desk) -> None:
    desk.append(*run_of("train", 2, reads=["data"], writes=["model"]))
    assert desk.shipper.round().backlog.waiting == 2
    desk.clock.pass_s(9)
    desk.append(*run_of("prepare", 1, writes=["data"]))
    desk.shipper.round()
    assert desk.target.sent == [
        "prepare.START", "prepare.COMPLETE", "train.START", "train.COMPLETE",
    ]  # fmt: skip
    desk.append(*run_of("score", 3, reads=["features", "model"]))
    desk.clock.pass_s(9.9)
    desk.shipper.round()
    assert len(desk.target.sent) == 4
    desk.clock.pass_s(0.2)
    desk.shipper.round()
    registered, *rest = desk.target.sent[4:]
    assert registered.startswith("register.features.")
    assert rest == ["score.START", "score.COMPLETE"]
    assert "nobody is known to write it" in desk.said[-1]
    assert desk.shipper.progress.lag_s == 0.0


def test_a_registration_is_on_record_and_made_once_for_all_readers_and_targets(
    desk: Desk,
) -> None:
    for number in range(3):
        desk.append(*run_of(f"read{number}", 2 + number, reads=["raw", f"own{number}"]))
    desk.clock.pass_s(11)
    other = Desk(desk.outbox, desk.clock, Target(name="elsewhere"))
    desk.shipper.round()
    other.shipper.round()
    kept = [each.decoded() for each in desk.outbox.events(0, 100)]
    made = [each for each in kept if label(each).startswith("register.")]
    assert len(made) == 4
    assert {each["outputs"][0]["name"] for each in made} == {"raw", "own0", "own1", "own2"}
    assert desk.states() == dict.fromkeys(desk.states(), "delivered")
    assert set(other.target.sent) == set(desk.target.sent)
    assert all(each["inputs"] == [] and each["eventType"] == "COMPLETE" for each in made)


def test_a_registration_says_what_its_reader_says_of_the_source(desk: Desk) -> None:
    words = {"description": "Loans of 2025."}
    facets = {"documentation": words, "dataQualityMetrics": {"rowCount": 3}}
    said = event(
        "read", "START", 1, inputs=[{"namespace": "file", "name": "raw", "facets": facets}]
    )
    desk.append(said)
    desk.clock.pass_s(11)
    desk.shipper.round()
    made = desk.outbox.events(1, 1)[0].decoded()
    assert made["outputs"] == [
        {"namespace": "file", "name": "raw", "facets": {"documentation": words}}
    ]
    assert made["eventTime"] == said["eventTime"]


def test_a_writer_that_has_begun_is_waited_for_and_not_registered(desk: Desk) -> None:
    start = event("write", "START", 0, writes=["table"])
    desk.append(start)
    desk.shipper.round()
    desk.append(*run_of("read", 1, reads=["table"]))
    assert desk.shipper.round().backlog.waiting == 2
    desk.clock.pass_s(11)
    desk.shipper.round()
    assert desk.target.sent == ["write.START", "read.START", "read.COMPLETE"]


def test_second_starts_and_what_comes_after_the_end_are_folded(desk: Desk) -> None:
    start, end = run_of("gate", 0)
    desk.append(start)
    desk.shipper.round()
    desk.clock.pass_s(3 * 86_400)
    desk.append(event("gate", "START", 3 * 1440), event("gate", "RUNNING", 3 * 1440), end)
    desk.shipper.round()
    desk.append(event("gate", "FAIL", -1), event("gate", "START", 9000))
    progress = desk.shipper.round()
    assert desk.target.sent == ["gate.START", "gate.COMPLETE"]
    assert progress.backlog == Backlog(0, None, 2, 4, 0)
    assert "ended" in desk.reason("gate.FAIL")


def test_what_must_not_be_sent_is_quarantined_and_the_rest_goes_on(desk: Desk) -> None:
    desk.target.problems = {"prepare.COMPLETE": "Its namespace is an ARN. Name the account."}
    desk.append(*chain())
    desk.outbox.append([OutboxItem("00" * 32, b"not json")], desk.clock.now())
    desk.shipper.round()
    registered = [name for name in desk.target.sent if name.startswith("register.data.")]
    assert [name for name in desk.target.sent if name not in registered] == [
        "register.COMPLETE", "prepare.START", "train.START", "train.COMPLETE",
    ]  # fmt: skip
    # Its input's writer was refused: it is made a source, so that the audit query answers.
    assert desk.target.sent.index(registered[0]) < desk.target.sent.index("train.START")
    assert f"run {run_id_of('prepare')} wrote it and was refused" in " ".join(desk.said)
    found = desk.outbox.deliveries("there", DeliveryState.QUARANTINED)
    assert found[0].reason == "Its namespace is an ARN. Name the account."
    assert "no run event" in found[1].reason


def test_what_the_target_refuses_is_quarantined_with_its_words(desk: Desk) -> None:
    desk.target.always = {"prepare.START": LineageRefusedError("Bad time.", remedy="Mend it.")}
    desk.append(*chain())
    desk.shipper.round()
    assert desk.states()["prepare.START"] == "quarantined"
    assert desk.reason("prepare.START") == "Bad time. Mend it."
    assert desk.target.sent == [name for name in CHAIN if name != "prepare.START"]


def test_a_writer_that_the_target_refuses_is_named_where_its_output_is_registered(
    desk: Desk,
) -> None:
    desk.target.always = {"prepare.COMPLETE": LineageRefusedError("Bad time.")}
    desk.append(*chain())
    desk.shipper.round()
    assert f"run {run_id_of('prepare')} wrote it and was refused" in desk.said[-1]
    assert desk.target.sent[-2:] == ["train.START", "train.COMPLETE"]


def test_an_input_that_cannot_be_registered_keeps_its_reader_out(desk: Desk) -> None:
    desk.append(*run_of("read", 1, reads=["raw"]))
    desk.clock.pass_s(11)
    real = desk.target.send

    def send(data: bytes) -> None:
        if label(json.loads(data)).startswith("register."):
            raise LineageRefusedError("No such thing.")
        real(data)

    desk.target.send = send
    desk.shipper.round()
    assert desk.target.sent == []
    assert "'raw' cannot be made known first. No such thing." in desk.reason("read.START")


def test_an_outage_loses_nothing_and_is_tried_again_after_growing_pauses(desk: Desk) -> None:
    desk.target.always = {"*": DOWN}
    desk.append(*chain())
    began, tries = desk.clock.now(), []
    desk.target.on_send = lambda _: tries.append((desk.clock.now() - began).total_seconds())
    for _ in range(200):
        desk.shipper.round()
        desk.clock.pass_s(1)
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps[:5] == [1, 2, 4, 8, 16]
    assert set(gaps[5:]) == {MAX_PAUSE_S}
    assert desk.shipper.progress.lag_s >= 170
    assert desk.shipper.progress.problem == "It is down."
    assert desk.said == ["Lineage to there waits. It is down."]
    desk.target.always = {}
    desk.clock.pass_s(MAX_PAUSE_S)
    assert desk.shipper.round().backlog == Backlog(0, None, 5, 0, 0)
    assert desk.target.sent == CHAIN
    assert desk.said[-1] == "Lineage to there: it takes events again."


def test_an_end_whose_answer_was_lost_is_read_back_before_it_is_sent_again(desk: Desk) -> None:
    desk.target.fails["train.COMPLETE"] = [AnswerLostError("no answer")]
    desk.append(*chain())
    desk.shipper.round()
    desk.clock.pass_s(2)
    desk.shipper.round()
    assert desk.target.sent == CHAIN
    assert set(desk.states().values()) == {"delivered"}


def test_an_end_that_was_lost_with_its_answer_is_sent_again(desk: Desk) -> None:
    desk.target.fails["train.COMPLETE"] = [DOWN]
    desk.append(*chain())
    desk.shipper.round()
    desk.clock.pass_s(2)
    desk.shipper.round()
    assert desk.target.sent == CHAIN
    assert set(desk.states().values()) == {"delivered"}


@pytest.mark.parametrize("failures", [1, 2, 4])
def test_an_end_that_cannot_be_read_back_now_is_not_sent_again(desk: Desk, failures: int) -> None:
    desk.target.read_fails = ["train.COMPLETE"] * failures
    desk.append(*chain())
    for _ in range(failures):
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    assert not desk.target.read_fails
    desk.shipper.round()
    assert set(desk.states().values()) == {"delivered"}
    assert desk.target.sent == CHAIN


def test_a_run_that_reads_back_otherwise_is_sent_again_once(desk: Desk) -> None:
    desk.target.differs = ["", "", "it began later"]
    desk.append(*chain())
    desk.shipper.round()
    assert desk.target.sent == [*CHAIN, "train.START", "train.COMPLETE"]
    assert set(desk.states().values()) == {"delivered"}


def test_a_run_that_still_reads_back_otherwise_is_quarantined_and_counts_as_written(
    desk: Desk,
) -> None:
    desk.target.differs = ["", "", "it began later", "it began later"]
    desk.append(*chain(), *run_of("score", 3, reads=["model"]))
    desk.shipper.round()
    assert desk.states()["train.COMPLETE"] == "quarantined"
    assert desk.reason("train.COMPLETE").endswith("it began later")
    assert desk.target.sent[-2:] == ["score.START", "score.COMPLETE"]
    assert not any(name.startswith("register.model") for name in desk.target.sent)
    desk.append(event("train", "FAIL", 9))
    desk.shipper.round()
    assert desk.states()["train.FAIL"] == "folded"


@pytest.mark.parametrize("binds", [True, False])
def test_an_event_at_which_the_target_always_fails_stops_no_other(new_memory_outbox, binds) -> None:
    desk = Desk(new_memory_outbox(), target=Target(binds_on_arrival=binds))
    desk.target.always = {"b.START": LineageUnavailableError("500.")}
    desk.append(*run_of("a", 0), *run_of("b", 1), *run_of("c", 2))
    for _ in range(TRIES):
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    assert desk.target.sent == ["a.START", "a.COMPLETE", "c.START", "c.COMPLETE", "b.COMPLETE"] or (
        not binds
        and desk.target.sent == ["a.START", "a.COMPLETE", "b.COMPLETE", "c.START", "c.COMPLETE"]
    )
    assert "takes others. 500." in desk.reason("b.START")


def test_several_such_events_in_a_row_stop_no_other(desk: Desk) -> None:
    bad = [f"bad{number}" for number in range(3)]
    desk.target.always = {f"{job}.START": LineageUnavailableError("500.") for job in bad}
    desk.append(*(event(job, "START", 0) for job in bad), *run_of("c", 2))
    for _ in range(4 * TRIES):
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    assert desk.target.sent == ["c.START", "c.COMPLETE"]
    assert desk.shipper.progress.backlog == Backlog(0, None, 2, 0, 3)


def test_a_long_outage_does_not_try_every_event_in_each_round(desk: Desk) -> None:
    desk.target.always = {"*": DOWN}
    desk.append(*(event(f"job{number}", "START", 0) for number in range(30)))
    tries: list[str] = []
    for _ in range(20 * TRIES):
        tries.clear()
        desk.target.on_send = tries.append
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    assert len(tries) == MAX_ASIDE + 1


def test_an_outage_just_after_something_was_taken_quarantines_nothing(desk: Desk) -> None:
    desk.target.fails["a.START"] = [DOWN] * TRIES
    desk.append(*run_of("a", 0), *run_of("b", 1))
    real = desk.target.send

    def send(data: bytes) -> None:
        real(data)
        desk.target.always = {"*": DOWN}  # it goes down with what it took

    desk.target.send = send
    for _ in range(TRIES + 3):
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    assert desk.target.sent == ["b.START"]
    desk.target.send, desk.target.always = real, {}
    desk.shipper.round()
    assert set(desk.states().values()) == {"delivered"}


def test_a_target_that_is_down_for_long_has_nothing_quarantined(desk: Desk) -> None:
    desk.target.always = {"*": DOWN}
    desk.append(*run_of("a", 0), *run_of("b", 1))
    for _ in range(3 * TRIES):
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    desk.target.always = {}
    desk.shipper.round()
    assert set(desk.states().values()) == {"delivered"}


def test_an_event_that_fails_by_bad_luck_to_the_end_is_tried_once_more(desk: Desk) -> None:
    desk.target.fails["a.START"] = [DOWN] * TRIES
    desk.append(*run_of("a", 0), *run_of("b", 1))
    for _ in range(TRIES + 1):
        desk.shipper.round()
        desk.clock.pass_s(MAX_PAUSE_S)
    assert desk.target.sent == ["b.START", "a.START", "b.COMPLETE", "a.COMPLETE"]
    assert set(desk.states().values()) == {"delivered"}


def test_replay_sends_a_run_up_to_its_end_and_no_other(desk: Desk) -> None:
    start, end = run_of("gate", 0)
    desk.append(start, event("gate", "START", 50), end, *run_of("other", 1))
    desk.shipper.round()
    desk.append(event("gate", "FAIL", -9), event("open", "START", 7))
    desk.shipper.round()
    desk.target.sent.clear()
    runs = [run_id_of("gate"), run_id_of("open"), run_id_of("nobody")]
    assert desk.shipper.replay(runs) == {runs[0]: 4, runs[1]: 0, runs[2]: 0}
    desk.shipper.round()
    assert desk.target.sent == ["gate.START", "gate.COMPLETE"]
    assert desk.shipper.progress.backlog.waiting == 0


def test_replay_tries_again_what_was_quarantined(desk: Desk) -> None:
    desk.target.problems = {"train.COMPLETE": "Too long."}
    desk.append(*chain())
    desk.shipper.round()
    desk.target.problems = {}
    desk.shipper.replay([run_id_of("train")])
    desk.shipper.round()
    assert desk.target.sent[-2:] == ["train.START", "train.COMPLETE"]
    assert set(desk.states().values()) == {"delivered"}


def test_a_second_shipper_does_nothing_meanwhile(desk: Desk) -> None:
    desk.append(*chain())
    seen = []
    desk.target.on_send = lambda _: seen.append(desk.another().round().is_elsewhere)
    assert not desk.shipper.round().is_elsewhere
    assert seen == [True] * 5


@pytest.mark.parametrize("unnoted", [1, 2])
def test_a_shipper_that_dies_between_sending_and_noting_sends_the_last_again(
    desk: Desk, unnoted: int
) -> None:
    """What was sent last; and what was being noted beside it, if they have nothing in common."""
    said = chain() if unnoted == 1 else run_of("prepare", 1)
    names = [label(each) for each in said]
    desk.append(*said)
    real, desk.outbox.settle = desk.outbox.settle, lambda _: (_ for _ in ()).throw(SystemExit)
    with pytest.raises(SystemExit):
        desk.shipper.round()
    desk.outbox.settle = real
    desk.another().round()
    assert desk.target.sent == [*names[:unnoted], *names]


def test_a_forked_process_ships_with_its_parents_shipper(tmp_path: Path) -> None:
    desk = Desk(SqliteOutbox(tmp_path / "ledger.db"))
    desk.outbox.migrate()
    desk.append(*run_of("a", 0))
    desk.shipper.round()
    desk.append(*run_of("b", 1))
    child = multiprocessing.get_context("fork").Process(target=desk.shipper.round)
    child.start()
    child.join(20)
    child.kill()
    assert child.exitcode == 0
    assert desk.outbox.backlog("there").delivered == 4


def test_a_reader_is_sent_after_what_it_reads_was_read_back(desk: Desk) -> None:
    seen = []
    desk.target.on_send = lambda name: seen.append((name, len(desk.target.read_back)))
    desk.append(*chain())
    desk.shipper.round()
    assert dict(seen)["prepare.START"] == 1
    assert dict(seen)["train.START"] == 2


def test_more_events_than_a_window_that_all_wait_for_the_last(desk: Desk, monkeypatch) -> None:
    monkeypatch.setattr("airflow_mlgov.service.ship._WINDOW", 4)
    readers = [each for n in range(6) for each in run_of(f"read{n}", 5, reads=["model"])]
    desk.append(*readers, *run_of("read0", 5)[:1], *chain()[3:], *chain()[:3])
    desk.shipper.round()
    assert desk.target.sent[:5] == CHAIN
    assert desk.shipper.progress.backlog.waiting == 0
    assert set(desk.states().values()) == {"delivered"}


def test_a_start_beyond_the_window_goes_before_its_end(desk: Desk, monkeypatch) -> None:
    monkeypatch.setattr("airflow_mlgov.service.ship._WINDOW", 1)
    start, end = run_of("a", 0)
    desk.append(end, start)
    desk.shipper.round()
    assert desk.target.sent == ["a.START", "a.COMPLETE"]


def test_another_target_gets_all_in_order_of_arrival(new_memory_outbox) -> None:
    desk = Desk(new_memory_outbox(), target=Target(binds_on_arrival=False))
    desk.target.problems = {"a.RUNNING": "Too long."}
    desk.target.always = {"b.START": LineageRefusedError("No.")}
    said = [
        event("a", "COMPLETE", 5, reads=["x"]),
        event("a", "START", 0),
        event("a", "START", 3),
        event("a", "RUNNING", 4),
        event("b", "START", 6),
        event("b", "FAIL", 7),
    ]
    desk.append(*said)
    desk.outbox.append([OutboxItem("00" * 32, b"[")], desk.clock.now())
    progress = desk.shipper.round()
    assert desk.target.sent == ["a.COMPLETE", "a.START", "a.START", "b.FAIL"]
    assert desk.target.read_back == []
    assert progress.backlog == Backlog(0, None, 4, 0, 3)


def test_run_works_until_it_is_stopped_whatever_fails(desk: Desk, monkeypatch) -> None:
    monkeypatch.setattr("airflow_mlgov.service.ship.LOOK_S", 0.01)
    real, trouble = desk.outbox.take, [LedgerUnavailableError("The disk is full.")]

    def take() -> int:
        if trouble:
            raise trouble.pop()
        return real()

    desk.outbox.take = take
    desk.append(*chain())
    done = threading.Event()
    desk.target.on_send = lambda name: done.set() if name == CHAIN[-1] else None
    thread = threading.Thread(target=desk.shipper.run)
    thread.start()
    while "waits. The disk is full." not in " ".join(desk.said):
        pass
    desk.clock.pass_s(5)
    assert done.wait(10)
    desk.shipper.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_status_tells_how_targets_stand_from_the_outbox_alone(desk: Desk) -> None:
    desk.append(*chain())
    desk.shipper.round()
    desk.append(*run_of("more", 8))
    desk.clock.pass_s(40)
    there, other = status(desk.outbox, ["there", "other"], desk.clock)
    assert (there.backlog.waiting, there.backlog.delivered, there.lag_s) == (2, 5, 40.0)
    assert (other.target, other.backlog.waiting) == ("other", 7)
