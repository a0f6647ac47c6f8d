"""What checking a bundle found, in words and as an exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Verdict(IntEnum):
    """What is wrong with a bundle; the value is the verifier's exit code."""

    FINE = 0
    ALTERED = 1
    INCOMPLETE = 2
    UNKNOWN_KEY = 3
    STALE = 4
    NOT_COVERED = 5


GRAVEST_FIRST = (
    Verdict.ALTERED,
    Verdict.UNKNOWN_KEY,
    Verdict.INCOMPLETE,
    Verdict.NOT_COVERED,
    Verdict.STALE,
)
MAX_LINES = 100
"""Findings listed at most."""

_HEADLINES = {
    Verdict.FINE: "The bundle verifies.",
    Verdict.ALTERED: "THE BUNDLE DOES NOT VERIFY: something in it was altered.",
    Verdict.INCOMPLETE: "THE BUNDLE IS INCOMPLETE: something was left out.",
    Verdict.UNKNOWN_KEY: "THE BUNDLE IS SIGNED BY A KEY that the trust file does not name.",
    Verdict.STALE: "THE BUNDLE IS TOO OLD for the age that was asked for.",
    Verdict.NOT_COVERED: "THE BUNDLE HOLDS AN ENTRY THAT NO SIGNED CHECKPOINT COVERS YET.",
}
_LABELS = {
    Verdict.ALTERED: "altered",
    Verdict.INCOMPLETE: "incomplete",
    Verdict.UNKNOWN_KEY: "unknown key",
    Verdict.STALE: "too old",
    Verdict.NOT_COVERED: "not covered",
}
_CANNOT_PROVE = (
    "Not proven by this:",
    "  that what was put on record is true, or that everything that happened was put on record",
    "  that approvals were counted by the rules: their signatures are checked here, not the votes",
    "  that the log shows everybody the same: compare the checkpoint with one kept elsewhere",
    "  that no entry came after the last count named above, or after the checkpoint",
    "  the times of entries, which are their writers' claims; only their order is proven",
    "  anything against whoever holds the log's key: they can sign another history, but for what a",
    "  witness or time-stamp named above has seen",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        verdict: What it means for the bundle.
        text: What is wrong and where, for people.
    """

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class BundleReport:
    """What a check found.

    Attributes:
        findings: What is wrong; empty if nothing is.
        checked: What was checked and is as it should be, as lines.
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The gravest of what is wrong."""
        found = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in GRAVEST_FIRST if verdict in found), Verdict.FINE)

    def lines(self) -> list[str]:
        """Return the report as lines for a person."""
        ordered = sorted(self.findings, key=lambda found: GRAVEST_FIRST.index(found.verdict))
        wrong = [f"  {_LABELS[found.verdict]}: {found.text}" for found in ordered]
        return [
            _HEADLINES[self.verdict],
            *_at_most(wrong),
            *(["Checked and found sound:"] if self.checked else []),
            *(f"  {line}" for line in self.checked),
            *_CANNOT_PROVE,
        ]


def _at_most(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    more = len(every) - MAX_LINES
    return every if more <= 0 else [*every[:MAX_LINES], f"  and {more} more"]
