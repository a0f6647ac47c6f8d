"""What the reader of a page may do from it; which forms stand there follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from airflow_mlgov.records.digest import Digest


@dataclass(frozen=True, slots=True)
class FindingOffer:
    """What the reader may do with an open finding.

    Attributes:
        finding: Its id.
        may_close: Whether the reader may close it.
        accept_until: Last day until which the reader may accept it; None for not at all.
        may_confirm: Whether it says that somebody broke glass, which the reader may confirm.
    """

    finding: str
    may_close: bool = False
    accept_until: date | None = None
    may_confirm: bool = False


@dataclass(frozen=True, slots=True)
class GlassOffer:
    """For what the reader may break glass.

    Attributes:
        versions: Manifest digests with the registry's numbers, newest first.
        targets: Environments.
        max_hours: For how long at most.
    """

    versions: Sequence[tuple[Digest, str]]
    targets: Sequence[str]
    max_hours: int


@dataclass(frozen=True, slots=True)
class Desk:
    """What the reader may do with a model.

    Attributes:
        model: Inventory id.
        ledger_size: Entries that the page was made from.
        today: In UTC.
        findings: What the reader may do with findings; those with which nothing are left out.
        may_resume: Whether the reader may let the model run again, if it is stopped.
        may_revoke: Whether the reader may revoke approvals.
        glass: For what the reader may break glass; None if the pack does not name the reader.
        done: What the reader has just done, in a sentence; empty for nothing.
    """

    model: str
    ledger_size: int
    today: date
    findings: Sequence[FindingOffer] = ()
    may_resume: bool = False
    may_revoke: bool = False
    glass: GlassOffer | None = None
    done: str = ""
