"""Notes in the ledger when somebody sets the state of a gate or protected task by hand.

Airflow calls these hooks in the api-server with its own database row, and in the task process with
a runtime object; only the first is a change by hand. The hook is not told who did it: what comes by
the api-server's routes is refused, or put on record with a name, by
`airflow_mlgov.enforcement.manual_changes`, and is left alone here. This is for what that does not
foresee.

Lineage has each such change as a run of its own, ``<dag>.<task>.by_hand``: the provider's event
names neither the operator nor the state, and a second one in the task's run would be one end too
many.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.listeners.by_hand import tell_by_hand

log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:  # noqa: ARG001
    """Note a success that was set by hand."""
    _note(task_instance, "success")


@hookimpl
def on_task_instance_skipped(previous_state: Any, task_instance: Any) -> None:  # noqa: ARG001
    """Note a skip that was set by hand."""
    _note(task_instance, "skipped")


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:  # noqa: ARG001
    """Tell of a failure that was set by hand; it lets nobody through, and is no entry."""
    if hasattr(task_instance, "operator") and getattr(task_instance, "task", None) is None:
        tell_by_hand(task_instance, "failed")


def _note(task_instance: Any, state: str) -> None:
    # A task process holds RuntimeTaskInstance, which has no 'operator': that is not a change by
    # hand.
    if not hasattr(task_instance, "operator"):
        return
    from airflow_mlgov.service.changes import is_governed, record_manual_change
    from airflow_mlgov.wiring import open_inventory, open_ledger

    is_ours = is_governed(task_instance.operator, task_instance.custom_operator_name)
    try:
        folder = None if is_ours else open_inventory()
        named = folder.named_tasks(task_instance.dag_id) if folder else {}
        if not is_ours and task_instance.task_id not in named:
            return
        record_manual_change(open_ledger(), task_instance, state)
    except MlgovError:
        log.exception("A state that was changed by hand could not be noted in the ledger.")
    tell_by_hand(task_instance, state)
