"""The text of an approval form: what an approver sees in Airflow before answering.

Markdown, as Airflow renders it. Everything that comes from data, files or people is escaped, and a
digest shows the characters of a digest only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_mlgov.records.governance import (
    ApprovalRequest,
    Assurance,
    Choice,
    Finding,
    Outcome,
    TestResult,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~^&@:/=$])")
_SIGNS = {Outcome.PASS: "pass", Outcome.WARN: "**warn**", Outcome.FAIL: "**FAIL**"}
_NO_DIGEST = re.compile(r"[^0-9a-z:]")
_DIGEST_LENGTH = 71
_SHORT_DIGEST = 19
MAX_TEXT = 300
MAX_SUBJECT_PART = 80

APPROVE, REJECT, WITHDRAW = "Approve", "Reject", "Withdraw"
APPROVE_WITH_CONDITIONS = "Approve with conditions"
CHOICES = {
    APPROVE: Choice.APPROVE,
    APPROVE_WITH_CONDITIONS: Choice.APPROVE_WITH_CONDITIONS,
    REJECT: Choice.REJECT,
    WITHDRAW: Choice.WITHDRAW,
}
"""The form's buttons, and what each means."""

COUNTED = "x-counted"
"""Key in the schema of the form's ``request`` field: how many ledger entries the gate had read when
it opened the form. A vote at or after that index may not have been counted yet."""

ANSWER_READ = "x-answer-read"
"""Key in the schema of the form's ``request`` field: when the last answer was given that the gate
has taken, as ISO 8601; empty if it has taken none. Airflow shows no such key."""

UNREAD_ANSWER = "x-unread-answer"
"""Key in the same schema, only in what the gate is told when it opens its form: the answer that
stands in the form and that the gate has not taken."""


@dataclass(frozen=True, slots=True)
class SeatLine:
    """One seat as the form shows it.

    Attributes:
        role: Its role.
        filled_by: Names of those who sit on it, each with the assurance of the vote.
        open_count: How many people are still needed.
        eligible: Who may fill it.
        veto: Whether one rejection from it ends the request.
    """

    role: str
    filled_by: tuple[str, ...]
    open_count: int
    eligible: tuple[str, ...]
    veto: bool = True


@dataclass(frozen=True, slots=True)
class DataLine:
    """One validated dataset as the form shows it.

    Attributes:
        dataset: Its name.
        rows: Its rows, as they were validated.
        columns: Its columns.
        sha256: Its digest, as the evidence states it.
        passed: Whether it passed its suite.
        suite: Name of the suite.
    """

    dataset: str
    rows: int
    columns: int
    sha256: str
    passed: bool
    suite: str


@dataclass(frozen=True, slots=True)
class TrainingLine:
    """The training as the form shows it.

    Attributes:
        script: Name of the script.
        code_sha256: Its digest, as the evidence states it.
        seed: The seed, as the evidence states it.
    """

    script: str
    code_sha256: str
    seed: str


@dataclass(frozen=True, slots=True)
class ApprovalForm:
    """Everything that the form says.

    Attributes:
        request: What is asked.
        model_name: For people.
        registry_version: The registry's number of the version.
        requester: Who asked; empty if no person did.
        policy_id: Id of the pack.
        valid_days: How long the approval would last.
        comment_min_length: Characters that a comment must have.
        least_assurance: Votes that are vouched for less are not counted.
        seats: Who sits, who is missing.
        results: Test results of the version.
        findings: Open findings of the version.
        training: From the training record; None if the request names none.
        data: From the data validations.
        refused: Reasons for which answers were not counted so far.
        asked_at: When it was asked.
        decide_by: When it is denied if it is not decided; None for never.
        objections: Rejections that did not end it.
        page: Address of the evidence page.
        conditions: To what approvals given so far bind it, each in words.
        may_set_conditions: Whether the pack lets approvers set any.
    """

    request: ApprovalRequest
    model_name: str
    registry_version: str
    requester: str
    policy_id: str
    valid_days: int
    comment_min_length: int
    least_assurance: Assurance
    seats: Sequence[SeatLine]
    results: Sequence[TestResult]
    findings: Sequence[Finding]
    training: TrainingLine | None
    data: Sequence[DataLine]
    refused: Sequence[str]
    asked_at: datetime
    decide_by: datetime | None = None
    objections: Sequence[str] = ()
    page: str = ""
    conditions: Sequence[str] = ()
    may_set_conditions: bool = False


def buttons(*, with_conditions: bool) -> list[str]:
    """Return the form's buttons in their order.

    Args:
        with_conditions: Whether the pack lets approvers set conditions.
    """
    return [name for name in CHOICES if with_conditions or name != APPROVE_WITH_CONDITIONS]


def headline_of(form: ApprovalForm) -> str:
    """Return the form's headline: plain text on one line, each name in it cut."""
    model, version, target = (
        _flat(name, MAX_SUBJECT_PART)
        for name in (form.model_name, form.registry_version, form.request.target)
    )
    return f"Approve {model} version {version} for {target}?"


def body_of(form: ApprovalForm) -> str:
    """Return the form's text in Markdown."""
    sections = (
        _asked(form),
        _seats(form),
        _findings(form),
        _results(form),
        _basis(form),
        _meaning(form),
    )
    return "\n\n".join(section for section in sections if section)


def escape(text: object) -> str:
    """Return untrusted text so that Markdown shows it and does nothing else with it.

    Line breaks and control characters become spaces; long text is cut at `MAX_TEXT` characters.
    """
    return _SPECIAL.sub(r"\\\1", _flat(text, MAX_TEXT))


