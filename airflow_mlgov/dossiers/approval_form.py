"""The text of an approval form: what an approver sees in Airflow before answering.

Markdown, as Airflow renders it. Everything that comes from data, files or people is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_mlgov.records.governance import ApprovalRequest, Finding, Outcome, TestResult

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~^&@:/=$])")
_SIGNS = {Outcome.PASS: "pass", Outcome.WARN: "**warn**", Outcome.FAIL: "**FAIL**"}
MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class SeatLine:
    """One seat as the form shows it.

    Attributes:
        role: Its role.
        filled_by: Names of those who sit on it, each with the assurance of the vote.
        open_count: How many people are still needed.
        eligible: Who may fill it.
    """

    role: str
    filled_by: tuple[str, ...]
    open_count: int
    eligible: tuple[str, ...]


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
        seats: Who sits, who is missing.
        results: Test results of the version.
        findings: Open findings of the version.
        training: Training record (evidence document).
        data: Data validations (evidence documents).
        refused: Reasons for which answers were not counted so far.
        asked_at: When it was asked.
    """

    request: ApprovalRequest
    model_name: str
    registry_version: str
    requester: str
    policy_id: str
    valid_days: int
    comment_min_length: int
    seats: Sequence[SeatLine]
    results: Sequence[TestResult]
    findings: Sequence[Finding]
    training: dict[str, Any]
    data: Sequence[dict[str, Any]]
    refused: Sequence[str]
    asked_at: datetime


def subject_of(form: ApprovalForm) -> str:
    """Return the form's headline, plain text."""
    return f"Approve {form.model_name} version {form.registry_version} for {form.request.target}?"


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
    flat = "".join(char if char.isprintable() else " " for char in str(text))
    flat = " ".join(flat.split())
    if len(flat) > MAX_TEXT:
        flat = flat[: MAX_TEXT - 1] + "…"
    return _SPECIAL.sub(r"\\\1", flat)


def _asked(form: ApprovalForm) -> str:
    request = form.request
    by = escape(form.requester) if form.requester else "a scheduled run"
    return (
        f"**{escape(form.model_name)}**, version {escape(form.registry_version)}, for "
        f"**{escape(request.target)}**. Asked by {by} on {form.asked_at:%Y-%m-%d %H:%M} UTC "
        f"in run {escape(request.run_id)} of {escape(request.dag_id)}.\n\n"
        f"- model digest `{request.version}`\n- request digest `{request.digest}`"
    )


def _seats(form: ApprovalForm) -> str:
    lines = ["### Seats", "", "| seat | filled by | still open | who may |", "|---|---|---|---|"]
    for seat in form.seats:
        filled = ", ".join(escape(name) for name in seat.filled_by) or "nobody yet"
        eligible = ", ".join(escape(name) for name in seat.eligible)
        lines.append(f"| {escape(seat.role)} | {filled} | {seat.open_count} | {eligible} |")
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
    return "\n".join(lines)


def _results(form: ApprovalForm) -> str:
    lines = ["### Tests", "", "| test | result | value | rule | rows |", "|---|---|---|---|---|"]
    for result in form.results:
        value = "not computed" if result.statistic is None else f"{result.statistic:.4g}"
        where = f" ({escape(result.segment)})" if result.segment else ""
        rows = ", ".join(f"{escape(name)} {size:,}" for name, size in result.sample_sizes.items())
        lines.append(
            f"| {escape(result.title)}{where} | {_SIGNS[result.outcome]} | {value} | "
            f"{escape(result.threshold)} | {rows} |"
        )
    return "\n".join(lines)


def _basis(form: ApprovalForm) -> str:
    lines = ["### What it rests on", ""]
    for document in form.data:
        fingerprint = document["fingerprint"]
        lines.append(
            f"- data {escape(document['dataset'])}: {fingerprint['rows']:,} rows, "
            f"{fingerprint['columns']} columns, `{str(fingerprint['sha256'])[:19]}`, "
            f"{'passed' if document['passed'] else 'FAILED'} its suite "
            f"{escape(document['suite']['name'])}"
        )
    if form.training:
        lines.append(
            f"- training script {escape(form.training['script'])}, code "
            f"`{str(form.training['code_sha256'])[:19]}`, "
            f"seed {form.training['seed']}"
        )
    lines.append(f"- policy pack {escape(form.policy_id)} `{str(form.request.policy)[:19]}`")
    lines += [f"- evidence {kind} `{digest}`" for kind, digest in form.request.evidence]
    return "\n".join(lines)


def _meaning(form: ApprovalForm) -> str:
    return (
        f"### What an approval does\n\nIt lets exactly this version be promoted once to "
        f"{escape(form.request.target)} and used there for {form.valid_days} days. A comment of "
        "at least "
        f"{form.comment_min_length} characters is required. One rejection ends the request."
    )
