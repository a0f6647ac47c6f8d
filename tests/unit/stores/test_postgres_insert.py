"""How an entry gets into PostgreSQL: races held open, commits that fail, one trip, passwords."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import groupby

import psycopg
import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    MlgovError,
)
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.service.ports import InboxItem, Sequenced, TreeHead
from airflow_mlgov.stores.postgres import PostgresOutbox, PostgresStore
from airflow_mlgov.stores.postgres.trip import Statement

NOW = datetime(2026, 1, 2, tzinfo=UTC)
INSERT = "INSERT INTO mlgov.inbox (key, leaf, leaf_hash, received_at) VALUES (%s, %s, %s, '')"
SHOWN = {"texts.comment": Disclosure.of("x")}


def integrate(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    note = f"note over {grown.size}".encode()
    return Sequenced(hashes, TreeHead(grown.size, grown.peaks, note))


@pytest.fixture
def server(postgres):
    return postgres


@pytest.fixture
def database(postgres_database: str) -> str:
    return postgres_database


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@pytest.fixture
def store(url: str) -> PostgresStore:
    return PostgresStore(url, timeout_s=5)


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("shown", [{}, SHOWN], ids=["bare", "with disclosures"])
@pytest.mark.attack(16)
def test_threat_16_a_key_is_not_taken_twice_when_a_round_moves_it_meanwhile(
    store: PostgresStore, url: str, shown: dict[str, Disclosure]
) -> None:
    assert store.insert(InboxItem("a", b"leaf a"), shown, NOW) is None
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as other:
        # Somebody else's round has the row deleted but is not over: the insert has to wait for it.
        other.execute("DELETE FROM mlgov.inbox")
        other.execute(
            "INSERT INTO mlgov.entries VALUES (0, 'a', %s, %s, '')",
            (b"leaf a", leaf_hash(b"leaf a")),
        )
        offered = {name: Disclosure.of("y") for name in shown}
        again = pool.submit(store.insert, InboxItem("a", b"other"), offered, NOW)
        wait_for_lock(url)
        assert not again.done()
        other.commit()
        assert again.result(10) == b"leaf a"
    assert store.waiting() == 0
    assert store.disclosures("a") == shown


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.attack(16)
def test_threat_16_a_key_that_another_writer_is_putting_in_is_waited_for(
    store: PostgresStore, url: str, commits: bool
) -> None:
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as other:
        other.execute(INSERT, ("a", b"first", leaf_hash(b"first")))
        second = pool.submit(store.insert, InboxItem("a", b"second"), SHOWN, NOW)
        wait_for_lock(url)
        assert not second.done()
        other.commit() if commits else other.rollback()
        assert second.result(10) == (b"first" if commits else None)
    assert store.get("a") == (b"first" if commits else b"second", None)
    assert store.disclosures("a") == ({} if commits else SHOWN)


class TimedOutError(Exception):
    """What a task's timeout raises, from a signal."""


def test_a_task_s_timeout_ends_the_wait_and_leaves_no_half_read_session(
    store: PostgresStore, url: str
) -> None:
    def time_out(*_: object) -> None:
        raise TimedOutError

    assert store.waiting() == 0  # connects
    before = signal.signal(signal.SIGALRM, time_out)
    try:
        with psycopg.connect(url) as other:
            other.execute(INSERT, ("a", b"first", leaf_hash(b"first")))
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(TimedOutError):
                store.insert(InboxItem("a", b"second"), SHOWN, NOW)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert store.insert(InboxItem("a", b"third"), SHOWN, NOW) == b"first"
    assert store.insert(InboxItem("b", b"leaf b"), SHOWN, NOW) is None


def wait_for_lock(url: str) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    )
    database = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as watch:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if watch.execute(waiting, (database,)).fetchone() == (1,):
                return
            time.sleep(0.01)
    pytest.fail("nobody waits for a lock")


