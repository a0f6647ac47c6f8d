"""Lineage events on their way from an outbox in a file to Marquez, which fails in every way.

The Marquez is a fake that keeps the real one's rules (`tests/fakes/marquez`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from marquez import FakeMarquez
from shipping_world import (
    TARGET,
    Auditor,
    World,
    event,
    governed_run,
    run_id_of,
    run_of,
    ship_until_done,
    shuffled,
    wait,
)

from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.outbox import DeliveryState

CONTEXT = multiprocessing.get_context("spawn")
CHAINS = 3


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


@pytest.fixture
def world(fake: FakeMarquez, tmp_path: Path) -> World:
    return World(tmp_path, fake.url)


def check(fake: FakeMarquez, chains: int = CHAINS) -> None:
    auditor = Auditor(fake.url)
    for number in range(chains):
        auditor.check_chain(number)
    auditor.check_lists()
    assert fake.max_concurrent == 1
    assert not fake.overlapped
    assert not fake.is_poisoned


def chains(count: int = CHAINS) -> list[dict]:
    return [each for number in range(count) for each in governed_run(number)]


def test_whole_chains_are_stored_as_they_were(fake: FakeMarquez, world: World) -> None:
    world.append(chains())
    world.ship()
    check(fake)
    assert len(fake.events) == len(chains())  # nothing twice


@pytest.mark.parametrize("seed", range(4))
def test_arrival_in_any_order_over_all_workers(fake: FakeMarquez, world: World, seed: int) -> None:
    world.append(shuffled(chains(), seed))
    world.ship(world.shipper(settle_s=10))
    check(fake)


def test_readers_that_come_in_rounds_before_their_writers(fake: FakeMarquez, world: World) -> None:
    shipper = world.shipper(settle_s=10)
    for each in reversed(chains(1)):
        world.append([each])
        shipper.round()
    world.ship(shipper)
    check(fake, 1)


def test_a_source_that_nobody_wrote_does_not_break_the_audit_query(
    fake: FakeMarquez, world: World
) -> None:
    """Sent bare, Marquez answers 500 to it for good; and the fake does, too."""
    said = [
        *run_of("train", 1, reads=["raw.csv"], writes=["model"]),
        *run_of("score", 2, reads=["model"], writes=["scores"]),
    ]
    world.append(said)
    world.ship()
    auditor = Auditor(fake.url)
    for first in (0, 2):
        auditor.check_run(said[first : first + 2])
    upstream = auditor.client.upstream(run_id_of("score"))
    assert [each["job"]["name"].partition(".")[0] for each in upstream] == [
        "score",
        "train",
        "register",
    ]


def refused(fake: FakeMarquez) -> Callable[[], None]:
    fake.refuse()
    return fake.start


def hanging(fake: FakeMarquez) -> Callable[[], None]:
    fake.hang_s = 30

    def mend() -> None:
        fake.hang_s = 0
        fake.restart()

    return mend


def failing(fake: FakeMarquez) -> Callable[[], None]:
    fake.fail_next(3)
    return lambda: None


def locked_out(fake: FakeMarquez) -> Callable[[], None]:
    fake.fail_next(3, status=401)
    return lambda: None


def busy(fake: FakeMarquez) -> Callable[[], None]:
    fake.fail_next(2, status=503)
    fake.fail_next(1, status=429)
    return lambda: None


@pytest.mark.parametrize("trouble", [refused, hanging, failing, locked_out, busy])
@pytest.mark.parametrize("after", [0, 3, 8])
def test_an_outage_at_any_point_loses_and_doubles_nothing(
    fake: FakeMarquez, world: World, trouble, after: int
) -> None:
    world.timeout_s = 0.3
    said = chains(1)
    world.append(said[:after])
    shipper = world.shipper()
    world.ship(shipper)
    mend = trouble(fake)
    world.append(said[after:])
    progress = shipper.round()
    assert progress.problem
    assert progress.backlog.waiting == len(said) - after
    assert progress.retry_at is not None
    mend()
    world.ship(shipper)
    check(fake, 1)
    assert world.quarantined() == {}


def test_a_slow_one_gets_one_event_at_a_time(fake: FakeMarquez, world: World) -> None:
    fake.slow_s = 0.05
    world.append(chains(1))
    world.ship()
    check(fake, 1)


@pytest.mark.parametrize("at", range(9))
def test_stored_without_an_answer_at_each_event(fake: FakeMarquez, world: World, at: int) -> None:
    """Killed between storing and answering: an end is read back, a START goes again."""
    said = chains(1)
    world.append(said[:at])
    shipper = world.shipper()
    world.ship(shipper)
    fake.drop_answer_after_store = 1
    world.append(said[at:])
    assert shipper.round().problem
    fake.restart()
    world.ship(shipper)
    check(fake, 1)
    again = len(fake.events) - len(said)
    assert again == (1 if said[at]["eventType"] == "START" else 0)


def test_restarts_all_the_time(fake: FakeMarquez, world: World) -> None:
    world.append(chains(12))
    done = threading.Event()

    def restart() -> None:
        while not done.wait(0.15):
            fake.restart()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        world.ship(within_s=120)
    finally:
        done.set()
        thread.join()
    check(fake, 12)
    assert world.quarantined() == {}


def poison(job: str, /, **more) -> dict[str, dict]:
    return {f"{job}.COMPLETE": event(job, "COMPLETE", 5, **more)}


POISON = {
    **poison("bad", outputs=[{"namespace": "a b", "name": "x"}]),
    **poison("arn", outputs=[{"namespace": "arn:aws:glue:eu-west-1:1", "name": "x"}]),
    **poison("id", run={"runId": "no-uuid"}),
    **poison("time", eventTime="2026-11-23T03:05"),
    **poison("nul", job={"namespace": "bank", "name": "nul", "facets": {"x": {"y": "\0"}}}),
    **poison("long", run={"runId": run_id_of("long"), "facets": {"x": {"y": "z" * 1_100_000}}}),
}


def test_poisoned_events_among_good_ones(fake: FakeMarquez, world: World) -> None:
    """One of them, sent bare, and list pages answer 500 from then on."""
    world.append(shuffled([*chains(), *POISON.values()]))
    world.ship(world.shipper(settle_s=10))
    check(fake)
    assert world.quarantined().keys() == POISON.keys()
    assert all(reason for reason in world.quarantined().values())


@pytest.mark.parametrize("status", [422, 413, 400])
def test_what_it_refuses_is_quarantined_and_the_rest_goes_on(
    fake: FakeMarquez, world: World, status: int
) -> None:
    world.append(run_of("refused", 0))
    fake.fail_next(1, status)
    shipper = world.shipper()
    shipper.round()
    world.append(chains())
    world.ship(shipper)
    check(fake)
    assert str(status) in world.quarantined()["refused.START"]


def test_500_with_code_400_in_its_body_is_a_refusal(
    fake: FakeMarquez, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlgov.targets.marquez.MarquezTarget.problem", lambda *_: "")
    world.append([event("bad", "START", 0, eventTime="20261123T030000Z"), *chains()])
    world.ship()
    check(fake)
    assert "refuses the event with 500" in world.quarantined()["bad.START"]


def test_an_event_at_which_it_always_fails_stops_no_other(
    fake: FakeMarquez, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NUL that got through: its database fails, which looks as if it were down."""
    monkeypatch.setattr("airflow_mlgov.targets.marquez.MarquezTarget.problem", lambda *_: "")
    monkeypatch.setattr("airflow_mlgov.service.ship.MAX_PAUSE_S", 0.05)
    world.append([POISON["nul.COMPLETE"], *chains()])
    world.ship()
    check(fake)
    assert "takes others" in world.quarantined()["nul.COMPLETE"]


