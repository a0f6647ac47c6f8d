from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from airflow.sdk import Param

from airflow_mlgov.dossiers.condition_fields import condition_fields, conditions_in
from airflow_mlgov.policy.pack import ConditionRules
from airflow_mlgov.records.conditions import Conditions

RULES = ConditionRules(True, True, {"SEX": ("1", "2"), "AGE_BAND": ("20-29", "60+")}, True)


def test_a_form_has_the_fields_that_the_pack_calls_for_and_no_others() -> None:
    names = ["end_date", "max_rows_per_run", "segment_SEX", "segment_AGE_BAND", "data_validation"]
    assert list(condition_fields(RULES)) == names
    assert list(condition_fields(ConditionRules(False, True, {}, False))) == ["max_rows_per_run"]
    assert condition_fields(None) == {}


def test_airflow_takes_each_field_as_it_is_and_as_it_is_filled() -> None:
    filled = {
        "end_date": "2027-01-31",
        "max_rows_per_run": 10,
        "segment_SEX": ["1"],
        "segment_AGE_BAND": ["60+"],
        "data_validation": True,
    }
    for name, field in condition_fields(RULES).items():
        param = Param(**field)
        assert not param.resolve()
        assert param.resolve(filled[name]) == filled[name]
    assert conditions_in(filled) == Conditions(
        date(2027, 1, 31), 10, (("AGE_BAND", ("60+",)), ("SEX", ("1",))), data_validation=True
    )


@pytest.mark.parametrize("empty", [None, "", []])
def test_what_is_empty_sets_nothing(empty: Any) -> None:
    fields = {**dict.fromkeys(condition_fields(RULES), empty), "comment": "x", "request": "y"}
    assert conditions_in(fields) == Conditions()
    assert conditions_in({}) == Conditions()


def test_a_number_in_a_text_field_is_a_number() -> None:
    assert conditions_in({"max_rows_per_run": " 12 "}).max_rows_per_run == 12


@pytest.mark.parametrize(
    "fields",
    [
        {"end_date": "31.01.2027"},
        {"max_rows_per_run": "many"},
        {"max_rows_per_run": -1},
        {"max_rows_per_run": False},
        {"segment_SEX": "1"},
        {"segment_SEX": [1]},
        {"data_validation": "yes"},
    ],
)
def test_what_cannot_be_read_is_no_condition_left_out(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a condition cannot be read"):
        conditions_in(fields)
