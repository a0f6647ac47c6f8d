"""Where requests stand, always recounted from the ledger.

Nothing here trusts an ``approval.granted`` entry: a task could have written it. Votes are read in
ledger order and counted under the very pack that the request names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from airflow_mlgov.errors import (
    ArtefactError,
    DocumentError,
    EvidenceError,
    LedgerIntegrityError,
    MlgovError,
    UnknownSubjectError,
)
from airflow_mlgov.policy.pack import PolicyPack, Seat
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.policy.tally import Decision, Electorate, Tally, eligible, tally
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest, Assurance, Choice, Vote
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import LedgerView, SealedEntry

log = logging.getLogger(__name__)

ASSURANCE = {KeyRole.WRITER: Assurance.L0, KeyRole.ATTESTOR: Assurance.L1}
"""What an answer is worth, by whose key signed its entry."""


@dataclass(frozen=True, slots=True)
class Use:
    """Where somebody wants to use a model, or has.

    Attributes:
        model: Inventory id.
        target: Environment.
        source: The task.
        alias: The registry's alias that it moves or follows.
    """

    model: str
    target: str
    source: Source
    alias: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A request and how far it has come.

    Attributes:
        request: What was asked.
        entry: The ledger entry that asked.
        pack: The pack that it named, read by digest.
        electorate: Who asked and who built.
        votes: Every vote that names it, in ledger order.
        count: The votes, counted.
        used_by: The one promotion that consumed the approval, or None.
        counted_at: When they were counted.
    """

    request: ApprovalRequest
    entry: SealedEntry
    pack: PolicyPack
    electorate: Electorate
    votes: tuple[Vote, ...]
    count: Tally
    used_by: Use | None
    counted_at: datetime

    @property
    def decision(self) -> Decision:
        """Open, granted or denied."""
        return self.count.decision

    @property
    def open_seats(self) -> list[str]:
        """Which seats wait, and for how many people, each in words."""
        return [f"{seat.seat.role} ({seat.open_count} open)" for seat in self.count.open_seats]

    @property
    def granted_at(self) -> datetime | None:
        """When the vote that filled the last seat was cast; None unless granted."""
        deciding = self.count.decided_by
        return deciding.cast_at if deciding and self.decision is Decision.GRANTED else None

    @property
    def decide_by(self) -> datetime | None:
        """When the request is denied if it is still open; None for never."""
        return self.pack.decide_by(self.entry.at)

    @property
    def wake_at(self) -> datetime | None:
        """When the gate has something to do though nobody answers; None for never."""
        reminders = self.pack.reminders
        moments = [*(reminders.moments(self.entry.at) if reminders else ()), self.decide_by]
        later = [moment for moment in moments if moment and moment > self.counted_at]
        return min(later, default=None)

    @property
    def is_escalated(self) -> bool:
        """Whether it has waited so long that others are told."""
        reminders = self.pack.reminders
        if reminders is None or reminders.escalate_after_days is None:
            return False
        return self.counted_at >= self.entry.at + timedelta(days=reminders.escalate_after_days)

    @property
    def denied_because(self) -> str:
        """Why it was denied, in words that name nobody; empty unless it was."""
        if self.decision is not Decision.DENIED:
            return ""
        if self.count.decided_by is None:
            return "nobody decided in time"
        is_withdrawn = self.count.decided_by.choice is Choice.WITHDRAW
        return "withdrawn by who asked" if is_withdrawn else "rejected by an approver"

    @property
    def decided_at(self) -> datetime | None:
        """When the vote was cast that decided it, or when time ran out; None while open."""
        if self.count.decided_by:
            return self.count.decided_by.cast_at
        return self.decide_by if self.decision is Decision.DENIED else None

    def may_still_fill(self, seat: Seat) -> tuple[str, ...]:
        """Return who may fill a seat now: nobody who sits already or has rejected.

        Whoever may by a role stands last, in words: who holds it shows when they vote.
        """
        voted = [vote.voter for tallied in self.count.seats for vote in tallied.votes]
        voted += [vote.voter for vote in self.count.objections]
        out = self.pack.names(*voted)
        found = eligible(self.pack, seat, self.electorate, self.counted_at)
        roles = (f"whoever holds the role {role}" for role in seat.roles)
        return (*(user for user in found if self.pack.canonical(user) not in out), *roles)

    @property
    def expires_at(self) -> datetime | None:
        """When the approval ends; None unless granted, or if that moment cannot be told."""
        if self.granted_at is None:
            return None
        try:
            end = self.granted_at + timedelta(days=self.pack.valid_days)
        except OverflowError:
            return None
        return min(end, self.count.conditions.ends_at or end)


