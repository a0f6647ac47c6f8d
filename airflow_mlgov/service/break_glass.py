"""Emergencies on record: who opened a guard without an approval, until when, and who confirmed.

What is read here was signed with the attestor's key, by an api-server that had checked who may; but
for the promotion that used it, which a task states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_mlgov.records.clock import from_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.approvals import Use, use_on_record
from airflow_mlgov.service.ledger import LedgerView, SealedEntry


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """An emergency: one version may be used for one target without an approval, for some hours.

    Attributes:
        entry: The ledger entry in which somebody broke glass.
        confirmations: The entries that count, by place from 0; two for one place count once.
        used_by: The one promotion that it let through, or None.
    """

    entry: SealedEntry
    confirmations: Mapping[int, SealedEntry]
    used_by: Use | None

    @property
    def id(self) -> str:
        """The id of its finding."""
        return f"F-{self.key.hex[:8]}"

    @property
    def key(self) -> Digest:
        """What entries that rest on it name."""
        return Digest.parse(self.entry.key)

    @property
    def target(self) -> str:
        """Environment that it opens."""
        return str(self.entry.body["target"])

    @property
    def until(self) -> datetime:
        """When it ends."""
        return from_text(self.entry.body["until"])

    @property
    def confirm_by(self) -> datetime:
        """When it is overdue."""
        return from_text(self.entry.body["confirm_by"])

    @property
    def quorum(self) -> int:
        """How many people must confirm it."""
        return int(self.entry.body["quorum"])

    @property
    def is_confirmed(self) -> bool:
        """Whether enough people said afterwards that it was right."""
        return len(self.confirmations) >= self.quorum

    def is_in_force(self, now: datetime) -> bool:
        """Tell whether it opens anything at a moment."""
        return now < self.until

    def covers(self, entry: SealedEntry) -> bool:
        """Tell whether a promotion or use that names it rests on it.

        Only the promotion that consumed it does, and after that each use while it lasted.
        """
        about = entry.model, entry.version, entry.body["target"], entry.body.get("breakglass")
        is_meant = about == (self.entry.model, self.entry.version, self.target, self.entry.key)
        if not is_meant or self.used_by is None or not self.entry.index < entry.index:
            return False
        is_its_promotion = entry.source.task == self.used_by.source.task
        return entry.at < self.until and (entry.kind != "model.promoted" or is_its_promotion)

    def is_overdue(self, now: datetime) -> bool:
        """Tell whether nobody confirmed it in time."""
        return not self.is_confirmed and now >= self.confirm_by


def break_glasses(view: LedgerView, model: str | None = None) -> list[BreakGlass]:
    """Return every emergency on record, in ledger order.

    Args:
        view: Verified ledger.
        model: Inventory id; None for every model.
    """
    confirmed: dict[str, dict[int, SealedEntry]] = defaultdict(dict)
    for entry in view.select("breakglass.confirmed", model=model):
        confirmed[entry.body["breakglass"]].setdefault(entry.body["place"], entry)
    consumed = view.select("breakglass.consumed", model=model)
    return [
        BreakGlass(
            entry,
            confirmed[entry.key],
            use_on_record(
                (other for other in consumed if other.version == entry.version),
                breakglass=entry.key,
                target=entry.body["target"],
            ),
        )
        for entry in view.select("breakglass.used", model=model)
    ]


def glass_in_force(
    view: LedgerView, *, model: str, target: str, version: Digest | None, now: datetime
) -> list[BreakGlass]:
    """Return what is open for a model and target at a moment, in ledger order.

    Args:
        view: Verified ledger.
        model: Inventory id.
        target: Environment.
        version: Manifest digest; None for whichever.
        now: The moment.
    """
    return [
        glass
        for glass in break_glasses(view, model)
        if glass.target == target
        and glass.is_in_force(now)
        and version in {None, glass.entry.version}
    ]
