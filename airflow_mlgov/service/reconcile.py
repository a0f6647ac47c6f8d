"""Reconciling: what the ledger cannot prove of itself, that nothing was left out, is looked for.

Airflow's runs and audit log, lineage, the registry's aliases and the jobs of clouds are compared
with the ledger. What is said differently becomes a finding; what could not be compared is said too,
and is not taken for right.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_mlgov.errors import (
    AirflowRefusedError,
    AirflowUnavailableError,
    LedgerConflictError,
    LedgerUnavailableError,
    MlgovError,
    RegistryError,
    RegistryUnavailableError,
)
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.canonical import signable_text
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.governance import Finding, Severity
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import AirflowRecords, AuditRow, DagRun
from airflow_mlgov.service.aliases import (
    Alias,
    compare_alias,
    compare_statuses,
    governed_aliases,
    repair_alias,
)
from airflow_mlgov.service.discrepancies import (
    Discrepancy,
    Judged,
    Unchecked,
    judge_entry,
)
from airflow_mlgov.service.findings import all_findings, finding_id
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, SealedReceipt
from airflow_mlgov.service.lineage_gaps import LineageRecords
from airflow_mlgov.service.lone_jobs import OpenJobs, jobs_without_end, judge_job
from airflow_mlgov.service.on_record import APART, Asked, OnRecord, last_complete_end
from airflow_mlgov.service.ports import Registry
from airflow_mlgov.service.suspects import (
    RowSuspect,
    RunSuspect,
    Suspect,
    ToldSuspect,
    UntoldSuspect,
)

OVERLAP = timedelta(days=1)
"""How far each comparison reaches back behind the end of the last one."""

GATES_KEPT = timedelta(days=30)
"""How long Airflow must keep a run: a gate that vanished later than this is nobody's fault."""

DUE_DAYS = {Severity.HIGH: 7, Severity.MEDIUM: 30, Severity.LOW: 90}
"""Days in which a finding must be dealt with."""

