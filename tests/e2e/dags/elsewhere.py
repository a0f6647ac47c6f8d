"""Training on a platform whose jobs outlive the task: waited for in triggerer and worker."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import Param, dag

from airflow_mlgov import TrainModelOperator

HERE = Path(__file__).parent


@dag(schedule=None, params={"model": Param("", type="string")})
def elsewhere() -> None:
    for task_id, deferrable in (("deferred", True), ("held", False)):
        TrainModelOperator(
            task_id=task_id,
            model="{{ params.model }}",
            script=str(HERE / "elsewhere_model" / "train.py"),
            inputs={"development": str(HERE / "elsewhere_model" / "data.csv")},
            parameters={"task": task_id},
            platform="gcp",
            deferrable=deferrable,
            retries=2,
            retry_delay=timedelta(seconds=1),
        )


elsewhere()
