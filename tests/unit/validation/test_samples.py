from __future__ import annotations

import numpy as np
import pytest

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.samples import Sample


def test_outcomes_may_be_booleans_or_objects():
    sample = Sample("validation", np.array([True, False, 1], dtype=object), [0.1, 0.2, 1.0])
    assert (sample.y.tolist(), sample.rows, sample.events) == ([1.0, 0.0, 1.0], 3, 2)


@pytest.mark.parametrize(
    ("y", "p", "problem"),
    [
        ([0, 1], [0.1, float("nan")], "1 of 2 are missing or infinite"),
        ([0, 1], [0.1, float("inf")], "missing or infinite"),
        ([0, 1], [0.1, 1.2], "row 1 holds 1.2, which is outside"),
        ([0, 1], [-0.1, 0.2], "row 0 holds -0.1"),
        ([0, 1], ["low", "high"], "are not numbers"),
        ([0, 1], [[0.1, 0.9], [0.2, 0.8]], "shape \\(2, 2\\)"),
        ([0, 1], [0.1, 0.2, 0.3], "2 outcomes, but 3 values of probabilities"),
        ([0, 2], [0.1, 0.2], "row 1 holds 2"),
        ([0, None], [0.1, 0.2], "missing"),
        ([], [], "shape \\(0,\\)"),
        ([1, 1], [0.1, 0.2], "nothing can be tested on one class"),
    ],
)
def test_what_cannot_be_tested_is_refused_at_the_door(y, p, problem):
    with pytest.raises(DataError, match=problem) as caught:
        Sample("validation", y, p)
    assert "validation sample" in str(caught.value)


def test_columns_beside_the_sample_have_its_length():
    with pytest.raises(DataError, match="'SEX'"):
        Sample("validation", [0, 1], [0.1, 0.2], {"SEX": np.array([1])})
    with pytest.raises(DataError, match="the challenger's probabilities"):
        Sample("validation", [0, 1], [0.1, 0.2], {}, [0.1])
