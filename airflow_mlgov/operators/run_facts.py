"""What a task's process knows about its governed task, for the lineage events that leave it.

The provider sends a task's events from a fork of its process, or from a thread in it: what was
noted here before is seen there.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_mlgov.hooks.listening import keeps_outbox
from airflow_mlgov.operators.lineage import quietly
from airflow_mlgov.policy.inventory import Deed
from airflow_mlgov.service.airflow_records import STEPS, Step

if TYPE_CHECKING:
    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.policy.inventory import InventoryEntry, NamedTask
    from airflow_mlgov.service.score import ModelInUse

_ROLES = MappingProxyType(
    {
        Step.GATE: "approve",
        Step.PROMOTION: "promote",
        Step.SCORING: "use",
        Step.TRAINING: "train",
        Step.VALIDATION: "validate",
    }
)


@dataclass(slots=True)
class RunFacts:
    """What is known of the run of a governed task.

    Attributes:
        role: What the task does with the model: ``train``, ``validate``, ``approve``, ``promote``
            or ``use``.
        model: Inventory id; empty if it is not known.
        mode: The model's; empty if it is not known.
        version: Manifest digest, once the guard has verified it; empty until then.
        read: What the guard let the task use; None until it has.
        state: Airflow's word for how it ended, where an event has no word for it.
        is_by_hand: Whether somebody set that state.
    """

    role: str
    model: str = ""
    mode: str = ""
    version: str = ""
    read: StepLineage | None = None
    state: str = ""
    is_by_hand: bool = False

    @property
    def facet(self) -> dict[str, Any]:
        """The facet ``mlgov_governed``."""
        stated = {
            "model": self.model,
            "role": self.role,
            "mode": self.mode,
            "version": self.version,
            "airflow_state": self.state,
        }
        said: dict[str, Any] = {name: value for name, value in stated.items() if value}
        return said | ({"state_set_by_hand": True} if self.is_by_hand else {})


_known: dict[str, RunFacts] = {}


def facts_named(entry: InventoryEntry, named: NamedTask) -> RunFacts:
    """Return what the inventory says of a task that it names."""
    role = "train" if named.does is Deed.TRAIN else "use"
    return RunFacts(role, entry.id, entry.mode.value)


def role_of(*operators: str | None) -> str:
    """Return what an operator of ours does, by any name that Airflow has for it; else empty."""
    steps = [STEPS[name] for name in operators if name and name in STEPS]
    return _ROLES[steps[0]] if steps else ""


def keep_facts(task_instance: Any, facts: RunFacts) -> None:
    """Note what is known of a run, for its events."""
    _known[_run_id(task_instance)] = facts


def facts_of(run_id: str) -> RunFacts | None:
    """Return what was noted of a run of OpenLineage in this process."""
    return _known.get(run_id)


def note_state(task_instance: Any, state: str) -> None:
    """Note how a run ended."""
    facts = facts_of(_run_id(task_instance))
    if facts is not None:
        facts.state = state


def note_use(task_instance: Any, entry: InventoryEntry, used: ModelInUse | None) -> None:
    """Note the version that the guard has verified, and what its use rests on.

    Args:
        task_instance: Of the task that uses it.
        entry: The model.
        used: From `airflow_mlgov.service.score.check_use`.
    """
    if used is not None and keeps_outbox():
        quietly(lambda: _keep_use(task_instance, entry, used))


def _keep_use(task_instance: Any, entry: InventoryEntry, used: ModelInUse) -> None:
    from airflow_mlgov.lineage import events
    from airflow_mlgov.operators.lineage_records import cleared_by, version_of

    facts = facts_of(_run_id(task_instance))
    if facts is None or used.version is None or used.clearance is None:
        return
    version = version_of(entry, used.version, used.registered)
    more = events.score(cleared_by(used.clearance, version), [])
    before = facts.read.inputs if facts.read else ()
    facts.read = events.StepLineage(inputs=(*before, *more.inputs))
    if facts.model == entry.id:
        facts.version = str(used.version)


def _run_id(task_instance: Any) -> str:
    from airflow.providers.openlineage.plugins.macros import lineage_run_id

    return str(lineage_run_id(task_instance))
