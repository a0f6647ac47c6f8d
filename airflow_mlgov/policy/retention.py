"""How long names and texts are kept at least, by class of record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType

from airflow_mlgov.records.kinds import Retention

STANDARD_YEARS: Mapping[Retention, int] = MappingProxyType(
    {Retention.APPROVAL: 10, Retention.EVIDENCE: 10, Retention.OPERATION: 1}
)
"""Years by class where a pack says nothing.

Source:
    Regulation (EU) 2024/1689 (AI Act): article 18(1), technical documentation, 10 years (taken for
    approvals and evidence); articles 19(1) and 26(6), logs, at least 6 months (taken for
    operations, as one whole year).
"""


def longest_years(rules: Iterable[Mapping[Retention, int]]) -> dict[Retention, int]:
    """Return the longest of several rules for each class; the standard one if there are none."""
    every = list(rules) or [STANDARD_YEARS]
    return {kept: max(rule[kept] for rule in every) for kept in Retention}


def years_after(moment: datetime, years: int) -> datetime:
    """Return the same day and time so many years later; 1 March where there is no 29 February.

    Args:
        moment: Of the years 1 to 9899.
        years: 0 to 100.
    """
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return moment.replace(year=moment.year + years, month=3, day=1)
