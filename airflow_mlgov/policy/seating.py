"""Whether distinct people can fill every seat at once: a bipartite matching of chairs and people.

Source:
    H. W. Kuhn, The Hungarian method for the assignment problem, Naval Research Logistics 2 (1955):
    augmenting paths.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlgov.policy.pack import Seat


def unseated(seats: Sequence[Seat], barred: Collection[str] = ()) -> Seat | None:
    """Return the first seat for which nobody is left if each person takes one chair, or None.

    Who holds a role is not known here: for a seat that names roles somebody is always left.

    Args:
        seats: The seats of a pack.
        barred: Ids or names of people who may sit nowhere.
    """
    out = {name.casefold() for name in barred}
    taken: dict[str, Seat] = {}
    for seat in seats:
        for _ in range(0 if seat.roles else seat.count):
            if not _seat_one(seat, taken, out, set()):
                return seat
    return None


def _seat_one(seat: Seat, taken: dict[str, Seat], out: set[str], tried: set[str]) -> bool:
    for user in dict.fromkeys(name.casefold() for name in seat.users):
        if user in out or user in tried:
            continue
        tried.add(user)
        if user not in taken or _seat_one(taken[user], taken, out, tried):
            taken[user] = seat
            return True
    return False
