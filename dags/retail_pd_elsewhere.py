"""``retail_pd`` on AWS, Google Cloud, Azure and in the own data centre, and on several at once.

The DAGs differ in names alone, and the names are entries of ``platforms.yaml`` beside this file: no
vendor's word stands here. They are paused until the deployment has such a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import dag, task

from airflow_mlgov import (
    ApprovalGateOperator,
    PromoteModelOperator,
    ScoreBatchOperator,
    TrainModelOperator,
    ValidateDataOperator,
    ValidateModelOperator,
)

HERE = Path(__file__).parent
MODEL = "retail_pd"
DATA = str(HERE / "data" / "taiwan_credit.csv")
CODE = HERE / "retail_pd_model"
RUN_DIR = "{{ var.value.get('retail_pd_dir', '/tmp/retail_pd') }}/{{ run_id | replace(':', '') }}"
DEVELOPMENT, VALIDATION = f"{RUN_DIR}/development.csv", f"{RUN_DIR}/validation.csv"


def retail_pd_on(place: str, champion: str, challenger: str, registries: Sequence[str]) -> None:
    """Make a DAG.

    Args:
        place: End of its id.
        champion: Platform of the scorecard.
        challenger: Platform of the boosting model.
        registries: Where versions go: the first takes the candidates, all get the promotion.
    """

    @dag(
        dag_id=f"retail_pd_on_{place}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        is_paused_upon_creation=True,
        tags=["mlgov", "example"],
    )
    def governed() -> None:
        @task.recorded(inputs=[DATA], outputs=[DEVELOPMENT, VALIDATION])
        def split(source: str, development: str, validation: str) -> None:
            from retail_pd_model.sampling import split_file

            split_file(source, development, validation)

        check = ValidateDataOperator(
            task_id="check_development",
            model=MODEL,
            data=DEVELOPMENT,
            dataset="taiwan_credit.development",
            suite=str(CODE / "data_suite.yaml"),
        )
        trained = [
            TrainModelOperator(
                task_id=f"train_{variant}",
                model=MODEL,
                variant=variant,
                script=str(CODE / script),
                inputs={"development": DEVELOPMENT},
                seed=42,
                platform=platform,
                registry=registries[0],
            )
            for variant, script, platform in (
                ("candidate", "train_scorecard.py", champion),
                ("challenger", "train_boosting.py", challenger),
            )
        ]
        validate = ValidateModelOperator(
            task_id="validate",
            model=MODEL,
            development=DEVELOPMENT,
            validation=VALIDATION,
            target="DEFAULT",
            scorer="retail_pd_model.scoring:scorecard",
            challenger_scorer="retail_pd_model.scoring:boosting",
            registry=registries[0],
        )
        gate = ApprovalGateOperator(task_id="gate", model=MODEL)
        promote = PromoteModelOperator(task_id="promote", model=MODEL, registry=list(registries))
        score = ScoreBatchOperator(
            task_id="score",
            model=MODEL,
            script=str(CODE / "score_clients.py"),
            data=VALIDATION,
            output_dir=f"{RUN_DIR}/scores",
            platform=champion,
            registry=registries[0],
        )
        prepared = split(DATA, DEVELOPMENT, VALIDATION)
        prepared >> check >> trained >> validate >> gate >> promote >> score

    governed()


retail_pd_on("aws", "frankfurt", "frankfurt", ["frankfurt-models"])
retail_pd_on("gcp", "belgium", "belgium", ["belgium-models"])
retail_pd_on("azure", "amsterdam", "amsterdam", ["amsterdam-models"])
retail_pd_on("premises", "house", "local", ["house-models"])
retail_pd_on("several", "frankfurt", "belgium", ["house-models", "frankfurt-models"])
