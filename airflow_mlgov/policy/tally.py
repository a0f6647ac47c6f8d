"""Counts votes: a pure function of the pack, the people, the votes on record and the time.

The gate counts with it, and every guard counts again with it: an entry that says "granted" proves
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from airflow_mlgov.policy.pack import PolicyPack, Seat
from airflow_mlgov.policy.seating import unseated
from airflow_mlgov.records.governance import Choice, Vote
from airflow_mlgov.records.people import Person

VOTED_BEFORE = "the voter has voted before"
"""Why a second approval of one person is refused."""


class Decision(StrEnum):
    """Where a request stands."""

    OPEN = "open"
    GRANTED = "granted"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who stands in which relation to what is asked, and when it was asked.

    Attributes:
        requester: Who triggered the run that asks; None if no person did.
        developers: Names or ids of those who built this version.
        is_known: False if the name of the requester, or of who trained this version, was erased, so
            that nobody can be shown to be somebody else.
        asked_at: When it was asked; None if the time to decide is of no matter.
    """

    requester: Person | None
    developers: tuple[str, ...]
    is_known: bool = True
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefusedVote:
    """A vote that was not counted.

    Attributes:
        vote: The vote.
        reasons: Each rule that it broke, in words that name nobody.
    """

    vote: Vote
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeatTally:
    """One seat of the pack and who sits on it.

    Attributes:
        seat: The seat.
        votes: Counted approvals that fill it.
    """

    seat: Seat
    votes: tuple[Vote, ...]

    @property
    def open_count(self) -> int:
        """How many people are still needed."""
        return self.seat.count - len(self.votes)


@dataclass(frozen=True, slots=True)
class Tally:
    """The count.

    Attributes:
        decision: Open, granted or denied.
        seats: Each seat of the pack, in its order.
        refused: Votes that were not counted, and why.
        decided_by: The vote that filled the last seat, or the rejection; None while open, and if
            time ran out.
        objections: Rejections from seats without a veto.
    """

    decision: Decision
    seats: tuple[SeatTally, ...]
    refused: tuple[RefusedVote, ...]
    decided_by: Vote | None
    objections: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class _Counted:
    """A vote that counts, and in whose place: the voter's own, or that of an absent user."""

    vote: Vote
    place: str


def tally(
    pack: PolicyPack, votes: Iterable[Vote], electorate: Electorate, now: datetime | None = None
) -> Tally:
    """Return the count of votes under a pack.

    Args:
        pack: The pack that the request names.
        votes: Votes that name the request, in ledger order; that order decides.
        electorate: Who asked and who built.
        now: When it is counted; None if it is of no matter whether time ran out meanwhile.
    """
    counted: list[_Counted] = []
    objections: list[_Counted] = []
    refused: list[RefusedVote] = []
    decision, decided_by = Decision.OPEN, None
    for vote in votes:
        place, reasons = _admit(pack, vote, electorate, counted)
        if decided_by:
            reasons = ("the request was decided before",)
        if reasons:
            refused.append(RefusedVote(vote, reasons))
            continue
        if vote.choice is Choice.APPROVE:
            counted.append(_Counted(vote, place))
            if _is_full(pack, counted):
                decision, decided_by = Decision.GRANTED, vote
            continue
        objections.append(_Counted(vote, place))
        counted = [other for other in counted if other.place != place]
        if _is_veto(pack, place) or _is_hopeless(pack, objections, electorate):
            decision, decided_by = Decision.DENIED, vote
    if decision is Decision.OPEN and _is_over(pack, electorate, now):
        decision = Decision.DENIED
    others = tuple(other.vote for other in objections if other.vote is not decided_by)
    return Tally(decision, _seated(pack, counted), tuple(refused), decided_by, others)


def eligible(pack: PolicyPack, seat: Seat, electorate: Electorate, on: datetime) -> tuple[str, ...]:
    """Return who may fill a seat at a moment, in the order and under the names that it lists.

    Args:
        pack: The pack.
        seat: One of its seats.
        electorate: Whom segregation of duties keeps out.
        on: The moment; who is away then is replaced by the deputy, if there is one.
    """
    barred = _barred(pack, electorate)
    present: dict[str, str] = {}
    for user in seat.users:
        absence = pack.absence_of(user, on.astimezone(UTC).date())
        who = absence.deputy if absence else user
        if who is not None and pack.canonical(who) not in barred:
            present.setdefault(pack.canonical(who), who)
    return tuple(present.values())


