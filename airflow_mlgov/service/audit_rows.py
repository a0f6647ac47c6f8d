"""Rows of Airflow's audit log that tell of changes by hand, and whether the ledger tells them too.

Airflow writes a row before it looks whether the user may, and writes none for some routes: a row is
a hint, and that there is none proves nothing. Changes through the api-server are kept by
`airflow_mlgov.enforcement.manual_changes`; what comes past it is what this looks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import PROTECTED, AuditRow, DagRun
from airflow_mlgov.service.changes import HARMLESS
from airflow_mlgov.service.discrepancies import CHANGE, Discrepancy
from airflow_mlgov.service.on_record import OnRecord


@dataclass(frozen=True, slots=True)
class Told:
    """What a row tells was asked for.

    Attributes:
        state: What should become of the tasks, as `airflow_mlgov.service.changes` names it.
        tasks: Ids of the tasks; None for all of the run, or of the DAG's runs.
    """

    state: str
    tasks: frozenset[str] | None


def _patched(row: AuditRow) -> Told | None:
    state = row.extra.get("new_state")
    return Told(state, frozenset({row.task_id})) if isinstance(state, str) else None


def _run_patched(row: AuditRow) -> Told | None:
    state = row.extra.get("state")
    return Told(state, None) if isinstance(state, str) else None


def _cleared(row: AuditRow) -> Told | None:
    """Which tasks a filter by state has left, nobody can say: only what is named counts."""
    named = row.extra.get("task_ids")
    if row.extra.get("only_failed", True) or row.extra.get("only_running") or not named:
        return None
    if not isinstance(named, list):
        return None
    # One map index of a task comes as a pair of both.
    tasks = [item[0] if isinstance(item, list) and item else item for item in named]
    return Told("cleared", frozenset(map(str, tasks)))


def _run_cleared(row: AuditRow) -> Told | None:
    is_filtered = row.extra.get("only_failed") or row.extra.get("only_new")
    return None if is_filtered else Told("cleared", None)


def _all(state: str) -> Callable[[AuditRow], Told]:
    return lambda _row: Told(state, None)


def _xcom(row: AuditRow) -> Told:
    return Told("xcom", frozenset({row.task_id}))


EVENTS: Mapping[str, Callable[[AuditRow], Told | None]] = MappingProxyType(
    {
        "patch_task_instance": _patched,
        "patch_dag_run": _run_patched,
        "post_clear_task_instances": _cleared,
        "clear_dag_run": _run_cleared,
        "delete_dag_run": _all("deleted"),
        "delete_dag": _all("deleted"),
        **dict.fromkeys(("create_xcom_entry", "update_xcom_entry", "delete_xcom_entry"), _xcom),
        **dict.fromkeys(("cli_task_clear", "cli_dag_clear"), _all("cleared")),
        "cli_dag_delete": _all("deleted"),
    }
)
"""Who reads a row, by its event: a function of Airflow's core API, or a command of its CLI."""


def judge_row(record: OnRecord, row: AuditRow, run: DagRun | None) -> Discrepancy | None:
    """Return what a row tells of a gate or protected task, if the ledger does not tell it.

    Args:
        record: The ledger, read some minutes after the row was written.
        row: One of `EVENTS`.
        run: The row's run as Airflow has it; None if it has none, or the row names none.
    """
    told = EVENTS[row.event](row)
    if told is None:
        return None
    touched = _protected(record, row, run)
    touched = touched if told.tasks is None else touched & told.tasks
    if not touched or (run is not None and not _is_done(run, told, touched)):
        return None
    if record.has_change(row, told.state, told.tasks):
        return None
    models = [record.model_of(Source(row.dag_id, row.run_id, task)) for task in sorted(touched)]
    where = f"run {row.run_id!r} of DAG {row.dag_id!r}" if row.run_id else f"DAG {row.dag_id!r}"
    return Discrepancy(
        CHANGE,
        str(row.id),
        Severity.LOW if told.state in HARMLESS else Severity.MEDIUM,
        next(filter(None, models), ""),
        None,
        f"Row {row.id} of Airflow's audit log ({row.event}) tells of a change by hand "
        f"({told.state}) of {', '.join(sorted(touched))} in {where}, and the ledger does not: it "
        "came past the api-server's recorder, or Airflow refused it.",
    )


def _protected(record: OnRecord, row: AuditRow, run: DagRun | None) -> frozenset[str]:
    there = {task.task.task_id for task in run.tasks if task.step in PROTECTED} if run else set()
    return frozenset(there | record.protected_tasks(row.dag_id, row.run_id))


def _is_done(run: DagRun, told: Told, touched: frozenset[str]) -> bool:
    """Whether a run shows that what was asked was done; what it cannot show counts as done."""
    tasks = [task for task in run.tasks if task.task.task_id in touched]
    if told.state == "deleted":
        return False  # it is here
    if told.state == "xcom":
        return True
    if told.state == "cleared":
        return any(len(task.tries) > 1 for task in tasks)
    return any(tried.state == told.state for task in tasks for tried in task.tries)
