"""Airflow's own gate, and the ways round it that begin in a DAG."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.openlineage.api.emission_policy import (
    extend_global_openlineage_emission_policy,
)
from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param, TriggerRule, dag, task


@dag(schedule=None, params={"file": Param("", type="string", description="What is promoted.")})
def stock() -> None:
    gate = ApprovalOperator(task_id="gate", subject="Approve {{ var.value.get('asked', '') }}?")

    @task
    def promote(params: Any = None) -> str:
        return Path(params["file"]).read_text() if params["file"] else ""

    @task(trigger_rule=TriggerRule.ALL_DONE)
    def lenient() -> None:
        print("promoted all the same")

    gate >> promote() >> lenient()


@dag(schedule=None)
def stock_alone() -> None:
    by_default = HITLOperator(
        task_id="by_default",
        subject="Approve?",
        options=["Approve", "Reject"],
        defaults="Approve",
        response_timeout=timedelta(seconds=1),
    )
    by_a_token = ApprovalOperator(
        task_id="by_a_token", subject="Approve?", response_timeout=timedelta(seconds=30)
    )

    @task
    def promote() -> None:
        print("promoted")

    by_default >> promote.override(task_id="promoted_by_default")()
    by_a_token >> promote.override(task_id="promoted_by_a_token")()


@dag(schedule=None)
def stock_silent() -> None:
    @task
    def promote() -> None:
        print("promoted")

    silent = promote.override(task_id="silent")()
    promote.override(task_id="heard")() >> extend_global_openlineage_emission_policy(
        silent, emit=False
    )


stock()
stock_alone()
stock_silent()
