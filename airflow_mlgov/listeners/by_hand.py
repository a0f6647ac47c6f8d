"""A state that was set by hand, as a run of its own in lineage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from airflow_mlgov.hooks.listening import keeps_outbox
from airflow_mlgov.listeners.capture import named_facts
from airflow_mlgov.operators.lineage import quietly
from airflow_mlgov.operators.run_facts import RunFacts, role_of
from airflow_mlgov.service.outbox import OutboxItem

if TYPE_CHECKING:
    from airflow_mlgov.lineage.emission import Run


def tell_by_hand(task_instance: Any, state: str) -> None:
    """Put into the outbox that the state of a governed task was set by hand.

    Only into the outbox: a request to the api-server must not wait for a backend.

    Args:
        task_instance: As Airflow's database has it.
        state: ``success``, ``skipped`` or ``failed``.
    """
    if keeps_outbox():
        quietly(lambda: _tell(task_instance, state))


def _tell(task_instance: Any, state: str) -> None:
    from openlineage.client.serde import Serde

    from airflow_mlgov.lineage.emission import run_event
    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.lineage.facets import job_type
    from airflow_mlgov.wiring import open_outbox

    facts = _facts_of(task_instance)
    if facts is None:
        return
    facts.state, facts.is_by_hand = state, True
    at = datetime.now(UTC)
    step = StepLineage(job_facets={"jobType": job_type("CHANGE_BY_HAND")})
    stated = step.stating(mlgov_governed=facts.facet)
    event = run_event(stated, _run(task_instance, at), "COMPLETE", at)
    open_outbox().append([OutboxItem.of(json.loads(Serde.to_json(event)))], at)


def _facts_of(task_instance: Any) -> RunFacts | None:
    role = role_of(task_instance.operator, task_instance.custom_operator_name)
    named = named_facts(task_instance.dag_id, task_instance.task_id)
    return named or (RunFacts(role) if role else None)


def _run(task_instance: Any, at: datetime) -> Run:
    from airflow.providers.openlineage import conf
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

    from airflow_mlgov.lineage.emission import Run, parent_of

    row, dag_run = task_instance, task_instance.dag_run
    date = dag_run.logical_date or dag_run.run_after
    task_run = OpenLineageAdapter.build_task_instance_run_id(
        row.dag_id, row.task_id, row.try_number, date, row.map_index
    )
    dag_run_id = OpenLineageAdapter.build_dag_run_id(row.dag_id, date, dag_run.clear_number)
    namespace, job = conf.namespace(), f"{row.dag_id}.{row.task_id}"
    parent = parent_of(f"{namespace}/{job}/{task_run}", f"{namespace}/{row.dag_id}/{dag_run_id}")
    run_id = uuid5(NAMESPACE_URL, f"urn:airflow-mlgov:by-hand:{task_run}:{at.isoformat()}")
    return Run(namespace, f"{job}.by_hand", str(run_id), parent)
