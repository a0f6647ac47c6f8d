from __future__ import annotations

import pytest

from airflow_mlgov.service.disclosure import kept_counts, kept_observation

LEAKY = {
    "element_count": 4,
    "missing_count": 0,
    "unexpected_count": 2,
    "unexpected_percent": 50.0,
    "observed_value": "alice",
    "partial_unexpected_list": ["carol"],
    "partial_unexpected_counts": [{"value": "carol", "count": 1}],
    "partial_unexpected_index_list": [2],
    "unexpected_rows": [{"name": "carol"}],
    "details": {"value_counts": ["carol"]},
}


def test_counts_are_kept_and_nothing_beside_them() -> None:
    assert kept_counts(LEAKY) == {
        "element_count": 4,
        "missing_count": 0,
        "unexpected_count": 2,
        "unexpected_percent": 50.0,
    }
    assert set(kept_counts({}).values()) == {None}
    assert kept_counts({"unexpected_count": ["carol"]})["unexpected_count"] is None
    assert kept_counts({"unexpected_percent": float("nan")})["unexpected_percent"] is None


@pytest.mark.parametrize(
    ("expectation", "observed", "rows", "kept"),
    [
        ("expect_column_max_to_be_between", 4.0, 1000, None),
        ("expect_column_min_to_be_between", 4.0, 1000, None),
        ("expect_column_most_common_value_to_be_in_set", ["alice"], 1000, None),
        ("expect_column_distinct_values_to_be_in_set", ["alice"], 1000, None),
        ("unexpected_rows_expectation", [{"name": "alice"}], 1000, None),
        ("expect_something_of_the_banks_own", 4.0, 1000, None),
        ("expect_column_mean_to_be_between", 4.0, 10, 4.0),
        ("expect_column_mean_to_be_between", 4.0, 9, None),
        ("expect_column_mean_to_be_between", float("nan"), 10, None),
        ("expect_column_sum_to_be_between", "alice", 10, None),
        ("expect_column_median_to_be_between", 4.0, 20, 4.0),
        ("expect_column_median_to_be_between", 4.0, 19, None),
        ("expect_table_row_count_to_be_between", 3, 3, 3),
        ("expect_table_columns_to_match_set", ["ID"], 3, ["ID"]),
    ],
)
def test_a_statistic_is_kept_if_it_tells_about_no_row(
    expectation: str, observed: object, rows: int, kept: object
) -> None:
    assert kept_observation(expectation, observed, rows) == kept


def test_quantiles_near_the_ends_are_rows_and_are_dropped() -> None:
    observed = {"quantiles": [0.0, 0.05, 0.5, 0.95, 1.0], "values": [1, 2, 3, 4, 5]}
    expectation = "expect_column_quantile_values_to_be_between"

    assert kept_observation(expectation, observed, 100)["values"] == [None, None, 3, None, None]
    assert kept_observation(expectation, observed, 200)["values"] == [None, 2, 3, 4, None]