def standings(
    gov: Governance,
    view: LedgerView,
    *,
    model: str | None = None,
    version: Digest | None = None,
    target: str | None = None,
) -> list[Standing]:
    """Return every request that matches, in ledger order; of two entries for one, the first counts.

    A request that cannot be read, or whose pack cannot, is left out with a warning: it can neither
    grant nor stand in the way of others.

    Args:
        gov: Governance to read evidence with.
        view: Verified ledger.
        model: Only requests for this model.
        version: Only requests for this version.
        target: Only requests for this environment.

    Raises:
        LedgerUnavailableError: The store went away meanwhile; a retry may help.
    """
    found: dict[Digest, Standing] = {}
    for entry, request in requests(view, model=model, version=version):
        if request.digest in found or target not in {None, request.target}:
            continue
        try:
            found[request.digest] = _standing(gov, view, entry, request)
        except MlgovError as error:
            if error.retryable:
                raise
            log.warning("Request in ledger entry %d is left out: %s", entry.index, error)
    return list(found.values())


def requests(
    view: LedgerView, *, model: str | None = None, version: Digest | None = None
) -> Iterator[tuple[SealedEntry, ApprovalRequest]]:
    """Yield every request that can be read, in ledger order, with the entry that asks."""
    for entry in view.select("approval.requested", model=model, version=version):
        try:
            yield entry, request_of(entry)
        except LedgerIntegrityError as error:
            log.warning("Request in ledger entry %d is left out: %s", entry.index, error)


def request_on_record(view: LedgerView, digest: Digest) -> ApprovalRequest:
    """Return the request with a digest.

    Raises:
        UnknownSubjectError: The ledger holds none; a retry does not help.
    """
    for _, request in requests(view):
        if request.digest == digest:
            return request
    raise no_such_request(digest)


def no_such_request(digest: Digest) -> UnknownSubjectError:
    """Return the error for a request that the ledger does not hold."""
    return UnknownSubjectError(
        f"The ledger holds no request {digest}.",
        remedy="`airflow mlgov status MODEL` shows the request that an approval answers.",
    )


def standing_of(gov: Governance, view: LedgerView, request: Digest) -> Standing | None:
    """Return where one request stands, or None if the ledger does not hold it.

    Raises:
        LedgerIntegrityError: It does not read as a request; a retry does not help.
        EvidenceError: The pack that it names is missing or altered; a retry does not help.
    """
    for entry in view.select("approval.requested"):
        if entry.body["request_sha256"] == str(request):
            return _standing(gov, view, entry, request_of(entry))
    return None


def open_requests(gov: Governance, view: LedgerView, model: str | None = None) -> list[Standing]:
    """Return the requests that still wait for people."""
    return [s for s in standings(gov, view, model=model) if s.decision is Decision.OPEN]


def approval_of(
    gov: Governance, view: LedgerView, *, model: str, version: Digest, target: str
) -> Standing | None:
    """Return the newest granted request for a version and target, or None."""
    granted = [
        s
        for s in standings(gov, view, model=model, version=version, target=target)
        if s.decision is Decision.GRANTED
    ]
    return granted[-1] if granted else None


def request_of(entry: SealedEntry) -> ApprovalRequest:
    """Return the request that an ``approval.requested`` entry holds.

    Raises:
        LedgerIntegrityError: It is malformed, or its digest is not the one stated.
    """
    try:
        request = ApprovalRequest.from_json(entry.body["request"])
    except (ArtefactError, KeyError, TypeError, ValueError) as error:
        raise LedgerIntegrityError(
            f"Entry {entry.index} holds no readable request: {error!r}."
        ) from error
    consistent = (
        str(request.digest) == entry.body["request_sha256"]
        and request.model == entry.model
        and request.version == entry.version
    )
    if not consistent:
        raise LedgerIntegrityError(
            f"Entry {entry.index} asks for something else than its digest states."
        )
    return request


def pack_of(gov: Governance, request: ApprovalRequest) -> PolicyPack:
    """Return the pack that a request names, from its bytes in the evidence store.

    Raises:
        EvidenceError: The bytes are missing, altered or no pack; a retry does not help.
    """
    return kept_pack(gov, request.policy)


