"""Changes that people make to gates and the tasks behind them, past the gate's form."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Ledger

GOVERNED = frozenset(
    {
        "ApprovalGateOperator",
        "GovernedTaskOperator",
        "PromoteModelOperator",
        "ScoreBatchOperator",
    }
)
"""Classes of gates and protected tasks, by whose names Airflow's database knows an operator."""

GOVERNED_NAMES = frozenset(
    {"@task.governed", "ApprovalGateOperator", "PromoteModelOperator", "ScoreBatchOperator"}
)
"""Their ``custom_operator_name``: subclasses inherit it."""

HARMLESS = frozenset({"failed", "queued", "cleared"})
"""What lets nobody through: a gate that runs again reads the ledger, a protected task verifies."""

SEAL_TIMEOUT_S = 5.0
"""How long a person waits for a checkpoint over what is kept already."""

_named: ContextVar[frozenset[tuple[str, str, str]]] = ContextVar(
    "mlgov_named_changes", default=frozenset()
)


def is_governed(operator: str | None, custom_name: str | None) -> bool:
    """Tell whether a task instance is a gate's or a protected task's, by its operator's names."""
    return operator in GOVERNED or custom_name in GOVERNED_NAMES


class ChangedTask(Protocol):
    """The task instance whose state was set, as Airflow's database names it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int


@dataclass(frozen=True, slots=True)
class ManualChange:
    """What somebody asks the api-server to do to a gate or protected task.

    Attributes:
        task: Which; its run is empty if it is about every run, or about runs chosen by date.
        state: ``success``, ``skipped``, ``failed``, ``queued``, ``cleared``, ``deleted`` or
            ``xcom``.
        model: The model that the task names, as its DAG says it: an id or a template.
    """

    task: Source
    state: str
    model: str

    @property
    def is_harmless(self) -> bool:
        """Whether this lets nobody through, whatever the model's mode."""
        return self.state in HARMLESS

    def is_refused(self, gov: Governance) -> bool:
        """Whether the model's mode refuses this.

        A model that is known only when the task runs counts as the strictest of all.
        """
        if self.is_harmless:
            return False
        known = gov.inventory.get(self.model)
        modes = [known] if known else gov.inventory.values()
        return not modes or any(entry.mode is Mode.ENFORCE for entry in modes)


def record_changes(
    gov: Governance, changes: Collection[ManualChange], person: Person, *, refused: bool
) -> None:
    """Put on record, under the attestor's key, who changed or tried to change which tasks.

    Args:
        gov: With the attestor's key.
        changes: What was asked for in one request, at least one.
        person: Who is signed in.
        refused: Whether the request was refused.

    Raises:
        LedgerUnavailableError: It cannot be put on record, or under a checkpoint in time; a retry
            may help.
        ConfigurationError: This process does not hold the attestor's key; a retry does not help.
    """
    request = uuid.uuid4().hex
    for change in changes:
        draft = EntryDraft(
            kind="state.changed_by_hand",
            model=change.model if change.model in gov.inventory else "",
            version=None,
            body={"task": change.task.task_id, "state": change.state, "refused": refused},
            identity=(request, *map(str, change.task.task), change.state),
            people={"by": person},
            source=change.task,
        )
        receipt = gov.ledger.append(draft, role=KeyRole.ATTESTOR)
    gov.ledger.seal(receipt, timeout_s=SEAL_TIMEOUT_S)


@contextmanager
def named(changes: Collection[ManualChange]) -> Iterator[None]:
    """While it lasts, changes of these tasks are not recorded without a name as well."""
    token = _named.set(frozenset(change.task.task[:3] for change in changes))
    try:
        yield
    finally:
        _named.reset(token)


def record_manual_change(ledger: Ledger, task: ChangedTask, state: str) -> None:
    """Put on record that a governed task was set to a state by hand, nobody knows by whom.

    Nothing is written for a change that is put on record with a name; see `named`.

    Raises:
        LedgerUnavailableError: The ledger cannot be written; a retry may help.
    """
    if (task.dag_id, task.run_id, task.task_id) in _named.get():
        return
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
