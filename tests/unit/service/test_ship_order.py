"""The order of events for a target that takes the last arrival for the truth."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from lineage_events import event, run_of

from airflow_mlgov.errors import LineageRefusedError
from airflow_mlgov.service.outbox import OutboxEvent, OutboxItem
from airflow_mlgov.service.ship_order import Parcel, causal_order
from airflow_mlgov.service.ship_runs import plan_run


def parcel(seq: int, said: dict) -> Parcel:
    item = OutboxItem.of(said)
    return Parcel.of(OutboxEvent(seq, item.key, item.event, datetime(2026, 11, 23, tzinfo=UTC)))


def parcels(*said: dict) -> list[Parcel]:
    return [parcel(seq, each) for seq, each in enumerate(said, 1)]


def shown(order) -> list[str]:
    return [f"{p.event['job']['name']}.{p.kind}" for p in order.parcels]


def begun_of(found: list[Parcel]) -> dict[str, datetime]:
    return {p.run_id: min(q.at for q in found if q.run_id == p.run_id) for p in found}


def order_of(*said: dict, written: tuple[str, ...] = ()) -> list[str]:
    found = parcels(*said)
    return shown(causal_order(found, begun_of(found), lambda dataset: dataset[1] in written))


def test_what_came_in_causal_order_stays_as_it_came() -> None:
    said = [*run_of("a", 0, writes=["x"]), *run_of("b", 1, reads=["x"])]
    assert order_of(*said) == ["a.START", "a.COMPLETE", "b.START", "b.COMPLETE"]


def test_a_reader_waits_for_the_end_of_the_run_that_writes() -> None:
    said = [*run_of("b", 1, reads=["x"]), *run_of("a", 0, writes=["x"])]
    assert order_of(*said) == ["a.START", "a.COMPLETE", "b.START", "b.COMPLETE"]


def test_a_start_goes_before_its_end_however_they_came() -> None:
    start, end = run_of("a", 0)
    assert order_of(end, start) == ["a.START", "a.COMPLETE"]


def test_a_chain_in_any_order_of_arrival_comes_out_as_a_chain() -> None:
    jobs = [f"job{number:03}" for number in range(120)]
    said = [
        each
        for number, job in enumerate(jobs)
        for each in run_of(job, number, reads=[f"d{number}"], writes=[f"d{number + 1}"])
    ]
    wanted = [f"{job}.{kind}" for job in jobs for kind in ("START", "COMPLETE")]
    for seed in range(5):
        random.Random(seed).shuffle(said)
        assert order_of(*said, written=("d0",)) == wanted


def test_each_reader_of_a_table_comes_between_the_writers_it_stood_between() -> None:
    said = [
        *run_of("write1", 0, writes=["t"]),
        *run_of("write2", 2, writes=["t"]),
        *run_of("read1", 1, reads=["t"]),
        *run_of("read2", 3, reads=["t"]),
    ]
    wanted = [f"{job}.COMPLETE" for job in ("write1", "read1", "write2", "read2")]
    for seed in range(8):
        random.Random(seed).shuffle(said)
        found = order_of(*said)
        assert [each for each in found if each.endswith("COMPLETE")] == wanted


def test_writers_of_a_table_come_in_the_order_of_their_times() -> None:
    said = [
        *run_of("read", 5, reads=["t"]),
        *run_of("write2", 2, writes=["t"]),
        *run_of("write1", 0, writes=["t"]),
    ]
    found = [each for each in order_of(*said) if each.endswith("COMPLETE")]
    assert found == ["write1.COMPLETE", "write2.COMPLETE", "read.COMPLETE"]


def test_a_run_that_is_under_way_keeps_the_next_version_away_until_its_end() -> None:
    """Read at the start, written by another in between: both its events see the first version."""
    long_start, long_end = (
        event("long", "START", 1, reads=["t"]),
        event("long", "COMPLETE", 9, reads=["t"]),
    )
    said = [long_start, *run_of("write2", 2, writes=["t"]), long_end]
    assert order_of(*said, written=("t",)) == [
        "long.START",
        "write2.START",
        "long.COMPLETE",
        "write2.COMPLETE",
    ]


def test_a_reader_whose_clock_is_ahead_of_its_only_writers_waits_all_the_same() -> None:
    said = [*run_of("b", 0, reads=["x"]), *run_of("a", 5, writes=["x"])]
    assert order_of(*said)[:2] == ["a.START", "a.COMPLETE"]


def test_a_run_that_reads_what_it_writes_does_not_wait_for_itself() -> None:
    assert order_of(*run_of("a", 0, reads=["x"], writes=["x"])) == ["a.START", "a.COMPLETE"]


def test_a_circle_is_opened_where_the_first_came_in() -> None:
    said = [
        *run_of("a", 0, reads=["y"], writes=["x"]),
        *run_of("b", 1, reads=["x"], writes=["y"]),
    ]
    assert order_of(*said) == ["a.START", "a.COMPLETE", "b.START", "b.COMPLETE"]
    found = parcels(*said)
    order = causal_order(found, begun_of(found), lambda _: False)
    assert order.after[2] == {1}  # the end still waits for its start


def test_an_end_never_goes_before_its_start_even_to_open_a_circle() -> None:
    start, end = run_of("a", 0, reads=["y"], writes=["x"])
    said = [end, start, *run_of("b", 1, reads=["x"], writes=["y"])]
    assert order_of(*said) == ["a.START", "a.COMPLETE", "b.START", "b.COMPLETE"]


def test_a_circle_with_much_behind_it_cuts_nothing_but_the_circle() -> None:
    said = [
        *run_of("late", 9, reads=["z"]),
        *run_of("a", 0, reads=["y"], writes=["x"]),
        *run_of("b", 1, reads=["x"], writes=["y"]),
        *run_of("c", 2, reads=["y"], writes=["z"]),
    ]
    assert [each for each in order_of(*said) if each.endswith("COMPLETE")] == [
        f"{job}.COMPLETE" for job in ("a", "b", "c", "late")
    ]


@pytest.mark.parametrize(
    "said",
    [
        {},
        [],
        "x",
        {"run": {"runId": "r"}, "eventType": "START", "eventTime": "yesterday"},
        {"run": {"runId": 7}, "eventType": "START", "eventTime": "2026-11-23T03:00:00Z"},
        event("a", "START", 0, inputs=[{"name": "x"}]),
        event("a", "START", 0, outputs=3),
    ],
)
def test_what_is_no_event_is_refused(said) -> None:
    import json

    kept = OutboxEvent(1, "k", json.dumps(said).encode(), datetime.now(UTC))
    with pytest.raises(LineageRefusedError):
        Parcel.of(kept)
    with pytest.raises(LineageRefusedError):
        Parcel.of(OutboxEvent(1, "k", b"{", datetime.now(UTC)))


def planned(stored: list[dict], waiting: list[dict]) -> tuple[list[str], list[str]]:
    plan = plan_run(parcels(*stored), [parcel(seq, each) for seq, each in enumerate(waiting, 50)])
    return [p.kind for p in plan.to_send], [p.kind for p, _ in plan.folded]


START, END = run_of("a", 1)


@pytest.mark.parametrize(
    ("stored", "waiting", "sent", "folded"),
    [
        ([], [START, END], ["START", "COMPLETE"], []),
        ([], [END, START], ["START", "COMPLETE"], []),
        ([START], [event("a", "START", 4000)], [], ["START"]),
        ([START], [event("a", "RUNNING", 2), END], ["COMPLETE"], ["RUNNING"]),
        ([], [event("a", "RUNNING", 2)], [], ["RUNNING"]),
        ([START, END], [event("a", "FAIL", 0.5)], [], ["FAIL"]),
        ([END], [START], [], ["START"]),
        ([], [START, END, event("a", "FAIL", 0.5)], ["START", "COMPLETE"], ["FAIL"]),
        ([], [START, END, event("a", "FAIL", 5)], ["START", "FAIL"], ["COMPLETE"]),
    ],
)
def test_one_start_and_one_end_of_a_run_go(stored, waiting, sent, folded) -> None:
    assert planned(stored, waiting) == (sent, folded)


def test_of_two_starts_that_wait_the_earlier_goes() -> None:
    late, early = event("a", "START", 4000), event("a", "START", 1)
    plan = plan_run([], parcels(late, early))
    assert [p.seq for p in plan.to_send] == [2]
    assert plan.begun_at == plan.to_send[0].at
    assert "beginning" in plan.folded[0][1]
