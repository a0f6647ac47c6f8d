"""What Airflow says about runs, tasks and changes by hand: claims, to be held against the ledger.

The port is here, with what goes through it; `airflow_mlgov.hooks.airflow_api` is behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from airflow_mlgov.records.source import Source


class Step(StrEnum):
    """What a task does that must leave an entry in the ledger."""

    GATE = "gate"
    PROMOTION = "promotion"
    SCORING = "scoring"
    TRAINING = "training"
    VALIDATION = "validation"


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "ApprovalGateOperator": Step.GATE,
        "PromoteModelOperator": Step.PROMOTION,
        "GovernedTaskOperator": Step.SCORING,
        "@task.governed": Step.SCORING,
        "ScoreBatchOperator": Step.SCORING,
        "TrainModelOperator": Step.TRAINING,
        "ValidateModelOperator": Step.VALIDATION,
    }
)
"""By the names that Airflow knows an operator by: its class, or its ``custom_operator_name``."""

PROTECTED = frozenset({Step.GATE, Step.PROMOTION, Step.SCORING})
"""Steps whose changes by hand are kept by the api-server."""


@dataclass(frozen=True, slots=True)
class TaskTry:
    """One try of a task instance.

    Attributes:
        number: First try is 1; 0 before the first has begun.
        state: Airflow's word for it; empty if it has none yet.
        ended_at: When it ended; None if it has not, or if Airflow does not know.
    """

    number: int
    state: str
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task instance with all its tries.

    Attributes:
        task: Which, its try left at 0.
        step: What it does.
        tries: Oldest first, the present one last; at least one.
        fields: Rendered template fields that are text; empty if it never ran, or if Airflow has
            dropped them.
    """

    task: Source
    step: Step
    tries: tuple[TaskTry, ...]
    fields: Mapping[str, str]

    @property
    def present(self) -> TaskTry:
        """The try that Airflow shows."""
        return self.tries[-1]

    @property
    def is_begun(self) -> bool:
        """Whether the present try ever began: a cleared task keeps the number of its last try."""
        number = self.present.number
        return number > 0 and all(earlier.number != number for earlier in self.tries[:-1])


@dataclass(frozen=True, slots=True)
class DagRun:
    """A run with those of its tasks that leave entries in the ledger.

    Attributes:
        dag_id: DAG.
        run_id: Run of it.
        state: Airflow's word for it.
        tasks: Gates, protected tasks, trainings and validations, mapped ones one by one.
        dated_at: What it is for: its logical date, or else when it was to run after; None if that
            is not known.
    """

    dag_id: str
    run_id: str
    state: str
    tasks: tuple[TaskRun, ...]
    dated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of Airflow's audit log; Airflow writes it before it looks whether the user may.

    Attributes:
        id: Number of the row.
        at: When, by Airflow's clock.
        event: What was asked for, such as ``patch_task_instance``.
        dag_id: DAG; empty if the row names none.
        run_id: Run; empty if the row names none.
        task_id: Task; empty if the row names none.
        extra: What else was asked, as far as Airflow keeps it.
    """

    id: int
    at: datetime
    event: str
    dag_id: str
    run_id: str
    task_id: str
    extra: Mapping[str, Any]


class AirflowRecords(Protocol):
    """What Airflow has on record.

    Every method raises `AirflowUnavailableError` (a retry may help) if Airflow cannot be reached,
    and `AirflowRefusedError` (a retry does not help) if it does not let us read. What an iterator
    yields is complete, or it raises.
    """

    def version(self) -> str:
        """Return Airflow's version."""
        ...

    def touched_runs(self, since: datetime) -> Iterator[tuple[str, str]]:
        """Yield DAG and run of each task that leaves entries and was changed since, at least once.

        Only DAGs that we may read.
        """
        ...

    def runs_of(self, dag_id: str, since: datetime) -> Iterator[str]:
        """Yield the runs of a DAG that were changed since; none for a DAG that is gone."""
        ...

    def run(self, dag_id: str, run_id: str) -> DagRun | None:
        """Return a run, or None if Airflow has it no more."""
        ...

    def changes(self, since: datetime, until: datetime) -> Iterator[AuditRow]:
        """Yield the changes by hand in the audit log between two moments, oldest first."""
        ...
