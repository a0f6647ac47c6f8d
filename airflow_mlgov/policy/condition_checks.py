"""What a policy pack lets approvers bind an approval to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from airflow_mlgov.policy.pack import ConditionRules
from airflow_mlgov.records.conditions import Conditions, strictest
from airflow_mlgov.records.governance import Choice

NOTHING = ConditionRules(False, False, {}, False)
"""The rules of a pack that states none."""


def condition_faults(
    rules: ConditionRules | None, choice: Choice, given: Conditions, on: date
) -> Iterable[str]:
    """Yield why an answer's conditions cannot stand, each in words that name nobody.

    Args:
        rules: The pack's.
        choice: The answer.
        given: What it states; of a rejection nothing matters.
        on: The day of the answer, in UTC.
    """
    if choice is Choice.APPROVE and given:
        yield "conditions are set, and the answer is to approve without: approve with conditions"
    if choice is Choice.APPROVE_WITH_CONDITIONS:
        if not given:
            yield "no condition is set: set one, or approve without"
        yield from _not_allowed(rules or NOTHING, given)
        if given.end_date is not None and given.end_date < on:
            yield f"the last day, {given.end_date}, is over"


def nothing_left(before: Iterable[Conditions], given: Conditions) -> list[str]:
    """Return the columns of which no value would be left if a vote's conditions came to others'."""
    together = strictest((*before, given)).segments
    return [column for column, values in together if not values]


def _not_allowed(rules: ConditionRules, given: Conditions) -> Iterable[str]:
    if given.end_date is not None and not rules.end_date:
        yield "the policy pack lets nobody set a last day"
    if given.max_rows_per_run is not None and not rules.max_rows_per_run:
        yield "the policy pack lets nobody limit rows"
    if given.data_validation and not rules.data_validation:
        yield "the policy pack lets nobody demand validated data"
    for column, values in given.segments:
        if set(values) - set(rules.segments.get(column, ())):
            yield f"the policy pack does not list these values of {column}"
