"""Outboxes that many processes and threads use at once, and whose holders die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlgov.service.outbox import Delivery, DeliveryState, Outbox, OutboxItem
from airflow_mlgov.stores.postgres import PostgresOutbox
from airflow_mlgov.stores.sqlite import SqliteOutbox

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CONTEXT = multiprocessing.get_context("fork")
WRITERS, TAKERS, EACH = 16, 2, 12

NewOutbox = Callable[[], Outbox]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_outbox(request: pytest.FixtureRequest, tmp_path) -> NewOutbox:
    """Return what opens the same outbox anew, as another process would."""
    if request.param == "sqlite":
        return lambda: SqliteOutbox(tmp_path / "ledger.db")
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresOutbox(url)


def item(name: str) -> OutboxItem:
    run, job = (
        {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, name))},
        {"namespace": "n", "name": name},
    )
    at = "2026-01-02T03:04:05Z"
    return OutboxItem.of({"eventType": "START", "eventTime": at, "run": run, "job": job})


def start(work: Callable[..., None], *given: Any) -> Any:
    """Run in a process of its own, which ends without what pytest would tear down."""

    def run() -> None:
        code = 1
        try:
            work(*given)
            code = 0
        finally:
            os._exit(code)

    process = CONTEXT.Process(target=run)
    process.start()
    return process


def test_sixteen_processes_append_while_two_number(new_outbox: NewOutbox) -> None:
    outbox = new_outbox()
    outbox.take()  # the children inherit an open connection, and must not use it
    stop = CONTEXT.Event()

    def write(writer: int) -> None:
        for number in range(EACH):
            # Every third event is one that all writers append; the others come in pairs.
            shared = [item(f"shared {number}")]
            own = [item(f"{writer} {number}{half}") for half in "ab"]
            outbox.append(own if number % 3 else shared, NOW)

    def number() -> None:
        while not stop.is_set():
            outbox.take()

    takers = [start(number) for _ in range(TAKERS)]
    writers = [start(write, n) for n in range(WRITERS)]
    for process in writers:
        process.join(120)
    stop.set()
    for process in takers:
        process.join(60)
    assert [process.exitcode for process in (*writers, *takers)] == [0] * (WRITERS + TAKERS)
    outbox.take()
    events = outbox.events(0, 10_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    found = [event.decoded()["job"]["name"] for event in events]
    assert len(found) == len(set(found)) == WRITERS * 2 * (EACH - EACH // 3) + EACH // 3
    for writer in range(WRITERS):
        own = [name for name in found if name.startswith(f"{writer} ")]
        expected = [f"{writer} {n}{half}" for n in range(EACH) if n % 3 for half in "ab"]
        assert own == expected  # in the order of appending
    assert outbox.backlog("marquez").waiting == len(events)


def test_two_who_number_at_once_share_the_work(new_outbox: NewOutbox) -> None:
    outbox = new_outbox()
    outbox.append([item(str(n)) for n in range(1_700)], NOW)  # more than are numbered at once
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: new_outbox().take(), range(4)))
    assert sum(taken) == 1_700
    found = [event.decoded()["job"]["name"] for event in outbox.events(0, 2_000)]
    assert found == [str(n) for n in range(1_700)]


def test_what_is_unsettled_beside_a_shipper_is_not_forgotten(new_outbox: NewOutbox) -> None:
    outbox, count = new_outbox(), 40
    outbox.append([item(str(n)) for n in range(count)], NOW)
    outbox.take()
    stop = threading.Event()

    def ship() -> None:
        own = new_outbox()
        while not stop.is_set():
            for event in own.undelivered("marquez", 7):
                own.settle([Delivery("marquez", event.seq, DeliveryState.DELIVERED, NOW)])

    with ThreadPoolExecutor(3) as pool:
        shippers = [pool.submit(ship) for _ in range(2)]
        try:
            for n in range(150):
                outbox.unsettle("marquez", [1 + n % count, 1 + (7 * n) % count])
                # Whatever the shippers do meanwhile: each event is settled, or waits.
                settled = {one.seq for one in outbox.deliveries("marquez")}
                waiting = {event.seq for event in outbox.undelivered("marquez", count)}
                again = {one.seq for one in outbox.deliveries("marquez")}
                assert settled | waiting | again == set(range(1, count + 1))
        finally:
            stop.set()
        for shipper in shippers:
            shipper.result(60)
    ship_rest = outbox.undelivered("marquez", count)
    outbox.settle([Delivery("marquez", e.seq, DeliveryState.DELIVERED, NOW) for e in ship_rest])
    backlog = outbox.backlog("marquez")
    assert (backlog.waiting, backlog.delivered) == (0, count)


@pytest.fixture
def held(new_outbox: NewOutbox) -> Iterator[tuple[int, int]]:
    """Ids of a process that holds the right to ship, and of a child that it has forked since."""
    inward, outward = os.pipe()

    def hold() -> None:
        with new_outbox().shipping("marquez") as mine:
            assert mine
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            os.write(outward, f"{child}\n".encode())
            time.sleep(60)

    holder = start(hold)
    os.close(outward)
    with os.fdopen(inward) as said:
        child = int(said.readline())
    yield holder.pid, child
    for pid in (holder.pid, child):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    holder.join(10)


def test_who_dies_ships_no_more_whatever_children_live_on(
    new_outbox: NewOutbox, held: tuple[int, int]
) -> None:
    holder, child = held
    outbox = new_outbox()
    with outbox.shipping("marquez") as mine:
        assert not mine
    os.kill(holder, signal.SIGKILL)
    deadline, is_mine = time.monotonic() + 10, False
    while not is_mine and time.monotonic() < deadline:
        with outbox.shipping("marquez") as is_mine:
            pass
    assert is_mine
    os.kill(child, 0)  # lives on


def test_a_child_frees_nothing_and_closes_no_file_of_its_own(new_outbox: NewOutbox) -> None:
    right = new_outbox().shipping("marquez")
    assert right.__enter__()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = [os.open(os.devnull, os.O_RDONLY) for _ in range(200)]
            right.__exit__(None, None, None)
            code = len([os.fstat(descriptor) for descriptor in own]) - 200
        finally:
            os._exit(code)
    assert os.waitpid(child, 0) == (child, 0)
    with new_outbox().shipping("marquez") as theirs:
        assert not theirs
    right.__exit__(None, None, None)
    with new_outbox().shipping("marquez") as theirs:
        assert theirs
