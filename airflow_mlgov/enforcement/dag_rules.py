"""What may not be in a governed DAG, as far as it can be seen before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.enforcement.cluster_policy import GATE, OURS, PROMOTION, SCORING, class_names
from airflow_mlgov.enforcement.lineage_rules import lineage_problems
from airflow_mlgov.enforcement.named_tasks import Named
from airflow_mlgov.enforcement.task_settings import model_of, settings_of
from airflow_mlgov.policy.inventory import Deed, InventoryEntry, Mode

STOCK_FORM = "HITLOperator"
APPROVAL_FORM = "ApprovalOperator"
ENTRY_FORM = "HITLEntryOperator"
REJECTIONS = ("Reject", ["Reject"])
STRICT = "all_success"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a DAG.

    Attributes:
        text: Which task, what is wrong, and the remedy.
        mode: Of the model that it is about; the strictest, if that is not known.
    """

    text: str
    mode: Mode


def problems_of(
    dag: Any, named: Mapping[str, Sequence[Named]], entries: Mapping[str, InventoryEntry]
) -> Iterator[Problem]:
    """Return what is wrong with a DAG.

    Args:
        dag: As its author wrote it.
        named: Its tasks that the inventory names.
        entries: Entries of the models that its tasks name, by id; all, if a task names one that is
            not among them.
    """
    ours = [task for task in dag.tasks if OURS & class_names(task)]
    modes = {task.task_id: _mode_of(task, entries) for task in ours}
    for task in ours:
        for text in (*_way_problems(task, ours), *_gate_problems(task)):
            yield Problem(text, modes[task.task_id])
    yield from _foreign_promotions(dag, ours, entries)
    yield from _named_problems(dag, named)
    strictest = strictest_mode(dag, named, entries)
    if strictest is None:
        return
    for text in lineage_problems(dag):
        yield Problem(text, strictest)
    for task in dag.tasks:
        if STOCK_FORM in class_names(task) and GATE not in class_names(task):
            for text in _form_problems(task):
                yield Problem(text, strictest)


def strictest_mode(
    dag: Any, named: Mapping[str, Sequence[Named]], entries: Mapping[str, InventoryEntry]
) -> Mode | None:
    """Return the strictest mode that holds for a DAG; None if it is not governed.

    Args:
        dag: As in `problems_of`.
        named: As in `problems_of`.
        entries: As in `problems_of`.
    """
    modes = [_mode_of(task, entries) for task in dag.tasks if OURS & class_names(task)]
    modes += [entry.mode for said in named.values() for entry, _ in said]
    return Mode.strictest(modes) if modes else None


def _mode_of(task: Any, entries: Mapping[str, InventoryEntry]) -> Mode:
    known = entries.get(model_of(task))
    return known.mode if known else Mode.strictest(entry.mode for entry in entries.values())


def _way_problems(task: Any, ours: Sequence[Any]) -> Iterator[str]:
    """Say where a run could get past the gate to a promotion, or to the scoring behind it."""
    what = _protected(task, ours)
    if not what:
        return
    if _rule(task) != STRICT:
        yield (
            f"Task {task.task_id!r} {what} under trigger rule {_rule(task)!r}, which can run past "
            f"a gate that did not pass: leave it at {STRICT!r}."
        )
    upstream = task.get_flat_relatives(upstream=True)
    gates = [other for other in upstream if GATE in class_names(other) and _same(other, task)]
    if not gates:
        yield (
            f"Task {task.task_id!r} {what}, but no {GATE} of that model is upstream of it in this "
            f"DAG: put one there ('gate >> {task.task_id}')."
        )
    elif not _stands_behind(task, {gate.task_id for gate in gates}):
        behind = {each.task_id for gate in gates for each in gate.get_flat_relatives()}
        lenient = [t for t in upstream if t.task_id in behind and _rule(t) != STRICT]
        named = ", ".join(f"{t.task_id!r} ({_rule(t)})" for t in lenient)
        yield (
            f"Task {task.task_id!r} {what}, and every way to it from the gate leads through a task "
            f"that can run past a gate that did not pass: set {named} to {STRICT!r}."
        )


