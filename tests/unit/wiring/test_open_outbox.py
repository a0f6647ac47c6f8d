from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.stores.postgres import PostgresOutbox
from airflow_mlgov.stores.sqlite import SqliteOutbox
from airflow_mlgov.wiring import open_ledger_store, open_outbox, open_spool

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_outbox_stands_in_the_ledger_s_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    monkeypatch.setenv("AIRFLOW__MLGOV__LEDGER_URL", url)
    assert open_ledger_store(url).waiting() == 0
    open_outbox().append([OutboxItem("f" * 64, b"{}")], NOW)
    other = open_outbox(url)
    assert isinstance(other, SqliteOutbox)
    assert other.take() == 1
    assert [file.name for file in tmp_path.glob("*.db")] == ["ledger.db"]
    assert isinstance(open_outbox("postgresql://u:p@db.bank.example/ledger"), PostgresOutbox)


def test_what_no_ledger_can_be_kept_in_holds_no_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'mysql'"):
        open_outbox("mysql://u:p@db/ledger")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(ConfigurationError, match="CeleryExecutor"):
        open_outbox("sqlite:////var/ledger.db")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://a:b@db/airflow")
    with pytest.raises(ConfigurationError, match="metadata database"):
        open_outbox("postgresql://u:p@db/airflow")
    monkeypatch.delenv("AIRFLOW__MLGOV__LEDGER_URL", raising=False)
    with pytest.raises(ConfigurationError, match="ledger_url is missing"):
        open_outbox()


def test_the_spool_is_where_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR", str(tmp_path / "spool"))
    spool = open_spool()
    assert spool is not None
    spool.keep([OutboxItem("f" * 64, b"{}")], NOW)
    assert len(list((tmp_path / "spool").iterdir())) == 1
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR", "spool")
    with pytest.raises(ConfigurationError, match=r"\[mlgov\] lineage_spool_dir"):
        open_spool()


def test_a_user_without_a_home_is_warned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert open_spool() is None
    assert "lineage is lost while the ledger's store is away" in caplog.text
