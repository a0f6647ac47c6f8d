"""A promotion that nobody is asked about."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_mlgov import PromoteModelOperator


@dag(schedule=None)
def without_any_gate() -> None:
    PromoteModelOperator(task_id="promote", model="refused")


without_any_gate()
