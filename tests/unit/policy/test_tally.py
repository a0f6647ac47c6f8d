from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlgov.policy.pack import PolicyPack, Seat, Segregation
from airflow_mlgov.policy.tally import Decision, Electorate, tally
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Choice, Vote
from airflow_mlgov.records.people import Person

REQUEST = Digest.of(b"request")
COMMENT = "looked at the evidence"


def make_pack(*seats: Seat, least: Assurance = Assurance.L0) -> PolicyPack:
    return PolicyPack(
        id="p",
        title="p",
        digest=Digest.of(b"pack"),
        source=b"pack",
        file="p.yaml",
        least_assurance=least,
        seats=seats or (Seat("owner", 1, ("olivia",)), Seat("validator", 1, ("victor", "erin"))),
        segregation=Segregation(requester=True, developers=True),
        required_evidence=(),
        comment_min_length=10,
        valid_days=1,
        plans={},
        existing_approvals="keep",
        **({"tiers": None} if "tiers" in PolicyPack.__dataclass_fields__ else {}),
    )


def vote(
    index: int, who: str, choice: Choice = Choice.APPROVE, comment: str = COMMENT, **kw
) -> Vote:
    person = Person(who, kw.pop("name", who))
    assurance = kw.pop("assurance", Assurance.L0)
    return Vote(
        index, REQUEST, person, choice, comment, assurance, datetime(2026, 1, 1, tzinfo=UTC)
    )


NOBODY = Electorate(None, ())
ERIN_ASKED = Electorate(Person("erin", "erin"), ("erin",))


def test_all_seats_filled_grants():
    result = tally(make_pack(), [vote(1, "olivia"), vote(2, "victor")], NOBODY)
    assert result.decision is Decision.GRANTED
    assert result.decided_by.index == 2
    assert [seat.open_count for seat in result.seats] == [0, 0]


def test_one_vote_leaves_it_open():
    result = tally(make_pack(), [vote(1, "victor")], NOBODY)
    assert result.decision is Decision.OPEN
    assert [seat.open_count for seat in result.seats] == [1, 0]


def test_one_rejection_ends_it_and_later_votes_are_void():
    votes = [vote(1, "olivia"), vote(2, "victor", Choice.REJECT), vote(3, "victor")]
    result = tally(make_pack(), votes, NOBODY)
    assert result.decision is Decision.DENIED
    assert [refused.vote.index for refused in result.refused] == [3]
    assert "decided before" in result.refused[0].reasons[0]


def test_an_approver_may_still_reject_after_approving():
    result = tally(make_pack(), [vote(1, "olivia"), vote(2, "olivia", Choice.REJECT)], NOBODY)
    assert result.decision is Decision.DENIED


@pytest.mark.parametrize(
    ("who", "electorate", "reason"),
    [
        (vote(1, "erin"), ERIN_ASKED, "requester"),
        (vote(1, "erin"), Electorate(None, ("erin",)), "developer"),
        (vote(1, "17", name="Erin"), Electorate(None, ("erin",)), "developer"),
        (vote(1, "17", name="Erin"), Electorate(Person("erin", "erin"), ()), "requester"),
        (vote(1, "mallory"), NOBODY, "no seat"),
        (vote(1, "olivia", comment="ok"), NOBODY, "shorter than 10"),
        (vote(1, "olivia", comment="   " * 10), NOBODY, "shorter than 10"),
    ],
)
def test_refused_with_the_reason(who, electorate, reason):
    result = tally(make_pack(), [who], electorate)
    assert result.decision is Decision.OPEN
    assert any(reason in text for text in result.refused[0].reasons)


def test_a_rejection_by_somebody_without_a_seat_ends_nothing():
    result = tally(make_pack(), [vote(1, "mallory", Choice.REJECT)], NOBODY)
    assert result.decision is Decision.OPEN


def test_one_person_fills_one_seat_even_if_named_on_two():
    pack = make_pack(Seat("owner", 1, ("olivia",)), Seat("validator", 1, ("olivia", "victor")))
    result = tally(pack, [vote(1, "olivia"), vote(2, "olivia")], NOBODY)
    assert result.decision is Decision.OPEN
    assert "voted before" in result.refused[0].reasons[0]
    assert tally(pack, [vote(1, "olivia"), vote(2, "victor")], NOBODY).decision is Decision.GRANTED


def test_a_voter_moves_over_so_that_both_seats_are_filled():
    pack = make_pack(Seat("any", 1, ("olivia", "victor")), Seat("owner", 1, ("olivia",)))
    result = tally(pack, [vote(1, "olivia"), vote(2, "victor")], NOBODY)
    assert result.decision is Decision.GRANTED
    assert [seat.votes[0].voter.id for seat in result.seats] == ["victor", "olivia"]


def test_too_little_assurance_is_not_counted():
    pack = make_pack(least=Assurance.L1)
    result = tally(pack, [vote(1, "olivia"), vote(2, "victor", assurance=Assurance.L1)], NOBODY)
    assert result.decision is Decision.OPEN
    assert "assurance L0 is below the L1" in result.refused[0].reasons[0]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["olivia", "victor", "erin", "mallory"]), st.sampled_from(list(Choice))
        )
    )
)
def test_never_granted_without_two_different_entitled_people(answers):
    votes = [vote(index, who, choice) for index, (who, choice) in enumerate(answers, 1)]
    result = tally(make_pack(), votes, ERIN_ASKED)
    sitting = [v.voter.id for seat in result.seats for v in seat.votes]
    assert len(set(sitting)) == len(sitting)
    assert set(sitting) <= {"olivia", "victor"}
    assert (result.decision is Decision.GRANTED) <= (set(sitting) == {"olivia", "victor"})
    counted = len(sitting) + (result.decision is Decision.DENIED)
    assert counted + len(result.refused) == len(votes) or result.decision is Decision.DENIED
