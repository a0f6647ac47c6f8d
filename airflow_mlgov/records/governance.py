"""What people decide about: test results, findings, requests, votes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.conditions import NO_CONDITIONS, Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person


class Outcome(StrEnum):
    """How a test came out."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


class Severity(StrEnum):
    """How bad a finding is; an open High finding blocks approval."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Assurance(StrEnum):
    """Who vouches for a vote: a task (L0), the api-server (L1), the approver's own key (L2)."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"


class Choice(StrEnum):
    """What somebody answers; who asked may only withdraw, which ends the request."""

    APPROVE = "approve"
    APPROVE_WITH_CONDITIONS = "approve_with_conditions"
    REJECT = "reject"
    WITHDRAW = "withdraw"

    @property
    def is_approval(self) -> bool:
        """Whether it fills a seat."""
        return self in {Choice.APPROVE, Choice.APPROVE_WITH_CONDITIONS}


class EraseReason(StrEnum):
    """Why somebody is erased: they ask for it, or there is no need of their name any more.

    Source:
        Regulation (EU) 2016/679 (GDPR) article 17(1) (request) and article 5(1)(e) (storage).
    """

    REQUEST = "request"
    STORAGE_LIMIT = "storage_limit"


@dataclass(frozen=True, slots=True)
class TestResult:
    """One statistic held against its threshold.

    Attributes:
        test: Stable id of the test, ``family.name`` (``discrimination.auc``).
        title: For people.
        statistic: The number that the threshold is held against; None if it could not be computed.
        outcome: Pass, warn or fail.
        threshold: The rule in words (``fail below 0.65, warn below 0.70``).
        sample_sizes: Rows by sample name.
        source: Clause, paper or convention that the test and its threshold come from.
        details: Everything else a validator wants to see, JSON values (intervals, p-values, degrees
            of freedom).
        segment: Which part of the data, empty for all of it.
    """

    __test__ = False  # pytest must not collect it

    test: str
    title: str
    statistic: float | None
    outcome: Outcome
    threshold: str
    sample_sizes: dict[str, int]
    source: str
    details: dict[str, Any] = field(default_factory=dict)
    segment: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "test": self.test,
            "title": self.title,
            "statistic": self.statistic,
            "outcome": self.outcome.value,
            "threshold": self.threshold,
            "sample_sizes": self.sample_sizes,
            "source": self.source,
            "details": self.details,
            "segment": self.segment,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TestResult:
        """Return the result that `as_json` wrote."""
        return cls(**{**value, "outcome": Outcome(value["outcome"])})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong that somebody must deal with.

    Attributes:
        id: Short stable id, ``F-`` and 8 hexadecimal characters.
        model: Inventory id.
        version: Manifest digest of the version it was found in; None if it is about the model, and
            so about every version.
        severity: Low, medium or high.
        test: Which test found it.
        summary: What is wrong.
        owner: Who must deal with it; empty if it is about no model that has an owner.
        due_at: By when.
        is_open: False once it was closed.
        accepted_until: Until when its risk is accepted; None if nobody has accepted it.
        settled_by: Who closed or accepted it last; empty if nobody did.
        reason: Why they did.
        is_break_glass: Whether somebody broke glass, so that confirmations close it and nothing
            else does.
    """

    id: str
    model: str
    version: Digest | None
    severity: Severity
    test: str
    summary: str
    owner: str
    due_at: datetime
    is_open: bool = True
    accepted_until: datetime | None = None
    settled_by: str = ""
    reason: str = ""
    is_break_glass: bool = False

    def is_accepted(self, now: datetime) -> bool:
        """Tell whether somebody carries its risk now; afterwards it is as if nobody had."""
        return self.is_open and self.accepted_until is not None and now < self.accepted_until


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """Exactly what is put before the approvers.

    Attributes:
        model: Inventory id.
        version: Manifest digest of the candidate.
        target: Environment it may be promoted to (``production``).
        policy: Digest of the pack's bytes.
        evidence: Digests of the evidence documents by kind of entry, sorted.
        dag_id: DAG that asks.
        run_id: Run that asks.
        task_id: Gate that asks.
        map_index: -1 if the gate is not mapped.
    """

    model: str
    version: Digest
    target: str
    policy: Digest
    evidence: tuple[tuple[str, Digest], ...]
    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @property
    def digest(self) -> Digest:
        """What a vote names: it changes if anything that is approved changes."""
        return Digest.of(canonical_bytes(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """Return the request as JSON values, version 1 of its wire format."""
        return {
            "v": 1,
            "model": self.model,
            "version": str(self.version),
            "target": self.target,
            "policy": str(self.policy),
            "evidence": [[kind, str(digest)] for kind, digest in self.evidence],
            "asked_by": [self.dag_id, self.run_id, self.task_id, self.map_index],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ApprovalRequest:
        """Return the request that `as_json` wrote."""
        dag_id, run_id, task_id, map_index = value["asked_by"]
        return cls(
            model=value["model"],
            version=Digest.parse(value["version"]),
            target=value["target"],
            policy=Digest.parse(value["policy"]),
            evidence=tuple((kind, Digest.parse(digest)) for kind, digest in value["evidence"]),
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            map_index=map_index,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer to a request, as the ledger holds it.

    Attributes:
        index: Position in the ledger; the only order there is.
        request: Digest of the request it names.
        voter: Who answered; None if what opens the name is gone.
        choice: What was answered.
        comment: Why.
        assurance: Who vouches for it.
        cast_at: When, by the writer's clock.
        roles: Roles of the auth manager that the voter held then, as the api-server saw it; none
            where it did not.
        conditions: What the voter binds an approval to.
    """

    index: int
    request: Digest
    voter: Person | None
    choice: Choice
    comment: str
    assurance: Assurance
    cast_at: datetime
    roles: tuple[str, ...] = ()
    conditions: Conditions = NO_CONDITIONS
