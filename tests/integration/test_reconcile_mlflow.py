"""An alias that is moved by hand in a real MLflow: found, and put back when asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from airflow_mlgov.registries.mlflow import MANIFEST_TAG, MlflowRegistry
from airflow_mlgov.service.airflow_records import Step
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.reconcile import Reconciliation, Scope, reconcile

CONFTEST = Path(__file__).parents[1] / "unit" / "service" / "conftest.py"
_spec = importlib.util.spec_from_file_location("mlflow_world", CONFTEST)
assert _spec is not None
assert _spec.loader is not None
service: Any = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = service
_spec.loader.exec_module(service)
world, told = service.world, service.told


@pytest.fixture
def least_assurance() -> str:
    return "L1"


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def promoted(world: Any, told: Any, tmp_path: Path) -> Any:
    """A model in use, in MLflow."""
    world.registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db")
    world.validate_data()
    world.train()
    world.validate_model()
    world.approve(world.ask())
    promote(world.gov, world.registry, world.use())
    told.tell("gate", Step.GATE, "success")
    told.tell("promote", Step.PROMOTION, "success")
    return world


def compare(world: Any, told: Any, *, repair: bool = False) -> Reconciliation:
    return reconcile(world.gov, told, [world.registry], Scope(repair=repair))


def test_an_alias_that_is_moved_with_mlflows_own_client(
    promoted: Any, told: Any, client: MlflowClient
) -> None:
    assert compare(promoted, told).is_clean
    other = promoted.train('{"points": [7]}', run_id="run-2")
    client.set_registered_model_alias("retail_pd", "champion", "2")
    (found,) = compare(promoted, told).found
    assert found.discrepancy.test == "reconcile.alias"
    assert found.discrepancy.version == other
    assert client.get_model_version_by_alias("retail_pd", "champion").version in {2, "2"}

    (found,) = compare(promoted, told, repair=True).found
    assert found.repair == "repaired: it points to version 1 again"
    assert client.get_model_version_by_alias("retail_pd", "champion").version in {1, "1"}
    assert compare(promoted, told).found == ()


def test_a_version_that_bears_the_tag_of_the_approved_one(
    promoted: Any, told: Any, client: MlflowClient, tmp_path: Path
) -> None:
    right = client.get_model_version("retail_pd", "1")
    tag = {MANIFEST_TAG: right.tags[MANIFEST_TAG]}
    client.create_model_version("retail_pd", str(tmp_path), tags=tag)
    client.set_registered_model_alias("retail_pd", "champion", "2")
    assert [f.discrepancy.test for f in compare(promoted, told).found] == ["reconcile.alias"]


def test_an_alias_that_is_taken_away_lets_nobody_use_anything(
    promoted: Any, told: Any, client: MlflowClient
) -> None:
    client.delete_registered_model_alias("retail_pd", "champion")
    assert compare(promoted, told).is_clean


def test_a_registry_that_is_away(promoted: Any, told: Any) -> None:
    promoted.registry = MlflowRegistry("http://127.0.0.1:9")
    compared = compare(promoted, told)
    assert [what.startswith("Registry: ") for what in compared.unchecked] == [True]
    assert not compared.is_clean
