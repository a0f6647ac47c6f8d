"""Rehearse leaving a cloud, once a quarter: the model in use is made again in the own data centre.

``frankfurt`` is the platform that the model was trained on, an entry of the deployment's platform
file; ``local`` is always there. What the scores are held to stands in the policy pack (``exit``).
The task fails if they are too far apart, so that whoever is told of failed tasks is told of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import dag, task

from airflow_mlgov import RehearseExitOperator

HERE = Path(__file__).parent
DATA = str(HERE / "data" / "taiwan_credit.csv")
CODE = HERE / "retail_pd_model"
RUN_DIR = "{{ var.value.get('retail_pd_dir', '/tmp/retail_pd') }}/{{ run_id | replace(':', '') }}"
DEVELOPMENT, VALIDATION = f"{RUN_DIR}/development.csv", f"{RUN_DIR}/validation.csv"


@dag(
    schedule="0 6 1 1,4,7,10 *",
    is_paused_upon_creation=True,  # it needs its platform first
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["mlgov", "example"],
)
def exit_rehearsal() -> None:
    """Make ``retail_pd`` again elsewhere, and hold its scores against those in use."""

    @task.recorded(inputs=[DATA], outputs=[DEVELOPMENT, VALIDATION])
    def split(source: str, development: str, validation: str) -> None:
        from retail_pd_model.sampling import split_file

        split_file(source, development, validation)

    rehearse = RehearseExitOperator(
        task_id="rehearse",
        model="retail_pd",
        from_platform="frankfurt",
        to_platform="local",
        script=str(CODE / "train_scorecard.py"),
        inputs={"development": DEVELOPMENT},  # the same bytes as then, or it is refused
        sample=VALIDATION,
        target="DEFAULT",
        scorer="retail_pd_model.scoring:scorecard",
    )
    split(DATA, DEVELOPMENT, VALIDATION) >> rehearse


exit_rehearsal()
