"""Compare Airflow and the registry with the ledger once a day.

The task reads Airflow as a user who may only read: connection ``mlgov_airflow``. It fails when it
opens findings, so that whoever is told of failed tasks is told of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag

from airflow_mlgov import ReconcileOperator


@dag(
    schedule="@daily",
    is_paused_upon_creation=True,  # it needs its connection first
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=10)},
    tags=["mlgov", "example"],
)
def reconcile() -> None:
    """Look for what was left out of the ledger."""
    ReconcileOperator(task_id="reconcile")


reconcile()
