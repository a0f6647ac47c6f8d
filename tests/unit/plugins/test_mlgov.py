"""Airflow imports the plugin in every process; what it hands out is built when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from airflow_mlgov.plugins.mlgov import MlgovPlugin

ROOT = Path(__file__).parents[3]
PROBE = """
import json, sys
import airflow.plugins_manager
before = set(sys.modules)
from airflow_mlgov.plugins.mlgov import MlgovPlugin
plugin = MlgovPlugin()
imported = sorted(set(sys.modules) - before)
plugin.listeners
print(json.dumps([imported, sorted(set(sys.modules) - before)]))
"""


@pytest.fixture(scope="module")
def loaded() -> tuple[list[str], list[str]]:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    imported, listening = json.loads(done.stdout.strip().splitlines()[-1])
    return imported, listening


def test_importing_the_plugin_loads_nothing_but_itself(loaded):
    imported, _ = loaded  # where we are installed, Airflow has read who we are before
    assert set(imported) - {"airflow_mlgov"} == {
        "airflow_mlgov.plugins",
        "airflow_mlgov.plugins.mlgov",
    }


def test_the_listener_is_loaded_on_demand_and_brings_no_web_framework(loaded):
    _, listening = loaded
    assert "airflow_mlgov.listeners.manual_changes" in listening
    tops = {name.partition(".")[0] for name in listening}
    assert not tops & {"fastapi", "starlette", "mlflow", "pandas", "numpy"}
    assert not [name for name in listening if name.startswith("airflow_mlgov.api")]


def test_what_is_built_is_built_once():
    from airflow_mlgov.api.form_refresh import FormRefreshMiddleware
    from airflow_mlgov.api.vote_attestation import VoteAttestationMiddleware
    from airflow_mlgov.enforcement.manual_changes import ManualChangeMiddleware
    from airflow_mlgov.listeners import capture, manual_changes

    plugin = MlgovPlugin()
    assert not {"listeners", "fastapi_apps", "fastapi_root_middlewares"} & set(vars(plugin))
    assert plugin.listeners == [manual_changes, capture]
    assert plugin.listeners is plugin.listeners
    (served,) = plugin.fastapi_apps
    assert (served["url_prefix"], served["app"]) == ("/mlgov", plugin.fastapi_apps[0]["app"])
    refresh, attestation, changes = plugin.fastapi_root_middlewares
    assert refresh["middleware"] is FormRefreshMiddleware
    assert attestation["middleware"] is VoteAttestationMiddleware
    assert changes["middleware"] is ManualChangeMiddleware
    assert len({refresh["name"], attestation["name"], changes["name"]}) == 3


def test_the_pages_are_in_airflows_navigation(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/base/")
    (view,) = MlgovPlugin().external_views
    assert view == {
        "name": "Model governance",
        "href": "https://airflow.example/base/mlgov/",
        "destination": "nav",
        "category": "browse",
    }


def test_airflow_finds_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["airflow.plugins"]["mlgov"]
    assert EntryPoint("mlgov", named, "airflow.plugins").load() is MlgovPlugin
