from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.stability import (
    compare_populations,
    critical_psi,
    population_stability_index,
)

SHARES = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=2, max_size=12).map(
    lambda counts: tuple(np.array(c) / np.sum(c) for c in zip(*counts, strict=True))
)


def compare(development, validation, **chosen):
    chosen = {"bins": 10, "empty_bin": "floor", "floor": 1e-4, "alpha": 0.05} | chosen
    return compare_populations(development, validation, **chosen)


@given(SHARES)
@settings(deadline=None)
def test_symmetric_and_never_negative(shares):
    expected, actual = shares
    there = population_stability_index(expected, actual)
    assert there >= 0.0
    assert there == pytest.approx(population_stability_index(actual, expected), abs=1e-12)


@given(SHARES)
@settings(deadline=None)
def test_zero_for_equal_shares(shares):
    assert population_stability_index(shares[0], shares[0]) == 0.0


@given(SHARES, st.floats(0.05, 0.95))
@settings(deadline=None)
def test_splitting_a_bin_in_one_proportion_changes_nothing(shares, part):
    expected, actual = shares
    split = [np.append(s[1:], [s[0] * part, s[0] * (1 - part)]) for s in shares]
    merged = population_stability_index(expected, actual)
    assert population_stability_index(*split) == pytest.approx(merged, abs=1e-12)


@given(SHARES)
@settings(deadline=None)
def test_merging_bins_never_adds(shares):
    joined = [np.append(s[2:], s[0] + s[1]) for s in shares]
    assert population_stability_index(*joined) <= population_stability_index(*shares) + 1e-12


def test_v18_cross_checked():
    """Self-made, agreed with riskvalidation 1.0.1: .010116."""
    actual = [0.08, 0.09, 0.1, 0.1, 0.11, 0.12, 0.1, 0.1, 0.1, 0.1]
    assert population_stability_index([0.1] * 10, actual) == pytest.approx(0.010116, abs=5e-7)


def test_yurdakul_naranjo_published():
    """n=m=1000, B=10: .0338; n=m=100: .338, so that 0.25 there is noise."""
    assert critical_psi(1000, 1000, 10) == pytest.approx(0.0338, abs=5e-5)
    assert critical_psi(100, 100, 10) == pytest.approx(0.338, abs=5e-4)


def test_critical_value_is_exceeded_as_often_as_it_says():
    rng = np.random.default_rng(11)
    found = [compare(rng.random(3000), rng.random(3000), alpha=0.1) for _ in range(400)]
    exceeded = np.mean([f.psi > f.critical_value for f in found])
    assert exceeded == pytest.approx(0.1, abs=0.05)


def test_same_sample_has_no_shift():
    p = np.linspace(0.01, 0.99, 200)
    found = compare(p, p)
    assert found.psi == 0.0
    assert found.development == found.validation == (20,) * 10


def test_empty_bin_under_each_declared_rule():
    development = np.linspace(0.0, 1.0, 1000)
    validation = development[development < 0.9]
    floored = compare(development, validation)
    assert floored.empty_bins == 1
    assert floored.validation[-1] == 0
    by_hand = [count / len(validation) for count in floored.validation[:-1]] + [1e-4]
    shares = [count / 1000 for count in floored.development]
    assert floored.psi == pytest.approx(population_stability_index(shares, by_hand))
    merged = compare(development, validation, empty_bin="merge")
    assert len(merged.development) == len(floored.development) - 1
    assert sum(merged.development) == 1000
    assert merged.psi < floored.psi


@given(
    st.lists(st.integers(0, 30), min_size=20, max_size=60),
    st.lists(st.integers(0, 30), min_size=20, max_size=60),
    st.sampled_from(["floor", "merge"]),
)
@settings(deadline=None)
def test_no_row_is_lost_and_the_index_is_finite(first, second, rule):
    problem = ""
    try:
        found = compare(np.array(first) / 30, np.array(second) / 30, empty_bin=rule)
    except DataError as error:
        problem = str(error)
    if problem:
        assert "alike" in problem or "nothing is left" in problem
        return
    assert (sum(found.development), sum(found.validation)) == (len(first), len(second))
    assert len(found.edges) + 1 == len(found.development) >= 2
    assert np.isfinite(found.psi)
    if rule == "merge":
        assert min(found.development + found.validation) > 0


def test_constant_development_scores():
    with pytest.raises(DataError, match="alike"):
        compare([0.2] * 50, [0.1, 0.3] * 25)


def test_populations_that_share_no_bin_cannot_be_merged():
    with pytest.raises(DataError, match="nothing is left"):
        compare([0.1, 0.2] * 20, [0.9] * 20, empty_bin="merge", bins=2)


def test_undefined_index():
    with pytest.raises(DataError, match="empty bin"):
        population_stability_index([0.5, 0.5], [1.0, 0.0])
