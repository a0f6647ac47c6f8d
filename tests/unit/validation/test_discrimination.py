from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.discrimination import compare_aucs, estimate_auc, measure_ks

# Coarse scores, so that ties between and within classes are common.
ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=40
)


def arrays(rows):
    y, first, second = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assume(2 <= y.sum() <= len(y) - 2)
    return y, first / 6, second / 6


def delong_by_definition(y, scores):
    """Structural components as the paper defines them: one comparison for each pair, O(n m)."""
    events, others = scores[y == 1][:, None], scores[y == 0][None, :]
    wins = (events > others) + 0.5 * (events == others)
    return wins.mean(axis=1), wins.mean(axis=0)


@given(ROWS)
@settings(deadline=None)
def test_rank_algorithm_is_the_definition(rows):
    y, p, _ = arrays(rows)
    v10, v01 = delong_by_definition(y, p)
    found = estimate_auc(y, p)
    assert found.auc == pytest.approx(v10.mean(), abs=1e-12)
    variance = np.var(v10, ddof=1) / len(v10) + np.var(v01, ddof=1) / len(v01)
    assert found.variance == pytest.approx(variance, abs=1e-12)
    assert found.auc == pytest.approx(roc_auc_score(y, p), abs=1e-12)


@given(ROWS)
@settings(deadline=None)
def test_paired_comparison_is_the_definition_with_its_covariance(rows):
    y, first, second = arrays(rows)
    a10, a01 = delong_by_definition(y, first)
    b10, b01 = delong_by_definition(y, second)
    s10, s01 = np.cov(a10, b10), np.cov(a01, b01)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / len(a10) + s01 / len(a01)) @ contrast
    found = compare_aucs(y, first, second)
    assert found.standard_error**2 == pytest.approx(variance, abs=1e-12)
    if variance > 1e-9 and abs(found.first - found.second) > 1e-9:
        assert found.z == pytest.approx((a10.mean() - b10.mean()) / variance**0.5)
        assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(found.z)))


@given(ROWS)
@settings(deadline=None)
def test_identical_curves_differ_by_nothing(rows):
    y, p, _ = arrays(rows)
    found = compare_aucs(y, p, p**3 + 5)
    assert (found.z, found.p_value) == (0.0, 1.0)


@given(ROWS)
@settings(deadline=None)
def test_comparison_is_antisymmetric(rows):
    y, first, second = arrays(rows)
    there, back = compare_aucs(y, first, second), compare_aucs(y, second, first)
    assert there.p_value == back.p_value
    assert there.z == (None if back.z is None else -back.z)


@given(ROWS)
@settings(deadline=None)
def test_auc_and_its_variance_ignore_monotone_transforms(rows):
    y, p, _ = arrays(rows)
    assert estimate_auc(y, p) == estimate_auc(y, np.exp(3 * p) - 7)


@given(ROWS)
@settings(deadline=None)
def test_swapped_classes_mirror_the_auc(rows):
    y, p, _ = arrays(rows)
    assert estimate_auc(1 - y, p).auc == pytest.approx(1 - estimate_auc(y, p).auc, abs=1e-12)


@given(ROWS)
@settings(deadline=None)
def test_ks_is_the_widest_gap_of_the_roc_curve(rows):
    y, p, _ = arrays(rows)
    false_positives, true_positives, _ = roc_curve(y, p, drop_intermediate=False)
    assert measure_ks(y, p).distance == pytest.approx(
        np.abs(true_positives - false_positives).max()
    )


def test_ks_published():
    """scipy's documented exact distribution: [1,2,3,4] against [3,4,5,6] is .5 with p .7714."""
    found = measure_ks([1] * 4 + [0] * 4, [3, 4, 5, 6, 1, 2, 3, 4])
    assert found.distance == 0.5
    assert found.p_value == pytest.approx(0.7714285714285716)


def test_perfect_ranking_has_an_interval_without_width():
    found = estimate_auc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert (found.auc, found.gini, found.interval()) == (1.0, 1.0, (1.0, 1.0))


def test_constant_scores_rank_nothing():
    found = estimate_auc([0, 0, 1, 1], [0.3] * 4)
    assert (found.auc, found.gini, found.variance) == (0.5, 0.0, 0.0)
    assert measure_ks([0, 0, 1, 1], [0.3] * 4).distance == 0.0


def test_interval_is_cut_to_what_an_auc_can_be():
    low, high = estimate_auc([0, 0, 0, 1, 1], [0.1, 0.5, 0.4, 0.45, 0.9]).interval(0.99)
    assert 0.0 <= low < high == 1.0


def test_aucs_that_differ_without_variance_have_no_z():
    found = compare_aucs([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.5] * 4)
    assert (found.first, found.second, found.z, found.p_value) == (1.0, 0.5, None, None)


@pytest.mark.parametrize("y", [[1, 1, 1], [0, 0, 0], [0, 0, 1]])
def test_too_few_rows_of_a_class(y):
    with pytest.raises(DataError, match="2 rows of each class"):
        estimate_auc(y, [0.1, 0.2, 0.3])


@pytest.mark.parametrize("scores", [[0.1, float("nan"), 0.3, 0.4], [0.1, 0.2, 0.3]])
def test_scores_that_are_not_one_number_a_row(scores):
    for measure in (estimate_auc, measure_ks):
        with pytest.raises(DataError, match="finite scores"):
            measure([0, 1, 0, 1], scores)


def test_many_rows_take_moments_not_minutes():
    rng = np.random.default_rng(7)
    y = (rng.random(200_000) < 0.2).astype(float)
    p = np.clip(rng.normal(0.2 + 0.1 * y, 0.1), 0, 1)
    assert estimate_auc(y, p).auc == pytest.approx(roc_auc_score(y, p), abs=1e-12)
