"""Counts votes: a pure function of the pack, the people, the votes on record and the time.

The gate counts with it, and every guard counts again with it: an entry that says "granted" proves
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

from airflow_mlgov.policy.condition_checks import condition_faults, nothing_left
from airflow_mlgov.policy.pack import PolicyPack, Seat
from airflow_mlgov.policy.seating import unseated
from airflow_mlgov.records.conditions import NO_CONDITIONS, Conditions, strictest
from airflow_mlgov.records.governance import Choice, Vote
from airflow_mlgov.records.people import Person

VOTED_BEFORE = "the voter has voted before"
"""Why a second approval of one person is refused."""
DECIDED_BEFORE = "the request was decided before"
"""Why a vote is refused that comes too late."""


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
        conditions: What all approvals that count bind it to, together.
    """

    decision: Decision
    seats: tuple[SeatTally, ...]
    refused: tuple[RefusedVote, ...]
    decided_by: Vote | None
    objections: tuple[Vote, ...] = ()
    conditions: Conditions = NO_CONDITIONS

    @property
    def open_seats(self) -> tuple[SeatTally, ...]:
        """The seats on which somebody is still needed."""
        return tuple(seat for seat in self.seats if seat.open_count)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A vote that counts, in whose place (the voter's own or an absent user's), and on which seats.

    Seats are numbered as the pack lists them.
    """

    vote: Vote
    place: str
    seats: frozenset[int]


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
    count = _Count(pack, electorate)
    refused: list[RefusedVote] = []
    decision, decided_by = Decision.OPEN, None
    for vote in votes:
        place, reasons = count.admit(vote)
        if decided_by:
            reasons = (DECIDED_BEFORE,)
        if reasons:
            refused.append(RefusedVote(vote, reasons))
            continue
        decision = count.take(vote, place)
        decided_by = vote if decision is not Decision.OPEN else None
    if decision is Decision.OPEN and _is_over(pack, electorate, now):
        decision = Decision.DENIED
    objections = tuple(other.vote for other in count.objections if other.vote is not decided_by)
    return Tally(
        decision=decision,
        seats=_seated(pack, count.approvals),
        refused=tuple(refused),
        decided_by=decided_by,
        objections=objections,
        conditions=strictest(count.conditions),
    )


def eligible(pack: PolicyPack, seat: Seat, electorate: Electorate, on: datetime) -> tuple[str, ...]:
    """Return who may fill a seat at a moment, in the order and under the names that it lists.

    Who holds a role that it names is not known before they vote.

    Args:
        pack: The pack.
        seat: One of its seats.
        electorate: Whom segregation of duties keeps out.
        on: The moment; who is away then is replaced by the deputy, if there is one who has no place
            of their own.
    """
    barred, day = _barred(pack, electorate), on.astimezone(UTC).date()
    listed = pack.seated
    present: dict[str, str] = {}
    for user in seat.users:
        absence = pack.absence_of(user, day)
        who = absence.deputy if absence else user
        if who is None or pack.absence_of(who, day) or (absence and pack.canonical(who) in listed):
            continue
        if barred.isdisjoint((pack.canonical(user), pack.canonical(who))):
            present.setdefault(pack.canonical(who), who)
    return tuple(present.values())


class _Count:
    """The votes that count so far, each in its place."""

    def __init__(self, pack: PolicyPack, electorate: Electorate) -> None:
        self._pack = pack
        self._electorate = electorate
        self.approvals: list[_Counted] = []
        self.objections: list[_Counted] = []

    @property
    def conditions(self) -> list[Conditions]:
        """What each approval that counts binds it to."""
        return [other.vote.conditions for other in self.approvals]

    def admit(self, vote: Vote) -> tuple[str, tuple[str, ...]]:
        """Return the place that a vote takes, or why it takes none."""
        voter = vote.voter
        if voter is None or not self._electorate.is_known:
            # What was erased cannot be counted for; a rejection holds all the same.
            if vote.choice is not Choice.REJECT:
                return "", ("a name that this count needs was erased",)
            return "", ()
        if vote.choice is Choice.WITHDRAW:
            return "", tuple(self._objections_to_withdrawal(vote, voter))
        places = self._places(vote, voter)
        reasons = [
            *_limits(self._pack, vote, self._electorate),
            *_duties(self._pack, voter, self._electorate),
            *_no_place(self._pack, vote, voter, places),
        ]
        held = [own.place for own in self._of(voter, [*self.approvals, *self.objections])]
        places = [place for place in held if place in places] or places
        if vote.choice.is_approval:
            reasons += [
                f"with the conditions already set no value of {column} would be left"
                for column in nothing_left(self.conditions, vote.conditions)
            ]
            taken = {other.place for other in self.approvals}
            if self._of(voter, self.approvals):
                reasons.append(VOTED_BEFORE)
            elif places and taken.issuperset(places):
                reasons.append("somebody has voted in that place before")
            places = [place for place in places if place not in taken]
        return (places[0] if places else ""), tuple(reasons)

    def take(self, vote: Vote, place: str) -> Decision:
        """Count a vote that was admitted, and return where that leaves the request."""
        if vote.choice is Choice.WITHDRAW:
            if self._is_requester(vote.voter):
                return Decision.DENIED
            own = self._of(vote.voter, [*self.approvals, *self.objections])
            self.approvals = [other for other in self.approvals if other not in own]
            self.objections = [other for other in self.objections if other not in own]
            return Decision.OPEN
        self.approvals = [other for other in self.approvals if other.place != place]
        self.objections = [other for other in self.objections if other.place != place]
        counted = _Counted(vote, place, self._seats(vote, place))
        if vote.choice.is_approval:
            self.approvals.append(counted)
            is_full = all(not seat.open_count for seat in _seated(self._pack, self.approvals))
            return Decision.GRANTED if is_full else Decision.OPEN
        self.objections.append(counted)
        is_over = self._is_veto(counted) or self._is_hopeless()
        return Decision.DENIED if is_over else Decision.OPEN

    def _objections_to_withdrawal(self, vote: Vote, voter: Person) -> Iterable[str]:
        yield from _limits(self._pack, vote, self._electorate)
        own = self._of(voter, [*self.approvals, *self.objections])
        if not own and not self._is_requester(voter):
            yield "the voter has no vote to withdraw and has not asked"

    def _of(self, voter: Person | None, votes: Iterable[_Counted]) -> list[_Counted]:
        names = self._pack.names(voter)
        return [other for other in votes if names & self._pack.names(other.vote.voter)]

    def _is_requester(self, voter: Person | None) -> bool:
        return bool(self._pack.names(voter) & self._pack.names(self._electorate.requester))

    def _places(self, vote: Vote, voter: Person) -> list[str]:
        """Return in whose place somebody votes: their own, else those of whom they are the deputy.

        Whoever is away has none, and nobody has that of somebody who may not vote.
        """
        pack, names, day = self._pack, self._pack.names(voter), _day(vote)
        if any(pack.absence_of(name, day) for name in names):
            return []
        listed = [user for user in _listed(pack) if user in names]
        if listed or any(_holds(vote, seat) for seat in pack.seats):
            return listed or [pack.canonical(voter.id)]
        barred = _barred(pack, self._electorate)
        absences = {user: pack.absence_of(user, day) for user in _listed(pack)}
        return [
            user
            for user, absence in absences.items()
            if absence and user not in barred and names & pack.names(absence.deputy)
        ]

    def _seats(self, vote: Vote, place: str) -> frozenset[int]:
        """Return on which seats a vote may sit in a place: a deputy holds no role for another."""
        is_own = place in self._pack.names(vote.voter)
        return frozenset(
            number
            for number, seat in enumerate(self._pack.canonical_seats())
            if place in seat.users or (is_own and _holds(vote, seat))
        )

    def _is_veto(self, objection: _Counted) -> bool:
        """Whether a rejection ends the request; one that has lost its place does."""
        seats = [self._pack.seats[number] for number in objection.seats]
        return not seats or any(seat.veto for seat in seats)

    def _is_hopeless(self) -> bool:
        """Whether too few places are left to fill all seats."""
        out = {other.place for other in self.objections} | _barred(self._pack, self._electorate)
        return unseated(self._pack.canonical_seats(), barred=out) is not None


def _limits(pack: PolicyPack, vote: Vote, electorate: Electorate) -> Iterable[str]:
    if vote.assurance < pack.least_assurance:
        needed = pack.least_assurance
        yield f"assurance {vote.assurance} is below the {needed} that the policy pack demands"
    if len(vote.comment.strip()) < pack.comment_min_length:
        yield f"the comment is shorter than {pack.comment_min_length} characters"
    if _is_over(pack, electorate, vote.cast_at):
        yield "the time to decide was over"
    yield from condition_faults(pack.conditions, vote.choice, vote.conditions, _day(vote))


def _duties(pack: PolicyPack, voter: Person, electorate: Electorate) -> Iterable[str]:
    names = pack.names(voter)
    if pack.segregation.requester and names & pack.names(electorate.requester):
        yield "the voter is the requester"
    if pack.segregation.developers and names & pack.names(*electorate.developers):
        yield "the voter is a developer of this version"


def _no_place(pack: PolicyPack, vote: Vote, voter: Person, places: Sequence[str]) -> Iterable[str]:
    if places:
        return
    if any(pack.absence_of(name, _day(vote)) for name in pack.names(voter)):
        yield "the policy pack says that the voter is away on that day"
    else:
        yield "the voter is on no seat of the policy pack"


def _day(vote: Vote) -> date:
    return vote.cast_at.astimezone(UTC).date()


def _holds(vote: Vote, seat: Seat) -> bool:
    """Whether the voter held a role of a seat when voting, as the api-server saw it."""
    return not set(seat.roles).isdisjoint(vote.roles)


def _listed(pack: PolicyPack) -> Iterable[str]:
    return dict.fromkeys(user for seat in pack.canonical_seats() for user in seat.users)


def _barred(pack: PolicyPack, electorate: Electorate) -> frozenset[str]:
    """Return those whom segregation of duties keeps off every seat, by canonical name."""
    rules = pack.segregation
    requester = pack.names(electorate.requester) if rules.requester else frozenset()
    return requester | (pack.names(*electorate.developers) if rules.developers else frozenset())


def _is_over(pack: PolicyPack, electorate: Electorate, at: datetime | None) -> bool:
    decide_by = pack.decide_by(electorate.asked_at) if electorate.asked_at else None
    return decide_by is not None and at is not None and at >= decide_by


def _seated(pack: PolicyPack, votes: Sequence[_Counted]) -> tuple[SeatTally, ...]:
    """Seat as many voters as possible, each once (bipartite matching by augmenting paths)."""
    chairs = [number for number, seat in enumerate(pack.seats) for _ in range(seat.count)]
    sitting: dict[int, _Counted] = {}

    def take_chair(vote: _Counted, tried: set[int]) -> bool:
        for number, seat in enumerate(chairs):
            if number in tried or seat not in vote.seats:
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
