from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.sequencer import Pace
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.wiring import (
    open_governance,
    open_ledger,
    open_ledger_store,
    open_seen,
    open_sequencer,
)

DAGS = Path(__file__).parents[3] / "dags"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    values = {
        "LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "EVIDENCE_URL": f"file://{tmp_path}/evidence",
        "INVENTORY_PATH": str(DAGS / "inventory"),
        "POLICY_PATH": str(DAGS / "policy"),
        "KEYS_DIR": str(tmp_path / "keys"),
        "SEEN_DIR": str(tmp_path / "seen"),
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


def test_the_ledger_remembers_what_it_showed(configured: Path) -> None:
    open_ledger().drain()
    ledger = open_ledger()
    _ = ledger.origin
    checkpoint = ledger.view().checkpoint
    (file,) = (configured / "seen").glob("*.json")
    assert checkpoint.origin in file.read_text("utf-8")


@pytest.mark.usefixtures("configured")
def test_a_user_without_home_and_setting_is_warned_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__MLGOV__SEEN_DIR", "")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert open_seen() is None
    assert "set back is not noticed" in caplog.text
    ledger = open_ledger()
    _ = ledger.origin
    assert ledger.view().checkpoint.size == 1


@pytest.mark.usefixtures("configured")
def test_a_relative_folder_to_remember_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__MLGOV__SEEN_DIR", "seen")
    with pytest.raises(ConfigurationError, match=r"\[mlgov\] seen_dir"):
        open_ledger()


@pytest.mark.usefixtures("configured")
def test_the_sequencer_holds_the_log_key_only() -> None:
    sequencer = open_sequencer(Pace(heartbeat_s=0), print)
    sequencer.round()
    assert [entry.kind for entry in open_ledger().view().select()] == ["genesis"]
    with pytest.raises(ConfigurationError, match="does not hold the writer key"):
        sequencer._ledger.append(
            EntryDraft("policy.changed", "", None, {"policy_sha256": "sha256:" + "0" * 64}, ("1",))
        )


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
