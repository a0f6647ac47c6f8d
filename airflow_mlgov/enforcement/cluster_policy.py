"""What happens when a DAG is parsed (Airflow's cluster policy, entry point ``airflow.policy``).

A governed DAG is one that has a gate, a promotion, a ``@task.governed`` or a
``ScoreBatchOperator``, or one of whose tasks the inventory names. What is wrong with it is refused
with file, task and remedy if its model's mode is ``enforce``, and logged otherwise; the tasks that
the inventory names are recorded or guarded from here on. Of any other DAG only its id and the
classes of its operators are looked at.

Airflow calls this in the DAG processor and, since a worker parses the file again, in each task's
process before the task runs. A DAG author can avoid what is seen here; that is why promotion and
every guarded task verify the approval for themselves.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from airflow.policies import hookimpl

from airflow_mlgov.policy.inventory_folder import InventoryFolder, folder_at

GATE = "ApprovalGateOperator"
PROMOTION = "PromoteModelOperator"
SCORING = frozenset({"GovernedTaskOperator", "ScoreBatchOperator"})
OURS = frozenset({GATE, PROMOTION, *SCORING})


def _lineage_environment() -> dict[str, str]:
    prefixes = ("OPENLINEAGE_", "AIRFLOW__OPENLINEAGE__")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


_GIVEN = _lineage_environment()


@hookimpl(tryfirst=True)
def get_dagbag_import_timeout(dag_file_path: str) -> None:  # noqa: ARG001
    """Note what the deployment says about lineage; Airflow asks this before it reads a DAG file."""
    _GIVEN.clear()
    _GIVEN.update(_lineage_environment())


@hookimpl
def dag_policy(dag: Any) -> None:
    """Judge a governed DAG, and let its tasks that the inventory names be recorded or guarded.

    Raises:
        AirflowClusterPolicyViolation: With file, task and remedy.
    """
    folder = _inventory()
    named = folder is not None and folder.mentions(dag.dag_id)
    if not named and not any(OURS & class_names(task) for task in dag.tasks):
        return
    from airflow_mlgov.enforcement.governed_dag import govern

    govern(dag, folder)


def changed_environment() -> list[str]:
    """Return the variables about lineage that the DAG file, or what it imports, has changed."""
    now = _lineage_environment()
    return sorted(name for name in _GIVEN.keys() | now if _GIVEN.get(name) != now.get(name))


def class_names(task: Any) -> frozenset[str]:
    """Return the names of a task's class and of those it inherits from, mapped or not."""
    operator_class: type = task.operator_class if task.is_mapped else type(task)
    return _names(operator_class)


@lru_cache(maxsize=1024)
def _names(operator_class: type) -> frozenset[str]:
    return frozenset(c.__name__ for c in operator_class.__mro__)


def _inventory() -> InventoryFolder | None:
    # Not through `airflow_mlgov.wiring`: to import it would cost every DAG file as much as parsing.
    from airflow.sdk.configuration import conf

    path = (conf.get("mlgov", "inventory_path", fallback=None) or "").strip()
    return folder_at(path) if path else None
