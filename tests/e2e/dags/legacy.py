"""A DAG that knows nothing of governance: what the inventory says of its tasks is not said here."""

from __future__ import annotations

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, dag, task

MODEL = Asset("mlflow://local/legacy")
VERSION = Asset("mlflow://local/legacy/1")


@dag(schedule=None)
def legacy_scoring() -> None:
    fit = BashOperator(task_id="fit", bash_command="true", outlets=[MODEL, VERSION])

    @task
    def score(day: str) -> str:
        return f"scored {day}"

    ship = BashOperator.partial(task_id="ship").expand(bash_command=["true", "test 1 = 1"])
    fit >> score("{{ dag_run.run_id }}") >> ship


@dag(schedule=[MODEL])
def legacy_report() -> None:
    BashOperator(task_id="report", bash_command="true", inlets=[VERSION])


legacy_scoring()
legacy_report()
