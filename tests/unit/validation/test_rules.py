from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.governance import Outcome
from airflow_mlgov.validation.rules import (
    choose,
    in_words,
    increasing,
    judge,
    judge_p,
    number,
    whole_number,
)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (0.5, Outcome.FAIL),
        (0.6, Outcome.WARN),
        (0.7, Outcome.PASS),
        (1.0, Outcome.PASS),
        (1.3, Outcome.PASS),
        (1.4, Outcome.WARN),
        (1.6, Outcome.FAIL),
    ],
)
def test_a_number_on_its_bound_is_inside(value, outcome):
    bounds = {"fail_below": 0.6, "warn_below": 0.7, "warn_above": 1.3, "fail_above": 1.5}
    assert judge(value, bounds) is outcome


def test_p_values():
    levels = {"fail_p_below": 0.01, "warn_p_below": 0.05}
    found = [judge_p(p, levels) for p in (0.009, 0.01, 0.05)]
    assert found == [Outcome.FAIL, Outcome.WARN, Outcome.PASS]


def test_words():
    assert in_words({"warn_below": 0.7, "fail_below": 0.65}) == "fail below 0.65, warn below 0.7"
    assert in_words({"fail_p_below": 0.01}) == "fail if p-value below 0.01"
    assert in_words({}) == "reported, not judged"
    assert judge(0.1, {}) is Outcome.PASS


def planned(**options):
    return SimpleNamespace(test="stability.psi", thresholds={}, options=options)


def test_options_have_defaults_and_bounds():
    assert choose(planned(), "empty_bin", ("floor", "merge")) == "floor"
    assert number(planned(alpha=0.1), "alpha", 0.05, 0, 1) == 0.1
    assert whole_number(planned(), "bins", 10, 2, 100) == 10


@pytest.mark.parametrize(
    "read",
    [
        lambda: choose(planned(empty_bin="drop"), "empty_bin", ("floor", "merge")),
        lambda: number(planned(alpha="5%"), "alpha", 0.05, 0, 1),
        lambda: number(planned(alpha=True), "alpha", 0.05, 0, 1),
        lambda: number(planned(alpha=1.5), "alpha", 0.05, 0, 1),
        lambda: number(planned(alpha=float("nan")), "alpha", 0.05, 0, 1),
        lambda: number(planned(), "cutoff", None, 0, 1),
        lambda: whole_number(planned(bins=2.5), "bins", 10, 2, 100),
        lambda: increasing(planned(), "'grades'", [0.2, 0.1]),
        lambda: increasing(planned(), "'grades'", []),
        lambda: increasing(planned(), "'grades'", ["0.1"]),
    ],
)
def test_an_option_that_cannot_be_read_names_the_test(read):
    with pytest.raises(ConfigurationError, match=r"stability\.psi"):
        read()
