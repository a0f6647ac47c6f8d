"""Published results on published data: DeLong on pROC's, Hosmer-Lemeshow on MASS's.

Sources: pROC, tests/testthat/test-roc.test.R and test-ci.auc.R; Stata manual [R] estat gof.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from airflow_mlgov.validation.calibration import fit_calibration_line, hosmer_lemeshow
from airflow_mlgov.validation.discrimination import compare_aucs, estimate_auc


def r_data(name: str) -> dict[str, list]:
    file = Path(__file__).parents[1] / "assets" / "r_data.py"
    spec = importlib.util.spec_from_file_location("r_data", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        return getattr(module, name)()
    except module.NotFetchedError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def asah():
    columns = r_data("read_asah")
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


@pytest.fixture(scope="module")
def birth_weights():
    """Hosmer & Lemeshow's own data with the logit that Stata's manual fits on it."""
    data = pd.DataFrame(r_data("read_birth_weights"))
    features = data[["age", "lwt", "smoke", "ptl", "ht", "ui"]].astype(float)
    features["black"], features["other"] = data.race == 2, data.race == 3
    fit = sm.Logit(data.low, sm.add_constant(features.astype(float))).fit(disp=0)
    assert fit.llf == pytest.approx(-100.7135, abs=5e-5)
    return data.low.to_numpy(), np.asarray(fit.predict())


@pytest.mark.parametrize(
    ("grouping", "statistic", "p_value"),
    [("rank", 9.6525, 0.2903), ("quantile", 10.3983, 0.2382)],
)
def test_v3_hosmer_lemeshow_published(birth_weights, grouping, statistic, p_value):
    """Stata [R] estat gof, group(10): chi2(8) 9.65, p .2904. Grouping alone moves it to 10.40."""
    y, p = birth_weights
    found = hosmer_lemeshow(y, p, groups=10, grouping=grouping, fitted_here=True)
    assert found.degrees_of_freedom == 8
    assert found.statistic == pytest.approx(statistic, abs=5e-5)
    assert found.p_value == pytest.approx(p_value, abs=5e-5)
    assert sum(found.sizes) == 189
    assert sum(found.observed) == 59


def test_out_of_sample_has_two_degrees_of_freedom_more(birth_weights):
    y, p = birth_weights
    found = hosmer_lemeshow(y, p, groups=10, grouping="rank", fitted_here=False)
    assert found.degrees_of_freedom == 10
    assert found.p_value > 0.45


def test_a_model_is_calibrated_on_what_it_was_fitted_on(birth_weights):
    found = fit_calibration_line(*birth_weights)
    assert (found.intercept, found.slope, found.in_the_large) == pytest.approx((0, 1, 0), abs=1e-9)
    assert found.p_value == pytest.approx(1.0)