def _protected(task: Any, ours: Sequence[Any]) -> str:
    if PROMOTION in class_names(task):
        return "promotes a model"
    promotions = [other for other in ours if PROMOTION in class_names(other)]
    if SCORING & class_names(task) and any(_same(other, task) for other in promotions):
        return "scores with a model that this DAG promotes"
    return ""


def _same(one: Any, other: Any) -> bool:
    """Whether two tasks may be about one model: a template may stand for any."""
    first, second = model_of(one), model_of(other)
    return first == second or any("{" in text or not text for text in (first, second))


def _stands_behind(task: Any, gates: set[str]) -> bool:
    """Whether a task only runs if one of the gates has succeeded."""
    waiting, seen = [task], set()
    while waiting:
        current = waiting.pop()
        if current.task_id in seen or _rule(current) != STRICT:
            continue
        seen.add(current.task_id)
        if gates & current.upstream_task_ids:
            return True
        waiting.extend(current.upstream_list)
    return _rule(task) != STRICT  # which is said already


def _rule(task: Any) -> str:
    return str(getattr(task.trigger_rule, "value", task.trigger_rule))


def _gate_problems(task: Any) -> Iterator[str]:
    if GATE not in class_names(task):
        return
    given = [name for name in ("defaults", "response_timeout") if settings_of(task, name)]
    if given:
        yield (
            f"Gate {task.task_id!r} has {' and '.join(given)}; nothing is decided by a time-out: "
            f"remove {' and '.join(given)}."
        )


def _foreign_promotions(
    dag: Any, ours: Sequence[Any], entries: Mapping[str, InventoryEntry]
) -> Iterator[Problem]:
    for task in ours:
        entry = entries.get(model_of(task)) if PROMOTION in class_names(task) else None
        if entry and entry.promoted_by and dag.dag_id not in entry.promoted_by:
            yield Problem(
                f"Task {task.task_id!r} promotes model {entry.id!r}, which DAG {dag.dag_id!r} may "
                f"not do: promote it in {' or '.join(entry.promoted_by)}, or add the DAG to "
                f"'promoted_by' in {entry.file}.",
                entry.mode,
            )


def _named_problems(dag: Any, named: Mapping[str, Sequence[Named]]) -> Iterator[Problem]:
    for task_id, said in named.items():
        for entry, task in said:
            if not dag.has_task(task_id):
                yield Problem(
                    f"Task {task_id!r} is named in {entry.file}, but this DAG has no such task, so "
                    f"that nothing guards what {task.does}s model {entry.id!r}: correct 'task_id' "
                    "there, or name the task so.",
                    entry.mode,
                )
            elif task.does is not Deed.TRAIN and dag.get_task(task_id).start_from_trigger:
                yield Problem(
                    f"Task {task_id!r} {task.does}s model {entry.id!r} and starts in the "
                    "triggerer, before it can be guarded: set 'start_from_trigger' to False.",
                    entry.mode,
                )


def _form_problems(task: Any) -> Iterator[str]:
    """Say where one of Airflow's own forms approves with nobody, or asks until it is approved."""
    answer = _own_answer(task)
    if answer:
        yield (
            f"Task {task.task_id!r} answers itself with {answer} when nobody does, in a DAG of a "
            "governed model: remove 'defaults'."
        )
    if any(settings_of(task, "fail_on_reject")) and any(settings_of(task, "retries")):
        yield (
            f"Task {task.task_id!r} fails on a rejection and is then tried again, so that people "
            "are asked until somebody approves: set 'retries' to 0."
        )


def _own_answer(task: Any) -> Any:
    """Return the default answer of a form, unless it rejects, or is what HITLEntryOperator sets."""
    timeouts = (*settings_of(task, "response_timeout"), *settings_of(task, "execution_timeout"))
    if ENTRY_FORM in class_names(task) and not timeouts:
        return None
    for answer in settings_of(task, "defaults"):
        if answer and not (APPROVAL_FORM in class_names(task) and answer in REJECTIONS):
            return answer
    return None
