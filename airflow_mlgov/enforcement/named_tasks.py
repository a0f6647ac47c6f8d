"""Records or guards the tasks that the inventory names, without a change to their DAG file.

What is put on a task when its file is parsed changes nothing of what Airflow stores of the DAG: it
is two attributes that no serialized form has. Only the copy of the task that a worker is about to
run gets hooks, before and after its work. So a DAG that was parsed with this package runs without
it, and its version does not change.

The hooks run each time that a worker takes the task up: on a retry, on each poke of a rescheduled
sensor, and when it goes on after it was deferred, since an approval may have ended meanwhile.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

from airflow_mlgov.enforcement.lineage_rules import keep_lineage_on
from airflow_mlgov.policy.inventory import Deed, InventoryEntry, Mode, NamedTask

Named = tuple[InventoryEntry, NamedTask]
_NAMED = "_mlgov_named"
_KINDS = {Deed.SCORE: "model.scored", Deed.DEPLOY: "model.deployed"}
log = logging.getLogger(__name__)


def attach(task: Any, named: Sequence[Named], *, keeps_lineage: bool = False) -> None:
    """Let a parsed task, mapped or not, be recorded or guarded when a worker runs it.

    Args:
        task: Operator of a DAG.
        named: As whose tasks the inventory names it.
        keeps_lineage: Whether a run may not switch its lineage off.
    """
    own = vars(task)
    own[_NAMED] = (tuple(named), keeps_lineage)
    # Bound to the task, so that a deep copy of its DAG is bound to the copy.
    if task.is_mapped:
        own["unmap"] = MethodType(_unmap, task)
    else:
        own["prepare_for_execution"] = MethodType(_prepare, task)


def _prepare(task: Any) -> Any:
    return _hook(type(task).prepare_for_execution(task), *vars(task)[_NAMED])


def _unmap(task: Any, resolve: Any) -> Any:
    return _hook(type(task).unmap(task, resolve), *vars(task)[_NAMED])


def _hook(task: Any, named: Sequence[Named], keeps_lineage: bool) -> Any:
    own = vars(task)
    if keeps_lineage:
        keep_lineage_on(task)
    guards = [_Guard(entry, said) for entry, said in named if said.does in _KINDS]
    if guards:
        own["_pre_execute_hook"] = _before(guards, own.get("_pre_execute_hook"))
    notes = [_Note(entry) for entry, said in named if said.does is Deed.TRAIN]
    if notes:
        own["_post_execute_hook"] = _before(notes, own.get("_post_execute_hook"))
    return task


def _before(ours: Sequence[Callable[..., None]], author: Callable[..., Any] | None) -> Any:
    """Return one hook: ours, then the author's, which may be a generator of asset events."""

    def call(*args: Any) -> Any:
        for each in ours:
            each(*args)
        return author(*args) if author is not None else None

    def generate(*args: Any) -> Iterator[Any]:
        yield from call(*args)

    return generate if inspect.isgeneratorfunction(author) else call


@dataclass(frozen=True, slots=True)
class _Guard:
    entry: InventoryEntry
    named: NamedTask

    def __call__(self, context: Mapping[str, Any]) -> None:
        """Verify the version in use, or refuse if the mode says so.

        Raises:
            AirflowFailException: A check failed in mode ``enforce``, or the model was stopped.
            AirflowException: Ledger or registry cannot be reached, in mode ``enforce``; a retry
                may help.
        """
        from airflow_mlgov.operators.run import governed_run, source_of
        from airflow_mlgov.operators.run_facts import note_use
        from airflow_mlgov.service.approvals import Use
        from airflow_mlgov.service.score import check_use
        from airflow_mlgov.wiring import open_governance, open_registry

        use = Use(self.entry.id, self.named.target, source_of(context), self.named.alias)
        with governed_run(), _breaking_nothing(self.entry):
            opened = partial(open_registry, self.named.registry)
            used = check_use(open_governance(), opened, use, _KINDS[self.named.does])
            note_use(context["ti"], self.entry, used)
        log.info("Model %r was looked at for this task.", self.entry.id)


@dataclass(frozen=True, slots=True)
class _Note:
    entry: InventoryEntry

    def __call__(self, context: Mapping[str, Any], _result: Any = None) -> None:
        """Put the training on record; what was trained is not undone if that fails."""
        from airflow_mlgov.operators.run import source_of
        from airflow_mlgov.service.outside_training import record_outside_training
        from airflow_mlgov.wiring import open_governance

        try:
            record_outside_training(
                open_governance(), self.entry.id, source_of(context), _code_of(context)
            )
        except Exception:
            log.exception("The training of model %r could not be put on record.", self.entry.id)


@contextmanager
def _breaking_nothing(entry: InventoryEntry) -> Iterator[None]:
    """Below ``enforce``, let the task run whatever fails here, unless its model was stopped."""
    from airflow_mlgov.errors import GuardRefusedError

    try:
        yield
    except GuardRefusedError:
        raise
    except Exception:
        if entry.mode is Mode.ENFORCE:
            raise
        log.exception("The use of model %r could not be put on record.", entry.id)


def _code_of(context: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of a task's code: its operator, its DAG's file and bundle."""
    from airflow_mlgov.records.digest import Digest

    task = context["task"]
    file = Path(task.dag.fileloc)
    said = {
        "operator": task.task_type,
        "file": task.dag.relative_fileloc or file.name,
        "code_sha256": str(Digest.of(file.read_bytes())),
    }
    bundle = getattr(context["ti"], "bundle_instance", None)
    if bundle is not None:
        said["bundle"] = bundle.name
        if bundle.version:
            said["bundle_version"] = str(bundle.version)
    return said
