"""The PostgreSQL store: late commits, stopped servers, altered rows, two real roles."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.stores.postgres import PostgresOutbox, PostgresStore, schema

NOW = datetime(2026, 1, 2, tzinfo=UTC)
INSERT = "INSERT INTO mlgov.inbox (key, leaf, leaf_hash, received_at) VALUES (%s, %s, %s, '')"


def integrate(head: TreeHead, items: Sequence[InboxItem]) -> Sequenced:
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    return Sequenced(hashes, TreeHead(grown.size, grown.peaks, f"note over {grown.size}".encode()))


def put(store: PostgresStore, *names: str) -> None:
    for name in names:
        assert store.insert(InboxItem(name, f"leaf {name}".encode()), {}, NOW) is None


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


@pytest.mark.attack(19)
def test_threat_19_a_writer_that_commits_after_a_higher_number_is_not_skipped(
    store: PostgresStore, url: str
) -> None:
    with psycopg.connect(url) as late:
        late.execute(INSERT, ("late", b"leaf late", leaf_hash(b"leaf late")))
        put(store, "early")
        assert store.sequence(integrate).size == 1
        assert store.get("late") is None
    assert store.sequence(integrate).size == 2
    assert list(store.leaves(0, 2)) == [b"leaf early", b"leaf late"]


@pytest.mark.parametrize(
    ("given", "used"),
    [("off", "on"), ("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")],
)
def test_what_is_acknowledged_is_on_disk(database: str, url: str, given: str, used: str) -> None:
    execute(url, f"ALTER DATABASE {database} SET synchronous_commit = '{given}'")
    with PostgresStore(url)._connections.transaction() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == (used,)


def test_two_rounds_wait_for_each_other(store: PostgresStore, url: str) -> None:
    put(store, "a")
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM mlgov.sequencing FOR UPDATE")
        with pytest.raises(LedgerUnavailableError, match="lock timeout") as caught:
            PostgresStore(url, timeout_s=1).sequence(integrate)
        assert caught.value.retryable
        put(store, "b")  # writers need not wait
    assert store.sequence(integrate).size == 2


@pytest.mark.attack(22)
def test_threat_22_a_server_stopped_in_the_middle_loses_nothing(server, url: str) -> None:
    stop = threading.Event()

    def write(writer: int) -> tuple[dict[str, bytes], int]:
        store, kept, refused, number = PostgresStore(url, timeout_s=5), {}, 0, 0
        while not stop.is_set():
            key = f"{writer} {number}"
            leaf = key.encode()
            try:
                kept[key] = store.insert(InboxItem(key, leaf), {}, NOW) or leaf
                if number % 5 == 0:
                    store.sequence(integrate)
                number += 1  # what was refused is tried again, under the same key
            except LedgerUnavailableError:
                refused += 1
                time.sleep(0.02)
        return kept, refused

    with ThreadPoolExecutor(16) as pool:
        running = [pool.submit(write, n) for n in range(16)]
        try:
            for mode in ("immediate", "fast", "immediate"):
                time.sleep(0.5)
                server.stop(mode)
                time.sleep(0.1)
                server.start()
            time.sleep(0.3)
        finally:
            stop.set()
        results = [one.result(60) for one in running]
    assert all(refused for _, refused in results)
    acknowledged = {leaf for kept, _ in results for leaf in kept.values()}
    assert len(acknowledged) > 100
    store = PostgresStore(url)
    size = store.sequence(integrate).size
    leaves = list(store.leaves(0, size))
    assert len(leaves) == len(set(leaves)) == size
    assert acknowledged <= set(leaves)
    # An insert cut off at its commit may stand without an acknowledgement, one for each writer.
    assert len(set(leaves) - acknowledged) <= 16


ALTERATIONS = {
    "leaf": "UPDATE mlgov.entries SET leaf = '\\x00' WHERE seq = 1",
    "leaf hash": "UPDATE mlgov.entries SET leaf_hash = '\\x00' WHERE seq = 1",
    "removed": "DELETE FROM mlgov.entries WHERE seq = 1",
    "renumbered": "UPDATE mlgov.entries SET seq = 9 WHERE seq = 1",
}


@pytest.mark.attack(1, 4, 14)
@pytest.mark.parametrize("name", ALTERATIONS)
def test_threats_1_2_4_14_altered_rows(store: PostgresStore, url: str, name: str) -> None:
    put(store, "a", "b", "c")
    store.sequence(integrate)
    execute(url, ALTERATIONS[name])
    with pytest.raises(LedgerIntegrityError):
        list(store.leaves(0, 3))


@pytest.mark.attack(14)
@pytest.mark.parametrize("change", ["leaf = '\\x00'", "leaf_hash = '\\x00'"])
def test_threat_14_what_changed_in_the_inbox_is_not_sequenced(
    store: PostgresStore, url: str, change: str
) -> None:
    put(store, "a", "b")
    execute(url, f"UPDATE mlgov.inbox SET {change} WHERE key = 'b'")
    for call in (
        lambda: store.sequence(integrate),
        lambda: store.get("b"),
        lambda: store.insert(InboxItem("b", b"leaf b"), {}, NOW),
    ):
        with pytest.raises(LedgerIntegrityError, match="leaf hash"):
            call()
    assert (store.head().size, store.waiting()) == (0, 2)


def test_threat_16_two_entries_with_one_number_cannot_be(store: PostgresStore, url: str) -> None:
    put(store, "a")
    store.sequence(integrate)
    execute(url, "INSERT INTO mlgov.entries VALUES (1, 'planted', '', '', '')")
    put(store, "b")
    with pytest.raises(LedgerIntegrityError, match="unique constraint"):
        store.sequence(integrate)
    assert store.head().size == 1


def test_malformed_disclosures_and_a_removed_lock(store: PostgresStore, url: str) -> None:
    store.insert(InboxItem("a", b"one"), {"texts.comment": Disclosure.of("x")}, NOW)
    execute(url, "UPDATE mlgov.disclosures SET salt = '\\x00'", "DELETE FROM mlgov.sequencing")
    with pytest.raises(LedgerIntegrityError, match="malformed"):
        store.disclosures("a")
    with pytest.raises(LedgerIntegrityError, match="lock"):
        store.sequence(integrate)


@pytest.fixture
def roles(server, database: str, url: str):
    writer, sequencer = f"w_{database}", f"s_{database}"
    server.execute(database, f"CREATE ROLE {writer} LOGIN", f"CREATE ROLE {sequencer} LOGIN")
    schema.grant(url, writer=writer, sequencer=sequencer)
    yield server.url(database, writer), server.url(database, sequencer)
    server.execute(
        database, f"DROP OWNED BY {writer}, {sequencer}", f"DROP ROLE {writer}, {sequencer}"
    )


def bytes_of_disclosures(url: str) -> bytes:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        (data,) = connection.execute(
            "SELECT pg_read_binary_file(pg_relation_filepath('mlgov.disclosures'))"
        ).fetchone() or (b"",)
    return bytes(data)


@pytest.mark.attack(33)
def test_threat_33_erased_bytes_leave_the_table_s_file(store: PostgresStore, url: str) -> None:
    shown = {"people.voter": Disclosure.of({"id": "olivia", "name": "Olivia"})}
    kept = {"texts.comment": Disclosure.of("it stays")}
    store.insert(InboxItem("a", b"one"), shown, NOW)
    store.insert(InboxItem("b", b"two"), kept, NOW)
    salt = shown["people.voter"].salt
    before = bytes_of_disclosures(url)
    assert salt in before
    assert b"Olivia" in before
    assert store.erase([("a", "people.voter")]) == 1
    after = bytes_of_disclosures(url)
    assert salt not in after
    assert b"Olivia" not in after
    assert kept["texts.comment"].salt in after


@pytest.mark.attack(33)
def test_threat_33_only_the_owner_may_erase(roles, url: str) -> None:
    for role in roles:
        PostgresStore(url).insert(InboxItem(role, b"x"), {"texts.a": Disclosure.of("x")}, NOW)
        with pytest.raises(ConfigurationError, match="may not"):
            PostgresStore(role).erase([(role, "texts.a")])
        assert len(PostgresStore(url).disclosures(role)) == 1


FORBIDDEN = [
    *(
        f"{action} mlgov.{table}"
        for table in (
            *("inbox", "entries", "models", "subtrees", "checkpoints", "disclosures"),
            *("anchored", "sequencing"),
        )
        for action in ("DELETE FROM", "TRUNCATE")
    ),
    "UPDATE mlgov.inbox SET leaf = leaf",
    "UPDATE mlgov.entries SET seq = seq",
    "UPDATE mlgov.checkpoints SET note = note",
    "UPDATE mlgov.disclosures SET value = value",
    "UPDATE mlgov.schema_version SET version_num = 'x'",
    "INSERT INTO mlgov.entries VALUES (0, 'x', '', '', '')",
    "INSERT INTO mlgov.models VALUES (0, 'x')",
    "INSERT INTO mlgov.subtrees VALUES (0, '')",
    "UPDATE mlgov.models SET model = 'x'",
    "INSERT INTO mlgov.checkpoints VALUES (0, '', '')",
    "INSERT INTO mlgov.anchored VALUES ('a', 'witness', 1, '', '', '')",
    "UPDATE mlgov.anchored SET at = at",
    "INSERT INTO mlgov.schema_version VALUES ('x')",
    "SELECT * FROM mlgov.sequencing FOR UPDATE",  # or a writer could hold up every round
    "BEGIN; LOCK TABLE mlgov.inbox IN ACCESS EXCLUSIVE MODE",
    "CREATE TABLE mlgov.mine (x int)",
    "DROP TABLE mlgov.inbox",
]


def test_a_writer_can_append_and_read_and_nothing_else(roles, url: str) -> None:
    writer, _ = roles
    store = PostgresStore(writer)
    shown = {"texts.comment": Disclosure.of("x")}
    assert store.insert(InboxItem("a", b"one"), shown, NOW) is None
    assert store.insert(InboxItem("a", b"two"), {}, NOW) == b"one"
    with pytest.raises(ConfigurationError, match="may not"):
        store.sequence(integrate)
    PostgresStore(url).sequence(integrate)
    assert store.insert(InboxItem("a", b"two"), {}, NOW) == b"one"
    assert list(store.leaves(0, 1)) == [b"one"]
    assert store.disclosures("a") == shown
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(writer, statement)
    assert PostgresStore(url).waiting() == 0


def test_a_sequencer_can_sequence_and_change_nothing(roles) -> None:
    _, sequencer = roles
    store = PostgresStore(sequencer)
    put(store, "a")
    assert store.sequence(integrate).size == 1
    anchored = Anchored("w", "witness", 1, b"note", b"line", NOW)
    store.keep_anchored(anchored)
    assert PostgresStore(roles[0]).anchored() == [anchored]
    for statement in (
        "UPDATE mlgov.entries SET seq = seq",
        "DELETE FROM mlgov.checkpoints",
        "DELETE FROM mlgov.anchored",
        "UPDATE mlgov.anchored SET data = data",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(sequencer, statement)


def test_a_grant_takes_what_a_role_had_too_much(server, roles, url: str) -> None:
    writer, _ = roles
    role = psycopg.conninfo.conninfo_to_dict(writer)["user"]
    execute(url, f"GRANT ALL ON ALL TABLES IN SCHEMA mlgov TO {role}")
    schema.grant(url, writer=role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(writer, "DELETE FROM mlgov.entries")


def test_roles_that_are_no_roles_for_this(url: str, roles) -> None:
    with pytest.raises(ConfigurationError, match="no role 'nobody; DROP'"):
        schema.grant(url, writer="nobody; DROP")
    with pytest.raises(ConfigurationError, match="superuser"):
        schema.grant(url, writer="owner")
    writer, _ = roles
    with pytest.raises(ConfigurationError, match="may not"):
        schema.migrate(writer)


def test_tables_that_are_missing_or_of_another_release(server, database: str) -> None:
    url = server.url(database)
    with pytest.raises(ConfigurationError, match="db migrate"):
        PostgresStore(url).head()
    assert ("revision", False, "none; needed: v0004") in schema.findings(url)
    assert schema.migrate(url) == schema.migrate(url) == "v0004"
    assert all(fine for _, fine, _ in schema.findings(url))
    execute(url, "UPDATE mlgov.schema_version SET version_num = 'v9'")
    with pytest.raises(ConfigurationError, match="v9"):
        PostgresStore(url).head()


OUTBOX = "inbox", "events", "datasets", "deliveries", "targets", "numbering"


@pytest.mark.parametrize(
    ("revision", "tables"),
    [
        ("v0002", ["anchored", *(f"lineage_{name}" for name in OUTBOX)]),
        ("v0003", [f"lineage_{name}" for name in OUTBOX]),
    ],
)
def test_tables_of_earlier_releases_get_what_they_lack_and_keep_the_rest(
    server, database: str, revision: str, tables: list[str]
) -> None:
    url = server.url(database)
    schema.migrate(url)
    put(PostgresStore(url), "a")
    execute(
        url,
        *(f"DROP TABLE mlgov.{table}" for table in tables),
        f"UPDATE mlgov.schema_version SET version_num = '{revision}'",
    )
    for refused in (PostgresStore(url).anchored, PostgresOutbox(url).take):
        with pytest.raises(ConfigurationError, match="db migrate"):
            refused()
    assert schema.migrate(url) == "v0004"
    assert PostgresStore(url).anchored() == []
    assert PostgresOutbox(url).take() == 0
    assert PostgresStore(url).waiting() == 1


def test_a_malformed_row_of_an_anchor(store: PostgresStore, url: str) -> None:
    store.keep_anchored(Anchored("w", "witness", 1, b"note", b"line", NOW))
    execute(url, "UPDATE mlgov.anchored SET at = 'soon'")
    with pytest.raises(LedgerIntegrityError, match="malformed"):
        store.anchored()


def test_two_owners_who_migrate_at_once(server, database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(schema.migrate, [server.url(database)] * 4)) == {"v0004"}
    assert PostgresStore(server.url(database)).waiting() == 0


def test_airflow_s_own_database_is_refused_by_what_is_in_it(server, database: str) -> None:
    url = server.url(database)
    execute(url, "CREATE TABLE dag_run (x int)", "CREATE TABLE task_instance (x int)")
    with pytest.raises(ConfigurationError, match="metadata database"):
        schema.migrate(url)
    assert ("database", False) in [found[:2] for found in schema.findings(url)]


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_acknowledged_is_found(server, url: str, name: str) -> None:
    server.execute("postgres", f"ALTER SYSTEM SET {name} = off", "SELECT pg_reload_conf()")
    try:
        deadline = time.monotonic() + 10
        while all(fine for _, fine, _ in schema.findings(url)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [found[0] for found in schema.findings(url) if not found[1]] == [name]
    finally:
        server.execute("postgres", f"ALTER SYSTEM RESET {name}", "SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@/",
        "postgresql://u:hunter2",
        "postgresql://u:hunter2%zz@h/d",
        "postgresql://u:x@h:hunter2/d",
        "postgresql://u:hunter2@h/d?nonsense=1",
        "host=h password=hunter2 dbname=d",
    ],
)
def test_a_url_that_cannot_be_used_is_never_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresStore(url)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:p@127.0.0.1:1/d", "nothing listens"),
        ("postgresql://u:p@/d?host=/nowhere", "nothing listens"),
        ("postgresql://u:p@x@hunter2.invalid/d", "cannot be reached"),
    ],
)
def test_a_server_that_cannot_be_reached_is_named_by_the_reason_only(url: str, reason: str) -> None:
    with pytest.raises(LedgerUnavailableError, match=reason) as caught:
        PostgresStore(url, timeout_s=2).head()
    assert caught.value.__suppress_context__
    assert "hunter2" not in str(caught.value)


def test_a_database_that_is_not_there(server) -> None:
    with pytest.raises(LedgerUnavailableError, match="no such database"):
        PostgresStore(server.url("none")).head()
