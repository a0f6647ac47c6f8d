from __future__ import annotations

import socket

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.hooks.mlflow import MlflowHook
from airflow_mlgov.provider import get_provider_info
from airflow_mlgov.registries.mlflow import MlflowRegistry


def test_airflow_is_told_of_the_connection_type() -> None:
    (declared,) = (
        entry
        for entry in get_provider_info()["connection-types"]
        if entry["connection-type"] == MlflowHook.conn_type
    )
    assert declared["hook-class-name"] == f"{MlflowHook.__module__}.{MlflowHook.__name__}"
    assert declared["hook-name"] == MlflowHook.hook_name


def test_the_hook_gives_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "mlflow://mlflow:5000")
    assert isinstance(MlflowHook().get_conn(), MlflowRegistry)


def test_an_unreachable_server_fails_the_test_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", f"mlflow://u:hidden-word@127.0.0.1:{port}")
    answered, message = MlflowHook().test_connection()
    assert not answered
    assert "cannot be reached" in message
    assert "hidden-word" not in message


def test_a_malformed_connection_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow"}')
    with pytest.raises(ConfigurationError, match="names no MLflow server"):
        MlflowHook().get_conn()
    assert MlflowHook().test_connection()[0] is False
