"""DeLong against pROC's own tests, on pROC's own data.

Published in its tests/testthat/test-roc.test.R and test-ci.auc.R.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from airflow_mlgov.validation.discrimination import compare_aucs, estimate_auc


@pytest.fixture(scope="module")
def asah():
    file = Path(__file__).parents[1] / "assets" / "asah.py"
    spec = importlib.util.spec_from_file_location("asah", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        columns = module.read_asah()
    except module.NotFetchedError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    # Levels of the factor are Good and Poor, in this order.
    return columns | {"y": [level == 2 for level in columns["outcome"]]}


def test_the_data_is_that_of_the_published_tests(asah):
    assert (len(asah["y"]), sum(asah["y"])) == (113, 41)


@pytest.mark.parametrize(
    ("first", "second", "z", "p_value"),
    [
        ("wfns", "s100b", 2.20898359144091, 0.0271757822291882),
        ("wfns", "ndka", 2.79777591868904, 0.00514557970691098),
        ("ndka", "s100b", -1.39077002573558, 0.164295175223054),
    ],
    ids=["V1a", "V1b", "V1c"],
)
def test_v1_paired_delong(asah, first, second, z, p_value):
    found = compare_aucs(asah["y"], asah[first], asah[second])
    assert found.z == pytest.approx(z, rel=1e-12)
    assert found.p_value == pytest.approx(p_value, rel=1e-12)


def test_v2_interval(asah):
    found = estimate_auc(asah["y"], asah["ndka"])
    assert found.auc == pytest.approx(0.611957994579946, rel=1e-13)
    assert found.interval(0.95) == pytest.approx((0.501244999271703, 0.722670989888189), rel=1e-12)
