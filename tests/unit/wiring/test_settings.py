from __future__ import annotations

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.wiring import Settings, setting, settings

NAMES = ("ledger_url", "evidence_url", "inventory_path", "policy_path", "keys_dir")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"AIRFLOW__MLGOV__{name.upper()}", f" /srv/{name} ")


@pytest.mark.usefixtures("configured")
def test_all_settings_are_read_and_stripped() -> None:
    assert settings() == Settings(**{name: f"/srv/{name}" for name in NAMES})


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("name", NAMES)
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
        settings()
    assert f"[mlgov] {name} is missing" in str(caught.value)
    assert variable in str(caught.value)
    assert "airflow.cfg" in str(caught.value)
    assert not caught.value.retryable


def test_settings_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("/srv/one", "/srv/two"):
        monkeypatch.setenv("AIRFLOW__MLGOV__KEYS_DIR", value)
        assert setting("keys_dir") == value
