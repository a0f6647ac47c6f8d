"""What Airflow, the registry and the ledger say differently: facts in, discrepancies out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.ledger.entry import is_identifier
from airflow_mlgov.ledger.view import Violation, claims_of
from airflow_mlgov.policy.tally import Decision
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Severity
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import DagRun, Step, TaskRun, TaskTry
from airflow_mlgov.service.on_record import Asked, OnRecord

TASK, GATE, EVIDENCE = "reconcile.task", "reconcile.gate", "reconcile.evidence"
VANISHED, ENTRY, CHANGE = "reconcile.vanished", "reconcile.entry", "reconcile.change"
ALIAS, STATUS, JOB = "reconcile.alias", "reconcile.status", "reconcile.job"

UNCOUNTED = "its approval cannot be counted: its policy pack, or the model's rules, are missing"


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that is said differently.

    Attributes:
        test: What was compared, as a finding names its test.
        segment: Which task, entry, alias or row; the same again whenever it is looked for.
        severity: How bad it is.
        model: Inventory id; empty if nobody can say.
        version: Manifest digest; None if it is about no version, or if nobody can say which.
        summary: What is wrong, for people; names nobody.
    """

    test: str
    segment: str
    severity: Severity
    model: str
    version: Digest | None
    summary: str

    @property
    def is_lasting(self) -> bool:
        """Whether it is about how things stand now, and not about what once happened."""
        return self.test in {ALIAS, STATUS, JOB}


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Something that could not be compared, which is not to say that it is right.

    Attributes:
        model: Inventory id; empty if nobody can say.
        what: What it is, and why not, in one sentence.
    """

    model: str
    what: str


Judged: TypeAlias = Discrepancy | Unchecked


def judge_run(record: OnRecord, run: DagRun) -> Iterator[Judged]:
    """Yield what a run's tasks did and the ledger does not have, or has otherwise.

    Args:
        record: The ledger, read after the run was, so that it holds what the run left.
        run: As Airflow has it.
    """
    for task in run.tasks:
        for number, tried in enumerate(task.tries):
            ended = tried.ended_at
            if ended is not None and ended < record.begun_at:
                continue
            is_present = number == len(task.tries) - 1
            if tried.state == "success":
                yield from _judge_success(record, task, tried, is_present=is_present)
            elif tried.state == "skipped" and is_present and run.state != "failed":
                yield from _judge_skip(record, task)


def judge_gates(
    record: OnRecord, asked_here: Iterable[Asked], run: DagRun | None
) -> Iterator[Discrepancy]:
    """Yield the gates that asked in a run, and of which Airflow knows nothing any more.

    Args:
        record: The ledger.
        asked_here: What was asked in the run.
        run: As Airflow has it; None if it is gone.
    """
    there = {task.task.task for task in run.tasks} if run else set()
    for asked in asked_here:
        dag_id, run_id, task_id, _ = asked.gate
        gate = Source(*asked.gate)
        if asked.gate not in there and not record.is_by_hand(gate, "deleted"):
            yield Discrepancy(
                VANISHED,
                where(gate),
                Severity.HIGH,
                asked.model,
                asked.version,
                f"Gate {task_id!r} of run {run_id!r} of DAG {dag_id!r} asked for approval, and "
                "Airflow has it no more: it, its run or its DAG was deleted past the api-server.",
            )


def judge_entry(violation: Violation, leaf: bytes) -> Judged:
    """Return what an entry that counts for nothing is a sign of.

    Args:
        violation: What is wrong with it.
        leaf: Its exact bytes.
    """
    kind, claimed, version = claims_of(leaf)
    model = claimed if is_identifier(claimed) else ""
    if violation.is_unknown_key:
        return Unchecked(model, f"Ledger entry {violation.index}: {violation.reason}")
    return Discrepancy(
        ENTRY,
        str(violation.index),
        Severity.HIGH,
        model,
        _digest_or_none(version),
        f"Ledger entry {violation.index} ({kind or 'no readable kind'}) counts for nothing: "
        f"{violation.reason}",
    )


def _judge_success(
    record: OnRecord, task: TaskRun, tried: TaskTry, *, is_present: bool
) -> Iterator[Judged]:
    source = task.task
    if record.is_by_hand(source, "success"):
        return
    # A cleared task that was set to success without running has its last try's number.
    number = tried.number if not is_present or task.is_begun else tried.number + 1
    if task.step is Step.GATE:
        yield from _judge_gate(record, task, tried, number, is_present=is_present)
    elif task.step in {Step.TRAINING, Step.VALIDATION}:
        if not any(e.source.try_number <= number for e in record.entries(task.step, source)):
            yield _found(record, task, number, EVIDENCE)
    else:
        yield from _judge_use(record, task, number)


def _judge_gate(
    record: OnRecord, task: TaskRun, tried: TaskTry, number: int, *, is_present: bool
) -> Iterator[Judged]:
    asked = record.asked_by(task.task)
    # Which of its requests an earlier try was about, nobody can say.
    decisions = [one.decision for one in (asked[-1:] if is_present else asked)]
    if Decision.GRANTED in decisions:
        return
    if None in decisions:
        yield Unchecked(asked[-1].model, f"Gate {_words(task, number)}: {UNCOUNTED}.")
        return
    model = record.model_of(task.task, task.fields.get("model", ""))
    if record.was_emergency(task.task, model, tried.ended_at):
        return
    yield _found(record, task, number, GATE, asked[-1] if asked else None)


def _judge_use(record: OnRecord, task: TaskRun, number: int) -> Iterator[Judged]:
    if task.step is Step.SCORING and record.was_let_run(task.task, number):
        return
    # A promotion that is repeated finds its first try's entry; each try of a use has its own.
    entries = [
        entry
        for entry in record.entries(task.step, task.task)
        if entry.source.try_number == number
        or (task.step is Step.PROMOTION and entry.source.try_number < number)
    ]
    decisions = [record.decision(entry) for entry in entries]
    if Decision.GRANTED in decisions:
        return
    if None in decisions:
        yield Unchecked(entries[-1].model, f"Task {_words(task, number)}: {UNCOUNTED}.")
        return
    yield _found(record, task, number, TASK)


def _judge_skip(record: OnRecord, task: TaskRun) -> Iterator[Discrepancy]:
    """A gate never skips itself; a run that times out is failed with the gate that waits in it."""
    asked = record.asked_by(task.task)
    is_forced = task.step is Step.GATE and asked and task.is_begun
    if is_forced and not record.is_by_hand(task.task, "skipped"):
        yield _found(record, task, task.present.number, GATE, asked[-1])


_SAID = {
    TASK: "ended in success, but left no entry that rests on an approval",
    GATE: "ended without a decision, or past one: the votes on record grant nothing",
    EVIDENCE: "ended in success, but left no evidence on record",
}


def _found(
    record: OnRecord, task: TaskRun, number: int, test: str, asked: Asked | None = None
) -> Discrepancy:
    source = task.task
    model = asked.model if asked else record.model_of(source, task.fields.get("model", ""))
    known = asked.version if asked else record.version_of(source.dag_id, source.run_id, model)
    return Discrepancy(
        test,
        f"{where(source)} {number}",
        Severity.MEDIUM if test == EVIDENCE else Severity.HIGH,
        model,
        None if task.step is Step.TRAINING else known,
        f"Task {_words(task, number)} ({task.step}) {_SAID[test]}.",
    )


def _words(task: TaskRun, number: int) -> str:
    source = task.task
    mapped = f" [{source.map_index}]" if source.map_index >= 0 else ""
    return (
        f"{source.task_id!r}{mapped} of run {source.run_id!r} of DAG {source.dag_id!r}, "
        f"try {number},"
    )


def where(source: Source) -> str:
    """Return a task instance in a few words, the same ones each time."""
    named = source.as_json()
    return " ".join(str(named[part]) for part in ("dag_id", "run_id", "task_id", "map_index"))


def _digest_or_none(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except ArtefactError:
        return None
