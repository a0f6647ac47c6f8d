"""Names and texts that cannot be read any more, and the ``erased`` entries that account for them.

Whoever erases by the rules announces it first, in an entry of the log key that lists the fields,
and deletes once a checkpoint covers that. So a reader who has all that was ever disclosed can tell
what was erased from what somebody removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from airflow_mlgov.ledger.view import SealedEntry

KIND = "erased"

Place: TypeAlias = tuple[int, str]
"""An entry's index and its field, ``people.<name>`` or ``texts.<name>``."""


class Unaccounted:
    """Fields that nothing opens and that no entry has accounted for; fed in the ledger's order.

    Args:
        places: Such fields, found before.
    """

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._places = dict.fromkeys(places)

    @property
    def places(self) -> tuple[Place, ...]:
        """The fields, in the order in which they were found."""
        return tuple(self._places)

    def add(self, index: int, field: str) -> None:
        """Take a closed field into account."""
        self._places[index, field] = None

    def account(self, entry: SealedEntry) -> None:
        """Take a sound entry into account: what it says was erased before it is accounted for."""
        if entry.kind == KIND:
            for index, field in entry.body["fields"]:
                self._places.pop((index, field), None)


def sentence(places: tuple[Place, ...]) -> str:
    """Return the sentence that says which fields are closed without a record of it."""
    index, field = places[0]
    return (
        f"{len(places)} name(s) or text(s) cannot be read, and no `{KIND}` entry accounts for them "
        f"(first: {field} of entry {index})"
    )
