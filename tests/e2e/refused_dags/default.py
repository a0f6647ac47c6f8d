"""A stock form that approves when nobody answers, before an enforced promotion."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import dag

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator


@dag(schedule=None)
def approves_by_default() -> None:
    form = HITLOperator(
        task_id="form",
        subject="Approve?",
        options=["Approve", "Reject"],
        defaults="Approve",
        response_timeout=timedelta(seconds=1),
    )
    gate = ApprovalGateOperator(task_id="gate", model="refused")
    form >> gate >> PromoteModelOperator(task_id="promote", model="refused")


approves_by_default()
