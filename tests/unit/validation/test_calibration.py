from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.metrics import brier_score_loss

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.calibration import (
    binomial_p_value,
    brier_score,
    compare_grouped,
    fit_calibration_line,
    group_rows,
    hosmer_lemeshow,
    jeffreys_p_value,
)

# Published by meliora, tests/test_methods.py on tests/pd_test_data.csv: rows, defaults, estimate.
GRADES = {"A": (406, 55, 0.103429), "B": (480, 41, 0.099524), "C": (114, 10, 0.095719)}


def test_v9_jeffreys_published():
    published = {"A": 0.01995857, "B": 0.84955196, "C": 0.59864873}
    for grade, p_value in published.items():
        assert jeffreys_p_value(*GRADES[grade]) == pytest.approx(p_value, abs=1e-5)


def test_v10_binomial_published():
    published = {"A": 0.02389227, "B": 0.86744061, "C": 0.66055279}
    for grade, p_value in published.items():
        assert binomial_p_value(*GRADES[grade]) == pytest.approx(p_value, abs=2e-5)


def test_v10_hosmer_lemeshow_on_grades_published():
    """p .13025 with 3 degrees of freedom; with 1, as if fitted in sample, it would be .0175."""
    rows, defaults, estimates = (np.array(column) for column in zip(*GRADES.values(), strict=True))
    expected = rows * estimates
    out_of_sample = compare_grouped(rows, defaults, expected, degrees_of_freedom=3)
    assert out_of_sample.p_value == pytest.approx(0.13025, abs=1e-5)
    in_sample = compare_grouped(rows, defaults, expected, degrees_of_freedom=1)
    assert in_sample.p_value == pytest.approx(0.0175, abs=5e-5)


def test_v16_brier_published():
    assert brier_score([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3]) == pytest.approx(0.0375, abs=1e-12)


def made_up(seed: int, rows: int = 500):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 6, rows)
    return (rng.random(rows) < special.expit(-0.4 + 0.7 * special.logit(p))).astype(float), p


@pytest.mark.parametrize("seed", range(5))
def test_brier_is_sklearns(seed):
    y, p = made_up(seed)
    assert brier_score(y, p) == pytest.approx(brier_score_loss(y, p), abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_line_is_the_logistic_regression_of_statsmodels(seed):
    y, p = made_up(seed)
    log_odds = special.logit(p)
    fit = sm.Logit(y, sm.add_constant(log_odds)).fit(disp=0, tol=1e-12)
    offset = sm.GLM(y, np.ones(len(y)), sm.families.Binomial(), offset=log_odds).fit()
    found = fit_calibration_line(y, p)
    assert [found.intercept, found.slope] == pytest.approx(list(fit.params), abs=1e-8)
    assert [found.intercept_error, found.slope_error] == pytest.approx(list(fit.bse), abs=1e-6)
    assert found.in_the_large == pytest.approx(offset.params[0], abs=1e-7)
    at_truth = np.sum(y * log_odds - np.logaddexp(0, log_odds))
    assert found.likelihood_ratio == pytest.approx(2 * (fit.llf - at_truth), abs=1e-8)


@pytest.mark.parametrize("shift", [-2.0, 1.5])
def test_line_finds_a_planted_fault(shift):
    rng = np.random.default_rng(3)
    log_odds = rng.normal(-1.5, 1.2, 60_000)
    y = rng.random(60_000) < special.expit(shift + 0.8 * log_odds)
    found = fit_calibration_line(y, special.expit(log_odds))
    assert found.intercept == pytest.approx(shift, abs=0.1)
    assert found.slope == pytest.approx(0.8, abs=0.05)
    assert found.p_value < 1e-12


def test_probabilities_of_zero_and_one_are_moved_and_counted():
    y, p = made_up(1)
    p[:3], y[:3] = [0.0, 0.0, 1.0], [0, 0, 1]
    assert fit_calibration_line(y, p).clipped == 3


def test_small_probabilities_are_taken_at_their_word():
    y, p = made_up(2)
    p = p**4
    fit = sm.Logit(y, sm.add_constant(special.logit(p))).fit(disp=0, tol=1e-12)
    assert 1e-12 < p.min() < 1e-6
    assert fit_calibration_line(y, p).slope == pytest.approx(fit.params[1], abs=1e-8)


@pytest.mark.parametrize(
    ("y", "p", "problem"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "separate"),
        ([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], "separate"),
        ([0, 1, 0, 1], [0.3] * 4, "all rows have the same one"),
        ([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], "one class"),
    ],
)
def test_no_line_is_an_error_and_never_nan(y, p, problem):
    with pytest.raises(DataError, match=problem):
        fit_calibration_line(y, p)


def test_quantile_groups_keep_ties_together_and_rank_groups_are_equal():
    p = np.array([0.1] * 7 + [0.2, 0.3, 0.4])
    together = group_rows(p, 5, "quantile")
    assert len(set(together[:7])) == 1
    assert np.bincount(group_rows(p, 5, "rank")).tolist() == [2, 2, 2, 2, 2]


@given(
    st.lists(st.integers(1, 99), min_size=12, max_size=60), st.sampled_from(["rank", "quantile"])
)
@settings(deadline=None)
def test_groups_never_run_against_the_probabilities(percent, grouping):
    p = np.array(percent) / 100
    groups = group_rows(p, 5, grouping)
    order = np.argsort(p, kind="stable")
    assert (np.diff(groups[order]) >= 0).all()


@pytest.mark.parametrize("grouping", ["rank", "quantile"])
def test_too_few_rows_or_groups(grouping):
    with pytest.raises(DataError, match="cannot make 10 groups"):
        hosmer_lemeshow([0, 1], [0.2, 0.3], groups=10, grouping=grouping, fitted_here=False)
    y, p = [0, 1] * 10, [0.2] * 20
    if grouping == "quantile":
        with pytest.raises(DataError, match="degrees of freedom"):
            hosmer_lemeshow(y, p, groups=10, grouping=grouping, fitted_here=True)


@pytest.mark.parametrize(
    ("observed", "expected"), [([1, 5, 4], [0, 5, 5]), ([5, 9, 4], [5, 10, 5])]
)
def test_the_impossible_happened_or_the_certain_did_not(observed, expected):
    with pytest.raises(DataError, match="probabilities are all 0"):
        compare_grouped([10, 10, 10], observed, expected, degrees_of_freedom=3)


def test_a_group_that_keeps_its_certain_promise_adds_nothing():
    found = compare_grouped([10, 10, 10], [0, 5, 4], [0.0, 5.0, 5.0], degrees_of_freedom=3)
    assert found.statistic == pytest.approx(1 / 2.5)


@pytest.mark.parametrize("grade", [(0, 0, 0.1), (10, 11, 0.1), (10, -1, 0.1), (10, 1, 0.0)])
def test_impossible_grades(grade):
    for p_value in (jeffreys_p_value, binomial_p_value):
        with pytest.raises(DataError):
            p_value(*grade)


def test_empty_group():
    with pytest.raises(DataError, match="empty"):
        compare_grouped([10, 0], [1, 0], [1.0, 0.0], degrees_of_freedom=2)
