"""``airflow mlgov db`` on a real server, and on a file."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest

from airflow_mlgov.stores.postgres import PostgresStore


def test_migrate_check_and_grant(airflow, configure, postgres, postgres_database) -> None:
    url = postgres.url(postgres_database)
    configure(ledger_url=url)
    before = airflow("db", "check", "--output", "json")
    assert (before.code, before.json[0]["result"]) == (1, "wrong")
    ended = airflow("db", "migrate")
    assert (ended.code, ended.err) == (0, "The ledger's tables are at revision v0004.\n")
    assert airflow("db", "reindex").code == 0
    after = airflow("db", "check", "--output", "json")
    assert after.code == 0
    assert [row["what"] for row in after.json if row["result"] == "ok"] == [
        "revision",
        "database",
        "fsync",
        "full_page_writes",
        "may write",
        "may sequence",
    ]
    role = f"w_{postgres_database}"
    postgres.execute("postgres", f"CREATE ROLE {role} LOGIN")
    assert airflow("db", "grant", "--writer", role).code == 0
    configure(ledger_url=postgres.url(postgres_database, role))
    rows = {row["what"]: row for row in airflow("db", "check", "--output", "json").json}
    assert rows["may write"]["result"] == "ok"
    assert rows["may sequence"]["detail"] == "no"
    with (
        psycopg.connect(postgres.url(postgres_database, role)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM mlgov.inbox")
    assert PostgresStore(url).waiting() == 0


def test_a_role_without_rights_is_told_what_it_lacks(
    airflow, configure, postgres, postgres_database, postgres_url
) -> None:
    role = f"n_{postgres_database}"
    postgres.execute(postgres_database, f"CREATE ROLE {role} LOGIN")
    postgres.execute(postgres_database, f"GRANT USAGE ON SCHEMA mlgov TO {role}")
    postgres.execute(postgres_database, f"GRANT SELECT ON mlgov.schema_version TO {role}")
    configure(ledger_url=postgres.url(postgres_database, role))
    ended = airflow("db", "check", "--output", "json")
    (row,) = [row for row in ended.json if row["what"] == "may write"]
    assert ended.code == 1
    assert "INSERT on inbox" in row["detail"]
    assert "hunter2" not in ended.out + ended.err


def test_a_server_that_is_not_there(airflow, configure) -> None:
    configure(ledger_url="postgresql://u:hunter2@127.0.0.1:1/ledger")
    for command in ("migrate", "check"):
        ended = airflow("db", command)
        assert ended.code == 1
        assert "nothing listens" in ended.err
        assert "hunter2" not in ended.out + ended.err


def test_a_file(airflow, configure, tmp_path) -> None:
    path = tmp_path / "ledger.db"
    configure(ledger_url=f"sqlite:///{path}")
    assert airflow("db", "check").code == 64
    assert not path.exists()
    assert airflow("db", "migrate").err == "The ledger's tables are at revision user_version 4.\n"
    assert path.exists()
    ended = airflow("db", "check", "--output", "json")
    assert ended.code == 0
    assert [row["what"] for row in ended.json] == ["revision", "file system"]
    assert "made anew" in airflow("db", "reindex").err
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    for command in ("check", "reindex"):
        assert "airflow mlgov db migrate" in airflow("db", command).err
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    assert "newer one" in airflow("db", "migrate").err
    assert "schema version 7" in airflow("db", "check").err
    ended = airflow("db", "grant", "--writer", "w")
    assert (ended.code, "no roles" in ended.err) == (64, True)
