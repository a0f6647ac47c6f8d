"""The demo's outcome: ``summary.json`` for programs, a table in plain words for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.steps import Outcome, Step, Story

_MARK: dict[Outcome, str] = {"ok": "done", "refused": "REFUSED", "failed": "FAILED"}


@dataclass(frozen=True)
class Result:
    """What came of a step.

    Attributes:
        step: The step.
        outcome: ``ok``, ``refused`` (as it should be) or ``failed``.
        detail: What happened, in plain words.
    """

    step: Step
    outcome: Outcome
    detail: str


def summary(
    story: Story, results: Sequence[Result], lineage: Path, seconds: float
) -> dict[str, Any]:
    """Return the summary as JSON values."""
    return {
        "steps": [{"name": r.step.name, "outcome": r.outcome} for r in results],
        "model": story.model,
        "approvals": story.approvals,
        "refusals": story.refusals,
        "ledger": story.ledger
        or {"entries": 0, "tree_size": 0, "root_hash": "", "verified": False},
        "lineage": {"events": len(lineage.read_text("utf-8").splitlines()), "file": str(lineage)},
        "seconds": round(seconds, 1),
    }


def table(results: Sequence[Result], width: int = 100) -> str:
    """Return who did what, what came of it, and where to look."""
    lines = []
    for number, result in enumerate(results, 1):
        step = result.step
        lines.append(f"{number:2}. {_MARK[result.outcome]:8} {step.who} {step.what}")
        detail = result.detail.splitlines() or [""]
        indent = " " * 13
        lines += textwrap.wrap(detail[0], width, initial_indent=indent, subsequent_indent=indent)
        lines.append(f"{indent}see: {step.where}")
    return "\n".join(lines)


def write_summary(path: Path, document: dict[str, Any]) -> None:
    """Write the summary."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
