"""Lineage of a governed DAG stays on, whatever its author says (way round a gate, number 18).

The OpenLineage provider reads what authors say in ``params`` of DAGs and tasks, and its client
reads the environment. What can be seen there when the DAG is parsed is a problem like any other.
What only a run knows, the parameters that a task is mapped over, is taken from the task that a
worker is about to run. What the deployment's configuration says is its administrator's choice, and
`airflow mlgov doctor` tells of it. What a task's own code does to its process is found by `airflow
mlgov reconcile`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

from airflow_mlgov.enforcement.cluster_policy import changed_environment
from airflow_mlgov.enforcement.task_settings import settings_of

POLICY, OPTED_IN = "_openlineage_emission_policy", "_selective_enable_ol"
"""Where ``extend_global_openlineage_emission_policy`` and ``disable_lineage`` put it."""

SILENCING = (
    "emit",
    "emit_task_events",
    "emit_dag_events",
    "extract_operator_metadata",
    "hook_lineage",
)
"""Controls without which events are lost, or what they read and wrote."""

_NAMED = 5


def lineage_problems(dag: Any) -> Iterator[str]:
    """Say where a DAG switches its own lineage off, or where its file did for this process."""
    changed = changed_environment()
    if changed:
        yield (
            f"The DAG's file, or what it imports, changes {', '.join(changed)} in the environment, "
            "where the deployment says what becomes of lineage: remove that."
        )
    found = {"the DAG": set(_switched_off(dag.params))}
    for task in dag.tasks:
        said = {name for params in settings_of(task, "params") for name in _switched_off(params)}
        found[repr(task.task_id)] = said
    silent = [where for where, said in found.items() if said]
    if silent:
        flags = ", ".join(sorted(set().union(*found.values())))
        more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
        yield (
            f"Lineage is switched off for {', '.join(silent[:_NAMED])}{more} ({flags}), in a DAG "
            "of a governed model: remove what says so ('disable_lineage', "
            "'extend_global_openlineage_emission_policy', 'params')."
        )


def can_be_silenced(task: Any) -> bool:
    """Whether what a task is mapped over can switch its lineage off when it runs."""
    if not task.is_mapped:
        return False
    over = task.expand_input.value
    return "params" in over if isinstance(over, Mapping) else True


def keep_lineage_on(task: Any) -> None:
    """Take from a task that is about to run what would switch its lineage off.

    Args:
        task: A worker's own copy of it.
    """
    if not any(_switched_off(task.params)):
        return
    task.params = copy(task.params)
    for name in {POLICY, OPTED_IN} & set(task.params):
        del task.params[name]
    task.params[OPTED_IN] = True


def opt_in(dag: Any) -> None:
    """Let a DAG's events out where the deployment asks each author whether they should go.

    This is what ``[openlineage] selective_enable`` and ``enable_lineage`` do together.
    """
    from airflow.sdk.configuration import conf

    if conf.getboolean("openlineage", "selective_enable", fallback=False):
        from airflow.providers.openlineage.utils.selective_enable import enable_lineage

        enable_lineage(dag)


def _switched_off(params: Any) -> Iterator[str]:
    """Yield the names under which parameters say that lineage is to be off."""
    if not isinstance(params, Mapping):
        return
    if _value(params, OPTED_IN) is False:
        yield "disable_lineage"
    policy = _value(params, POLICY)
    if isinstance(policy, Mapping):
        yield from (name for name in SILENCING if not policy.get(name, True))


def _value(params: Any, name: str) -> Any:
    """Return a parameter as it was given: to resolve it could fail."""
    if name not in params:
        return None
    given = params.get_param(name) if hasattr(params, "get_param") else params[name]
    return getattr(given, "value", given)
