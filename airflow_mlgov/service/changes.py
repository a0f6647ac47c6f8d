"""Changes that people make to task states behind a gate's back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.ledger import EntryDraft, Ledger


class ChangedTask(Protocol):
    """The task instance whose state was set, as Airflow's database names it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int


def record_manual_change(ledger: Ledger, task: ChangedTask, state: str) -> None:
    """Put on record that a governed task was set to a state by hand.

    Raises:
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    source = Source(task.dag_id, task.run_id, task.task_id, task.map_index, task.try_number)
    where = (source.dag_id, source.run_id, source.task_id, str(source.map_index))
    draft = EntryDraft(
        kind="state.changed_by_hand",
        model="",
        version=None,
        body={"task": source.task_id, "state": state},
        identity=(*where, state, to_text(datetime.now(UTC))),
        source=source,
    )
    ledger.seal(ledger.append(draft))