def test_a_quarantined_writer_is_no_500_for_its_readers(fake: FakeMarquez, world: World) -> None:
    chain = governed_run(0)
    broken = dict(chain[2], outputs=[*chain[2]["outputs"], {"namespace": "a b", "name": "x"}])
    world.append([*chain[:2], broken, *chain[3:]])
    world.ship(world.shipper(settle_s=10))
    auditor = Auditor(fake.url)
    jobs = [each["job"]["name"] for each in auditor.client.upstream(run_id_of("score00000"))]
    assert any(job.startswith("register.data00000") for job in jobs)
    assert "approve00000" in jobs
    auditor.check_lists()


def test_a_second_start_after_three_days_does_not_move_the_beginning(
    fake: FakeMarquez, world: World
) -> None:
    start, end = event("gate", "START", 0), event("gate", "COMPLETE", 3 * 1440 + 0.1)
    world.append([start])
    shipper = world.shipper()
    world.ship(shipper)
    world.append([event("gate", "START", 3 * 1440), end])
    world.ship(shipper)
    Auditor(fake.url).check_run([start, end])


def test_what_comes_after_the_end_changes_nothing(fake: FakeMarquez, world: World) -> None:
    run = run_of("job", 0)
    shipper = world.shipper()
    world.append(run)
    world.ship(shipper)
    world.append([event("job", "FAIL", 0.2), event("job", "START", 5), event("job", "RUNNING", 6)])
    world.ship(shipper)
    Auditor(fake.url).check_run(run)


