"""What the evidence page of a request says; `airflow_mlgov.dossiers.pages` writes it as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_mlgov.dossiers.approval_form import DataLine, SeatLine, TrainingLine
from airflow_mlgov.dossiers.plots import Calibration, Histogram, Points
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest, Finding, TestResult

if TYPE_CHECKING:
    from airflow_mlgov.policy.inventory import InventoryEntry
    from airflow_mlgov.policy.pack import PolicyPack


class RequestState(StrEnum):
    """Where a request stands, for people."""

    OPEN = "open"
    GRANTED = "granted"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class GroupRate:
    """A segment in a test that compares segments.

    Attributes:
        group: Its name.
        rows: Its rows.
        rate: Its share of favourable outcomes.
        ratio: That share over the best-served group's; None for a group too small to judge.
        p_value: Of the difference; None if none was computed.
    """

    group: str
    rows: int
    rate: float
    ratio: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class ReportedTest:
    """A test result with what the report says beside it.

    Attributes:
        result: The result.
        p_value: None if it has none.
        interval: Lower and upper bound; None if it has none.
        confidence: Of the interval, 0 to 1; None if it has none.
        note: Why it could not be computed, or what else to know; empty for nothing.
        groups: Segments that it compares.
        bounds: Thresholds by name, as the plan stated them.
    """

    result: TestResult
    p_value: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    note: str = ""
    groups: Sequence[GroupRate] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleLine:
    """A sample that the version was validated on.

    Attributes:
        name: ``development`` or ``validation``.
        uri: Where it was read.
        sha256: Digest of its bytes, as the report states it.
        rows: Its rows.
        events: How many of them had the event.
    """

    name: str
    uri: str
    sha256: str
    rows: int
    events: int


@dataclass(frozen=True, slots=True)
class SampleCurves:
    """What is drawn of a sample.

    Attributes:
        name: Of the sample.
        roc: ROC curve: false-positive rate, true-positive rate.
        challenger_roc: The challenger's on the same rows; empty if there was none.
        calibration: Tenths of the sample, lowest probabilities first.
        histogram: Scores of events and non-events.
    """

    name: str
    roc: Points
    challenger_roc: Points
    calibration: Sequence[Calibration]
    histogram: Histogram


@dataclass(frozen=True, slots=True)
class Challenger:
    """The comparison with another version on the validation sample.

    Attributes:
        version: Its manifest digest, as the report states it; empty if it does not.
        champion_auc: Area under the ROC curve of the version that is asked about.
        challenger_auc: The other's.
        p_value: Of the paired difference; None if it has no estimated variance.
    """

    version: str
    champion_auc: float
    challenger_auc: float
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """A validation report.

    Attributes:
        tests: In the plan's order.
        samples: What it was computed on.
        curves: What is drawn.
        challenger: None if there was none.
    """

    tests: Sequence[ReportedTest]
    samples: Sequence[SampleLine] = ()
    curves: Sequence[SampleCurves] = ()
    challenger: Challenger | None = None


@dataclass(frozen=True, slots=True)
class TrainingInput:
    """A file that the version learnt from: its name, address and digest, as the record says."""

    name: str
    uri: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Training:
    """A training record.

    Attributes:
        line: Script, code and seed.
        inputs: What it learnt from.
        git_commit: Of the work tree that the script stood in; empty if it stood in none.
        git_is_clean: Whether the script's folder was as committed; None if that is not known.
        platform: Where it ran, with the interpreter.
        packages: How many packages were installed.
        parameters: What the run was given, as text.
    """

    line: TrainingLine
    inputs: Sequence[TrainingInput] = ()
    git_commit: str = ""
    git_is_clean: bool | None = None
    platform: str = ""
    packages: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataCheck:
    """A data validation.

    Attributes:
        line: Dataset, fingerprint, suite and whether it passed.
        uri: Where it was read; empty if the record does not say.
        expectations: How many were checked.
        unmet: Those that did not hold, in words.
    """

    line: DataLine
    uri: str = ""
    expectations: int = 0
    unmet: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """An evidence document that the request names.

    Attributes:
        kind: Of the ledger entry that names it.
        digest: Its digest.
        problem: Why it cannot be shown; empty if it was read and its bytes have the digest.
    """

    kind: str
    digest: Digest
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """Something that happened to a request.

    Attributes:
        index: Of the ledger entry.
        at: When, by the writer's clock.
        event: What, in words.
        who: Name; ``(erased)`` if it was; empty if no person did it.
        assurance: Of a vote or an answer; empty for everything else.
        comment: What the person wrote.
        note: Why it does not count.
        is_counted: Whether a vote counts; None for everything else.
    """

    index: int
    at: datetime
    event: str
    who: str = ""
    assurance: str = ""
    comment: str = ""
    note: str = ""
    is_counted: bool | None = None


@dataclass(frozen=True, slots=True)
class StopLine:
    """The stop of a model that is in force: its entry, when, who and why."""

    index: int
    at: datetime
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class InUse:
    """The version that the last promotion on record pointed an alias at.

    Attributes:
        version: Its manifest digest.
        number: The registry's number of it.
        alias: Which alias.
        promoted_at: When.
        statistics: What its tests gave, by test and segment; empty if its report cannot be read.
    """

    version: Digest
    number: str
    alias: str
    promoted_at: datetime
    statistics: Mapping[tuple[str, str], float | None]


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that the page says.

    Attributes:
        request: What is asked.
        asked_by: Who asked; empty if no person did.
        history: What happened, oldest first; the first line is the request itself.
        registry_version: The registry's number of the version.
        entry: The model in the inventory as it is now.
        tier: Its tier under the pack.
        pack: The pack that the request names.
        is_pack_in_force: Whether the inventory's pack still is that one.
        state: Where the request stands.
        granted_at: When the last seat was filled; None unless granted.
        expires_at: When the approval ends; None unless granted.
        decide_by: When it is denied if nobody has decided; None for never.
        conditions: To what approvals bind it, in words.
        used_by: The promotion that used the approval; empty if none did.
        seats: Who sits, who is missing.
        is_reader_waited_for: Whether the reader may fill an open seat.
        stop: The stop in force; None if the model may run.
        documents: What the evidence rests on.
        reports: Validation reports; `trainings` and `data`: of its training and its data.
        findings: All findings of the version, closed ones too.
        in_use: What is in use now for the same target; None if nothing is.
        read_at: When the page was made.
        ledger_size: Entries under the checkpoint that it was made from, with `ledger_root`.
    """

    request: ApprovalRequest
    asked_by: str
    history: Sequence[HistoryLine]
    registry_version: str
    entry: InventoryEntry
    tier: int
    pack: PolicyPack
    is_pack_in_force: bool
    state: RequestState
    granted_at: datetime | None
    expires_at: datetime | None
    decide_by: datetime | None
    conditions: Sequence[str]
    used_by: str
    seats: Sequence[SeatLine]
    is_reader_waited_for: bool
    stop: StopLine | None
    documents: Sequence[DocumentLine]
    reports: Sequence[Report]
    trainings: Sequence[Training]
    data: Sequence[DataCheck]
    findings: Sequence[Finding]
    in_use: InUse | None
    read_at: datetime
    ledger_size: int
    ledger_root: str

    @property
    def unread(self) -> list[DocumentLine]:
        """The evidence documents that cannot be shown."""
        return [document for document in self.documents if document.problem]