MAX_SUMMARY = 1000
MOST_UNCHECKED = 20
"""How many of the things that could not be compared the entry names; it counts them all."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be compared.

    Attributes:
        model: Only what is about this model; None for everything.
        since: From when on; None for a day before the end of the last comparison.
        repair: Whether aliases are put back to the last promotion on record.
        source: Which task compares, if one does.
    """

    model: str | None = None
    since: datetime | None = None
    repair: bool = False
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True)
class Found:
    """A discrepancy and the finding that stands for it.

    Attributes:
        finding: Id of the finding.
        discrepancy: What is said differently.
        is_new: Whether this comparison opened the finding.
        is_open: Whether nobody has closed it.
        repair: What was done about it; empty if nothing was to be done.
    """

    finding: str
    discrepancy: Discrepancy
    is_new: bool
    is_open: bool
    repair: str = ""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How a comparison came out.

    Attributes:
        since: From when on runs and changes were compared.
        until: Up to when.
        airflow: Airflow's version; empty if it did not answer.
        counts: How many of what were compared.
        found: What is said differently.
        unchecked: What could not be compared.
        receipt: Of the entry ``reconciled``.
    """

    since: datetime
    until: datetime
    airflow: str
    counts: dict[str, int]
    found: tuple[Found, ...]
    unchecked: tuple[str, ...]
    receipt: SealedReceipt

    @property
    def is_clean(self) -> bool:
        """Whether everything was compared, and nothing is open."""
        return not self.unchecked and not any(found.is_open for found in self.found)


def reconcile(
    gov: Governance,
    airflow: AirflowRecords,
    registries: Sequence[Registry],
    scope: Scope,
    lineage: LineageRecords | None = None,
    *,
    open_jobs: OpenJobs | None = None,
) -> Reconciliation:
    """Compare Airflow, registry and lineage with the ledger, open findings, put that on record.

    A finding is opened once for each thing; one that was closed is opened again only if it is about
    how things stand now. If Airflow or the registry cannot be reached, the rest is compared all the
    same, and the next comparison begins where the last complete one ended.

    Args:
        gov: With the writer's key.
        airflow: What Airflow says.
        registries: Where the models' versions live.
        scope: What to compare.
        lineage: What lineage says; None if nobody can say that, and it is not compared.
        open_jobs: What tells whether jobs go on that no task waits for; None to leave them out.

    Raises:
        UnknownSubjectError: The inventory has no such model; a retry does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
        LedgerIntegrityError: The ledger does not verify; a retry does not help.
    """
    if scope.model is not None:
        gov.model(scope.model)
    comparison = _Comparison(gov, airflow, scope, lineage)
    with comparison.as_far_as_possible("Airflow", AirflowUnavailableError, AirflowRefusedError):
        comparison.read_airflow()
    with comparison.as_far_as_possible("Lineage", LedgerUnavailableError):
        comparison.read_lineage()
    comparison.judge_again()
    comparison.check_entries()
    if open_jobs is not None:
        comparison.check_jobs(open_jobs)
    for each in registries:
        with comparison.as_far_as_possible("Registry", RegistryUnavailableError):
            comparison.check_registry(each)
    return comparison.put_on_record()


class _Comparison:
    """One comparison on its way: what it has seen, and what it makes of that."""

    def __init__(
        self,
        gov: Governance,
        airflow: AirflowRecords,
        scope: Scope,
        lineage: LineageRecords | None,
    ) -> None:
        self.gov, self.airflow, self.scope, self.lineage = gov, airflow, scope, lineage
        self.until = gov.clock.now()
        self.view = gov.ledger.view()
        self.record = OnRecord(gov, self.view)
        last_end = last_complete_end(self.view, scope.model, self.until)
        self.since = scope.since or (last_end - OVERLAP if last_end else self.record.begun_at)
        self.version = ""
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("runs", "tasks", "gates", "changes", "entries", "aliases"), 0)
        )
        self.judged: dict[tuple[str, str], Judged] = {}
        self.repairs: dict[str, str] = {}
        self.suspects: list[Suspect] = []

    @contextmanager
    def as_far_as_possible(self, what: str, *errors: type[MlgovError]) -> Iterator[None]:
        """Note what cannot be read instead of failing."""
        try:
            yield
        except errors as error:
            self._keep(Unchecked("", f"{what}: {error.problem}"))

    def read_airflow(self) -> None:
        """Compare runs and audit log, and keep what looks wrong."""
        self.version = self.airflow.version()
        gates = self._gates_in_scope()
        for dag_id, run_id in self._runs(gates):
            with self.as_far_as_possible(f"Run {run_id!r} of DAG {dag_id!r}", AirflowRefusedError):
                run = self.airflow.run(dag_id, run_id)
                self._suspect(RunSuspect(gates.get((dag_id, run_id), []), run))
                if run is not None and self.lineage is not None:
                    self._suspect(UntoldSuspect(run, self.lineage))
                self.counts["runs"] += run is not None
                self.counts["tasks"] += len(run.tasks) if run else 0
        for row in self.airflow.changes(self.since, self.until - APART):
            with self.as_far_as_possible(f"Audit log, row {row.id}", AirflowRefusedError):
                self._suspect(RowSuspect(row, self._run_of(row)))
                self.counts["changes"] += 1

    def read_lineage(self) -> None:
        """Compare what lineage says that governed tasks have done."""
        if self.lineage is None:
            return
        self.counts["events"] = 0
        for told in self.lineage.ends(self.since):
            self._suspect(ToldSuspect(told))
            self.counts["events"] += 1

    def judge_again(self) -> None:
        """Judge what looked wrong by a ledger that was read after it.

        While Airflow was read, a task may have ended, or a change been put on record.
        """
        self.view = self.gov.ledger.view()
        self.record = OnRecord(self.gov, self.view)
        for judge in self.suspects:
            self._keep(*judge(self.record))

    def check_entries(self) -> None:
        """Look for entries that count for nothing."""
        self.counts["entries"] = len(self.view.leaves)
        for violation in self.view.violations:
            self._keep(judge_entry(violation, self.view.leaves[violation.index]))

    def check_jobs(self, open_jobs: OpenJobs) -> None:
        """Look for jobs that go on, and that no task waits for."""
        self.counts["jobs"] = 0
        with self.as_far_as_possible("Airflow", AirflowUnavailableError, AirflowRefusedError):
            for job in jobs_without_end(self.view, self.until - GATES_KEPT):
                if self.scope.model in {None, job.model}:
                    self._keep(*judge_job(job, self.airflow, open_jobs, self.until))
                    self.counts["jobs"] += 1

    def check_registry(self, registry: Registry) -> None:
        """Compare aliases, and put them back if that was asked for; then what is shown approved."""
        for alias in governed_aliases(self.gov, self.view, self.scope.model):
            judged = compare_alias(self.gov, registry, alias)
            self.counts["aliases"] += 1
            if judged is None:
                continue
            self._keep(judged)
            if self.scope.repair and isinstance(judged, Discrepancy):
                self._repair(registry, alias, judged)
        for entry in self.gov.inventory.values():
            if self.scope.model in {None, entry.id}:
                for found in compare_statuses(self.gov, registry, entry):
                    self._keep(found)

    def put_on_record(self) -> Reconciliation:
        """Open the findings, then say what was compared."""
        found = tuple(self._open(d) for d in self.judged.values() if isinstance(d, Discrepancy))
        unchecked = tuple(u.what for u in self.judged.values() if isinstance(u, Unchecked))
        self.counts["findings"] = len(found)
        self.counts["new_findings"] = sum(one.is_new for one in found)
        self.counts["unchecked"] = len(unchecked)
        body = {
            "since": to_text(self.since),
            "until": to_text(self.until),
            "airflow": self.version,
            "counts": dict(self.counts),
            "unchecked": [signable_text(u, MAX_SUMMARY // 4) for u in unchecked[:MOST_UNCHECKED]],
        }
        each = (secrets.token_hex(16),)
        draft = EntryDraft(
            "reconciled", self.scope.model or "", None, body, each, source=self.scope.source
        )
        receipt = self.gov.ledger.seal(self.gov.ledger.append(draft))
        return Reconciliation(
            self.since,
            self.until,
            self.version,
            dict(self.counts),
            found,
            unchecked,
            receipt,
        )

    def _gates_in_scope(self) -> dict[tuple[str, str], list[Asked]]:
        """Return what was asked, by run, where Airflow must still have the gate."""
        oldest = self.until - GATES_KEPT
        gates: dict[tuple[str, str], list[Asked]] = defaultdict(list)
        for asked in self.record.asked:
            is_recent = asked.at >= max(self.since, oldest)
            is_waiting = asked.decision is Decision.OPEN and asked.at >= oldest
            if is_recent or is_waiting:
                gates[asked.gate[:2]].append(asked)
                self.counts["gates"] += 1
        return gates

    def _runs(self, gates: dict[tuple[str, str], list[Asked]]) -> list[tuple[str, str]]:
        """Return the runs to compare: those that anything changed in since, and those that asked.

        A state that is forced in the database changes no time of its task, but the run that goes on
        because of it changes.
        """
        runs = set(gates) | set(self.airflow.touched_runs(self.since))
        for dag_id in sorted({dag_id for dag_id, _ in runs} | self.record.dag_ids):
            with self.as_far_as_possible(f"DAG {dag_id!r}", AirflowRefusedError):
                runs |= {(dag_id, run) for run in self.airflow.runs_of(dag_id, self.since)}
        return sorted(runs)

    def _run_of(self, row: AuditRow) -> DagRun | None:
        is_named = row.run_id and row.dag_id not in {"", "~"}
        return self.airflow.run(row.dag_id, row.run_id) if is_named else None

    def _suspect(self, judge: Suspect) -> None:
        if judge(self.record):
            self.suspects.append(judge)

    def _keep(self, *judged: Judged) -> None:
        """Keep what is in scope, each thing once."""
        for one in judged:
            is_meant = self.scope.model in {None, one.model}
            if isinstance(one, Discrepancy):
                if is_meant:
                    self.judged[one.test, one.segment] = one
                elif not one.model:
                    what = f"Nobody can say which model this is about: {one.summary}"
                    self.judged["", what] = Unchecked("", what)
            elif is_meant or not one.model:
                self.judged["", one.what] = one

    def _repair(self, registry: Registry, alias: Alias, wrong: Discrepancy) -> None:
        what = f"Alias {alias.name!r} of model {alias.entry.id!r}"
        with self.as_far_as_possible(what, RegistryError):
            done = repair_alias(self.gov, registry, alias, self.scope.source)
            self.repairs[wrong.segment] = done

    def _open(self, wrong: Discrepancy) -> Found:
        id_ = finding_id(wrong.model, wrong.version, wrong.test, wrong.segment)
        known = self._known(id_, wrong)
        if known is not None and (known.is_open or not wrong.is_lasting):
            return Found(id_, wrong, False, known.is_open, self.repairs.get(wrong.segment, ""))
        owner = self.gov.inventory[wrong.model].owner if wrong.model in self.gov.inventory else ""
        due_at = self.until + timedelta(days=DUE_DAYS[wrong.severity])
        draft = EntryDraft(
            kind="finding.opened",
            model=wrong.model,
            version=wrong.version,
            body={
                "finding": id_,
                "severity": wrong.severity.value,
                "test": wrong.test,
                "due_at": to_text(due_at),
                "segment": signable_text(wrong.segment, MAX_SUMMARY),
            },
            identity=(id_, str(wrong.version), self._times_closed(id_)),
            people={"owner": Person(owner, owner)} if owner else {},
            texts={"summary": signable_text(wrong.summary, MAX_SUMMARY)},
            source=self.scope.source,
        )
        with suppress(LedgerConflictError):  # somebody else who compares has just opened it
            self.gov.ledger.append(draft)
        return Found(id_, wrong, True, True, self.repairs.get(wrong.segment, ""))

    def _known(self, id_: str, wrong: Discrepancy) -> Finding | None:
        for finding in all_findings(self.view, wrong.model):
            if (finding.id, finding.version) == (id_, wrong.version):
                return finding
        return None

    def _times_closed(self, id_: str) -> str:
        closed = self.view.select("finding.closed")
        return str(sum(entry.body["finding"] == id_ for entry in closed))
