"""The link from a gate to its evidence page, as Airflow asks for it and as a DAG carries it."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from airflow_mlgov.operators.approval_gate import ApprovalGateOperator
from airflow_mlgov.operators.evidence_link import EvidenceLink
from airflow_mlgov.provider import get_provider_info
from airflow_mlgov.records.digest import Digest

DIGEST = str(Digest.of(b"request"))
KEY = SimpleNamespace(dag_id="d", run_id="r", task_id="gate", map_index=-1, try_number=1)


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("https://airflow.example/base/", "https://airflow.example/base"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("", ""),
    ],
)
def test_the_address_is_the_one_that_airflow_knows(monkeypatch, base_url, root):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    gate = ApprovalGateOperator(task_id="gate", model="retail_pd")
    assert EvidenceLink().get_link(gate, ti_key=KEY) == f"{root}/mlgov/models/retail_pd"
    gate.asked = DIGEST
    assert EvidenceLink().get_link(gate, ti_key=KEY) == f"{root}/mlgov/requests/{DIGEST}"


def test_a_dag_carries_the_link_of_a_gate_and_of_a_mapped_one():
    with DAG("d", schedule=None) as dag:
        ApprovalGateOperator(task_id="gate", model="retail_pd")
        ApprovalGateOperator.partial(task_id="mapped").expand(model=["a", "b"])
    restored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    for task in ("gate", "mapped"):
        links = restored.get_task(task).operator_extra_link_dict
        assert {name: link.xcom_key for name, link in links.items()} == {
            "Evidence": "_link_EvidenceLink"
        }


def test_airflow_is_told_of_the_link():
    dotted, _ = get_provider_info()["extra-links"]
    module, _, name = dotted.rpartition(".")
    assert getattr(import_module(module), name) is EvidenceLink