def _flat(text: object, limit: int) -> str:
    flat = "".join(char if char.isprintable() else " " for char in str(text))
    flat = " ".join(flat.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _digest(stated: object, length: int = _DIGEST_LENGTH) -> str:
    """Return a digest as code: nothing that could end the code gets in."""
    shown = _NO_DIGEST.sub("", str(stated))[:length]
    return f"`{shown}`" if shown else "no digest"


def _asked(form: ApprovalForm) -> str:
    request = form.request
    by = escape(form.requester) if form.requester else "a scheduled run"
    return (
        f"**{escape(form.model_name)}**, version {escape(form.registry_version)}, for "
        f"**{escape(request.target)}**. Asked by {by} on {form.asked_at:%Y-%m-%d %H:%M} UTC "
        f"in run {escape(request.run_id)} of {escape(request.dag_id)}.\n\n{_page(form)}"
        f"- model digest {_digest(request.version)}\n- request digest {_digest(request.digest)}"
    )


def _page(form: ApprovalForm) -> str:
    """Return the way to the page that shows more than a form can."""
    if not form.page:
        return ""
    return f"[**Evidence page**](<{form.page}>): curves, segments, the challenger, all votes.\n\n"


def _seats(form: ApprovalForm) -> str:
    lines = ["### Seats", "", "| seat | filled by | still open | who may |", "|---|---|---|---|"]
    for seat in form.seats:
        filled = ", ".join(escape(name) for name in seat.filled_by) or "nobody yet"
        eligible = ", ".join(escape(name) for name in seat.eligible)
        lines.append(f"| {escape(seat.role)} | {filled} | {seat.open_count} | {eligible} |")
    if form.objections:
        lines += ["", "Rejections so far:", ""]
        lines += [f"- {escape(objection)}" for objection in form.objections]
    if form.conditions:
        lines += ["", "Conditions so far:", ""]
        lines += [f"- {escape(condition)}" for condition in form.conditions]
    if form.refused:
        lines += ["", "Answers that were not counted:", ""]
        lines += [f"- {escape(reason)}" for reason in form.refused]
    return "\n".join(lines)


def _findings(form: ApprovalForm) -> str:
    if not form.findings:
        return "### Findings\n\nNo open findings."
    lines = ["### Findings", "", "| id | severity | what | owner | due |", "|---|---|---|---|---|"]
    lines += [
        f"| {escape(finding.id)} | {finding.severity.value} | {escape(finding.summary)} | "
        f"{escape(finding.owner)} | {finding.due_at:%Y-%m-%d} |"
        for finding in form.findings
    ]
    lines += [
        f"\n{escape(finding.id)} was accepted by {escape(finding.settled_by)} until "
        f"{finding.accepted_until:%Y-%m-%d %H:%M} UTC: {escape(finding.reason)}"
        for finding in form.findings
        if finding.accepted_until
    ]
    return "\n".join(lines)


def _results(form: ApprovalForm) -> str:
    lines = ["### Tests", "", "| test | result | value | rule | rows |", "|---|---|---|---|---|"]
    for result in form.results:
        value = "not computed" if result.statistic is None else f"{result.statistic:.4g}"
        named = not result.segment or result.segment in result.title
        where = "" if named else f" ({escape(result.segment)})"
        rows = ", ".join(f"{escape(name)} {size:,}" for name, size in result.sample_sizes.items())
        lines.append(
            f"| {escape(result.title)}{where} | {_SIGNS[result.outcome]} | {value} | "
            f"{escape(result.threshold)} | {rows} |"
        )
    return "\n".join(lines)


def _basis(form: ApprovalForm) -> str:
    lines = ["### What it rests on", ""]
    lines += [
        f"- data {escape(data.dataset)}: {data.rows:,} rows, {data.columns:,} columns, "
        f"{_digest(data.sha256, _SHORT_DIGEST)}, {'passed' if data.passed else 'FAILED'} its suite "
        f"{escape(data.suite)}"
        for data in form.data
    ]
    if form.training:
        lines.append(
            f"- training script {escape(form.training.script)}, code "
            f"{_digest(form.training.code_sha256, _SHORT_DIGEST)}, seed "
            f"{escape(form.training.seed)}"
        )
    policy = _digest(form.request.policy, _SHORT_DIGEST)
    lines.append(f"- policy pack {escape(form.policy_id)} {policy}")
    lines += [f"- evidence {escape(kind)} {_digest(sha)}" for kind, sha in form.request.evidence]
    return "\n".join(lines)


_VOUCHED = {
    Assurance.L0: "Answers that a task reports from Airflow's records are counted too: assurance "
    "L0.",
    Assurance.L1: "Only answers that this api-server signs for are counted: assurance L1.",
    Assurance.L2: "Only answers signed with your own key are counted: assurance L2.",
}


def _meaning(form: ApprovalForm) -> str:
    committees = ", ".join(escape(seat.role) for seat in form.seats if not seat.veto)
    rejection = "One rejection ends the request."
    if committees:
        rejection = f"One rejection ends the request, except from {committees}: there it takes the "
        rejection += "place of who rejects out."
    until = (
        f" If nobody has decided by {form.decide_by:%Y-%m-%d %H:%M} UTC, it is denied."
        if form.decide_by
        else ""
    )
    conditions = (
        " Approve with conditions binds it to what is set in the fields below, beside what others "
        "set; each use is held to all of it."
        if form.may_set_conditions
        else ""
    )
    return (
        f"### What an approval does\n\nIt lets exactly this version be promoted once to "
        f"{escape(form.request.target)} and used there for {form.valid_days} days.{conditions} "
        f"A comment of at least {form.comment_min_length} characters is required. "
        f"{rejection}{until} Withdraw takes your own vote back while the request is open; from who "
        f"asked, it ends the request. "
        f"{_VOUCHED[form.least_assurance]}"
    )
