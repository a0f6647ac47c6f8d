from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator
from airflow_mlgov.enforcement.cluster_policy import dag_policy


class HousePromotion(PromoteModelOperator):
    """A bank's own subclass is a promotion too."""


def check(build) -> str:
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        build()
    try:
        dag_policy(dag)
    except AirflowClusterPolicyViolation as violation:
        return str(violation)
    return ""


def gate(**kwargs):
    return ApprovalGateOperator(task_id="gate", model="m", **kwargs)


def promotion(cls=PromoteModelOperator, **kwargs):
    return cls(task_id="promote", model="m", **kwargs)


def test_a_promotion_behind_its_gate_is_fine():
    assert check(lambda: gate() >> promotion()) == ""


def test_a_gate_further_up_is_fine():
    middle = {"python_callable": print}
    assert check(lambda: gate() >> PythonOperator(task_id="x", **middle) >> promotion()) == ""


@pytest.mark.parametrize("cls", [PromoteModelOperator, HousePromotion])
def test_no_gate_names_file_task_and_remedy(cls):
    problem = check(lambda: promotion(cls))
    assert problem.startswith(__file__)
    assert "'promote'" in problem
    assert "gate >> promote" in problem


def test_a_gate_beside_is_not_upstream():
    assert "no ApprovalGateOperator is upstream" in check(lambda: (gate(), promotion()))


def test_a_lenient_trigger_rule():
    assert "'all_done'" in check(lambda: gate() >> promotion(trigger_rule="all_done"))


def test_a_mapped_promotion_without_a_gate():
    def build():
        PromoteModelOperator.partial(task_id="promote", model="m").expand(target=["a", "b"])

    assert "no ApprovalGateOperator" in check(build)


def test_a_form_that_answers_itself_in_a_governed_dag():
    def build():
        stock = ApprovalOperator(task_id="stock", subject="?", defaults="Approve")
        gate() >> stock >> promotion()

    assert "'stock' answers itself" in check(build)


def test_ungoverned_dags_are_left_alone():
    assert check(lambda: ApprovalOperator(task_id="s", subject="?", defaults="Approve")) == ""
