"""Score clients with the version of ``retail_pd`` in use, as it runs between two trainings.

The task names the model and nothing else. Which version is in use, and whether its approval holds,
is verified on every run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import Param, dag, task

from airflow_mlgov import GovernedModel

CLIENTS = str(Path(__file__).parent / "data" / "taiwan_credit.csv")
SCORED = "{{ params.clients }}"
RUN_DIR = "{{ var.value.get('retail_pd_dir', '/tmp/retail_pd') }}/{{ run_id | replace(':', '') }}"
SCORES = f"{RUN_DIR}/scores.csv"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "clients": Param(CLIENTS, type="string", description="CSV file of the clients to score")
    },
    tags=["mlgov", "example"],
)
def retail_pd_scoring() -> None:
    """Score a file of clients."""

    @task.governed(model="retail_pd", inputs=[SCORED], outputs=[SCORES])
    def score(governed_model: GovernedModel, clients: str, scores: str) -> int:
        from retail_pd_model.features import read_clients
        from retail_pd_model.scoring import write_scores

        rows = governed_model.admit(read_clients(clients))
        return write_scores(governed_model.path, rows, scores)

    score(clients=SCORED, scores=SCORES)


retail_pd_scoring()