def kept_pack(gov: Governance, digest: Digest) -> PolicyPack:
    """Return a pack that the ledger names, from its bytes in the evidence store.

    Raises:
        EvidenceError: The bytes are missing, altered or no pack; a retry does not help.
    """
    try:
        return _parsed(gov.evidence.get(digest), f"policy pack {digest}")
    except (EvidenceError, DocumentError) as error:
        raise EvidenceError(
            f"The policy pack {digest} of a request or validation cannot be read: {error.problem}",
            remedy=error.remedy,
        ) from error


_parsed = lru_cache(maxsize=64)(parse_pack)


def _standing(
    gov: Governance, view: LedgerView, entry: SealedEntry, request: ApprovalRequest
) -> Standing:
    pack = pack_of(gov, request)
    electorate = _electorate(gov, view, entry)
    votes = tuple(_votes(view, entry))
    now = gov.clock.now()
    count = tally(pack, votes, electorate, now)
    return Standing(request, entry, pack, electorate, votes, count, _use(view, request), now)


def _electorate(gov: Governance, view: LedgerView, entry: SealedEntry) -> Electorate:
    developers = list(gov.model(entry.model).developers)
    requester = person_of(entry, "requester")
    is_known = requester is not None or "requester" not in entry.people
    for trained in trainings_before(view, entry):
        developer = person_of(trained, "developer")
        if developer is not None:
            developers += [developer.id, developer.name]
        is_known = is_known and (developer is not None or "developer" not in trained.people)
    return Electorate(requester, tuple(dict.fromkeys(developers)), is_known, entry.at)


def trainings_before(view: LedgerView, asked: SealedEntry) -> list[SealedEntry]:
    """Return the trainings of a request's version that were on record when it asked."""
    trained = view.select("model.trained", model=asked.model, version=asked.version)
    return [entry for entry in trained if entry.index < asked.index]


def person_of(entry: SealedEntry, field: str) -> Person | None:
    """Return a person whom an entry names; None if that cannot be told, for whatever reason."""
    with suppress(LedgerIntegrityError):
        return entry.person(field)
    return None


def text_of(entry: SealedEntry, field: str) -> str | None:
    """Return a text of an entry; None if that cannot be told, for whatever reason."""
    with suppress(LedgerIntegrityError):
        return entry.text(field)
    return None


def _votes(view: LedgerView, asked: SealedEntry) -> Iterator[Vote]:
    request = asked.body["request_sha256"]
    model, version = asked.model, asked.version
    voids = view.select("approval.vote_voided", model=model, version=version)
    voided = {entry.body["vote"] for entry in voids}
    for entry in view.select("approval.voted", model=model, version=version):
        is_later = entry.index > asked.index and entry.key not in voided
        if is_later and entry.body["request_sha256"] == request:
            yield vote_of(entry)


def vote_of(entry: SealedEntry) -> Vote:
    """Return the vote of an entry that states a choice.

    Which roles the voter held a task cannot know, so what one says of them is left out.
    """
    is_attested = entry.signed_by is KeyRole.ATTESTOR
    return Vote(
        index=entry.index,
        request=Digest.parse(entry.body["request_sha256"]),
        voter=person_of(entry, "voter"),
        choice=Choice(entry.body["choice"]),
        comment=text_of(entry, "comment") or "",
        assurance=ASSURANCE[entry.signed_by],
        cast_at=entry.at,
        roles=tuple(entry.body.get("roles", ())) if is_attested else (),
        conditions=Conditions.from_json(entry.body.get("conditions", {})),
    )


def _use(view: LedgerView, request: ApprovalRequest) -> Use | None:
    entries = view.select("approval.consumed", model=request.model, version=request.version)
    return use_on_record(entries, request_sha256=str(request.digest), target=request.target)


def use_on_record(entries: Iterable[SealedEntry], **named: str) -> Use | None:
    """Return the first use that entries state of the very task that wrote them, or None.

    Args:
        entries: Of a kind that has ``target`` and ``use``.
        **named: What their bodies must hold.
    """
    for entry in entries:
        body, use = entry.body, entry.body["use"]
        task = (use["dag_id"], use["run_id"], use["task_id"], use["map_index"])
        if named.items() <= body.items() and task == entry.source.task:
            return Use(entry.model, body["target"], Source(*task), str(body.get("alias", "")))
    return None