def _admit(
    pack: PolicyPack, vote: Vote, electorate: Electorate, counted: Sequence[_Counted]
) -> tuple[str, tuple[str, ...]]:
    """Return the place that a vote takes, or why it takes none."""
    voter = vote.voter
    if voter is None or not electorate.is_known:
        # What was erased cannot be counted for; a rejection holds all the same.
        if vote.choice is Choice.APPROVE:
            return "", ("a name that this count needs was erased",)
        return "", ()
    places = _places(pack, voter, vote.cast_at)
    reasons = [*_objections(pack, vote, electorate), *_no_place(pack, voter, places)]
    if vote.choice is Choice.REJECT:
        return (places[0] if places else ""), tuple(reasons)
    names = pack.names(voter)
    taken = {other.place for other in counted}
    if any(other.vote.voter and names & pack.names(other.vote.voter) for other in counted):
        reasons.append(VOTED_BEFORE)
    elif places and taken.issuperset(places):
        reasons.append("somebody has voted in that place before")
    free = [place for place in places if place not in taken]
    return (free[0] if free else ""), tuple(reasons)


def _objections(pack: PolicyPack, vote: Vote, electorate: Electorate) -> Iterable[str]:
    if vote.assurance < pack.least_assurance:
        needed = pack.least_assurance
        yield f"assurance {vote.assurance} is below the {needed} that the policy pack demands"
    names = pack.names(vote.voter)
    if pack.segregation.requester and names & pack.names(electorate.requester):
        yield "the voter is the requester"
    if pack.segregation.developers and names & pack.names(*electorate.developers):
        yield "the voter is a developer of this version"
    if len(vote.comment.strip()) < pack.comment_min_length:
        yield f"the comment is shorter than {pack.comment_min_length} characters"
    if _is_over(pack, electorate, vote.cast_at):
        yield "the time to decide was over"


def _no_place(pack: PolicyPack, voter: Person, places: Sequence[str]) -> Iterable[str]:
    if places:
        return
    if any(pack.canonical(user) in pack.names(voter) for user in _listed(pack)):
        yield "the policy pack says that the voter is away on that day"
    else:
        yield "the voter is on no seat of the policy pack"


def _places(pack: PolicyPack, voter: Person, at: datetime) -> list[str]:
    """Return in whose place somebody votes: their own, else those of whom they are the deputy."""
    names, day = pack.names(voter), at.astimezone(UTC).date()
    own, others = [], []
    for user in _listed(pack):
        absence = pack.absence_of(user, day)
        if absence is None and pack.canonical(user) in names:
            own.append(pack.canonical(user))
        elif absence is not None and names & pack.names(absence.deputy):
            others.append(pack.canonical(user))
    return own or others


def _listed(pack: PolicyPack) -> Iterable[str]:
    return dict.fromkeys(user for seat in pack.canonical_seats() for user in seat.users)


def _barred(pack: PolicyPack, electorate: Electorate) -> frozenset[str]:
    """Return those whom segregation of duties keeps off every seat, by canonical name."""
    rules = pack.segregation
    requester = pack.names(electorate.requester) if rules.requester else frozenset()
    return requester | (pack.names(*electorate.developers) if rules.developers else frozenset())


def _is_veto(pack: PolicyPack, place: str) -> bool:
    """Whether a rejection from a place ends the request; one that has lost its place does."""
    seats = [seat for seat in pack.canonical_seats() if place in seat.users]
    return not seats or any(seat.veto for seat in seats)


def _is_hopeless(
    pack: PolicyPack, objections: Collection[_Counted], electorate: Electorate
) -> bool:
    """Whether too few places are left to fill all seats."""
    out = {other.place for other in objections} | _barred(pack, electorate)
    return unseated(pack.canonical_seats(), barred=out) is not None


def _is_over(pack: PolicyPack, electorate: Electorate, at: datetime | None) -> bool:
    decide_by = pack.decide_by(electorate.asked_at) if electorate.asked_at else None
    return decide_by is not None and at is not None and at >= decide_by


def _is_full(pack: PolicyPack, votes: Sequence[_Counted]) -> bool:
    return all(seat.open_count == 0 for seat in _seated(pack, votes))


def _seated(pack: PolicyPack, votes: Sequence[_Counted]) -> tuple[SeatTally, ...]:
    """Seat as many voters as possible, each once (bipartite matching by augmenting paths)."""
    chairs = [seat for seat in pack.canonical_seats() for _ in range(seat.count)]
    sitting: dict[int, _Counted] = {}

    def take_chair(vote: _Counted, tried: set[int]) -> bool:
        for number, seat in enumerate(chairs):
            if number in tried or vote.place not in seat.users:
                continue
            tried.add(number)
            if number not in sitting or take_chair(sitting[number], tried):
                sitting[number] = vote
                return True
        return False

    for vote in votes:
        take_chair(vote, set())
    return tuple(_seat_tallies(pack.seats, sitting))


def _seat_tallies(seats: Sequence[Seat], sitting: dict[int, _Counted]) -> Iterable[SeatTally]:
    first = 0
    for seat in seats:
        numbers = range(first, first + seat.count)
        filled = tuple(sitting[number].vote for number in numbers if number in sitting)
        yield SeatTally(seat, filled)
        first += seat.count
