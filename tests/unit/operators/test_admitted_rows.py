from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlgov.errors import DataError
from airflow_mlgov.operators.admitted_rows import shown_rows, value_text
from airflow_mlgov.service.conditions import Rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2"),
        (2.0, "2"),
        (np.float32(2), "2"),
        (np.int8(2), "2"),
        (2.5, "2.5"),
        (2**60 + 1, str(2**60 + 1)),
        (True, "True"),
        ("2", "2"),
        ("e\u0301", "\u00e9"),
        (None, ""),
        (float("nan"), ""),
        (float("inf"), "inf"),
        (pd.NaT, ""),
        (pd.NA, ""),
    ],
)
def test_a_value_is_written_as_a_pack_writes_it(value: Any, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"SEX": [1, 2.0, None], "AGE": [1, 2, 3]}),
        pd.DataFrame({"SEX": pd.Categorical(["1", "2", None]), "AGE": "x"}),
        [{"SEX": 1}, {"SEX": "2"}, {"SEX": None}],
    ],
)
def test_what_is_shown_of_rows(rows: Any) -> None:
    assert shown_rows(rows, ["SEX"]) == Rows(3, {"SEX": frozenset(("1", "2", ""))})


def test_both_columns_of_one_name_are_looked_at() -> None:
    frame = pd.DataFrame([[1, 2]], columns=["SEX", "SEX"])
    assert shown_rows(frame, ["SEX"]).values == {"SEX": frozenset("12")}


@pytest.mark.parametrize("rows", [pd.DataFrame({"AGE": [1]}), [{"SEX": 1}, {"AGE": 1}]])
def test_a_column_that_is_not_in_every_row_is_not_shown(rows: Any) -> None:
    assert shown_rows(rows, ["SEX"]).values == {}


@pytest.mark.parametrize("rows", [7, "rows", [1, 2], iter([{"SEX": 1}]), None])
def test_what_is_no_table_is_an_error(rows: Any) -> None:
    with pytest.raises(DataError, match="a DataFrame or a list of mappings"):
        shown_rows(rows, [])
