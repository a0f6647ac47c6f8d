from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlgov.records.conditions import MAX_ROWS, Conditions, strictest
from airflow_mlgov.records.shapes import misfit

values = st.sampled_from(["1", "2", "3", ""])
segments = st.dictionaries(
    st.sampled_from(["SEX", "AGE"]), st.lists(values, min_size=1, max_size=3), max_size=2
)
conditions = st.builds(
    lambda end, rows, segments, data: Conditions.from_json(
        {
            "end_date": end and str(end),
            "max_rows_per_run": rows,
            "segments": segments,
            "data_validation": data,
        }
    ),
    st.none() | st.dates(date(2000, 1, 1)),
    st.none() | st.integers(1, MAX_ROWS),
    segments,
    st.booleans(),
)


@given(conditions)
def test_what_is_written_reads_as_the_same(given_: Conditions) -> None:
    assert Conditions.from_json(given_.as_json()) == given_
    assert bool(given_) == bool(given_.as_json()) == bool(given_.words())


def lets_pass(bound: Conditions, day: date, rows: int, row: dict[str, str], *, data: bool) -> bool:
    """Return what conditions say of a run, in the words of a naive reader."""
    return (
        (bound.end_date is None or day <= bound.end_date)
        and (bound.max_rows_per_run is None or rows <= bound.max_rows_per_run)
        and all(row[column] in allowed for column, allowed in bound.segments)
        and (data or not bound.data_validation)
    )


@given(
    st.lists(conditions, max_size=4),
    st.dates(date(2000, 1, 1)),
    st.integers(0, MAX_ROWS),
    st.fixed_dictionaries({"SEX": values, "AGE": values}),
    st.booleans(),
)
def test_the_strictest_lets_pass_what_all_let_pass(
    several: list[Conditions], day: date, rows: int, row: dict[str, str], data: bool
) -> None:
    alone = all(lets_pass(each, day, rows, row, data=data) for each in several)
    assert lets_pass(strictest(several), day, rows, row, data=data) == alone


@pytest.mark.parametrize(
    "said",
    [
        [],
        "end_date",
        {"until": "2027-01-31"},
        {"end_date": "20270131"},
        {"end_date": "2027-02-30"},
        {"end_date": 20270131},
        {"max_rows_per_run": 0},
        {"max_rows_per_run": True},
        {"max_rows_per_run": "10"},
        {"max_rows_per_run": 1.5},
        {"max_rows_per_run": MAX_ROWS + 1},
        {"segments": {"SEX": []}},
        {"segments": {"SEX": "12"}},
        {"segments": {"SEX": [1]}},
        {"segments": ["SEX"]},
        {"data_validation": 1},
        {"data_validation": "yes"},
    ],
)
def test_what_is_something_else_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Conditions.from_json(said)
    assert (
        misfit({"conditions": said}) == "body.conditions is not what an approval can be bound to."
    )


def test_an_entry_that_states_conditions_states_some() -> None:
    assert misfit({"conditions": {}})
    assert misfit({"conditions": {"data_validation": False}})
    assert not misfit({"conditions": {"max_rows_per_run": 1}})


def test_the_last_day_belongs_to_the_approval() -> None:
    bound = Conditions(end_date=date(2027, 1, 31))
    assert bound.ends_at == datetime(2027, 2, 1, tzinfo=UTC)
    assert Conditions(end_date=date.max).ends_at is None
    assert Conditions().ends_at is None
