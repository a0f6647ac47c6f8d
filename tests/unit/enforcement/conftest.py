"""An inventory folder that the settings name, and DAGs that are judged against it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.sdk import DAG

from airflow_mlgov.enforcement.cluster_policy import dag_policy
from airflow_mlgov.policy.inventory_folder import folder_at

ASSET = Path(__file__).parents[3] / "dags" / "inventory" / "retail_pd.yaml"


class Inventory:
    """The folder; a file that is written is seen at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str = "retail_pd", mode: str = "enforce", more: str = "") -> Path:
        text = ASSET.read_text("utf-8").replace("mode: enforce", f"mode: {mode}")
        assert f"mode: {mode}" in text
        file = self.path / f"{name}.yaml"
        file.write_text(text.replace("retail_pd", name) + more, "utf-8")
        folder_at.cache_clear()
        return file


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    path = tmp_path / "inventory"
    path.mkdir()
    monkeypatch.setenv("AIRFLOW__MLGOV__INVENTORY_PATH", str(path))
    folder_at.cache_clear()
    return Inventory(path)


def build_dag(build: Callable[[], Any], dag_id: str = "d") -> DAG:
    """Return a DAG as its file leaves it to Airflow."""
    with DAG(dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        build()
    return dag


def violation(build: Callable[[], Any], dag_id: str = "d") -> str:
    """Return why a DAG is refused; empty if it is not."""
    try:
        dag_policy(build_dag(build, dag_id))
    except AirflowClusterPolicyViolation as refused:
        return str(refused)
    return ""


@pytest.fixture(name="build_dag")
def _build_dag() -> Callable[..., DAG]:
    return build_dag


@pytest.fixture(name="check")
def _check() -> Callable[..., str]:
    return violation
