"""Where the ledger may be kept, and where not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.stores.postgres import PostgresStore
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.wiring.ledger_store import open_ledger_store

METADATA = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
EXECUTOR = "AIRFLOW__CORE__EXECUTOR"


def test_a_postgresql_url_names_a_database_and_opens_nothing_yet() -> None:
    for scheme in ("postgresql", "postgres"):
        url = f"{scheme}://u:p@db.bank.example/ledger"
        assert isinstance(open_ledger_store(url), PostgresStore)


@pytest.mark.parametrize(
    ("airflows", "ledger"),
    [
        ("postgresql+psycopg2://a:b@db/airflow", "postgresql://u:hunter2@db/airflow"),
        ("postgresql://a:b@DB:5432/airflow", "postgresql://u:hunter2@db/airflow?sslmode=require"),
        (
            "postgresql+asyncpg://a:b@localhost/airflow",
            "postgres://u:hunter2@127.0.0.1:5432/airflow",
        ),
        ("postgresql:///airflow?host=/run/postgresql", "postgresql://u:hunter2@localhost/airflow"),
        ("postgresql://a@db/air%66low", "postgresql://u:hunter2@/airflow?host=db&port=5432"),
    ],
)
def test_airflow_s_own_database_is_refused(
    airflows: str, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(METADATA, airflows)
    with pytest.raises(ConfigurationError, match="metadata database") as caught:
        open_ledger_store(ledger)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "airflows",
    [
        "postgresql://a:b@db/other",
        "postgresql://a:b@db:5433/airflow",
        "postgresql://a:b@db2/airflow",
        "mysql://a:b@db/airflow",
        "airflow-db-not-allowed:///",
        "postgresql://a:b@db:port/airflow",
    ],
)
def test_another_database_is_taken(airflows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(METADATA, airflows)
    assert isinstance(open_ledger_store("postgresql://u:p@db/airflow"), PostgresStore)


@pytest.mark.parametrize(
    ("executor", "named"),
    [
        ("CeleryExecutor", "CeleryExecutor"),
        ("LocalExecutor,KubernetesExecutor", "KubernetesExecutor"),
        (
            "airflow.providers.edge3.executors.EdgeExecutor",
            "EdgeExecutor",
        ),
        ("LocalExecutor, my.own.Remote:LocalExecutor", "Remote"),
        ("LocalExecutor;team_a=CeleryExecutor", "CeleryExecutor"),
    ],
)
def test_a_file_is_refused_to_executors_of_many_hosts(
    executor: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXECUTOR, executor)
    with pytest.raises(ConfigurationError, match=f"executor is {named},") as caught:
        open_ledger_store(f"sqlite:///{tmp_path}/l.db")
    assert "PostgreSQL" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "executor",
    ["LocalExecutor", "airflow.executors.local_executor.LocalExecutor:Mine", "SequentialExecutor"],
)
def test_a_file_is_for_executors_of_one_host(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXECUTOR, executor)
    assert isinstance(open_ledger_store(f"sqlite:///{tmp_path}/l.db"), SqliteStore)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("airflow_mlgov.stores.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("airflow_mlgov.stores.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match="psycopg") as caught:
        open_ledger_store("postgresql://u:p@db/ledger")
    assert "airflow-mlgov[postgres]" in caught.value.remedy
