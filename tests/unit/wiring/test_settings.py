from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.wiring import setting

NEEDED = ("ledger_url", "evidence_url", "inventory_path", "policy_path", "keys_dir")
NAMES = (*NEEDED, "seen_dir")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"AIRFLOW__MLGOV__{name.upper()}", f" /srv/{name} ")


@pytest.mark.usefixtures("configured")
def test_all_settings_are_read_and_stripped() -> None:
    assert [setting(name) for name in NAMES] == [f"/srv/{name}" for name in NAMES]


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_setting_is_named_with_every_way_to_set_it(
    name: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"AIRFLOW__MLGOV__{name.upper()}"
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        setting(name)
    assert f"[mlgov] {name} is missing" in str(caught.value)
    assert variable in str(caught.value)
    assert "airflow.cfg" in str(caught.value)
    assert not caught.value.retryable


def test_settings_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("/srv/one", "/srv/two"):
        monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", value)
        assert setting("keys_dir") == value


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("value", [None, "", "  "])
def test_where_checkpoints_are_remembered_has_a_default(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__MLGOV__SEEN_DIR")
    if value is not None:
        monkeypatch.setenv("AIRFLOW__MLGOV__SEEN_DIR", value)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert setting("seen_dir") == "/home/ada/.local/state/airflow-mlgov/seen"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # to be ignored, says its specification
    assert setting("seen_dir") == "/home/ada/.local/state/airflow-mlgov/seen"
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert setting("seen_dir") == "/var/state/airflow-mlgov/seen"


def test_where_events_are_kept_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert setting("lineage_spool_dir") == "/var/state/airflow-mlgov/lineage-spool"
    monkeypatch.setenv("AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR", "/srv/spool")
    assert setting("lineage_spool_dir") == "/srv/spool"


def test_a_user_without_a_home_is_told_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("AIRFLOW__MLGOV__SEEN_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigurationError, match="AIRFLOW__MLGOV__SEEN_DIR"):
        setting("seen_dir")