def test_each_scored_batch_is_bound_to_the_version_of_the_table_that_it_read(
    fake: FakeMarquez, world: World
) -> None:
    """A table that is written each day; all of three days comes at once and in disorder."""
    days = [
        each
        for day in range(3)
        for each in (
            *run_of(f"write{day}", day * 1440, writes=["table"]),
            *run_of(f"read{day}", day * 1440 + 60, reads=["table"]),
        )
    ]
    world.append(shuffled(days))
    world.ship(world.shipper(settle_s=10))
    client = Auditor(fake.url).client
    for day in range(3):
        (_, writer) = client.upstream(run_id_of(f"read{day}"))
        assert writer["run"]["id"] == run_id_of(f"write{day}")


def test_a_run_that_somebody_altered_is_put_right_by_replay(
    fake: FakeMarquez, world: World
) -> None:
    world.append(chains(1))
    shipper = world.shipper()
    world.ship(shipper)
    client = Auditor(fake.url).client
    score = run_id_of("score00000")
    client.post(json.dumps(event("score00000", "FAIL", 9)).encode())
    assert client.run(score)["state"] == "FAILED"
    assert shipper.replay([score]) == {score: 2}
    world.ship(shipper)
    check(fake, 1)


def test_two_shippers_in_two_processes_at_once(fake: FakeMarquez, world: World) -> None:
    fake.slow_s = 0.005
    world.append(shuffled(chains(15)))
    two = [
        CONTEXT.Process(target=ship_until_done, args=(world.folder, fake.url, 2_000))
        for _ in range(2)
    ]
    for each in two:
        each.start()
    for each in two:
        each.join(120)
        assert each.exitcode == 0
    check(fake, 15)
    assert len(fake.events) == len(chains(15))


def test_a_shipper_that_is_killed_again_and_again(fake: FakeMarquez, world: World) -> None:
    fake.slow_s = 0.01
    world.append(shuffled(chains(15)))
    kills = 0
    for after in (5, 20, 33, 50, 64, 90):
        process = CONTEXT.Process(target=ship_until_done, args=(world.folder, fake.url, 2_000))
        process.start()
        wait(lambda after=after: len(fake.events) >= after)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 4
    world.ship(world.shipper(settle_s=10))
    check(fake, 15)
    # Each kill makes at most two events double: one under way, one that was being noted.
    assert len(chains(15)) <= len(fake.events) <= len(chains(15)) + 2 * kills
    assert world.outbox.backlog(TARGET).delivered == len(chains(15))


def test_a_day_without_marquez(fake: FakeMarquez, world: World) -> None:
    """Events of a day wait; their order of arrival has little to do with what they say."""
    fake.refuse()
    said = shuffled(chains(60))
    for first in range(0, len(said), 50):
        world.append(said[first : first + 50], SystemClock().now() - timedelta(hours=20))
    shipper = world.shipper()
    assert shipper.round().lag_s > 70_000
    fake.start()
    world.ship(shipper, within_s=120)
    check(fake, 60)
    assert world.outbox.deliveries(TARGET, DeliveryState.FOLDED) == []


def test_a_port_where_nobody_answers_at_all(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        world = World(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
        world.append(chains(1))
        began = time.monotonic()
        progress = world.shipper().round()
    assert time.monotonic() - began < 5
    assert "no answer in 0.3 seconds" in progress.problem
