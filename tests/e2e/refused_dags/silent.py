"""A promotion of which nobody is to hear."""

from __future__ import annotations

from airflow.providers.openlineage.api.emission_policy import (
    extend_global_openlineage_emission_policy,
)
from airflow.sdk import dag

from airflow_mlgov import ApprovalGateOperator, PromoteModelOperator


@dag(schedule=None)
def silent() -> None:
    gate = ApprovalGateOperator(task_id="gate", model="refused")
    promote = PromoteModelOperator(task_id="promote", model="refused")
    gate >> extend_global_openlineage_emission_policy(promote, emit=False)


silent()
