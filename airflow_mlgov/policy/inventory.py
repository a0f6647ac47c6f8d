"""An inventory entry: one governed model, one YAML file, reviewed like code.

Source:
    Fields follow PRA SS1/23 principle 1.2(c); the regimes are those a bank dates and justifies
    itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Mode(StrEnum):
    """What happens when a check fails: record, record and say so, or refuse."""

    OBSERVE = "observe"
    WARN = "warn"
    ENFORCE = "enforce"

    @classmethod
    def strictest(cls, modes: Iterable[Mode]) -> Mode:
        """Return the strictest of some modes; ``enforce`` if there are none."""
        return max(modes, key=list(cls).index, default=cls.ENFORCE)


class Deed(StrEnum):
    """What a task of a DAG that does not use our operators does with a model."""

    TRAIN = "train"
    SCORE = "score"
    DEPLOY = "deploy"


@dataclass(frozen=True, slots=True)
class NamedTask:
    """A task that the inventory governs from outside of its DAG file.

    Attributes:
        dag_id: DAG.
        task_id: Task of it, with the dotted names of its groups.
        does: What it does with the model.
        target: Environment; empty for a task that trains.
        alias: The registry's alias that names the version in use.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``.
    """

    dag_id: str
    task_id: str
    does: Deed
    target: str = ""
    alias: str = "champion"
    registry: str = "mlflow_default"


@dataclass(frozen=True, slots=True)
class Regime:
    """One set of rules, and the dated decision whether it applies.

    Attributes:
        name: ``SR 26-2``, ``SS1/23``, ``EU AI Act``, ``IRB`` or the bank's own.
        applies: Whether the model is in its scope.
        decided_on: When that was decided.
        reason: Why.
    """

    name: str
    applies: bool
    decided_on: date
    reason: str


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """A governed model.

    Attributes:
        id: ``[a-z][a-z0-9_]*``, at most 64 characters; the name that operators use.
        name: For people.
        model_class: Which validation plan applies (``binary_classifier``).
        purpose: What it is for.
        intended_use: What its output may be used for, and where that ends.
        owner: Who answers for it.
        developers: Who built it; they may not approve it.
        validators: Who challenges it.
        materiality: ``low``, ``medium`` or ``high``.
        complexity: ``low``, ``medium`` or ``high``.
        policy: Id of its policy pack.
        targets: Environments that it may be promoted to.
        registered_name: Its name in the registry.
        mode: What a failed check does.
        regimes: Rules in or out of scope.
        data_sources: Names of the data it is built on.
        protected_attributes: Columns that fairness is tested on.
        assumptions: What must hold for it to be right.
        limitations: Where it is known to be weak.
        file: Where it was read from.
        tasks: Tasks that train, score with or deploy it in DAGs without our operators.
        promoted_by: DAGs that may promote it; empty for any.
    """

    id: str
    name: str
    model_class: str
    purpose: str
    intended_use: str
    owner: str
    developers: tuple[str, ...]
    validators: tuple[str, ...]
    materiality: str
    complexity: str
    policy: str
    targets: tuple[str, ...]
    registered_name: str
    mode: Mode
    regimes: tuple[Regime, ...]
    data_sources: tuple[str, ...]
    protected_attributes: tuple[str, ...]
    assumptions: tuple[str, ...]
    limitations: tuple[str, ...]
    file: str
    tasks: tuple[NamedTask, ...] = ()
    promoted_by: tuple[str, ...] = ()
