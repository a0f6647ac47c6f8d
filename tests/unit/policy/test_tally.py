from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlgov.policy.pack import Absence, ConditionRules, PolicyPack, Seat, Segregation
from airflow_mlgov.policy.tally import Decision, Electorate, eligible, tally
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Choice, Vote
from airflow_mlgov.records.people import Person

REQUEST = Digest.of(b"request")
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
COMMENT = "looked at the evidence"


def make_pack(*seats: Seat, least: Assurance = Assurance.L0, **rules) -> PolicyPack:
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
        **rules,
    )


def vote(
    index: int, who: str, choice: Choice = Choice.APPROVE, comment: str = COMMENT, **kw
) -> Vote:
    person = Person(who, kw.pop("name", who))
    assurance = kw.pop("assurance", Assurance.L0)
    at, roles = kw.pop("at", NEW_YEAR), kw.pop("roles", ())
    return Vote(index, REQUEST, person, choice, comment, assurance, at, roles)


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
            st.sampled_from(["olivia", "victor", "erin", "mallory"]),
            st.sampled_from([Choice.APPROVE, Choice.REJECT]),
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


ALIASES = (("olivia", "17", "olivia@bank.example"), ("erin", "18"))


def test_two_names_of_one_person_fill_one_seat():
    pack = make_pack(
        Seat("owner", 1, ("olivia",)), Seat("validator", 1, ("17", "victor")), identities=ALIASES
    )
    votes = [vote(1, "olivia"), vote(2, "17"), vote(3, "9", name="OLIVIA@bank.example")]
    result = tally(pack, votes, NOBODY)
    assert result.decision is Decision.OPEN
    assert [refused.reasons for refused in result.refused] == [("the voter has voted before",)] * 2


@pytest.mark.parametrize(
    ("electorate", "reason"),
    [
        (Electorate(Person("18", "E. Example"), ()), "requester"),
        (Electorate(None, ("18",)), "developer"),
    ],
)
def test_segregation_holds_under_every_name(electorate, reason):
    result = tally(make_pack(identities=ALIASES), [vote(1, "erin")], electorate)
    assert reason in result.refused[0].reasons[0]


def test_a_person_signed_in_by_number_sits_on_the_seat_of_their_name():
    result = tally(make_pack(identities=ALIASES), [vote(1, "17"), vote(2, "victor")], NOBODY)
    assert result.decision is Decision.GRANTED


def away(user: str = "olivia", deputy: str | None = "dora") -> Absence:
    return Absence(user, date(2026, 1, 1), date(2026, 1, 3), deputy, "leave")


