"""What the ledger has on record about Airflow's tasks, laid out to be compared with what they did.

Approvals are counted again: an entry that says it rests on one counts only if it does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.clock import from_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import AuditRow, Step
from airflow_mlgov.service.approvals import Standing, requests, standings
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry
from airflow_mlgov.service.verify_use import STOPPED

Task: TypeAlias = tuple[str, str, str, int]

APART = timedelta(minutes=5)
"""How far the clocks of audit log and ledger may differ over one change by hand."""

_KINDS = {
    Step.PROMOTION: "model.promoted",
    Step.SCORING: "model.scored",
    Step.TRAINING: "model.trained",
    Step.VALIDATION: "model.validated",
}
_ALSO = (
    "approval.requested",
    "data.validated",
    "guard.refused",
    "model.deployed",
    "model.trained_outside",
)
_ASKED = ("approval.requested", "approval.voted", "approval.granted", "approval.denied")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its gate put it.

    Attributes:
        gate: The task instance that asked.
        request: Digest of the request, as text.
        model: Inventory id.
        version: What it asks about.
        decision: What its votes come to, counted again; None if that cannot be told.
        at: When the last entry about it was written.
    """

    gate: Task
    request: str
    model: str
    version: Digest
    decision: Decision | None
    at: datetime


class OnRecord:
    """A verified ledger, by task.

    Args:
        gov: Rules and evidence to count approvals with.
        view: Verified ledger.
    """

    def __init__(self, gov: Governance, view: LedgerView) -> None:
        self._inventory = gov.inventory
        self.begun_at = view.select("genesis")[0].at
        self.asked = _asked(gov, view)
        self._by_gate: dict[Task, list[Asked]] = defaultdict(list)
        for asked in self.asked:
            self._by_gate[asked.gate].append(asked)
        self._requests = {asked.request: asked for asked in self.asked}
        self._emergencies = break_glasses(view)
        self._entries: dict[tuple[str, Task], list[SealedEntry]] = defaultdict(list)
        self._of_runs: dict[tuple[str, str], list[SealedEntry]] = defaultdict(list)
        self._of_tasks: dict[tuple[str, str], set[str]] = defaultdict(set)
        for entry in view.select(*_KINDS.values(), *_ALSO):
            source = entry.source
            self._entries[entry.kind, source.task].append(entry)
            self._of_runs[source.dag_id, source.run_id].append(entry)
            self._of_tasks[source.dag_id, source.task_id].add(entry.model)
        self._changes = [
            entry
            for entry in view.select("state.changed_by_hand")
            if entry.signed_by is KeyRole.ATTESTOR
        ]

    @property
    def dag_ids(self) -> set[str]:
        """DAGs whose tasks left entries."""
        return {dag_id for dag_id, _ in self._of_runs} - {""}

    def of_run(self, dag_id: str, run_id: str) -> Sequence[SealedEntry]:
        """Return what the tasks of a run left on record, in ledger order."""
        return self._of_runs.get((dag_id, run_id), ())

    def asked_by(self, gate: Source) -> Sequence[Asked]:
        """Return what a gate asked, in ledger order."""
        return self._by_gate.get(gate.task, ())

    def entries(self, step: Step, task: Source) -> Sequence[SealedEntry]:
        """Return what a task left on record as having done its step."""
        return self._entries.get((_KINDS[step], task.task), ())

    def decision(self, entry: SealedEntry) -> Decision | None:
        """Return what the approval that an entry names comes to; None if that cannot be told.

        One of another version grants nothing. Broken glass that covers the entry does.
        """
        if any(glass.covers(entry) for glass in self._emergencies):
            return Decision.GRANTED
        asked = self._requests.get(entry.body["request_sha256"])
        if asked is None or (asked.model, asked.version) != (entry.model, entry.version):
            return Decision.OPEN
        return asked.decision

    def was_emergency(self, gate: Source, model: str, at: datetime | None) -> bool:
        """Tell whether glass was broken at a moment for what a gate's run is about.

        The gate then asked nobody. Of a run that left no version on record nobody can say.
        """
        entries = self._of_runs.get((gate.dag_id, gate.run_id), ())
        versions = {entry.version for entry in entries if entry.model == model} - {None}
        return at is not None and any(
            glass.entry.model == model
            and (not versions or glass.entry.version in versions)
            and glass.entry.at - APART <= at < glass.until + APART
            for glass in self._emergencies
        )

    def was_let_run(self, task: Source, try_number: int) -> bool:
        """Tell whether a guard refused a try and its model's mode let it run all the same."""
        return any(
            entry.source.try_number == try_number
            and entry.body["check"] != STOPPED
            and self._mode(entry) in {Mode.OBSERVE, Mode.WARN}
            for entry in self._entries.get(("guard.refused", task.task), ())
        )

    def is_by_hand(self, task: Source, state: str) -> bool:
        """Tell whether the api-server let somebody change a task so, and put that on record."""
        return any(
            entry.body["state"] == state
            and entry.body.get("refused") is False
            and entry.source.dag_id == task.dag_id
            and entry.source.run_id in {"", task.run_id}
            and entry.source.task_id == task.task_id
            for entry in self._changes
        )

    def has_change(self, row: AuditRow, state: str, tasks: frozenset[str] | None) -> bool:
        """Tell whether the api-server put a change on record that the audit log tells of."""
        return any(
            entry.body["state"] == state
            and entry.source.dag_id == row.dag_id
            and (not row.run_id or entry.source.run_id in {"", row.run_id})
            and (tasks is None or entry.source.task_id in tasks)
            and abs(entry.at - row.at) <= APART
            for entry in self._changes
        )

    def model_of(self, task: Source, named: str = "") -> str:
        """Return the model that a task is about; empty if nobody can say.

        Args:
            task: Which.
            named: What the task itself says, if it got so far.
        """
        if named in self._inventory:
            return named
        of_run = {entry.model for entry in self._of_runs.get((task.dag_id, task.run_id), ())}
        for models in (of_run, self._of_tasks.get((task.dag_id, task.task_id), set())):
            if len(models - {""}) == 1:
                return next(iter(models - {""}))
        return ""

    def version_of(self, dag_id: str, run_id: str, model: str) -> Digest | None:
        """Return the version that a run asked for approval of, or else used; None if none."""
        entries = [e for e in self._of_runs.get((dag_id, run_id), ()) if e.model == model]
        asked = [e for e in entries if e.kind == "approval.requested"]
        versions = [entry.version for entry in asked or entries if entry.version is not None]
        return versions[-1] if versions else None

    def protected_tasks(self, dag_id: str, run_id: str) -> set[str]:
        """Return the gates and protected tasks that left entries in a run, or in a DAG's runs.

        Args:
            dag_id: DAG.
            run_id: Run of it; empty for all of them.
        """
        kinds = {"approval.requested", "model.promoted", "model.scored"}
        return {
            task
            for (kind, (dag, run, task, _)), entries in self._entries.items()
            if kind in kinds
            and dag == dag_id
            and run_id in {"", run}
            # What is only named in the inventory may be changed by hand, and nobody notes it.
            and "loaded_by" not in entries[0].body
        }

    def _mode(self, entry: SealedEntry) -> Mode | None:
        if "mode" in entry.body:
            return Mode(entry.body["mode"])
        known = self._inventory.get(entry.model)
        return known.mode if known else None


def last_complete_end(view: LedgerView, model: str | None, now: datetime) -> datetime | None:
    """Return up to when the last comparison went that left nothing unchecked; None if none did.

    Args:
        view: Verified ledger.
        model: What is to be compared: one model, or everything.
        now: A task can write such an entry: one that ends later would leave nothing to compare.
    """
    complete = [
        from_text(entry.body["until"])
        for entry in view.select("reconciled")
        if entry.model in {"", model} and not entry.body["unchecked"]
    ]
    return max((until for until in complete if until <= now), default=None)


def _asked(gov: Governance, view: LedgerView) -> list[Asked]:
    counted: Mapping[Digest, Standing] = {s.request.digest: s for s in standings(gov, view)}
    last = {entry.body.get("request_sha256"): entry.at for entry in view.select(*_ASKED)}
    found = []
    for _, request in requests(view):
        standing = counted.get(request.digest)
        found.append(
            Asked(
                gate=(request.dag_id, request.run_id, request.task_id, request.map_index),
                request=str(request.digest),
                model=request.model,
                version=request.version,
                decision=standing.decision if standing else None,
                at=last[str(request.digest)],
            )
        )
    return found
