"""Parsing a DAG of 50 training tasks: ours against the providers' own operators.

Each file is parsed as Airflow's DAG processor parses it, in a process of its own, forked from one
that has loaded Airflow; what a DAG file imports is loaded there, as it is for each file. Ours names
a platform, so it is one file for all clouds, and it is held against the quicker of the two
providers. What is compared is the time that the processor was busy.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench")]

from bench_parse import busy_s  # noqa: E402

TASKS = 50
ROUNDS = {"ours": 15, "amazon": 7, "google": 5}
GOAL = 1.0
HEAD = """
from datetime import datetime
from airflow.sdk import DAG
{imported}
with DAG("training", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    for number in range({tasks}):
        {made}
"""
OURS = (
    "from airflow_mlgov import TrainModelOperator",
    """TrainModelOperator(task_id=f"t{number}", model="retail_pd", script="/code/train.py",
            inputs={"development": "/data/dev.csv"}, seed=number, platform="frankfurt")""",
)
AMAZON = (
    "from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTrainingOperator",
    """SageMakerTrainingOperator(task_id=f"t{number}", deferrable=True, config={
            "TrainingJobName": f"t{number}", "RoleArn": "arn:aws:iam::1:role/r",
            "AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "File"},
            "OutputDataConfig": {"S3OutputPath": "s3://b/p"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1,
                               "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600}})""",
)
GOOGLE = (
    "from airflow.providers.google.cloud.operators.vertex_ai import custom_job as vertex",
    """vertex.CreateCustomJobOperator(task_id=f"t{number}", region="europe-west1", project_id="p",
            deferrable=True, custom_job={"display_name": f"t{number}"})""",
)
FILES = {"ours": OURS, "amazon": AMAZON, "google": GOOGLE}


def main(folder: Path) -> None:
    """Print the ratio of the medians."""
    (folder / "dags").mkdir()
    for name, (imported, made) in FILES.items():
        text = HEAD.format(imported=imported, made=made, tasks=TASKS)
        (folder / "dags" / f"{name}.py").write_text(text, "utf-8")
    os.environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    from airflow.dag_processing.processor import _parse_file
    from airflow.settings import initialize
    from structlog import get_logger

    initialize()
    log = get_logger()

    def parse(name: str) -> None:
        result = _parse_file(_request(folder, name), log)
        assert not result.import_errors, result.import_errors
        (dag,) = result.serialized_dags
        assert len(dag.data["dag"]["tasks"]) == TASKS

    taken: dict[str, list[float]] = {name: [] for name in FILES}
    for number in range(max(ROUNDS.values())):
        for name, rounds in ROUNDS.items():
            if number < rounds:
                taken[name].append(busy_s(lambda name=name: parse(name)))
    medians = {name: statistics.median(each) for name, each in taken.items()}
    ratio = medians["ours"] / min(medians["amazon"], medians["google"])
    print(
        json.dumps(
            {
                "name": "parse_training",
                "ratio": ratio,
                "goal": f"< {GOAL:g}",
                "met": ratio < GOAL,
                "tasks": TASKS,
                "median_s": {name: round(value, 3) for name, value in medians.items()},
            }
        )
    )


def _request(folder: Path, name: str) -> Any:
    from airflow.dag_processing.processor import DagFileParseRequest

    return DagFileParseRequest(
        file=str(folder / "dags" / f"{name}.py"),
        bundle_path=folder / "dags",
        bundle_name="dags",
        callback_requests=[],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(Path(made))
