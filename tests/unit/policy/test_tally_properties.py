"""What holds of a count whatever pack, people and answers there are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from airflow_mlgov.policy.pack import Absence, PolicyPack, Seat, Segregation
from airflow_mlgov.policy.tally import Decision, Electorate, tally
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Choice, Vote
from airflow_mlgov.records.people import Person

IDENTITIES = (("olivia", "17"), ("erin", "18"))
NAMES = ["olivia", "17", "victor", "erin", "18", "dora", "rita"]
ASKED_AT = datetime(2026, 1, 1, tzinfo=UTC)
ERIN = Electorate(Person("18", "E."), ("18", "dora"), asked_at=ASKED_AT)

_users = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).map(tuple)
_roles = st.lists(st.sampled_from(["Risk", "Op"]), max_size=2, unique=True).map(tuple)
_seats = st.builds(Seat, st.just("seat"), st.integers(1, 2), _users, st.booleans(), _roles)
_absences = st.builds(
    Absence,
    st.sampled_from(NAMES),
    st.just(date(2026, 1, 1)),
    st.integers(1, 3).map(lambda day: date(2026, 1, day)),
    st.none() | st.sampled_from(NAMES),
    st.just("leave"),
)
_packs = st.builds(
    PolicyPack,
    id=st.just("p"),
    title=st.just("p"),
    digest=st.just(Digest.of(b"p")),
    source=st.just(b"p"),
    file=st.just("p"),
    least_assurance=st.just(Assurance.L1),
    seats=st.lists(_seats, min_size=1, max_size=3).map(tuple),
    segregation=st.just(Segregation(requester=True, developers=True)),
    required_evidence=st.just(()),
    comment_min_length=st.just(1),
    valid_days=st.just(1),
    plans=st.just({}),
    existing_approvals=st.just("keep"),
    identities=st.just(IDENTITIES),
    absences=st.lists(_absences, max_size=3).map(tuple),
    decide_within_days=st.none() | st.just(4),
)
_votes = st.lists(
    st.builds(
        Vote,
        index=st.just(0),
        request=st.just(Digest.of(b"r")),
        voter=st.builds(Person, st.sampled_from(NAMES), st.sampled_from(NAMES)),
        choice=st.sampled_from([Choice.APPROVE, Choice.APPROVE, Choice.REJECT, Choice.WITHDRAW]),
        comment=st.sampled_from(["fine", "fine", ""]),
        assurance=st.just(Assurance.L1),
        cast_at=st.integers(0, 5).map(lambda days: ASKED_AT + timedelta(days=days, hours=1)),
        roles=_roles,
    ),
    max_size=9,
).map(lambda votes: [replace(vote, index=index) for index, vote in enumerate(votes)])


def may_sit(pack: PolicyPack, seat: Seat, vote: Vote) -> bool:
    """Tell in the plainest way whether somebody may fill a seat on the day of the vote."""
    day, me = vote.cast_at.date(), pack.names(vote.voter)
    if any(pack.absence_of(name, day) for name in me) or me & pack.names("erin", "dora"):
        return False
    for user in seat.users:
        absence = pack.absence_of(user, day)
        if absence is None and me & pack.names(user):
            return True
        is_place = absence is not None and not pack.names(user) & pack.names("erin", "dora")
        if is_place and me & pack.names(absence.deputy):
            return True
    return bool(set(seat.roles) & set(vote.roles))


@given(_packs, _votes)
def test_only_those_who_may_sit_and_each_person_once(pack, votes) -> None:
    result = tally(pack, votes, ERIN)
    sitting = [vote for seat in result.seats for vote in seat.votes]
    people = [name for vote in sitting for name in pack.names(vote.voter)]
    assert len(set(people)) == len(people)
    for seat in result.seats:
        assert all(may_sit(pack, seat.seat, vote) for vote in seat.votes)
        assert seat.open_count >= 0
    is_full = not any(seat.open_count for seat in result.seats)
    assert (result.decision is Decision.GRANTED) == (is_full and bool(sitting))
    if pack.decide_within_days:
        assert all(vote.cast_at < ASKED_AT + timedelta(days=4) for vote in sitting)


@given(_packs, _votes, _votes)
def test_the_order_of_the_ledger_decides(pack, votes, later) -> None:
    """What was decided stays so, whatever comes later."""
    before = tally(pack, votes, ERIN)
    after = tally(pack, [*votes, *later], ERIN)
    if before.decision is not Decision.OPEN:
        assert (after.decision, after.decided_by) == (before.decision, before.decided_by)
        assert after.seats == before.seats
        assert len(after.refused) == len(before.refused) + len(later)


@given(_packs, _votes, _votes, st.randoms(use_true_random=False))
def test_votes_below_the_least_assurance_change_nothing(pack, votes, others, random) -> None:
    mixed = list(votes)
    for other in others:
        mixed.insert(random.randrange(len(mixed) + 1), replace(other, assurance=Assurance.L0))
    alone, among = tally(pack, votes, ERIN), tally(pack, mixed, ERIN)
    assert (among.decision, among.decided_by) == (alone.decision, alone.decided_by)
    assert (among.seats, among.objections) == (alone.seats, alone.objections)


@given(_packs, _votes)
def test_whoever_is_kept_off_changes_nothing(pack, votes) -> None:
    """Of the requester only a withdrawal counts, of other developers nothing."""
    barred = pack.names("erin", "dora")
    kept_off = [
        vote
        for vote in votes
        if pack.names(vote.voter) & barred and vote.choice is not Choice.WITHDRAW
    ]
    alone = tally(pack, [vote for vote in votes if vote not in kept_off], ERIN)
    among = tally(pack, votes, ERIN)
    assert (among.decision, among.seats) == (alone.decision, alone.seats)


@given(_packs, _votes)
def test_time_alone_never_approves(pack, votes) -> None:
    now = tally(pack, votes, ERIN, ASKED_AT)
    late = tally(pack, votes, ERIN, ASKED_AT + timedelta(days=400))
    assert (now.decision is Decision.GRANTED) == (late.decision is Decision.GRANTED)
    if pack.decide_within_days:
        assert late.decision is not Decision.OPEN
