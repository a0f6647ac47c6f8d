"""A promotion that runs whatever the gate says."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator


@dag(schedule=None)
def lenient() -> None:
    gate = ApprovalGateOperator(task_id="gate", model="refused")
    gate >> PromoteModelOperator(task_id="promote", model="refused", trigger_rule="all_done")


lenient()