def test_nothing_is_acknowledged_that_could_not_be_committed(
    store: PostgresStore, url: str
) -> None:
    assert store.insert(InboxItem("a", b"leaf a"), {}, NOW) is None
    execute(
        url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'at commit'; END $$",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON mlgov.inbox DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    with pytest.raises(LedgerIntegrityError, match="at commit"):
        store.insert(InboxItem("b", b"leaf b"), SHOWN, NOW)
    execute(url, "DROP TRIGGER late ON mlgov.inbox")
    assert (store.get("b"), store.disclosures("b"), store.waiting()) == (None, {}, 1)
    assert store.insert(InboxItem("b", b"leaf b"), {}, NOW) is None


def test_an_entry_that_stands_there_is_no_error_to_anybody(
    server, store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    offered = (InboxItem("a", b"one"), SHOWN, NOW)
    assert store.insert(*offered) is None
    with store._connections.transaction() as connection:
        session = connection.info.backend_pid
    log = server.folder / "server.log"
    before = log.stat().st_size
    assert store.insert(*offered) == b"one"
    store.sequence(integrate)
    assert store.insert(*offered) == b"one"
    assert store.waiting() == 0
    with store._connections.transaction() as connection:
        assert connection.info.backend_pid == session
    assert b"ERROR" not in log.read_bytes()[before:]
    assert not caplog.records


def test_a_planted_disclosure_lets_no_entry_in(store: PostgresStore, url: str) -> None:
    execute(url, "INSERT INTO mlgov.disclosures VALUES ('a', 'texts.comment', '', '')")
    with pytest.raises(LedgerIntegrityError, match="keeps none"):
        store.insert(InboxItem("a", b"one"), SHOWN, NOW)
    assert store.waiting() == 0
    assert store.insert(InboxItem("b", b"two"), SHOWN, NOW) is None  # as prepared for the first


def test_what_the_line_does_not_take_at_once_is_sent_whole(store: PostgresStore) -> None:
    long = Disclosure.of("x" * 20_000_000)
    assert store.insert(InboxItem("a", b"one"), {"texts.long": long}, NOW) is None
    assert store.disclosures("a") == {"texts.long": long}


class SlowLine:
    """Passes bytes on to a server after a while, and notes in which directions they went."""

    def __init__(self, port: int, calls: int = 1) -> None:
        self.delay_s = 0.0
        self.passed: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        for _ in range(calls):
            threading.Thread(target=self._accept, args=(port,), daemon=True).start()

    def _accept(self, port: int) -> None:
        near, _ = self._server.accept()
        far = socket.create_connection(("127.0.0.1", port))
        for name, source, target in (("there", near, far), ("back", far, near)):
            arguments = (name, source, target)
            threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, name: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self.passed.append(name)
                time.sleep(self.delay_s)
                target.sendall(data)


def test_an_append_is_one_round_trip(server, database: str, url: str) -> None:
    line = SlowLine(server.port)
    far = PostgresStore(url.replace(f":{server.port}/", f":{line.port}/"))
    assert far.waiting() == 0  # connects
    line.delay_s = 0.2
    for key in "ab":  # the first one prepares the statements
        line.passed.clear()
        assert far.insert(InboxItem(key, b"leaf"), SHOWN, NOW) is None
        assert [name for name, _ in groupby(line.passed)] == ["there", "back"]
    far.close()


def test_events_are_one_round_trip_alone_or_with_an_entry(server, url: str) -> None:
    line = SlowLine(server.port, calls=2)
    near = url.replace(f":{server.port}/", f":{line.port}/")
    outbox, store = PostgresOutbox(near), PostgresStore(near)
    assert (outbox.take(), store.waiting()) == (0, 0)  # connects
    line.delay_s = 0.2
    told = [OutboxItem(name, b"{}") for name in "abc"]
    for append in (
        lambda: outbox.append(told, NOW),
        lambda: store.insert(InboxItem("k", b"leaf"), SHOWN, NOW, lineage=told),
    ):
        line.passed.clear()
        append()
        assert [name for name, _ in groupby(line.passed)] == ["there", "back"]
    outbox.close()
    store.close()
    assert PostgresOutbox(url).take() == 3


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_server_s_default_isolation_does_not_matter(
    server, database: str, url: str, level: str
) -> None:
    execute(url, f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
    store = PostgresStore(url)
    with store._connections.transaction() as connection:
        shown = connection.execute("SHOW transaction_isolation")
    assert shown.fetchone() == ("read committed",)
    (answer,) = store._connections.one_trip((Statement(b"", b"SHOW transaction_isolation", ()), ()))
    assert answer.get_value(0, 0) == b"read committed"
    test_threat_16_a_key_is_not_taken_twice_when_a_round_moves_it_meanwhile(store, url, SHOWN)


@pytest.fixture
def with_password(server, database: str):
    """A role that has to give a password."""
    rules, role = server.data / "pg_hba.conf", f"p_{database}"
    before = rules.read_text()
    rules.write_text(f"host all {role} all scram-sha-256\n{before}")
    server.execute(
        database, f"CREATE ROLE {role} LOGIN PASSWORD 'right'", "SELECT pg_reload_conf()"
    )
    yield role
    rules.write_text(before)
    server.execute(database, f"DROP ROLE {role}", "SELECT pg_reload_conf()")


def test_a_password_that_is_wrong_or_missing_is_not_tried_again(
    server, url: str, with_password: str
) -> None:
    wrong = url.replace("owner:", f"{with_password}:")
    deadline = time.monotonic() + 10
    for given, reason in ((wrong, "refused the password"), (wrong.replace(":hunter2", ""), "none")):
        while True:
            with pytest.raises(MlgovError) as caught:
                PostgresStore(given).head()
            # Until the server has read its rules anew, it lets the role in.
            if "may not do this" not in str(caught.value) or time.monotonic() > deadline:
                break
        assert isinstance(caught.value, ConfigurationError)
        assert reason in str(caught.value)
        assert not caught.value.retryable
        assert not {with_password, "hunter2"} & set(str(caught.value).split())
