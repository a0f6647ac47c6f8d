"""Score clients with a version of ``retail_pd`` as soon as people have approved it.

Training, validation and gate are another DAG's (``retail_pd``). This one waits in the triggerer for
what comes of them: no worker is held while people decide. The sensor opens nothing; the guarded
task verifies the approval for itself.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import Param, dag, task

from airflow_mlgov import ApprovalSensor, GovernedModel

MODEL = "retail_pd"
CLIENTS = str(Path(__file__).parent / "data" / "taiwan_credit.csv")
RUN_DIR = "{{ var.value.get('retail_pd_dir', '/tmp/retail_pd') }}/{{ run_id | replace(':', '') }}"
SCORES = f"{RUN_DIR}/scores.csv"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={
        "version": Param(
            "",
            type="string",
            description="Manifest digest, sha256:...; empty for what was asked about last",
        )
    },
    tags=["mlgov", "example"],
)
def retail_pd_when_approved() -> None:
    """Wait for an approval and its promotion, then score."""
    approved = ApprovalSensor(
        task_id="approved",
        model=MODEL,
        version="{{ params.version }}",
        alias="champion",
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(days=14),
    )

    @task.governed(model=MODEL, inputs=[CLIENTS], outputs=[SCORES])
    def score(governed_model: GovernedModel, clients: str, scores: str) -> int:
        from retail_pd_model.features import read_clients
        from retail_pd_model.scoring import write_scores

        rows = governed_model.admit(read_clients(clients))
        return write_scores(governed_model.path, rows, scores)

    approved >> score(clients=CLIENTS, scores=SCORES)


retail_pd_when_approved()
