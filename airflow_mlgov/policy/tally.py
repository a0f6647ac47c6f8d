"""Counts votes: a pure function of the pack, the people and the votes on record.

The gate counts with it, and every guard counts again with it: an entry that says "granted" proves
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from airflow_mlgov.policy.pack import PolicyPack, Seat
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
    """Who stands in which relation to what is asked.

    Attributes:
        requester: Who triggered the run that asks; None if no person did.
        developers: Names or ids of those who built this version.
        is_known: False if the name of the requester, or of who trained this version, was erased, so
            that nobody can be shown to be somebody else.
    """

    requester: Person | None
    developers: tuple[str, ...]
    is_known: bool = True


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
        decided_by: The vote that filled the last seat, or the rejection; None while open.
    """

    decision: Decision
    seats: tuple[SeatTally, ...]
    refused: tuple[RefusedVote, ...]
    decided_by: Vote | None


def tally(pack: PolicyPack, votes: Iterable[Vote], electorate: Electorate) -> Tally:
    """Return the count of votes under a pack.

    Args:
        pack: The pack that the request names.
        votes: Votes that name the request, in ledger order; that order decides.
        electorate: Who asked and who built.
    """
    counted: list[Vote] = []
    refused: list[RefusedVote] = []
    decision, decided_by = Decision.OPEN, None
    for vote in votes:
        reasons = tuple(_objections(pack, vote, electorate, counted))
        if decided_by:
            reasons = ("the request was decided before",)
        if reasons:
            refused.append(RefusedVote(vote, reasons))
        elif vote.choice is Choice.REJECT:
            decision, decided_by = Decision.DENIED, vote
        else:
            counted.append(vote)
            if _is_full(pack.seats, counted):
                decision, decided_by = Decision.GRANTED, vote
    return Tally(decision, _seated(pack.seats, counted), tuple(refused), decided_by)


def _objections(
    pack: PolicyPack, vote: Vote, electorate: Electorate, counted: Sequence[Vote]
) -> Iterable[str]:
    voter = vote.voter
    if voter is None or not electorate.is_known:
        # What was erased cannot be counted for; a rejection holds all the same.
        if vote.choice is Choice.APPROVE:
            yield "a name that this count needs was erased"
        return
    yield from _objections_to(voter, pack, vote, electorate)
    before = (other.voter for other in counted if other.voter)
    if vote.choice is Choice.APPROVE and any(_is_one_person(voter, other) for other in before):
        yield VOTED_BEFORE


def _objections_to(
    voter: Person, pack: PolicyPack, vote: Vote, electorate: Electorate
) -> Iterable[str]:
    if vote.assurance < pack.least_assurance:
        needed = pack.least_assurance
        yield f"assurance {vote.assurance} is below the {needed} that the policy pack demands"
    if pack.segregation.requester and _is_requester(voter, electorate):
        yield "the voter is the requester"
    if pack.segregation.developers and any(
        voter.is_same_as(name) for name in electorate.developers
    ):
        yield "the voter is a developer of this version"
    if not any(voter.is_same_as(user) for user in pack.users):
        yield "the voter is on no seat of the policy pack"
    if len(vote.comment.strip()) < pack.comment_min_length:
        yield f"the comment is shorter than {pack.comment_min_length} characters"


def _is_requester(voter: Person, electorate: Electorate) -> bool:
    return electorate.requester is not None and _is_one_person(voter, electorate.requester)


def _is_one_person(one: Person, other: Person) -> bool:
    return one.is_same_as(other.id) or one.is_same_as(other.name)


def _is_full(seats: Sequence[Seat], votes: Sequence[Vote]) -> bool:
    return all(seat.open_count == 0 for seat in _seated(seats, votes))


def _seated(seats: Sequence[Seat], votes: Sequence[Vote]) -> tuple[SeatTally, ...]:
    """Seat as many voters as possible, each once (bipartite matching by augmenting paths)."""
    chairs = [seat for seat in seats for _ in range(seat.count)]
    sitting: dict[int, Vote] = {}

    def take_chair(vote: Vote, tried: set[int]) -> bool:
        for number, seat in enumerate(chairs):
            if number in tried or not _may_sit(vote, seat):
                continue
            tried.add(number)
            if number not in sitting or take_chair(sitting[number], tried):
                sitting[number] = vote
                return True
        return False

    for vote in votes:
        take_chair(vote, set())
    return tuple(_seat_tallies(seats, sitting))


def _may_sit(vote: Vote, seat: Seat) -> bool:
    return vote.voter is not None and any(vote.voter.is_same_as(user) for user in seat.users)


def _seat_tallies(seats: Sequence[Seat], sitting: dict[int, Vote]) -> Iterable[SeatTally]:
    first = 0
    for seat in seats:
        numbers = range(first, first + seat.count)
        yield SeatTally(seat, tuple(sitting[number] for number in numbers if number in sitting))
        first += seat.count
