"""Scoring of files, beside the task and on a platform whose jobs outlive it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import Param, dag

from airflow_mlgov import ScoreBatchOperator

HERE = Path(__file__).parent


@dag(schedule=None, params={"model": Param("", type="string"), "folder": Param("", type="string")})
def batches() -> None:
    for task_id, platform in (("here", "local"), ("there", "gcp")):
        ScoreBatchOperator(
            task_id=task_id,
            model="{{ params.model }}",
            script=str(HERE / "batches_model" / "score.py"),
            data=str(HERE / "elsewhere_model" / "data.csv"),
            output_dir=f"{{{{ params.folder }}}}/{task_id}",
            platform=platform,
            retries=1,
            retry_delay=timedelta(seconds=1),
        )


batches()
