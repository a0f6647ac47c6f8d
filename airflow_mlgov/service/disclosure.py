"""What of a check's result may be kept: counts and statistics, never a row's value.

Evidence is kept for years and read by many, so nothing in it may tell about one person. Kept are
how many values failed, and statistics over at least ten rows. Great Expectations would also report
examples of failing values, the smallest and largest value, and the values that a column holds:
these are values of rows, and are dropped here whatever the data is about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FEWEST_ROWS = 10
"""Statistics over fewer rows come too near to the rows themselves."""

COUNTS = ("element_count", "missing_count", "unexpected_count", "unexpected_percent")

_STRUCTURE = frozenset(
    {
        "expect_table_row_count_to_be_between",
        "expect_table_row_count_to_equal",
        "expect_table_row_count_to_equal_other_table",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
        "expect_column_unique_value_count_to_be_between",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_proportion_of_non_null_values_to_be_between",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_in_type_list",
    }
)
_STATISTICS = frozenset(
    {
        "expect_column_mean_to_be_between",
        "expect_column_stdev_to_be_between",
        "expect_column_sum_to_be_between",
        "expect_column_kl_divergence_to_be_less_than",
    }
)
_MEDIAN = "expect_column_median_to_be_between"
_QUANTILES = "expect_column_quantile_values_to_be_between"


def kept_counts(result: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Return the counts of a result, each None where the engine gave none."""
    return {name: _number(result.get(name)) for name in COUNTS}


def kept_observation(expectation: str, observed: Any, rows: int) -> Any:
    """Return what of an observed value may be kept, as JSON values; None if nothing may.

    Args:
        expectation: Type of the expectation.
        observed: What the engine observed, already JSON values.
        rows: Rows of the data.
    """
    if expectation in _STRUCTURE:
        return observed
    if expectation in _STATISTICS and rows >= FEWEST_ROWS:
        return _number(observed)
    if expectation == _MEDIAN and _keeps_distance(0.5, rows):
        return _number(observed)
    if expectation == _QUANTILES and isinstance(observed, dict):
        return _kept_quantiles(observed, rows)
    return None


def _kept_quantiles(observed: dict[str, Any], rows: int) -> dict[str, list[float | None]]:
    quantiles = [float(quantile) for quantile in observed["quantiles"]]
    values = zip(quantiles, observed["values"], strict=True)
    return {
        "quantiles": list(quantiles),
        "values": [_number(value) if _keeps_distance(q, rows) else None for q, value in values],
    }


def _keeps_distance(quantile: float, rows: int) -> bool:
    """Tell whether enough rows lie on either side: the outermost quantiles are rows' own values."""
    return min(quantile, 1 - quantile) * rows >= FEWEST_ROWS


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None
