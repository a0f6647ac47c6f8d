"""Conditions that a policy pack lets approvers attach to an approval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class ConditionKind(StrEnum):
    """What is held against a condition."""

    MAX_ROWS_PER_RUN = "max_rows_per_run"
    SEGMENT = "segment"
    END_AFTER_DAYS = "end_after_days"
    MONITORING = "monitoring"


CONDITION_TERMS: Mapping[ConditionKind, frozenset[str]] = MappingProxyType(
    {
        ConditionKind.MAX_ROWS_PER_RUN: frozenset({"value"}),
        ConditionKind.SEGMENT: frozenset({"column", "values"}),
        ConditionKind.END_AFTER_DAYS: frozenset({"days"}),
        ConditionKind.MONITORING: frozenset({"test", "within_days"}),
    }
)
"""Which attributes a condition of each kind states; it states no others."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that an approval may be tied to.

    Attributes:
        id: Name in the pack, and in votes.
        title: What it says, for people.
        kind: What is held against it; `CONDITION_TERMS` says which of the others it states.
        value: Rows that one run may score at most, at least 1; None if it is of another kind.
        column: Column of the scored data; empty if it is of another kind.
        values: Values that the column may hold, as text.
        days: Days after which the approval ends; None if it is of another kind.
        test: Id of the test that must be run; empty if it is of another kind.
        within_days: Days within which it must; None if it is of another kind.
    """

    id: str
    title: str
    kind: ConditionKind
    value: int | None = None
    column: str = ""
    values: tuple[str, ...] = ()
    days: int | None = None
    test: str = ""
    within_days: int | None = None
