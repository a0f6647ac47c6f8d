"""Checking a ledger against everything that anchors gave or still show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from airflow_mlgov.errors import (
    AnchorError,
    AnchorUnavailableError,
    ConfigurationError,
    LedgerIntegrityError,
)
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.cosignature import cosignatures_of
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.verify import Report
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.ports import Anchor, Anchored


@dataclass
class _Seen:
    """What was found of one anchor."""

    kind: str
    good: int = 0
    unchecked: int = 0
    size: int = 0
    at: datetime | None = None

    def line(self, name: str) -> str:
        said = f"anchor {name} ({self.kind}): {self.good} checkpoint(s)"
        if self.good:
            when = "" if self.at is None else f", {self.at:%Y-%m-%d %H:%M:%S} UTC by its clock"
            said += f", the newest over {self.size} entries{when}"
        return said + (f"; {self.unchecked} not checked" if self.unchecked else "")


@dataclass
class _Found:
    keyring: Keyring
    anchors: Mapping[str, Anchor]
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    checkpoints: dict[bytes, Checkpoint] = field(default_factory=dict)
    seen: dict[str, _Seen] = field(default_factory=dict)

    def add_kept(self, row: Anchored) -> None:
        seen = self.seen.setdefault(row.anchor, _Seen(row.kind))
        where = f"What anchor {row.anchor} gave for {row.size} entries"
        try:
            self._check_size(row)
            is_checked, at = self._vouched(row)
        except (AnchorUnavailableError, ConfigurationError) as error:
            is_checked, at = False, None
            self._remark(f"Anchor {row.anchor} could not be asked. {error.problem}")
        except (AnchorError, LedgerIntegrityError) as error:
            self.problems.append(f"{where}: {error.problem}")
            return
        if not is_checked:
            seen.unchecked += 1
            return
        seen.good += 1
        seen.size, seen.at = max((seen.size, seen.at), (row.size, at), key=lambda pair: pair[0])

    def add_shown(self, anchor: Anchor) -> None:
        try:
            notes = anchor.notes(self.keyring.trust.origin)
        except AnchorUnavailableError as error:
            self._remark(error.problem)
            return
        for note in notes:
            try:
                self._opened(note)
            except LedgerIntegrityError as error:
                self.problems.append(
                    f"A checkpoint that anchor {anchor.name} shows: {error.problem}"
                )

    def _opened(self, note: bytes) -> Checkpoint:
        if note not in self.checkpoints:
            self.checkpoints[note] = self.keyring.open(note)
        return self.checkpoints[note]

    def _check_size(self, row: Anchored) -> None:
        if self._opened(row.note).size != row.size:
            raise LedgerIntegrityError("It is kept with a checkpoint over another number.")

    def _vouched(self, row: Anchored) -> tuple[bool, datetime | None]:
        anchor = self.anchors.get(row.anchor)
        if anchor is not None and anchor.kind == row.kind:
            return True, anchor.check(row.note, row.data)
        if row.kind != "witness":
            return False, None
        found = cosignatures_of(row.note, row.data, self.keyring.trust.witnesses)
        return bool(found), found[0].at if found else None

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


def verify_anchored(
    ledger: Ledger,
    trust: TrustRoot,
    *,
    anchors: Sequence[Anchor] = (),
    earlier: Sequence[Checkpoint] = (),
) -> Report:
    """Check a ledger, and that it extends every checkpoint that an anchor took.

    Args:
        ledger: What to verify, with what anchors gave.
        trust: Whose keys count, those of witnesses too.
        anchors: Those that can be asked; of others, cosignatures are checked by `trust`.
        earlier: Checkpoints kept elsewhere, whose signatures were checked.

    Raises:
        LedgerUnavailableError: The store cannot be reached, or nothing was signed yet.
        LedgerIntegrityError: The store is too damaged for a report; a retry does not help.
    """
    found = _Found(ledger.keyring(trust), {anchor.name: anchor for anchor in anchors})
    for row in ledger.anchored(newest=False):
        found.add_kept(row)
    for anchor in anchors:
        found.add_shown(anchor)
    report = ledger.verify(trust, earlier=[*earlier, *found.checkpoints.values()])
    report = replace(
        report,
        anchors=tuple(seen.line(name) for name, seen in found.seen.items()),
        remarks=(*report.remarks, *found.remarks),
    )
    return report.with_problems(found.problems)
