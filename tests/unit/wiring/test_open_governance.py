from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.wiring import open_governance, open_ledger, open_ledger_store

DAGS = Path(__file__).parents[3] / "dags"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    values = {
        "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "EVIDENCE_URL": f"file://{tmp_path}/evidence",
        "INVENTORY_PATH": str(DAGS / "inventory"),
        "POLICY_PATH": str(DAGS / "policy"),
        "KEYS_DIR": str(tmp_path / "keys"),
    }
    for name, value in values.items():
        monkeypatch.setenv(f"AIRFLOW__MLGOV__{name}", value)
    return tmp_path


def test_the_settings_are_what_is_opened(configured: Path) -> None:
    gov = open_governance()
    assert gov.pack_for(gov.model("retail_pd")).id == "retail_credit"
    digest = gov.evidence.put(b"{}")
    (kept,) = [file for file in (configured / "evidence").rglob("*") if file.is_file()]
    assert kept.read_bytes() == b"{}"
    assert gov.evidence.get(digest) == b"{}"
    assert gov.ledger.origin.startswith("airflow-mlgov/")
    assert (configured / "ledger.db").is_file()
    assert (configured / "keys").is_dir()


@pytest.mark.parametrize("name", ["ledger_url", "keys_dir", "inventory_path", "policy_path"])
@pytest.mark.usefixtures("configured")
def test_a_missing_setting_names_section_option_and_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(f"AIRFLOW__MLGOV__{name.upper()}")
    with pytest.raises(ConfigurationError) as caught:
        open_governance()
    assert f"[mlgov] {name} is missing" in str(caught.value)
    assert f"AIRFLOW__MLGOV__{name.upper()}" in str(caught.value)


@pytest.mark.usefixtures("configured")
def test_the_ledger_alone_needs_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INVENTORY_PATH", "POLICY_PATH", "EVIDENCE_URL"):
        monkeypatch.delenv(f"AIRFLOW__MLGOV__{name}")
    assert open_ledger().origin.startswith("airflow-mlgov/")


def test_a_sqlite_url_names_a_file(tmp_path: Path) -> None:
    store = open_ledger_store(f"sqlite:///{tmp_path}/ledger.db")
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "ledger.db"


@pytest.mark.parametrize(
    "url",
    [
        "oracle://auditor:hunter2@db.bank.example/ledger",
        "oracle+driver://auditor:hunter2@db.bank.example/ledger?token=hunter2",
        "auditor:hunter2@db.bank.example",
        "hunter2",
        "hunter2@db.bank.example/ledger",
        "sqlite+hunter2@db.bank.example",
    ],
)
def test_a_url_that_cannot_be_used_is_never_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_ledger_store(url)
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    assert "hunter2" not in shown
    assert "bank.example" not in shown
    assert "[mlgov] ledger_url" in shown
    assert not caught.value.retryable
