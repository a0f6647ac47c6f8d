"""Conditions of an approval: limits that the guard holds the use to, not a memo.

Source:
    OCC Bulletin 2026-13 / SR 26-2 on use before validation: limit the use, watch it more closely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

MAX_ROWS = 2**53 - 1
"""The most rows that a condition can name: what JSON's numbers hold exactly (RFC 8785)."""

Segments: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What approvers bind an approval to, besides the version; what is not set binds nothing.

    Attributes:
        end_date: Last day of use, in UTC.
        max_rows_per_run: Rows that one DAG run may score, at least 1.
        segments: Columns of what is scored, each with the values that may stand there; both sorted.
        data_validation: Whether data have to be validated, and pass, in the run that scores.
    """

    end_date: date | None = None
    max_rows_per_run: int | None = None
    segments: Segments = ()
    data_validation: bool = False

    def __bool__(self) -> bool:
        return self != Conditions()

    @property
    def ends_at(self) -> datetime | None:
        """The first moment after the last day; None for never."""
        if self.end_date is None or self.end_date == date.max:
            return None
        return datetime.combine(self.end_date + timedelta(days=1), time(), UTC)

    @property
    def are_about_rows(self) -> bool:
        """Whether what is scored has to be shown to the guard."""
        return self.max_rows_per_run is not None or bool(self.segments)

    def words(self) -> list[str]:
        """Return each condition in words, for people."""
        said = []
        if self.end_date is not None:
            said.append(f"until {self.end_date} at the latest")
        if self.max_rows_per_run is not None:
            said.append(f"at most {self.max_rows_per_run:,} rows in one run")
        said += [
            f"only rows whose {column} is {' or '.join(values) or 'nothing at all'}"
            for column, values in self.segments
        ]
        if self.data_validation:
            said.append("only in runs in which data were validated and passed")
        return said

    def as_json(self) -> dict[str, Any]:
        """Return what is set, as JSON values."""
        said: dict[str, Any] = {}
        if self.end_date is not None:
            said["end_date"] = self.end_date.isoformat()
        if self.max_rows_per_run is not None:
            said["max_rows_per_run"] = self.max_rows_per_run
        if self.segments:
            said["segments"] = {column: list(values) for column, values in self.segments}
        if self.data_validation:
            said["data_validation"] = True
        return said

    @classmethod
    def from_json(cls, said: Any) -> Conditions:
        """Return the conditions that `as_json` wrote.

        Raises:
            ValueError: It wrote no such thing; a retry does not help.
        """
        if not isinstance(said, Mapping) or not said.keys() <= {
            field.name for field in fields(cls)
        }:
            raise ValueError("conditions are an object of the names known here")
        rows, checked = said.get("max_rows_per_run"), said.get("data_validation", False)
        if rows is not None and (type(rows) is not int or not 1 <= rows <= MAX_ROWS):
            raise ValueError("max_rows_per_run is a whole number from 1 on")
        if type(checked) is not bool:
            raise ValueError("data_validation is true or false")
        end = said.get("end_date")
        end_date = None if end is None else day_of(end)
        return cls(end_date, rows, segments_of(said.get("segments", {})), checked)


NO_CONDITIONS = Conditions()


def day_of(text: Any) -> date:
    """Return the day that a text states, such as 2027-01-31.

    Raises:
        ValueError: It states none in this one form; a retry does not help.
    """
    if not isinstance(text, str) or date.fromisoformat(text).isoformat() != text:
        raise ValueError("a day is written year-month-day")
    return date.fromisoformat(text)


def segments_of(said: Any) -> Segments:
    """Return segments in their one order.

    Args:
        said: Lists of values by column.

    Raises:
        ValueError: It is something else; a retry does not help.
    """
    if not isinstance(said, Mapping) or not all(map(_is_segment, said.items())):
        raise ValueError("segments are lists of values by column, all of them texts")
    return tuple(sorted((column, tuple(sorted(set(values)))) for column, values in said.items()))


def _is_segment(named: tuple[Any, Any]) -> bool:
    column, values = named
    is_list = isinstance(values, list | tuple) and bool(values)
    return is_list and all(isinstance(text, str) for text in (column, *values))


def strictest(each: Iterable[Conditions]) -> Conditions:
    """Return the conditions that keep to all of several; of a column, what all of them let pass."""
    listed = list(each)
    ends = [given.end_date for given in listed if given.end_date is not None]
    limits = [given.max_rows_per_run for given in listed if given.max_rows_per_run is not None]
    allowed: dict[str, set[str]] = {}
    for column, values in (segment for given in listed for segment in given.segments):
        allowed[column] = allowed.get(column, set(values)).intersection(values)
    return Conditions(
        end_date=min(ends, default=None),
        max_rows_per_run=min(limits, default=None),
        segments=tuple(sorted((column, tuple(sorted(left))) for column, left in allowed.items())),
        data_validation=any(given.data_validation for given in listed),
    )
