"""What every outbox promises, asked of each of them.

The outbox in memory is the tests' own; it shows that the suite asks for nothing that only a
database could do, and proves nothing about durability.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.service.outbox import (
    Backlog,
    Delivery,
    DeliveryState,
    Outbox,
    OutboxItem,
)
from airflow_mlgov.stores.postgres import PostgresOutbox
from airflow_mlgov.stores.sqlite import SqliteOutbox

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
DELIVERED, FOLDED, QUARANTINED = DeliveryState

NewOutbox = Callable[[], Outbox]


def event(run: str, kind: str = "START", **more: Any) -> dict[str, Any]:
    """An event of a run, whose name becomes its id."""
    run_id = str(uuid.uuid5(uuid.NAMESPACE_URL, run))
    return {
        "eventType": kind,
        "eventTime": "2026-01-02T03:04:05.678Z",
        "run": {"runId": run_id},
        "job": {"namespace": "n", "name": run},
        **more,
    }


def in_json(value: object) -> bytes:
    return json.dumps(value).encode()


def items(*runs: str) -> list[OutboxItem]:
    return [OutboxItem.of(event(run)) for run in runs]


def names(found: list[Any]) -> list[str]:
    return [one.decoded()["job"]["name"] for one in found]


def numbered(outbox: Outbox, count: int) -> None:
    """Keep and number so many events, named by their numbers."""
    outbox.append(items(*(str(n) for n in range(1, count + 1))), NOW)
    assert outbox.take() == count


def deliver(outbox: Outbox, target: str, *seqs: int, state: DeliveryState = DELIVERED) -> None:
    outbox.settle([Delivery(target, seq, state, NOW) for seq in seqs])


def waiting(outbox: Outbox, target: str, limit: int = 1_000) -> list[int]:
    return [found.seq for found in outbox.undelivered(target, limit)]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def new_outbox(request: pytest.FixtureRequest, tmp_path, new_memory_outbox) -> NewOutbox:
    """Return what opens the same outbox anew, as another process would."""
    if request.param == "memory":
        only = new_memory_outbox()
        return lambda: only
    if request.param == "sqlite":
        return lambda: SqliteOutbox(tmp_path / "ledger.db")
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresOutbox(url)


@pytest.fixture
def outbox(new_outbox: NewOutbox) -> Outbox:
    return new_outbox()


def test_a_fresh_outbox_is_empty(outbox: Outbox) -> None:
    assert outbox.take() == 0
    assert outbox.events(0, 9) == outbox.undelivered("marquez", 9) == []
    assert outbox.of_run("r") == outbox.of_dataset("n", "d") == []
    assert outbox.deliveries("marquez") == []
    assert outbox.unsettle("marquez", [1]) == outbox.unsettle("marquez", []) == 0
    assert outbox.backlog("marquez") == Backlog(0, None, 0, 0, 0)
    outbox.append([], NOW)
    outbox.settle([])
    assert outbox.take() == 0


def test_events_are_numbered_in_the_order_they_came(new_outbox: NewOutbox) -> None:
    outbox = new_outbox()
    outbox.append(items("b", "a"), NOW)
    outbox.append(items("c"), NOW + timedelta(seconds=1))
    assert outbox.events(0, 9) == []
    assert outbox.take() == 3
    outbox.append(items("d"), NOW)
    assert (outbox.take(), outbox.take()) == (1, 0)
    found = new_outbox().events(0, 9)
    assert [one.seq for one in found] == [1, 2, 3, 4]
    assert names(found) == ["b", "a", "c", "d"]
    assert found[2].received_at == NOW + timedelta(seconds=1)
    assert names(outbox.events(1, 2)) == ["a", "c"]
    assert outbox.events(4, 9) == outbox.events(0, 0) == []


def test_more_events_than_are_numbered_at_once(outbox: Outbox) -> None:
    numbered(outbox, 1_100)
    assert names(outbox.events(0, 2_000)) == [str(n) for n in range(1, 1_101)]


def test_an_event_is_kept_as_it_was_given(outbox: Outbox) -> None:
    given = [
        OutboxItem.of(event("ünïcode \u0000 \U0001f600")),
        OutboxItem("f" * 64, b"\x00\xff no JSON at all"),
        OutboxItem.of(event("long", padding="x" * 3_000_000)),
        OutboxItem("e" * 64, b""),
    ]
    outbox.append(given, NOW)
    assert outbox.take() == 4
    assert [OutboxItem(one.key, one.event) for one in outbox.events(0, 9)] == given


def test_a_key_is_kept_once_before_and_after_it_was_numbered(outbox: Outbox) -> None:
    (first,) = items("a")
    other = OutboxItem(first.key, b"{}")
    outbox.append([first, other, *items("b"), first], NOW)
    outbox.append([other], NOW + timedelta(1))
    assert outbox.take() == 2
    outbox.append([other, *items("c"), first], NOW + timedelta(2))
    assert outbox.backlog("marquez").waiting == 3
    assert outbox.take() == 1
    outbox.append([other], NOW)
    assert outbox.take() == 0
    assert names(outbox.events(0, 9)) == ["a", "b", "c"]
    assert outbox.events(0, 1)[0].event == first.event
    assert outbox.events(0, 1)[0].received_at == NOW


def test_events_of_a_run_and_of_a_dataset(outbox: Outbox) -> None:
    x, y = {"namespace": "n", "name": "x"}, {"namespace": "n", "name": "y"}
    long = {"namespace": "s3://" + "b" * 1_000, "name": "é\u0000\ud800" + "k" * 9_000}
    given = [
        event("a", inputs=[x, x], outputs=[y]),
        event("b", inputs=[y]),
        event("a", "COMPLETE", inputs=[x], outputs=[x, long]),
        event("c"),
    ]
    outbox.append([OutboxItem(f"{n:064}", in_json(one)) for n, one in enumerate(given)], NOW)
    assert outbox.of_run(given[0]["run"]["runId"]) == []
    outbox.take()
    assert [one.seq for one in outbox.of_run(given[0]["run"]["runId"])] == [1, 3]
    assert outbox.of_run(str(uuid.uuid4())) == []
    assert [one.seq for one in outbox.of_dataset("n", "x")] == [1, 3]
    assert [one.seq for one in outbox.of_dataset("n", "y")] == [1, 2]
    assert [one.seq for one in outbox.of_dataset(long["namespace"], long["name"])] == [3]
    assert outbox.of_dataset("x", "n") == outbox.of_dataset("n", "") == []
    assert [one.seq for one in outbox.of_dataset("n", "x", written=True)] == [3]
    assert [one.seq for one in outbox.of_dataset("n", "y", written=True)] == [1]
    assert [one.seq for one in outbox.of_dataset("n", "x", limit=1)] == [1]
    assert outbox.of_dataset("n", "x", written=True, limit=0) == []


STRANGE: list[Any] = [
    None,
    [],
    "text",
    {"run": 7, "inputs": 7, "outputs": {}},
    {"run": {"runId": 7}, "inputs": [7, None, {"namespace": 7, "name": "x"}, {"name": "x"}]},
    {"run": {"runId": "\u0000"}, "outputs": [{"namespace": "n", "name": None}]},
    {"run": {"runId": "r" * 100_000}},
    {"run": {"runId": "\ud800"}, "outputs": [{"namespace": "\ud800", "name": "\u0000"}]},
]


def test_what_is_no_event_holds_up_nobody(outbox: Outbox) -> None:
    given = [*map(in_json, STRANGE), b"[" * 100_000, b'{"run": NaN}', b"\xff"]
    outbox.append([OutboxItem(f"{n:064}", one) for n, one in enumerate(given)], NOW)
    outbox.append(items("fine"), NOW)
    assert outbox.take() == len(given) + 1
    assert [one.event for one in outbox.events(0, 99)[:-1]] == given
    assert names(outbox.of_run(event("fine")["run"]["runId"])) == ["fine"]


def test_what_became_of_events_is_kept_for_each_target(new_outbox: NewOutbox) -> None:
    outbox = new_outbox()
    numbered(outbox, 5)
    refused = Delivery("marquez", 2, QUARANTINED, NOW, "Its namespace is arn:…, say what else.")
    folded = Delivery("marquez", 4, FOLDED, NOW + timedelta(1), "a second START")
    sent = Delivery("marquez", 1, DELIVERED, NOW)
    outbox.settle([folded, refused])
    outbox.settle([sent, Delivery("folder", 3, DELIVERED, NOW)])
    other = new_outbox()
    assert other.deliveries("marquez") == [sent, refused, folded]
    assert other.deliveries("marquez", QUARANTINED) == [refused]
    assert other.deliveries("marquez", FOLDED) == [folded]
    assert other.deliveries("marquez", DELIVERED) == [sent]
    assert other.deliveries("marquez", after=1, limit=1) == [refused]
    assert other.deliveries("marquez", FOLDED, after=4) == []
    assert other.deliveries("mar_uez") == other.deliveries("folder", FOLDED) == []
    assert waiting(other, "marquez") == [3, 5]
    assert waiting(other, "folder") == [1, 2, 4, 5]
    assert waiting(other, "new") == [1, 2, 3, 4, 5]
    assert waiting(other, "new", 2) == [1, 2]


def test_what_became_of_an_event_can_change(outbox: Outbox) -> None:
    numbered(outbox, 1)
    deliver(outbox, "marquez", 1, state=QUARANTINED)
    later = Delivery("marquez", 1, DELIVERED, NOW + timedelta(1), "by hand")
    outbox.settle([later])
    assert outbox.deliveries("marquez") == [later]
    first, second = (Delivery("marquez", 1, state, NOW) for state in (DELIVERED, FOLDED))
    outbox.settle([first, second])
    assert outbox.deliveries("marquez") == [second]


def test_a_reason_may_say_anything(outbox: Outbox) -> None:
    numbered(outbox, 1)
    outbox.settle([Delivery("marquez", 1, QUARANTINED, NOW, "500 \0 \ud800 'é'\n" * 9_000)])
    assert outbox.deliveries("marquez")[0].reason == "500 ? ? 'é'\n" * 9_000


def test_an_event_that_is_none_cannot_be_settled(outbox: Outbox) -> None:
    numbered(outbox, 2)
    outbox.append(items("waits"), NOW)
    for seq in (0, -1, 3):
        with pytest.raises(LedgerIntegrityError, match=f"no lineage event {seq} "):
            deliver(outbox, "marquez", 1, seq)
    assert outbox.deliveries("marquez") == []
    assert waiting(outbox, "marquez") == [1, 2]


def test_undelivered_events_with_settled_ones_between(outbox: Outbox) -> None:
    numbered(outbox, 12)
    deliver(outbox, "marquez", 1, 2, 3)
    assert waiting(outbox, "marquez") == list(range(4, 13))
    deliver(outbox, "marquez", 5, 7, 8, 12)
    assert waiting(outbox, "marquez") == [4, 6, 9, 10, 11]
    assert waiting(outbox, "marquez", 3) == [4, 6, 9]
    deliver(outbox, "marquez", 4)
    assert waiting(outbox, "marquez") == [6, 9, 10, 11]
    deliver(outbox, "marquez", 11, 10, 9, 6)
    assert waiting(outbox, "marquez") == []
    outbox.append(items("13"), NOW)
    outbox.take()
    assert waiting(outbox, "marquez") == [13]


def test_events_that_are_unsettled_wait_again(outbox: Outbox) -> None:
    numbered(outbox, 9)
    deliver(outbox, "marquez", *range(1, 10))
    deliver(outbox, "folder", 2, 3)
    assert outbox.unsettle("marquez", [3, 7, 7, 99, 0]) == 2
    assert outbox.unsettle("marquez", [3]) == 0
    assert waiting(outbox, "marquez") == [3, 7]
    assert waiting(outbox, "folder") == [1, *range(4, 10)]
    assert 3 not in [one.seq for one in outbox.deliveries("marquez")]
    deliver(outbox, "marquez", 7)
    assert waiting(outbox, "marquez") == [3]
    deliver(outbox, "marquez", 3)
    assert waiting(outbox, "marquez") == []
    assert outbox.unsettle("marquez", range(1, 10)) == 9
    assert waiting(outbox, "marquez") == list(range(1, 10))


def test_the_figures_of_a_backlog(outbox: Outbox) -> None:
    for n in (4, 1, 3, 2, 5, 6):
        outbox.append(items(str(n)), NOW + timedelta(seconds=n))
    assert outbox.backlog("marquez") == Backlog(6, NOW + timedelta(seconds=1), 0, 0, 0)
    outbox.take()
    assert outbox.backlog("marquez") == Backlog(6, NOW + timedelta(seconds=1), 0, 0, 0)
    deliver(outbox, "marquez", 1, 2)
    deliver(outbox, "marquez", 4, state=FOLDED)
    assert outbox.backlog("marquez") == Backlog(3, NOW + timedelta(seconds=3), 2, 1, 0)
    deliver(outbox, "marquez", 3, 5, 6, state=QUARANTINED)
    assert outbox.backlog("marquez") == Backlog(0, None, 2, 1, 3)
    assert outbox.backlog("folder").waiting == 6
    outbox.append(items("7", "1"), NOW - timedelta(1))
    assert outbox.backlog("marquez") == Backlog(1, NOW - timedelta(1), 2, 1, 3)
    outbox.unsettle("marquez", [2, 6])
    assert outbox.backlog("marquez") == Backlog(3, NOW - timedelta(1), 1, 1, 2)
    outbox.take()
    deliver(outbox, "marquez", 7)
    assert outbox.backlog("marquez") == Backlog(2, NOW + timedelta(seconds=1), 2, 1, 2)


def test_only_one_ships_to_a_target(new_outbox: NewOutbox) -> None:
    first, second = new_outbox(), new_outbox()
    for _ in range(2):
        with first.shipping("marquez") as mine:
            assert mine
            with second.shipping("marquez") as theirs, second.shipping("folder") as other:
                assert (theirs, other) == (False, True)
                with first.shipping("folder") as again:
                    assert not again
            with second.shipping("marquez") as still:
                assert not still
    with pytest.raises(KeyError), first.shipping("marquez"):
        raise KeyError
    with second.shipping("marquez") as free:
        assert free


@pytest.mark.parametrize("name", ["", "a" * 41, "Marquez", "a/b", "..", "a\n", "ä"])
def test_a_target_has_a_plain_name(outbox: Outbox, name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name"), outbox.shipping(name):
        pass
