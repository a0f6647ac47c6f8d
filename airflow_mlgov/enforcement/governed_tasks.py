"""Which gates and protected tasks a change by hand would touch.

Airflow's database knows ours by their operators; the inventory names those of other DAGs.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from airflow_mlgov.enforcement.change_requests import Asked
from airflow_mlgov.errors import DocumentError
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.changes import GOVERNED, GOVERNED_NAMES, HARMLESS, ManualChange

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)


def governed_changes(asked: Iterable[Asked]) -> list[ManualChange]:
    """Return what the changes would do to gates and protected tasks, each task of a run once.

    Raises:
        DocumentError: A file of the inventory that concerns one of the DAGs is not in order; a
            retry does not help.
        SQLAlchemyError: Airflow's database cannot say it; a retry may help.
    """
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.session import create_session

    dags = DBDagBag(load_op_links=False)
    found: dict[tuple[object, str], ManualChange] = {}
    with create_session() as session:
        for change in asked:
            dag = dags.get_latest_version_of_dag(change.dag_id, session=session)
            named = _named(change)
            reached = _reached(dag, change)
            for task, try_number in _governed(session, change, reached, named).items():
                source = Source(change.dag_id, change.run_id, task, -1, try_number)
                model = named.get(task) or _model_of(dag, task)
                found[source, change.state] = ManualChange(source, change.state, model)
    return list(found.values())


def _named(change: Asked) -> dict[str, str]:
    """Return the strictest model as whose task the inventory names a task, by the task's id.

    To stop a run or to run a task again must not wait for a file to be put in order.
    """
    from airflow_mlgov.wiring import open_inventory

    folder = open_inventory()
    try:
        named = folder.named_tasks(change.dag_id) if folder else {}
    except DocumentError:
        if change.state not in HARMLESS:
            raise
        log.exception("Nobody knows which tasks of DAG %r the inventory names.", change.dag_id)
        return {}
    return {task_id: said[0][0].id for task_id, said in named.items()}


def _reached(dag: SerializedDAG | None, change: Asked) -> set[str] | None:
    """Return the ids of the tasks that a change reaches; None for all, also if nobody can say."""
    if change.tasks is None:
        return None
    reached = set(change.tasks)
    if not (change.group or change.upstream or change.downstream):
        return reached
    if dag is None or (change.group and change.group not in dag.task_group_dict):
        return None
    if change.group:
        reached |= {task.task_id for task in dag.task_group_dict[change.group].iter_tasks()}
    for task_id in [task_id for task_id in reached if dag.has_task(task_id)]:
        task = dag.get_task(task_id)
        if change.upstream:
            reached |= task.get_flat_relative_ids(upstream=True)
        if change.downstream:
            reached |= task.get_flat_relative_ids(upstream=False)
    return reached


def _governed(
    session: Session, change: Asked, reached: set[str] | None, named: Collection[str]
) -> dict[str, int]:
    """Return the governed ones of the tasks reached, with their newest try."""
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import func, or_, select

    query = select(TaskInstance.task_id, func.max(TaskInstance.try_number)).where(
        TaskInstance.dag_id == change.dag_id,
        or_(
            TaskInstance.operator.in_(GOVERNED),
            TaskInstance.custom_operator_name.in_(GOVERNED_NAMES),
            TaskInstance.task_id.in_(named),
        ),
    )
    if change.run_id:
        query = query.where(TaskInstance.run_id == change.run_id)
    if reached is not None:
        query = query.where(TaskInstance.task_id.in_(reached))
    if change.only:
        query = query.where(TaskInstance.state.in_(change.only))
    rows = session.execute(query.group_by(TaskInstance.task_id))
    return {task: try_number or 0 for task, try_number in rows}


def _model_of(dag: SerializedDAG | None, task_id: str) -> str:
    """Return what a task's ``model`` says, which may be a template; empty if nobody can say."""
    if dag is None or not dag.has_task(task_id):
        return ""
    task: Any = dag.get_task(task_id)
    model = getattr(task, "partial_kwargs", {}).get("model") or getattr(task, "model", "")
    return model if isinstance(model, str) else ""
