"""One credit model, governed end to end: the example that the demo runs.

Champion: a logistic scorecard. Challenger: gradient boosting. The data are 30,000 credit card
clients in Taiwan, 2005 (see ``data/README.md``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import dag, task

from airflow_mlgov import (
    ApprovalGateOperator,
    GovernedModel,
    PromoteModelOperator,
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
SCORES = f"{RUN_DIR}/scores.csv"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["mlgov", "example"],
)
def retail_pd() -> None:
    """Train, validate, let people approve, promote and score ``retail_pd``."""

    @task.recorded(inputs=[DATA], outputs=[DEVELOPMENT, VALIDATION])
    def split(source: str, development: str, validation: str) -> None:
        from retail_pd_model.sampling import split_file

        split_file(source, development, validation)

    check_development = ValidateDataOperator(
        task_id="check_development",
        model=MODEL,
        data=DEVELOPMENT,
        dataset="taiwan_credit.development",
        suite=str(CODE / "data_suite.yaml"),
    )
    check_validation = ValidateDataOperator(
        task_id="check_validation",
        model=MODEL,
        data=VALIDATION,
        dataset="taiwan_credit.validation",
        suite=str(CODE / "data_suite.yaml"),
    )
    train_champion = TrainModelOperator(
        task_id="train_champion",
        model=MODEL,
        script=str(CODE / "train_scorecard.py"),
        inputs={"development": DEVELOPMENT},
        seed=42,
    )
    train_challenger = TrainModelOperator(
        task_id="train_challenger",
        model=MODEL,
        variant="challenger",
        script=str(CODE / "train_boosting.py"),
        inputs={"development": DEVELOPMENT},
        seed=42,
    )
    validate = ValidateModelOperator(
        task_id="validate",
        model=MODEL,
        development=DEVELOPMENT,
        validation=VALIDATION,
        target="DEFAULT",
        scorer="retail_pd_model.scoring:scorecard",
        challenger_scorer="retail_pd_model.scoring:boosting",
    )
    gate = ApprovalGateOperator(task_id="gate", model=MODEL)
    promote = PromoteModelOperator(task_id="promote", model=MODEL)

    @task.governed(model=MODEL, inputs=[VALIDATION], outputs=[SCORES])
    def score(governed_model: GovernedModel, clients: str, scores: str) -> int:
        from retail_pd_model.features import read_clients
        from retail_pd_model.scoring import write_scores

        rows = governed_model.admit(read_clients(clients))
        return write_scores(governed_model.path, rows, scores)

    checks = [check_development, check_validation]
    split(DATA, DEVELOPMENT, VALIDATION) >> checks
    for check in checks:
        check >> [train_champion, train_challenger]
    [train_champion, train_challenger] >> validate >> gate >> promote
    promote >> score(clients=VALIDATION, scores=SCORES)


retail_pd()
