"""What the end-to-end tests drive: a gate with what it protects, and ways round it in DAG code."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_mlgov import ApprovalGateOperator, ApprovalSensor, GovernedModel, PromoteModelOperator

MODEL = "{{ params.model }}"
ROWS = Param([{"SEX": 1}], type="array", description="What is scored.")


@dag(
    schedule=None,
    params={
        "model": Param("", type="string"),
        "version": Param("", type="string", description="Asked about by the gate."),
        "promote": Param("", type="string", description="Promoted, if another than asked about."),
        "rows": ROWS,
    },
)
def governed() -> None:
    gate = ApprovalGateOperator(
        task_id="gate",
        model=MODEL,
        version="{{ params.version }}",
        retry_delay=timedelta(seconds=1),
    )
    promote = PromoteModelOperator(task_id="promote", model=MODEL, version="{{ params.promote }}")

    @task.governed(model=MODEL)
    def score(governed_model: GovernedModel, params: Any = None) -> dict[str, str]:
        governed_model.admit(params["rows"])
        files = sorted(path.name for path in governed_model.path.iterdir())
        return {"version": governed_model.version, "files": ",".join(files)}

    gate >> promote >> score()


@dag(schedule=None, params={"model": Param("", type="string"), "rows": ROWS})
def waiting() -> None:
    approved = ApprovalSensor(
        task_id="approved", model=MODEL, alias="champion", deferrable=True, poke_interval=1
    )

    @task.governed(model=MODEL)
    def score(governed_model: GovernedModel, params: Any = None) -> str:
        governed_model.admit(params["rows"])
        return governed_model.version if governed_model.path.exists() else ""

    approved >> score()


@dag(
    schedule=None,
    params={"model": Param("", type="string"), "version": Param("", type="string")},
)
def without_gate() -> None:
    """Calls the code of promotion, which no parser sees."""

    @task
    def promote(params: Any = None, ti: Any = None) -> None:
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.records.source import Source
        from airflow_mlgov.service.approvals import Use
        from airflow_mlgov.service.promote import promote
        from airflow_mlgov.wiring import open_governance, open_registry

        source = Source(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number)
        use = Use(params["model"], "production", source, "champion")
        version = Digest.parse(params["version"])
        promote(open_governance(), open_registry("mlflow_default"), use, version)

    promote()


@dag(schedule=None, params={"asked": Param([], type="array", description="Models, versions.")})
def mapped() -> None:
    @task
    def asked(params: Any = None) -> list[dict[str, str]]:
        return list(params["asked"])

    each = asked()
    gates = ApprovalGateOperator.partial(task_id="gate", retry_delay=timedelta(seconds=1))
    promotions = PromoteModelOperator.partial(task_id="promote")
    gates.expand_kwargs(each) >> promotions.expand_kwargs(each)


governed()
waiting()
mapped()
without_gate()
