"""Runs of governed tasks of which lineage has no word, and lineage of which the ledger has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import DagRun
from airflow_mlgov.service.discrepancies import Discrepancy, where
from airflow_mlgov.service.on_record import OnRecord

LINEAGE = "reconcile.lineage"

USE, APPROVE = "use", "approve"
"""Roles: each try of a use leaves an entry of its own; a gate need not ask, if glass was broken."""


@dataclass(frozen=True, slots=True)
class ToldEnd:
    """What lineage says of a governed task that ended well.

    Attributes:
        task: Which, with its try.
        model: Inventory id; empty if it is not said.
        role: What it did with the model, as the facet ``mlgov_governed`` has it.
        at: When the event was kept.
    """

    task: Source
    model: str
    role: str
    at: datetime


class LineageRecords(Protocol):
    """What lineage has on record.

    Every method raises `LedgerUnavailableError` (a retry may help) if the outbox cannot be read.
    """

    def span(self) -> tuple[datetime, datetime] | None:
        """Return between which moments every event that was sent can be read; None if none can."""
        ...

    def is_told(self, task: Source, dated_at: datetime) -> bool | None:
        """Tell whether there is an event of a task's try; None if the deployment wants none of it.

        Args:
            task: Which, with its try.
            dated_at: What its run is for, as `DagRun.dated_at` has it.
        """
        ...

    def ends(self, since: datetime) -> Iterator[ToldEnd]:
        """Yield governed tasks that ended well, by the events kept since."""
        ...


def judge_untold(record: OnRecord, run: DagRun, lineage: LineageRecords) -> Iterator[Discrepancy]:
    """Yield the tries of a run that left entries in the ledger, but no event.

    Args:
        record: The ledger.
        run: As Airflow has it.
        lineage: The outbox.
    """
    span = lineage.span()
    if span is None or run.dated_at is None:
        return
    for entry in record.of_run(run.dag_id, run.run_id):
        is_settled = span[0] <= entry.at < span[1]
        if is_settled and lineage.is_told(entry.source, run.dated_at) is False:
            yield _gap(
                entry.source,
                Severity.MEDIUM,
                entry.model,
                f"has left {entry.kind} in the ledger, but no event in lineage: something has kept "
                "it silent.",
            )


def judge_told(record: OnRecord, told: ToldEnd) -> Iterator[Discrepancy]:
    """Yield what lineage says that a governed task has done, and of which the ledger has nothing.

    Args:
        record: The ledger, read after the event was.
        told: What lineage says.
    """
    if told.role == APPROVE:
        return
    tries = {
        entry.source.try_number
        for entry in record.of_run(told.task.dag_id, told.task.run_id)
        if entry.source.task == told.task.task
    }
    number = told.task.try_number
    is_known = number in tries if told.role == USE else any(known <= number for known in tries)
    if not is_known and told.at >= record.begun_at:
        yield _gap(
            told.task,
            Severity.HIGH,
            told.model,
            f"has ended well by what lineage says ({told.role}), but has left no entry in the "
            "ledger.",
        )


def _gap(task: Source, severity: Severity, model: str, what: str) -> Discrepancy:
    named = f"{task.task_id!r} of run {task.run_id!r} of DAG {task.dag_id!r}"
    segment = f"{where(task)} {task.try_number}"
    summary = f"Task {named}, try {task.try_number}, {what}"
    return Discrepancy(LINEAGE, segment, severity, model, None, summary)
