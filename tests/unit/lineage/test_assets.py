"""Airflow assets of models, through Airflow's own discovery of providers."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlgov.lineage.names import DatasetName, model_version
from airflow_mlgov.provider import get_provider_info

VERSIONS = {
    "mlflow://127.0.0.1:5000/retail_pd/7": ("mlflow://127.0.0.1:5000", "retail_pd/7"),
    "MLflow://MLflow.bank:443/retail_pd/7/": ("mlflow://mlflow.bank:443", "retail_pd/7"),
    "mlflow://local/retail_pd/12": ("mlflow://local", "retail_pd/12"),
    "sagemaker://eu-west-1.123456789012/retail-pd/7": (
        "sagemaker://eu-west-1.123456789012",
        "retail-pd/7",
    ),
    "vertexai://bank-risk.europe-west3/retail_pd/7": (
        "vertexai://bank-risk.europe-west3",
        "retail_pd/7",
    ),
    "azureml://Risk_ws.westeurope/retail_pd/7.1-a": (
        "azureml://Risk_ws.westeurope",
        "retail_pd/7.1-a",
    ),
}

REFUSED = [
    "mlflow://127.0.0.1:5000",
    "mlflow:///retail_pd/7",
    "mlflow://mlflow.bank/retail_pd/7",
    "mlflow://erin@mlflow.bank:443/retail_pd/7",
    "mlflow://[::1]:5000/retail_pd/7",
    "mlflow://h:5000/2024_pd/7",
    "mlflow://h:5000/retail_pd/champion",
    "mlflow://h:5000/retail_pd/07",
    "mlflow://h:5000/retail_pd/7/files",
    "mlflow://h:5000/retail pd/7",
    "mlflow://h:5000/retail_pd/7?x=1",
    "sagemaker://eu-west-1/retail-pd/7",
    "sagemaker://arn:aws:sagemaker/retail-pd/7",
    "vertexai://bank-risk/retail_pd/7",
    "vertexai://bank-risk.europe-west3/1234567/7",
    "azureml://risk/retail_pd/7",
]


@pytest.mark.parametrize("uri", VERSIONS)
def test_an_asset_of_a_version_is_the_dataset_that_we_name_it(uri):
    dataset = translate_airflow_asset(Asset(uri), None)
    assert (dataset.namespace, dataset.name) == VERSIONS[uri]
    DatasetName(dataset.namespace, dataset.name)
    name, version = dataset.name.split("/")
    assert model_version(dataset.namespace, name, version).name == dataset.name


def test_the_namespace_is_the_one_that_the_registry_gives_its_versions(tmp_path):
    from airflow_mlgov.registries.mlflow import MlflowRegistry

    for address in (f"sqlite:///{tmp_path}/m.db", "https://MLflow.bank", "http://h:5000"):
        namespace = MlflowRegistry(address).namespace
        assert translate_airflow_asset(Asset(f"{namespace}/pd/7"), None).namespace == namespace


def test_an_asset_of_a_model_is_no_dataset():
    asset = Asset("mlflow://127.0.0.1:5000/retail_pd")
    assert asset.uri == "mlflow://127.0.0.1:5000/retail_pd"
    assert translate_airflow_asset(asset, None) is None


@pytest.mark.parametrize("uri", REFUSED)
def test_what_is_no_uri_of_a_model_is_refused_with_the_form(uri):
    scheme = uri.partition(":")[0]
    with pytest.raises(ValueError, match=rf"no URI of a model: write {scheme}://[A-Z:.]+/[A-Z]+/"):
        Asset(uri)


def test_a_uri_is_sanitized_once():
    for uri in VERSIONS:
        once = Asset(uri).uri
        assert Asset(once).uri == once == Asset(once).normalized_uri


def test_inlets_and_outlets_of_a_stock_task_are_datasets():
    task = PythonOperator(
        task_id="copy",
        python_callable=print,
        inlets=[Asset("mlflow://h:5000/retail_pd/7")],
        outlets=[Asset("mlflow://h:5000/retail_pd_copy/1"), Asset("mlflow://h:5000/retail_pd")],
    )
    told = OperatorLineage()
    ExtractorManager().extract_inlets_and_outlets(told, task, SimpleNamespace())
    assert [d.name for d in told.inputs] == ["retail_pd/7"]
    assert [d.name for d in told.outputs] == ["retail_pd_copy/1"]


def test_a_dag_is_scheduled_on_a_model():
    asset = Asset("mlflow://h:5000/retail_pd")
    with DAG("on_model", schedule=[asset], start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        PythonOperator(task_id="score", python_callable=print)
    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    restored = DagSerialization.from_dict(stored)
    assert [key.uri for key, _ in restored.timetable.asset_condition.iter_assets()] == [asset.uri]


def test_what_airflow_imports_for_an_asset_is_the_standard_library_only():
    (declared,) = get_provider_info()["asset-uris"]
    module = declared["handler"].rpartition(".")[0]
    code = (
        f"import sys; before = set(sys.modules); import {module}; "
        "print(*sorted({n.partition('.')[0] for n in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"airflow_mlgov"}
