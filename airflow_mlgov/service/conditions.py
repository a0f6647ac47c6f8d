"""The guard of an approval's conditions: of the run, and of the rows that are about to be scored.

How many rows a run has scored is counted from the ledger, in its order: of two tasks that come at
once, both read the same count. What a task shows is what it says it will score; that it scores
nothing else nobody here can see.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_mlgov.errors import GuardRefusedError
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.service.allow_use import AnyClearance, basis_of, rests_on
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, LedgerView, SealedEntry
from airflow_mlgov.service.verify_use import Clearance

CHECK = "conditions"
"""The check that a condition fails."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is about to be scored.

    Attributes:
        count: How many rows.
        values: What stands in columns, each value as text.
    """

    count: int
    values: Mapping[str, frozenset[str]]


def conditions_of(clearance: AnyClearance | None) -> Conditions:
    """Return what a use is bound to; an emergency rests on no approval, and has no conditions."""
    return clearance.approval.count.conditions if isinstance(clearance, Clearance) else Conditions()


def refuse_unchecked_data(view: LedgerView, clearance: AnyClearance) -> None:
    """Refuse a run without validated data, if the approval demands them.

    Raises:
        GuardRefusedError: No data of the model were validated in this run, or a dataset's last
            validation in it failed; a retry does not help.
    """
    if not conditions_of(clearance).data_validation:
        return
    passed = {
        entry.body["dataset"]: entry.body["passed"]
        for entry in view.select("data.validated", model=clearance.use.model)
        if _same_run(entry, clearance)
    }
    if not passed or not all(passed.values()):
        failed = ", ".join(name for name, is_passed in passed.items() if not is_passed)
        raise GuardRefusedError(
            CHECK,
            f"The approval demands data that were validated in this run; {failed or 'none'} "
            f"{'failed' if failed else 'were'}.",
            remedy="Put a ValidateDataOperator of this model before this task.",
        )


def refuse_hidden_rows(clearance: AnyClearance | None, why: str) -> None:
    """Refuse a use whose rows are not shown, if the approval has conditions about rows.

    Args:
        clearance: What the use rests on.
        why: Why they are not, as a sentence.

    Raises:
        GuardRefusedError: It has; a retry does not help.
    """
    conditions = conditions_of(clearance)
    if conditions.are_about_rows:
        raise GuardRefusedError(
            CHECK,
            f"The approval allows {'; '.join(conditions.words())}. {why}",
            remedy="Take `governed_model` in a @task.governed function, and call "
            "`governed_model.admit(rows)` with what is to be scored before its `path`; or give "
            "ScoreBatchOperator files that the worker can read.",
        )


def refuse_rows(gov: Governance, clearance: AnyClearance, rows: Rows) -> None:
    """Note that rows are about to be scored, or refuse them; free of conditions nothing is noted.

    Raises:
        GuardRefusedError: A row is outside the segments, or the run would score too many; a retry
            does not help.
        LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
    """
    conditions = conditions_of(clearance)
    if not conditions.are_about_rows:
        return
    for column, allowed in conditions.segments:
        _refuse_outside(rows, column, frozenset(allowed))
    use, source = clearance.use, clearance.use.source
    receipt = gov.ledger.append(
        EntryDraft(
            kind="model.admitted",
            model=use.model,
            version=clearance.version,
            body={**basis_of(clearance), "target": use.target, "rows": rows.count},
            identity=(str(rests_on(clearance)), *map(str, source.task), uuid.uuid4().hex),
            source=source,
        )
    )
    gov.ledger.seal(receipt)
    limit = conditions.max_rows_per_run
    if limit is not None and not _fits(gov.ledger.view(), clearance, receipt.key, limit):
        raise GuardRefusedError(
            CHECK,
            f"The approval allows {limit:,} rows in one run; with these {rows.count:,} more would "
            "be scored.",
            remedy="Score fewer, or ask for an approval that allows more.",
        )


def _refuse_outside(rows: Rows, column: str, allowed: frozenset[str]) -> None:
    if column not in rows.values:
        problem = f"The approval is bound to values of {column}, and the rows have no such column."
        raise GuardRefusedError(CHECK, problem, remedy="Show the rows with that column.")
    outside = sorted(rows.values[column] - allowed)
    if outside:
        shown = ", ".join(repr(value) for value in outside[:5])
        raise GuardRefusedError(
            CHECK,
            f"The approval allows only rows whose {column} is {' or '.join(sorted(allowed))}; "
            f"there are others: {shown}.",
            remedy="Leave them out, or ask for an approval without that condition.",
        )


def _fits(view: LedgerView, clearance: AnyClearance, key: object, limit: int) -> bool:
    """Tell whether the entry with a key fits under the limit, after all before it that do.

    A task that is tried again scores its rows again: those of its earlier tries count no more.
    """
    use, request = clearance.use, str(rests_on(clearance))
    counted: dict[tuple[object, ...], tuple[int, int]] = {}
    for entry in view.select("model.admitted", model=use.model, version=clearance.version):
        if entry.body["request_sha256"] != request or not _same_run(entry, clearance):
            continue
        task, attempt, rows = entry.source.task, entry.source.try_number, int(entry.body["rows"])
        last_try, own = counted.get(task, (attempt, 0))
        own = own if last_try == attempt else 0
        others = sum(more for other, (_, more) in counted.items() if other != task)
        fits = others + own + rows <= limit
        counted[task] = (attempt, own + rows if fits else own)
        if entry.key == key:
            return fits
    return False


def _same_run(entry: SealedEntry, clearance: AnyClearance) -> bool:
    mine = clearance.use.source
    return (entry.source.dag_id, entry.source.run_id) == (mine.dag_id, mine.run_id)