def on(day: int) -> datetime:
    return datetime(2026, 1, day, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(("day", "counts"), [(3, True), (4, False)])
def test_a_deputy_votes_in_the_place_of_who_is_away_and_only_then(day, counts):
    pack = make_pack(absences=(away(),))
    result = tally(pack, [vote(1, "dora", at=on(day))], NOBODY)
    assert bool(result.seats[0].votes) is counts
    own = tally(pack, [vote(1, "olivia", at=on(day))], NOBODY)
    assert bool(own.seats[0].votes) is not counts
    if counts:
        assert own.refused[0].reasons == (
            "the policy pack says that the voter is away on that day",
        )
    else:
        assert result.refused[0].reasons == ("the voter is on no seat of the policy pack",)


def test_nobody_votes_for_who_is_away_without_a_deputy():
    pack = make_pack(absences=(away(deputy=None),))
    assert eligible(pack, pack.seats[0], NOBODY, on(2)) == ()
    assert eligible(pack, pack.seats[0], NOBODY, on(4)) == ("olivia",)


def test_one_place_is_taken_once_by_its_holder_or_the_deputy():
    pack = make_pack(Seat("owner", 2, ("olivia", "victor")), absences=(away(),))
    votes = [vote(1, "olivia", at=on(4)), vote(2, "dora", at=on(3))]
    result = tally(pack, votes, NOBODY)
    assert result.refused[0].reasons == ("somebody has voted in that place before",)
    assert result.seats[0].open_count == 1


def test_a_deputy_is_kept_off_by_segregation_too():
    pack = make_pack(absences=(away(deputy="erin"),))
    result = tally(pack, [vote(1, "erin", at=on(2))], ERIN_ASKED)
    assert "the voter is the requester" in result.refused[0].reasons
    assert eligible(pack, pack.seats[0], ERIN_ASKED, on(2)) == ()


def test_a_deputy_on_a_seat_of_their_own_takes_one_place_and_not_two():
    pack = make_pack(absences=(away(deputy="victor"),))
    result = tally(pack, [vote(1, "victor", at=on(2)), vote(2, "victor", at=on(2))], NOBODY)
    assert result.decision is Decision.OPEN
    assert "voted before" in result.refused[0].reasons[0]


TWO_OF_THREE = Seat("committee", 2, ("olivia", "victor", "vera"), veto=False)


def test_without_a_veto_the_request_ends_when_too_few_places_are_left():
    pack = make_pack(TWO_OF_THREE)
    votes = [vote(1, "olivia", Choice.REJECT), vote(2, "victor")]
    result = tally(pack, votes, NOBODY)
    assert result.decision is Decision.OPEN
    assert [other.index for other in result.objections] == [1]
    assert tally(pack, [*votes, vote(3, "vera")], NOBODY).decision is Decision.GRANTED
    ended = tally(pack, [*votes, vote(3, "vera", Choice.REJECT)], NOBODY)
    assert ended.decision is Decision.DENIED
    assert ended.decided_by.index == 3


def test_without_a_veto_who_rejects_takes_the_own_approval_back():
    pack = make_pack(TWO_OF_THREE)
    votes = [vote(1, "olivia"), vote(2, "olivia", Choice.REJECT), vote(3, "victor")]
    result = tally(pack, votes, NOBODY)
    assert result.decision is Decision.OPEN
    assert [seated.voter.id for seated in result.seats[0].votes] == ["victor"]


def test_places_that_segregation_empties_are_not_waited_for():
    pack = make_pack(TWO_OF_THREE)
    barred = Electorate(None, ("vera",))
    assert tally(pack, [vote(1, "olivia", Choice.REJECT)], barred).decision is Decision.DENIED


def test_time_to_decide():
    pack = make_pack(decide_within_days=2)
    asked = Electorate(None, (), asked_at=NEW_YEAR)
    end = NEW_YEAR + timedelta(days=2)
    before = end - timedelta(seconds=1)
    votes = [vote(1, "olivia", at=before), vote(2, "victor", at=end)]
    assert tally(pack, votes, asked, now=before).decision is Decision.OPEN
    over = tally(pack, votes, asked, now=end)
    assert (over.decision, over.decided_by) == (Decision.DENIED, None)
    assert over.refused[0].reasons == ("the time to decide was over",)
    granted = [vote(1, "olivia", at=before), vote(2, "victor", at=before)]
    assert tally(pack, granted, asked, now=end).decision is Decision.GRANTED


def test_a_rejection_without_veto_can_be_withdrawn_or_turned_into_an_approval():
    pack = make_pack(TWO_OF_THREE)
    first = [vote(1, "olivia", Choice.REJECT), vote(2, "olivia", Choice.WITHDRAW)]
    withdrawn = tally(pack, first, NOBODY)
    assert (withdrawn.decision, withdrawn.objections) == (Decision.OPEN, ())
    changed = [vote(1, "olivia", Choice.REJECT), vote(2, "olivia"), vote(3, "victor")]
    assert tally(pack, changed, NOBODY).decision is Decision.GRANTED
    ended = [*changed[:2], vote(3, "vera", Choice.REJECT)]
    assert tally(pack, ended, NOBODY).decision is Decision.OPEN


@pytest.mark.parametrize("who", ["victor", "mallory"])
def test_nobody_withdraws_what_is_not_theirs(who):
    votes = [vote(1, "olivia"), vote(2, who, Choice.WITHDRAW)]
    result = tally(make_pack(), votes, NOBODY)
    assert result.refused[0].reasons == ("the voter has no vote to withdraw and has not asked",)
    assert result.seats[0].open_count == 0


def test_who_asked_withdraws_under_every_name_and_a_reason_is_needed():
    pack = make_pack(identities=ALIASES)
    asked = Electorate(Person("18", "18"), ())
    assert tally(pack, [vote(1, "erin", Choice.WITHDRAW)], asked).decision is Decision.DENIED
    short = tally(pack, [vote(1, "erin", Choice.WITHDRAW, comment="no")], asked)
    assert short.decision is Decision.OPEN


def test_nobody_votes_in_the_place_of_somebody_who_may_not():
    pack = make_pack(absences=(away(),))
    built = Electorate(None, ("olivia",))
    result = tally(pack, [vote(1, "dora"), vote(2, "dora", Choice.REJECT)], built)
    assert [refused.reasons for refused in result.refused] == [
        ("the voter is on no seat of the policy pack",)
    ] * 2
    assert eligible(pack, pack.seats[0], built, on(2)) == ()


def test_a_deputy_who_is_away_votes_for_nobody():
    pack = make_pack(absences=(away(), away("dora", None)))
    result = tally(pack, [vote(1, "dora")], NOBODY)
    assert result.refused[0].reasons == ("the policy pack says that the voter is away on that day",)
    assert eligible(pack, pack.seats[0], NOBODY, on(2)) == ()


def test_a_deputy_with_a_seat_of_their_own_is_not_named_for_another():
    pack = make_pack(absences=(away(deputy="victor"),))
    assert eligible(pack, pack.seats[0], NOBODY, on(2)) == ()
    assert eligible(pack, pack.seats[1], NOBODY, on(2)) == ("victor", "erin")


def test_a_deputy_of_two_takes_back_the_vote_that_they_gave():
    seat = Seat("committee", 3, ("olivia", "victor", "vera", "wanda", "zoe"), veto=False)
    pack = make_pack(seat, absences=(away("olivia"), away("victor")))
    votes = [
        vote(1, "olivia", at=on(5)),
        vote(2, "dora", at=on(2)),
        vote(3, "dora", Choice.REJECT, at=on(2)),
    ]
    result = tally(pack, votes, NOBODY)
    assert [seated.voter.id for seated in result.seats[0].votes] == ["olivia"]


BY_ROLE = Seat("committee", 2, ("olivia",), roles=("Risk", "Validation"))


def test_who_holds_a_role_sits_beside_who_is_named():
    votes = [vote(1, "rita", roles=("Op", "Risk")), vote(2, "olivia")]
    assert tally(make_pack(BY_ROLE), votes, NOBODY).decision is Decision.GRANTED
    without = [vote(1, "rita", roles=("risk", "Op")), vote(2, "olivia")]
    result = tally(make_pack(BY_ROLE), without, NOBODY)
    assert result.decision is Decision.OPEN
    assert result.refused[0].reasons == ("the voter is on no seat of the policy pack",)


def test_a_role_lets_nobody_past_segregation_or_onto_two_chairs():
    pack = make_pack(BY_ROLE, identities=ALIASES)
    votes = [
        vote(1, "erin", roles=("Risk",)),
        vote(2, "17", roles=("Risk",)),
        vote(3, "olivia", roles=("Risk",)),
    ]
    result = tally(pack, votes, ERIN_ASKED)
    assert result.seats[0].open_count == 1
    assert result.refused[0].reasons == (
        "the voter is the requester",
        "the voter is a developer of this version",
    )
    assert result.refused[1].reasons == ("the voter has voted before",)


def test_who_is_named_on_one_seat_may_sit_by_role_on_another():
    seats = (Seat("owner", 1, ("olivia", "victor")), Seat("risk", 1, (), roles=("Risk",)))
    votes = [vote(1, "olivia", roles=("Risk",)), vote(2, "victor")]
    assert tally(make_pack(*seats), votes, NOBODY).decision is Decision.GRANTED


def test_a_deputy_holds_no_role_for_who_is_away():
    seats = (Seat("owner", 1, ("olivia",)), Seat("risk", 1, (), roles=("Risk",)))
    pack = make_pack(*seats, absences=(away(), away("rita", None)))
    result = tally(pack, [vote(1, "dora", at=on(2)), vote(2, "rita", roles=("Risk",))], NOBODY)
    assert [seat.open_count for seat in result.seats] == [0, 1]
    assert "away" in result.refused[0].reasons[0]
    assert result.refused[0].vote.index == 2


def test_a_seat_for_a_role_is_never_hopeless_and_has_a_veto_like_others():
    rejections = [vote(n, who, Choice.REJECT, roles=("Risk",)) for n, who in enumerate("abc", 1)]
    without = make_pack(Seat("risk", 1, (), veto=False, roles=("Risk",)))
    assert tally(without, rejections, NOBODY).decision is Decision.OPEN
    with_veto = make_pack(Seat("risk", 1, (), roles=("Risk",)))
    assert tally(with_veto, rejections, NOBODY).decided_by.index == 1


RULES = ConditionRules(True, True, {"SEX": ("1", "2")}, True)
ONE, TWO = (Conditions(segments=(("SEX", (value,)),)) for value in "12")


def bound(index: int, who: str, **conditions) -> Vote:
    given = Conditions(**conditions)
    return replace(vote(index, who, Choice.APPROVE_WITH_CONDITIONS), conditions=given)


def test_all_who_approve_bind_it_together():
    votes = [
        bound(1, "olivia", max_rows_per_run=100, segments=(("SEX", ("1", "2")),)),
        bound(2, "victor", max_rows_per_run=50, segments=ONE.segments, data_validation=True),
    ]
    result = tally(make_pack(conditions=RULES), votes, NOBODY)
    assert result.decision is Decision.GRANTED
    assert result.conditions == Conditions(None, 50, ONE.segments, data_validation=True)


def test_who_approves_without_conditions_does_not_lift_those_of_another():
    votes = [bound(1, "olivia", data_validation=True), vote(2, "victor")]
    result = tally(make_pack(conditions=RULES), votes, NOBODY)
    assert (result.decision, result.conditions) == (
        Decision.GRANTED,
        Conditions(data_validation=True),
    )


def test_conditions_of_a_vote_that_is_withdrawn_or_refused_bind_nothing():
    votes = [
        bound(1, "olivia", max_rows_per_run=1),
        vote(2, "olivia", Choice.WITHDRAW),
        bound(3, "mallory", max_rows_per_run=2),
        vote(4, "olivia"),
        vote(5, "victor"),
    ]
    result = tally(make_pack(conditions=RULES), votes, NOBODY)
    assert (result.decision, result.conditions) == (Decision.GRANTED, Conditions())


@pytest.mark.parametrize(
    ("answer", "rules", "reason"),
    [
        (bound(1, "olivia", max_rows_per_run=5), None, "lets nobody limit rows"),
        (bound(1, "olivia", end_date=date(2026, 2, 1)), None, "lets nobody set a last day"),
        (bound(1, "olivia", data_validation=True), None, "lets nobody demand validated data"),
        (bound(1, "olivia", segments=ONE.segments), None, "does not list these values of SEX"),
        (bound(1, "olivia", segments=(("SEX", ("1", "9")),)), RULES, "these values of SEX"),
        (bound(1, "olivia", segments=(("AGE", ("1",)),)), RULES, "these values of AGE"),
        (bound(1, "olivia", end_date=date(2025, 12, 31)), RULES, "2025-12-31, is over"),
        (bound(1, "olivia"), RULES, "no condition is set"),
        (
            replace(vote(1, "olivia"), conditions=ONE),
            RULES,
            "the answer is to approve without",
        ),
    ],
)
def test_conditions_that_the_pack_does_not_know_are_refused(answer, rules, reason):
    (refused,) = tally(make_pack(conditions=rules), [answer], NOBODY).refused
    assert reason in "; ".join(refused.reasons)


def test_the_day_of_the_vote_may_be_the_last():
    last = bound(1, "olivia", end_date=NEW_YEAR.date())
    assert tally(make_pack(conditions=RULES), [last], NOBODY).refused == ()


def test_two_approvers_who_leave_no_segment_are_not_both_counted():
    votes = [bound(1, "olivia", segments=ONE.segments), bound(2, "victor", segments=TWO.segments)]
    result = tally(make_pack(conditions=RULES), votes, NOBODY)
    assert result.decision is Decision.OPEN
    assert "no value of SEX would be left" in result.refused[0].reasons[0]


def test_what_a_rejection_states_beside_is_of_no_matter():
    rejection = replace(vote(1, "olivia", Choice.REJECT), conditions=ONE)
    result = tally(make_pack(), [rejection], NOBODY)
    assert (result.decision, result.refused) == (Decision.DENIED, ())
