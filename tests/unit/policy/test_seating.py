from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from airflow_mlgov.policy.pack import Seat
from airflow_mlgov.policy.seating import unseated


def test_one_person_fills_one_chair() -> None:
    owner, validator = Seat("owner", 1, ("a",)), Seat("validator", 1, ("A", "b"))
    assert unseated([owner, validator]) is None
    assert unseated([owner, Seat("validator", 1, ("A",))]).role == "validator"
    assert unseated([owner, validator], barred=["B"]) is validator


def test_earlier_people_move_for_later_seats() -> None:
    seats = [Seat("x", 1, ("a", "b", "c")), Seat("y", 1, ("a", "b")), Seat("z", 1, ("a",))]
    assert unseated(seats) is None
    assert unseated([*seats, Seat("w", 1, ("b", "c"))]) is not None


_SEATS = st.lists(
    st.builds(
        Seat,
        st.just("r"),
        st.integers(1, 2),
        st.lists(st.sampled_from("abcd"), min_size=1, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=3,
)


@given(_SEATS, st.sets(st.sampled_from("abcd")))
def test_agrees_with_trying_everything(seats: list[Seat], barred: set[str]) -> None:
    chairs = [seat for seat in seats for _ in range(seat.count)]
    people = sorted(set("abcd") - barred)
    fits = any(
        all(person in chair.users for person, chair in zip(order, chairs, strict=False))
        for order in permutations(people, len(chairs))
    )
    assert (unseated(seats, barred) is None) == fits
