"""What may be erased yet: retention, legal holds, and approvals that are in use."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import accumulate

from airflow_mlgov.errors import EvidenceError
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.retention import longest_years, years_after
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.kinds import KINDS, KeyRole, Retention
from airflow_mlgov.service.approvals import Standing, kept_pack, standings, trainings_before
from airflow_mlgov.service.break_glass import break_glasses
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.holds import open_holds
from airflow_mlgov.service.ledger import LedgerView, SealedEntry


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a name or text may not be erased now.

    Attributes:
        reason: In words.
        until: From when it may be, aware UTC; None if no date can be told.
    """

    reason: str
    until: datetime | None = None


class RetentionRules:
    """The rules as they stand at one moment, for one view of the ledger.

    Time counts from an entry's own time, which is its writer's claim: a task could have written one
    that looks old. So it counts as written no earlier than the newest entry before it, and no later
    than the oldest entry after it, of those that a key signed which no task holds (attestor, log).

    An approval is in use from its last vote until it expires, whether a promotion has used it or
    not: the guard counts its votes anew each time, and what was erased does not count. Of a model
    that left the inventory none is in use: the guard refuses it.

    Args:
        gov: Governance; its clock says what time it is.
        view: Verified ledger.
    """

    def __init__(self, gov: Governance, view: LedgerView) -> None:
        self._gov = gov
        self._view = view
        self._now = gov.clock.now()
        self._held = {hold.model: hold.id for hold in open_holds(view)}
        self._in_use = _fields_in_use(gov, view)
        self._unconfirmed = set(_fields_to_confirm(gov, view))
        vouched = [e for e in view.select() if e.signed_by is not KeyRole.WRITER]
        self._vouched_at = [entry.index for entry in vouched]
        self._earliest = list(accumulate((entry.at for entry in vouched), max))
        latest = accumulate((entry.at for entry in reversed(vouched)), min)
        self._latest = list(latest)[::-1]
        self._years = cache(self._years_for)

    def obstacle(self, entry: SealedEntry, field: str) -> Obstacle | None:
        """Return what stands in the way of erasing a field of an entry now, or None.

        Args:
            entry: The entry.
            field: ``people.<name>`` or ``texts.<name>``.
        """
        if entry.model in self._held:
            return Obstacle(f"legal hold {self._held[entry.model]} on {entry.model}")
        if (entry.index, field) in self._unconfirmed:
            return Obstacle("nobody can confirm without it that it was right to break glass")
        try:
            years = self._years(entry.model)[KINDS[entry.kind].retention]
        except EvidenceError as error:
            return Obstacle(f"how long it is kept cannot be told. {error.problem}")
        kept = Obstacle(
            f"records of the class {KINDS[entry.kind].retention} are kept {years} years",
            years_after(self._written_at(entry), years),
        )
        used = Obstacle(
            "an approval that is in use rests on it", self._in_use.get((entry.index, field))
        )
        ahead = [o for o in (kept, used) if o.until is not None and o.until > self._now]
        return max(ahead, key=lambda o: o.until or self._now) if ahead else None

    def _written_at(self, entry: SealedEntry) -> datetime:
        place = bisect_left(self._vouched_at, entry.index)
        latest = self._latest[place] if place < len(self._latest) else self._now
        claimed = min(entry.at, latest)
        return max(claimed, self._earliest[place - 1]) if place else claimed

    def _years_for(self, model: str) -> Mapping[Retention, int]:
        """Return the longest years of every pack that ever applied to a model, and does now."""
        entries = self._view.select("approval.requested", "model.validated", model=model)
        named = dict.fromkeys(Digest.parse(entry.body["policy_sha256"]) for entry in entries)
        in_force = self._packs_in_force(model)
        known = {pack.digest for pack in in_force}
        earlier = [kept_pack(self._gov, digest) for digest in named if digest not in known]
        return longest_years(pack.retention for pack in [*in_force, *earlier])

    def _packs_in_force(self, model: str) -> list[PolicyPack]:
        entry = self._gov.inventory.get(model)
        if entry is not None and entry.policy in self._gov.packs:
            return [self._gov.packs[entry.policy]]
        return list(self._gov.packs.values())


def _fields_in_use(gov: Governance, view: LedgerView) -> dict[tuple[int, str], datetime]:
    until: dict[tuple[int, str], datetime] = {}
    for standing in standings(gov, view):
        end = standing.expires_at  # none unless it was granted
        if end is None:
            continue
        for field in _fields_counted(view, standing):
            until[field] = max(end, until.get(field, end))
    return until


def _fields_to_confirm(gov: Governance, view: LedgerView) -> Iterator[tuple[int, str]]:
    """Yield who must not be among those who confirm an emergency, until it is confirmed."""
    for glass in break_glasses(view):
        if glass.is_confirmed or glass.entry.model not in gov.inventory:
            continue
        yield glass.entry.index, "people.used_by"
        for confirmed in glass.confirmations.values():
            yield confirmed.index, "people.confirmed_by"
        kinds = ("model.trained", "approval.requested")
        for entry in view.select(*kinds, model=glass.entry.model, version=glass.entry.version):
            yield entry.index, "people.developer"
            yield entry.index, "people.requester"


def _fields_counted(view: LedgerView, standing: Standing) -> Iterator[tuple[int, str]]:
    """Yield what a count of votes reads: erased, it would come out otherwise."""
    yield standing.entry.index, "people.requester"
    for vote in standing.votes:
        yield vote.index, "people.voter"
        yield vote.index, "texts.comment"
    for trained in trainings_before(view, standing.entry):
        yield trained.index, "people.developer"
