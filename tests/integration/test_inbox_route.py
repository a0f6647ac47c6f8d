"""The inbox in Airflow's own api-server: its users, its auth manager, its tables, a real ledger."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlgov.records.source import Source
from airflow_mlgov.stores.evidence import ObjectEvidenceStore

ROOT = Path(__file__).parents[2]
_SERVICE = ROOT / "tests" / "unit" / "service" / "conftest.py"
_spec = importlib.util.spec_from_file_location("inbox_world", _SERVICE)
service = importlib.util.module_from_spec(_spec)
sys.modules["inbox_world"] = service
_spec.loader.exec_module(service)
world = service.world
least_assurance = pytest.fixture(lambda: "L1")

# SimpleAuthManager lets everybody read every DAG: one that does not is made of it.
SCRIPT = """
import json
from airflow import settings
from airflow.models.base import Base
from airflow.utils.db import import_all_models

import_all_models()
Base.metadata.create_all(settings.engine)

from airflow.api_fastapi.app import create_app, get_auth_manager
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi.testclient import TestClient

allowed = SimpleAuthManager.is_authorized_dag


def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
    if details is not None and details.id == "other_dag" and user.get_id() != "victor":
        return False
    return allowed(self, method=method, user=user, access_entity=access_entity, details=details)


SimpleAuthManager.is_authorized_dag = is_authorized_dag
client = TestClient(create_app(apps="core"))
answers = {}
for name in ("victor", "olivia", ""):
    headers = {}
    if name:
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role="USER"))
        headers = {"Authorization": f"Bearer {token}"}
    answer = client.get("/mlgov/api/inbox", headers=headers)
    answers[name] = [answer.status_code, answer.json()]
say(answers)
"""


@pytest.fixture
def answers(ask_airflow, world, tmp_path):
    world.gov = replace(world.gov, evidence=ObjectEvidenceStore(f"file://{tmp_path}/evidence"))
    world.validate_data()
    world.train()
    world.validate_model()
    world.ask()
    world.ask(version=world.version, source=Source("other_dag", "run-2", "gate", -1, 1))
    (tmp_path / "airflow").mkdir()
    env = {
        "AIRFLOW__API__BASE_URL": "https://airflow.example.com",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "victor:user,olivia:user",
        "AIRFLOW__MLGOV__LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
        "AIRFLOW__MLGOV__EVIDENCE_URL": f"file://{tmp_path}/evidence",
        "AIRFLOW__MLGOV__KEYS_DIR": str(tmp_path / "keys"),
    }
    return ask_airflow(SCRIPT, tmp_path / "airflow", env)


def test_each_sees_what_waits_in_the_dags_that_airflow_lets_them_read(answers):
    status, said = answers["victor"]
    assert status == 200
    assert [asked["dag_run"] for asked in said["requests"]] == [
        "retail_pd run-1",
        "other_dag run-2",
    ]
    assert [asked["waits_for_you"] for asked in said["requests"]] == [True, True]
    assert said["hidden"] == 0
    assert said["requests"][0]["answer_at"] == (
        "https://airflow.example.com/dags/retail_pd/runs/run-1/tasks/gate/required_actions"
    )
    status, said = answers["olivia"]
    assert (status, said["user"], said["hidden"]) == (200, "olivia", 1)
    assert [asked["dag_run"] for asked in said["requests"]] == ["retail_pd run-1"]
    assert answers[""] == [401, {"detail": "Not authenticated"}]
