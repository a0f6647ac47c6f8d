"""The outbox in PostgreSQL: late commits, stopped servers, ended sessions, two real roles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.service.delivery import number_what_came
from airflow_mlgov.service.outbox import Delivery, DeliveryState, OutboxItem
from airflow_mlgov.stores.postgres import PostgresOutbox, schema

NOW = datetime(2026, 1, 2, tzinfo=UTC)
INSERT = "INSERT INTO mlgov.lineage_inbox (key, event, received_at) VALUES (%s, %s, %s)"
AT = "2026-01-02T00:00:00.000Z"


def put(outbox: PostgresOutbox, *names: str) -> None:
    outbox.append([OutboxItem(name, b'"%s"' % name.encode()) for name in names], NOW)


def kept(outbox: PostgresOutbox) -> list[tuple[int, str]]:
    return [(event.seq, event.key) for event in outbox.events(0, 99)]


def delivered(*seqs: int) -> list[Delivery]:
    return [Delivery("marquez", seq, DeliveryState.DELIVERED, NOW) for seq in seqs]


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def outbox(postgres_url: str) -> PostgresOutbox:
    return PostgresOutbox(postgres_url, timeout_s=5)


def test_a_writer_that_commits_after_a_higher_number_is_not_skipped(
    outbox: PostgresOutbox, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as late:
        late.execute(INSERT, ("late", b"{}", AT))
        put(outbox, "early")
        assert outbox.take() == 1
        outbox.settle(delivered(1))
        assert outbox.undelivered("marquez", 9) == []
    assert outbox.take() == 1
    assert kept(outbox) == [(1, "early"), (2, "late")]
    assert [event.key for event in outbox.undelivered("marquez", 9)] == ["late"]


def test_a_commit_in_the_middle_of_numbering_is_not_skipped(
    outbox: PostgresOutbox, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_mlgov.stores.postgres import outbox as module

    late = psycopg.connect(postgres_url)
    late.execute(INSERT, ("late", b"{}", AT))
    put(outbox, *(f"{n}" for n in range(600)))  # more than are numbered at once
    real = module.found_by

    def commit(event: bytes) -> Any:
        late.commit()
        return real(event)

    monkeypatch.setattr(module, "found_by", commit)
    assert outbox.take() == 601
    late.close()
    assert outbox.take() == 0
    assert len({event.key for event in outbox.events(0, 1_000)}) == 601


def test_who_appends_does_not_wait_for_who_numbers(
    outbox: PostgresOutbox, postgres_url: str
) -> None:
    put(outbox, "a")
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM mlgov.lineage_numbering FOR UPDATE")
        put(PostgresOutbox(postgres_url, timeout_s=1), "b")
        with pytest.raises(LedgerUnavailableError, match="lock timeout") as caught:
            PostgresOutbox(postgres_url, timeout_s=1).take()
        assert caught.value.retryable
    assert outbox.take() == 2


def test_an_event_that_is_appended_while_another_numbers_it_is_dropped_later(
    outbox: PostgresOutbox, postgres_url: str
) -> None:
    put(outbox, "a")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_url) as other:
        other.execute("INSERT INTO mlgov.lineage_events VALUES (1, 'a', '', %s, '')", (AT,))
        other.execute("DELETE FROM mlgov.lineage_inbox")
        again = pool.submit(put, outbox, "a")  # waits for the row that is being deleted
        time.sleep(0.3)
        assert not again.done()
        other.commit()
        again.result(10)
    assert outbox.backlog("marquez").waiting == 1  # the numbered one only
    assert outbox.take() == 0
    assert kept(outbox) == [(1, "a")]


def test_what_was_settled_long_ago_is_not_looked_at_again(
    outbox: PostgresOutbox, postgres_url: str
) -> None:
    def floor() -> int:
        with psycopg.connect(postgres_url) as connection:
            row = connection.execute("SELECT settled_to FROM mlgov.lineage_targets").fetchone()
        return int(row[0])

    put(outbox, *"abcde")
    outbox.take()
    outbox.settle(delivered(1, 2, 4))
    assert floor() == 2
    outbox.settle(delivered(3))
    assert floor() == 4
    outbox.unsettle("marquez", [2, 9])
    assert floor() == 1
    outbox.settle(delivered(5, 2))
    assert floor() == 5


def test_a_floor_is_not_raised_over_what_is_unsettled_meanwhile(
    outbox: PostgresOutbox, postgres_url: str
) -> None:
    put(outbox, "a", "b")
    outbox.take()
    outbox.settle(delivered(1))
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_url) as other:
        other.execute("UPDATE mlgov.lineage_targets SET settled_to = 0")
        other.execute("DELETE FROM mlgov.lineage_deliveries")
        settling = pool.submit(outbox.settle, delivered(2))
        time.sleep(0.3)
        assert not settling.done()
        other.commit()
        settling.result(10)
    assert [event.seq for event in outbox.undelivered("marquez", 9)] == [1]


@pytest.fixture
def roles(postgres: Any, postgres_database: str, postgres_url: str) -> Iterator[tuple[str, str]]:
    writer, sequencer = f"w_{postgres_database}", f"s_{postgres_database}"
    postgres.execute(
        postgres_database, f"CREATE ROLE {writer} LOGIN", f"CREATE ROLE {sequencer} LOGIN"
    )
    schema.grant(postgres_url, writer=writer, sequencer=sequencer)
    yield postgres.url(postgres_database, writer), postgres.url(postgres_database, sequencer)
    postgres.execute(
        postgres_database,
        f"DROP OWNED BY {writer}, {sequencer}",
        f"DROP ROLE {writer}, {sequencer}",
    )


TABLES = ("inbox", "events", "datasets", "deliveries", "targets", "numbering")
FORBIDDEN = [
    *(
        f"{action} mlgov.lineage_{table}"
        for table in TABLES
        for action in ("DELETE FROM", "TRUNCATE")
    ),
    "UPDATE mlgov.lineage_inbox SET event = event",
    "UPDATE mlgov.lineage_events SET event = event",
    "UPDATE mlgov.lineage_deliveries SET state = state",
    "UPDATE mlgov.lineage_targets SET settled_to = 0",
    "INSERT INTO mlgov.lineage_events VALUES (9, 'x', '', '', '')",
    "INSERT INTO mlgov.lineage_datasets VALUES ('', 9)",
    "INSERT INTO mlgov.lineage_deliveries VALUES ('marquez', 1, 'delivered', '', '')",
    "INSERT INTO mlgov.lineage_targets VALUES ('marquez', 9)",
    "SELECT * FROM mlgov.lineage_numbering FOR UPDATE",  # or a writer could hold up all numbering
    "BEGIN; LOCK TABLE mlgov.lineage_inbox IN ACCESS EXCLUSIVE MODE",
]


def test_who_may_not_number_is_told_and_reads_what_others_have_numbered(
    roles: tuple[str, str], outbox: PostgresOutbox
) -> None:
    writer, sequencer = map(PostgresOutbox, roles)
    put(writer, "a")
    assert "may not do this: permission denied" in number_what_came(writer)
    assert number_what_came(sequencer) == ""
    assert kept(writer) == [(1, "a")]


def test_a_writer_can_append_and_read_and_nothing_else(
    roles: tuple[str, str], outbox: PostgresOutbox
) -> None:
    writer = PostgresOutbox(roles[0])
    put(writer, "a", "a")
    put(writer, "a")
    changes: list[Callable[[], object]] = [
        writer.take,
        lambda: writer.settle(delivered(1)),
        lambda: writer.unsettle("marquez", [1]),
    ]
    for change in changes:
        with pytest.raises(ConfigurationError, match="may not"):
            change()
    assert outbox.take() == 1
    outbox.settle(delivered(1))
    put(writer, "a")
    assert kept(writer) == [(1, "a")]
    assert writer.backlog("marquez").delivered == 1
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(roles[0], statement)
    assert (outbox.take(), outbox.backlog("marquez").delivered) == (0, 1)


def test_a_sequencer_can_ship_and_change_no_event(roles: tuple[str, str]) -> None:
    shipper = PostgresOutbox(roles[1])
    put(shipper, "a", "b")
    with shipper.shipping("marquez") as mine:
        assert mine
        assert shipper.take() == 2
        shipper.settle(delivered(1, 2))
        shipper.settle(delivered(2))
    assert shipper.unsettle("marquez", [1]) == 1
    assert [event.seq for event in shipper.undelivered("marquez", 9)] == [1]
    for statement in (
        "UPDATE mlgov.lineage_events SET event = event",
        "DELETE FROM mlgov.lineage_events",
        "DELETE FROM mlgov.lineage_datasets",
        "DELETE FROM mlgov.lineage_numbering",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(roles[1], statement)


def test_what_roles_lack_is_found(roles: tuple[str, str], postgres_url: str) -> None:
    writer, sequencer = (psycopg.conninfo.conninfo_to_dict(url)["user"] for url in roles)
    assert ("may write", True, "yes") in schema.findings(roles[0])
    assert ("may sequence", True, "yes") in schema.findings(roles[1])
    execute(postgres_url, f"REVOKE INSERT ON mlgov.lineage_inbox FROM {writer}")
    assert ("may write", False, "lacks INSERT on lineage_inbox") in schema.findings(roles[0])
    execute(postgres_url, f"REVOKE ALL ON mlgov.lineage_targets FROM {sequencer}")
    assert ("may sequence", True, "no") in schema.findings(roles[1])


def test_a_server_stopped_in_the_middle_loses_nothing(postgres: Any, postgres_url: str) -> None:
    stop = threading.Event()

    def write(writer: int) -> tuple[list[str], int]:
        outbox, acknowledged, refused, number = PostgresOutbox(postgres_url, timeout_s=5), [], 0, 0
        while not stop.is_set():
            key = f"{writer} {number}"
            try:
                put(outbox, key)
                acknowledged.append(key)
                if number % 5 == 0:
                    outbox.take()
                number += 1  # what was refused is tried again, under the same key
            except LedgerUnavailableError:
                refused += 1
                time.sleep(0.02)
        return acknowledged, refused

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(write, n) for n in range(8)]
        try:
            for mode in ("immediate", "fast"):
                time.sleep(0.4)
                postgres.stop(mode)
                time.sleep(0.1)
                postgres.start()
            time.sleep(0.3)
        finally:
            stop.set()
        results = [one.result(60) for one in running]
    assert all(refused for _, refused in results)
    acknowledged = {key for keys, _ in results for key in keys}
    outbox = PostgresOutbox(postgres_url)
    outbox.take()
    events = outbox.events(0, 100_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    found = [event.key for event in events]
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    # An append cut off at its commit may stand without an acknowledgement, one for each writer.
    assert len(set(found) - acknowledged) <= 8


def test_who_loses_the_session_ships_no_more(outbox: PostgresOutbox, postgres_url: str) -> None:
    with outbox.shipping("marquez") as mine:
        assert mine
        execute(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        time.sleep(0.2)
        with PostgresOutbox(postgres_url).shipping("marquez") as theirs:
            assert theirs
    with outbox.shipping("marquez") as mine:  # the end of a dead session was no error
        assert mine


def test_a_server_that_ends_idle_sessions_leaves_who_ships(
    postgres: Any, postgres_database: str, postgres_url: str
) -> None:
    execute(postgres_url, f"ALTER DATABASE {postgres_database} SET idle_session_timeout = '200ms'")
    with PostgresOutbox(postgres_url).shipping("marquez") as mine:
        assert mine
        time.sleep(0.6)
        with PostgresOutbox(postgres_url).shipping("marquez") as theirs:
            assert not theirs


def test_a_server_that_is_away(postgres: Any, postgres_url: str) -> None:
    outbox = PostgresOutbox(postgres_url.replace(f":{postgres.port}/", ":1/"))
    for call in (lambda: put(outbox, "a"), outbox.take, lambda: outbox.backlog("marquez")):
        with pytest.raises(LedgerUnavailableError, match="nothing listens"):
            call()
    with pytest.raises(LedgerUnavailableError, match="listens"), outbox.shipping("marquez"):
        pass


ALTERATIONS = {
    "time": "UPDATE mlgov.lineage_events SET received_at = 'soon'",
    "state": "UPDATE mlgov.lineage_deliveries SET state = 'lost'",
    "time of delivery": "UPDATE mlgov.lineage_deliveries SET at = 'soon'",
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_rows_are_named(outbox: PostgresOutbox, postgres_url: str, name: str) -> None:
    put(outbox, "a")
    outbox.take()
    outbox.settle(delivered(1))
    execute(postgres_url, ALTERATIONS[name])
    with pytest.raises(LedgerIntegrityError, match="altered"):
        (outbox.deliveries("marquez"), outbox.events(0, 9))


def test_a_removed_lock_is_named(outbox: PostgresOutbox, postgres_url: str) -> None:
    put(outbox, "a")
    execute(postgres_url, "DELETE FROM mlgov.lineage_numbering")
    with pytest.raises(LedgerIntegrityError, match="locks was removed"):
        outbox.take()
