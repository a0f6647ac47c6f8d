"""What is done with a governed DAG when it is parsed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow_mlgov.enforcement.cluster_policy import OURS, class_names
from airflow_mlgov.enforcement.dag_rules import problems_of, strictest_mode
from airflow_mlgov.enforcement.lineage_rules import can_be_silenced, opt_in
from airflow_mlgov.enforcement.named_tasks import attach
from airflow_mlgov.enforcement.task_settings import model_of
from airflow_mlgov.errors import MlgovError
from airflow_mlgov.policy.inventory import InventoryEntry, Mode
from airflow_mlgov.policy.inventory_folder import InventoryFolder

log = logging.getLogger(__name__)


def govern(dag: Any, folder: InventoryFolder | None) -> None:
    """Judge a DAG and attach what records or guards the tasks that the inventory names.

    Args:
        dag: As its author wrote it.
        folder: The inventory; None if the setting is missing, so that every model counts as one in
            mode ``enforce``.

    Raises:
        AirflowClusterPolicyViolation: It may not run as it is, or a file of the inventory that
            concerns it is not in order.
    """
    from airflow.exceptions import AirflowClusterPolicyViolation

    try:
        named = folder.named_tasks(dag.dag_id) if folder else {}
        entries = _entries(dag, folder) if folder else {}
    except MlgovError as error:
        raise AirflowClusterPolicyViolation(
            f"{dag.fileloc}: DAG {dag.dag_id!r} is governed, but the inventory cannot be read, so "
            f"that nobody knows what holds for it. {error}"
        ) from error
    problems = list(problems_of(dag, named, entries))
    refused = [problem.text for problem in problems if problem.mode is Mode.ENFORCE]
    if refused:
        raise AirflowClusterPolicyViolation(f"{dag.fileloc}: {' '.join(refused)}")
    for problem in problems:
        log.warning("%s: Mode %s: %s", dag.fileloc, problem.mode, problem.text)
    is_enforced = strictest_mode(dag, named, entries) is Mode.ENFORCE
    if is_enforced:
        opt_in(dag)
    for task in dag.tasks:
        said = named.get(task.task_id, ())
        if said or (is_enforced and can_be_silenced(task)):
            attach(task, said, keeps_lineage=is_enforced)


def _entries(dag: Any, folder: InventoryFolder) -> Mapping[str, InventoryEntry]:
    """Return the entries of the models that our operators name; all, if one is not known."""
    models = {model_of(task) for task in dag.tasks if OURS & class_names(task)}
    if not models:
        return {}
    found = folder.entries(*models) if "" not in models else {}
    return found if models <= found.keys() else folder.entries()
