"""What of a run goes to a target that takes the last arrival for the truth: one START, one end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_mlgov.service.ship_order import Parcel

_ENDED = "Its run had ended at the target; sent after the end it would open or alter the run."
_SECOND = "Another START of its run goes; a second one would move the run's beginning."
_BETWEEN = (
    "Only START and end of a run are sent; anything between would move the run's beginning or "
    "drop its edges."
)
_OTHER_END = "Its run has another end with a later time; a run ends once."


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What becomes of a run's events.

    Attributes:
        begun_at: When it began, as far as is known.
        to_send: Of those that wait: at most a START and an end.
        folded: Of those that wait, which are left out, and why.
    """

    begun_at: datetime
    to_send: tuple[Parcel, ...]
    folded: tuple[tuple[Parcel, str], ...]


def plan_run(stored: Sequence[Parcel], waiting: Sequence[Parcel]) -> RunPlan:
    """Return what becomes of the events of a run that wait.

    Args:
        stored: What the target has of it.
        waiting: What it has not got, at least one.
    """
    starts = sorted((p for p in waiting if p.kind == "START"), key=_by_time)
    ends = sorted((p for p in waiting if p.is_end), key=_by_time)
    begun = [p.at for p in stored if p.kind == "START"] or [p.at for p in starts[:1]]
    begun_at = begun[0] if begun else min(p.at for p in waiting)
    if any(p.is_end for p in stored):
        return RunPlan(begun_at, (), tuple((p, _ENDED) for p in waiting))
    has_begun = any(p.kind == "START" for p in stored)
    chosen = (*(() if has_begun else starts[:1]), *ends[-1:])
    folded = tuple((p, _why(p)) for p in waiting if p not in chosen)
    return RunPlan(begun_at, chosen, folded)


def _by_time(parcel: Parcel) -> tuple[datetime, int]:
    return parcel.at, parcel.seq


def _why(parcel: Parcel) -> str:
    if parcel.is_end:
        return _OTHER_END
    return _SECOND if parcel.kind == "START" else _BETWEEN
