"""A small governed model, for the test of the deployment: no library beside Airflow is needed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag, task

from airflow_mlgov import (
    ApprovalGateOperator,
    ApprovalSensor,
    GovernedModel,
    PromoteModelOperator,
    TrainModelOperator,
)

HERE = Path(__file__).parent
MODEL = "small"


@dag(schedule=None)
def small() -> None:
    train = TrainModelOperator(
        task_id="train",
        model=MODEL,
        script=str(HERE / "small_model" / "train.py"),
        inputs={"numbers": str(HERE / "small_model" / "numbers.csv")},
        seed=1,
    )
    gate = ApprovalGateOperator(task_id="gate", model=MODEL, retry_delay=timedelta(seconds=1))
    promote = PromoteModelOperator(task_id="promote", model=MODEL)
    approved = ApprovalSensor(
        task_id="approved", model=MODEL, alias="champion", deferrable=True, poke_interval=1
    )

    @task.governed(model=MODEL)
    def score(governed_model: GovernedModel) -> str:
        governed_model.admit([{"SEX": 1}])
        return (governed_model.path / "mean.json").read_text()

    train >> gate >> promote
    [promote, approved] >> score()


small()
