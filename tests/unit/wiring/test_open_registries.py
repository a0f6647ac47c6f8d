from __future__ import annotations

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.wiring.platforms import open_platform, platform_terms
from airflow_mlgov.wiring.registries import open_registry


@pytest.mark.parametrize(
    ("uri", "namespace"),
    [
        ("mlflow://mlflow.bank.example:5000", "mlflow://mlflow.bank.example:5000"),
        ("mlflow://mlflow.bank.example:8443/https", "mlflow://mlflow.bank.example:8443"),
        ("mlflow://user:word@mlflow.bank.example:5000", "mlflow://mlflow.bank.example:5000"),
        ('{"conn_type": "mlflow", "host": "http://mlflow:5000"}', "mlflow://mlflow:5000"),
        ('{"conn_type": "mlflow", "host": "https://mlflow", "port": 8443}', "mlflow://mlflow:8443"),
        (
            '{"conn_type": "mlflow", "extra": {"tracking_uri": "sqlite:////var/lib/mlflow.db"}}',
            "mlflow://local",
        ),
    ],
)
def test_a_connection_names_a_registry(
    uri: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_TEST", uri)
    assert open_registry("mlflow_test").namespace == namespace


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ('{"conn_type": "mlflow"}', "names no MLflow server"),
        ('{"conn_type": "http", "host": "x"}', "is of type 'http'"),
        ('{"conn_type": "mlflow", "host": "ftp://x"}', "scheme 'ftp'"),
    ],
)
def test_a_connection_that_names_none_is_refused(
    uri: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_TEST", uri)
    with pytest.raises(ConfigurationError, match=says):
        open_registry("mlflow_test")


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(ConfigurationError, match="nor an Airflow connection"):
        open_registry("mlflow_nowhere")


def test_platforms_are_opened_by_name() -> None:
    assert open_platform(platform_terms("local")).name == "local"
    with pytest.raises(ConfigurationError, match=r"no platform 'mars'\. Use one of: local"):
        platform_terms("mars")
