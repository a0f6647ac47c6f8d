"""A policy pack: who must approve what, on which evidence, for how long.

One YAML file, immutable once used, known by the digest of its bytes. It lives outside DAG code, so
that the author of a DAG cannot choose the approvers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlgov.policy.retention import STANDARD_YEARS
from airflow_mlgov.policy.tiers import STANDARD_TIERS, TierRule
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Severity
from airflow_mlgov.records.kinds import Retention


@dataclass(frozen=True, slots=True)
class Seat:
    """A chair that must be filled.

    Attributes:
        role: ``model_owner``, ``independent_validator`` ...
        count: How many different people must sit on it, at least 1.
        users: Ids or names of those who may.
    """

    role: str
    count: int
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segregation:
    """Who may not approve, whatever seat lists say.

    Attributes:
        requester: The person who triggered the run that asks.
        developers: The developers of the model, and whoever triggered the training of this version.
    """

    requester: bool
    developers: bool


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """One line of a validation plan.

    Attributes:
        test: Id of a test in `airflow_mlgov.validation` (``discrimination.auc``).
        thresholds: Bounds by name as that test documents them (``warn_below``, ``fail_below``).
        severity: Severity of the finding that a failure opens.
        due_days: Days until that finding is due.
        options: Whatever else the test takes (``bins``, ``grouping``).
    """

    test: str
    thresholds: dict[str, float]
    severity: Severity
    due_days: int
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PolicyPack:
    """The rules for a group of models.

    Attributes:
        id: Name that inventory entries refer to.
        title: For people.
        digest: SHA-256 of the file's bytes: the pack's identity.
        source: Those bytes.
        file: Where it was read from.
        least_assurance: Votes below it are not counted.
        seats: Who must approve.
        segregation: Who may not.
        required_evidence: Kinds of entries without which approval may not be asked for.
        comment_min_length: Characters that a vote's comment must have.
        valid_days: How long an approval lasts.
        plans: Validation plan by model class.
        existing_approvals: ``keep`` or ``end``: whether approvals under earlier packs still hold
            under this one.
        supersedes: Earlier packs whose approvals hold as they were counted under those packs.
        tiers: Rule that computes a model's tier from its materiality and complexity.
        retention: Years for which names and texts are kept at least, by class of record.
    """

    id: str
    title: str
    digest: Digest
    source: bytes
    file: str
    least_assurance: Assurance
    seats: tuple[Seat, ...]
    segregation: Segregation
    required_evidence: tuple[str, ...]
    comment_min_length: int
    valid_days: int
    plans: dict[str, tuple[PlannedTest, ...]]
    existing_approvals: str
    supersedes: tuple[Digest, ...] = ()
    tiers: TierRule = STANDARD_TIERS
    retention: Mapping[Retention, int] = field(default_factory=lambda: STANDARD_YEARS)

    @property
    def users(self) -> tuple[str, ...]:
        """Everybody who may sit on some seat, each once, in the pack's order."""
        return tuple(dict.fromkeys(user for seat in self.seats for user in seat.users))
