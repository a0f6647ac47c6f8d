"""MLflow on SQLite, and the registry in a folder that other tests use, keep the same contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from folder_registry import FolderRegistry
from registry_contract import RegistryContract

from airflow_mlgov.registries.mlflow import MlflowRegistry


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


class TestMlflow(RegistryContract):
    @pytest.fixture
    def registry(self, database: Path) -> MlflowRegistry:
        return MlflowRegistry(f"sqlite:///{database}")

    def test_doctor_sees_that_it_answers(self, registry: MlflowRegistry) -> None:
        assert registry.check() == f"MLflow answers at {registry.namespace}."
        assert registry.missing_permissions() == []


class TestFolder(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> FolderRegistry:
        return FolderRegistry(tmp_path / "registry")
