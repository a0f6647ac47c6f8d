"""What may look wrong by one reading of the ledger, kept to be judged by a later one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.service.airflow_records import AuditRow, DagRun
from airflow_mlgov.service.audit_rows import judge_row
from airflow_mlgov.service.discrepancies import Judged, Unchecked, judge_gates, judge_run
from airflow_mlgov.service.lineage_gaps import LineageRecords, ToldEnd, judge_told, judge_untold
from airflow_mlgov.service.on_record import Asked, OnRecord

Suspect: TypeAlias = Callable[[OnRecord], list[Judged]]


@dataclass(frozen=True)
class RunSuspect:
    """A run, and what was asked in it."""

    asked: list[Asked]
    run: DagRun | None

    def __call__(self, record: OnRecord) -> list[Judged]:
        """Judge it."""
        judged = list(judge_run(record, self.run)) if self.run else []
        return judged + list(judge_gates(record, self.asked, self.run))


@dataclass(frozen=True)
class RowSuspect:
    """A row of Airflow's audit log, and the run that it names."""

    row: AuditRow
    run: DagRun | None

    def __call__(self, record: OnRecord) -> list[Judged]:
        """Judge it."""
        found = judge_row(record, self.row, self.run)
        return [found] if found else []


@dataclass(frozen=True)
class UntoldSuspect:
    """A run of which lineage may have nothing."""

    run: DagRun
    lineage: LineageRecords

    def __call__(self, record: OnRecord) -> list[Judged]:
        """Judge it."""
        try:
            return list(judge_untold(record, self.run, self.lineage))
        except LedgerUnavailableError as error:
            return [Unchecked("", f"Lineage: {error.problem}")]


@dataclass(frozen=True)
class ToldSuspect:
    """What lineage says, and the ledger may not."""

    told: ToldEnd

    def __call__(self, record: OnRecord) -> list[Judged]:
        """Judge it."""
        return list(judge_told(record, self.told))
