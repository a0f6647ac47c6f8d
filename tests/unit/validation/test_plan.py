from __future__ import annotations

import json

import numpy as np
import pytest

from airflow_mlgov.errors import ConfigurationError, DataError
from airflow_mlgov.policy.pack import PlannedTest
from airflow_mlgov.records.governance import Outcome, Severity, TestResult
from airflow_mlgov.validation.discrimination import compare_aucs, estimate_auc
from airflow_mlgov.validation.plan import TESTS, check_plan, run_plan
from airflow_mlgov.validation.samples import Sample, Samples


def planned(test: str, *, options=None, **thresholds) -> PlannedTest:
    return PlannedTest(test, thresholds, Severity.MEDIUM, 30, options or {})


def sample(name: str, seed: int, rows: int = 2000, challenger: bool = True) -> Sample:
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 6, rows)
    y = (rng.random(rows) < p).astype(float)
    sex = np.array(["f", "m"], dtype=object)[rng.integers(0, 2, rows)]
    other = np.clip(p + rng.normal(0, 0.2, rows), 0, 1)
    return Sample(name, y, p, {"SEX": sex}, other if challenger else None)


@pytest.fixture
def samples() -> Samples:
    return Samples(sample("development", 1), sample("validation", 2))


def run(samples: Samples, test: str, *, options=None, **thresholds) -> list[TestResult]:
    return run_plan(samples, [planned(test, options=options, **thresholds)])


WHOLE_PLAN = [
    planned("discrimination.auc", fail_below=0.6, warn_below=0.7),
    planned("discrimination.gini", fail_below=0.2),
    planned("discrimination.ks", fail_below=0.1),
    planned("calibration.brier", fail_above=0.3),
    planned("calibration.slope", fail_below=0.5, fail_above=1.5),
    planned("calibration.intercept", fail_below=-1, fail_above=1),
    planned("calibration.hosmer_lemeshow", fail_p_below=1e-6),
    planned("calibration.jeffreys", fail_p_below=1e-6, options={"grades": [0.1, 0.3]}),
    planned("calibration.binomial", fail_p_below=1e-6),
    planned("stability.psi", warn_above=0.1, fail_above=0.25),
    planned("fairness.adverse_impact", fail_below=0.8, options={"cutoff": 0.3}),
    planned("challenger.delong", fail_p_below=0.05),
]


def test_ids_are_for_ever():
    assert set(TESTS) == {test.test for test in WHOLE_PLAN}


def test_a_whole_plan_in_its_order(samples):
    results = run_plan(samples, WHOLE_PLAN)
    assert list(dict.fromkeys(r.test for r in results)) == [t.test for t in WHOLE_PLAN]
    assert {r.outcome for r in results} <= {Outcome.PASS, Outcome.WARN}
    for result in results:
        text = json.dumps(result.as_json(), allow_nan=False)
        assert TestResult.from_json(json.loads(text)) == result
        assert result.source
        assert result.sample_sizes
        assert result.threshold


def test_statistics_are_those_of_the_validation_sample(samples):
    auc = run(samples, "discrimination.auc")[0]
    estimate = estimate_auc(samples.validation.y, samples.validation.p)
    assert auc.statistic == estimate.auc
    assert auc.details["interval"] == list(estimate.interval(0.95))
    assert auc.sample_sizes == {"validation": 2000}
    gini = run(samples, "discrimination.gini", options={"confidence": 0.9})[0]
    assert gini.statistic == pytest.approx(2 * estimate.auc - 1)
    assert gini.details["interval"] == pytest.approx([2 * b - 1 for b in estimate.interval(0.9)])


def test_thresholds_decide(samples):
    auc = run(samples, "discrimination.auc")[0].statistic
    for bounds, outcome in (
        ({"fail_below": auc}, Outcome.PASS),
        ({"fail_below": auc + 1e-9}, Outcome.FAIL),
        ({"warn_below": auc + 1e-9}, Outcome.WARN),
    ):
        assert run(samples, "discrimination.auc", **bounds)[0].outcome is outcome


def test_hosmer_lemeshow_states_grouping_and_degrees_of_freedom(samples):
    result = run(samples, "calibration.hosmer_lemeshow")[0]
    assert result.details["grouping"] == "rank"
    assert result.details["degrees_of_freedom"] == 10
    inside = run(samples, "calibration.hosmer_lemeshow", options={"sample": "development"})[0]
    assert inside.details["degrees_of_freedom"] == 8
    assert inside.sample_sizes == {"development": 2000}


def test_degrees_of_freedom_that_do_not_suit_the_sample(samples):
    with pytest.raises(ConfigurationError, match="do not suit the validation sample"):
        run(samples, "calibration.hosmer_lemeshow", options={"degrees_of_freedom": "g-2"})


def test_psi_says_what_is_noise(samples):
    details = run(samples, "stability.psi")[0].details
    assert details["critical_value"] == pytest.approx(0.0169, abs=5e-5)
    assert details["beyond_noise"] is False
    assert details["empty_bin"] == "floor 0.0001"
    assert "not a statistic that the ECB prescribes" in run(samples, "stability.psi")[0].source


def test_a_better_challenger_fails_and_a_worse_one_never_does(samples):
    good = run(samples, "challenger.delong", fail_p_below=0.05)[0]
    assert good.outcome is Outcome.PASS
    assert good.details["p_value"] < 0.05
    at = samples.validation
    swapped = Samples(
        samples.development, Sample("validation", at.y, at.challenger, at.protected, at.p)
    )
    bad = run(swapped, "challenger.delong", fail_p_below=0.05)[0]
    assert bad.outcome is Outcome.FAIL
    assert bad.statistic == compare_aucs(at.y, at.challenger, at.p).z < 0


def test_a_challenger_better_beyond_any_doubt_fails_though_it_has_no_z(samples):
    y = [0, 0, 1, 1]
    perfect = Sample("validation", y, [0.5] * 4, {}, [0.1, 0.2, 0.8, 0.9])
    both = Samples(samples.development, perfect)
    result = run(both, "challenger.delong", fail_p_below=0.05)[0]
    assert (result.outcome, result.statistic) == (Outcome.FAIL, None)
    assert "no estimated variance" in result.details["note"]


def test_fairness_has_one_result_an_attribute(samples):
    at = samples.validation
    unfair = np.where(at.p < 0.3, "often", "seldom").astype(object)
    columns = dict(at.protected) | {"UNFAIR": unfair}
    both = Samples(samples.development, Sample("validation", at.y, at.p, columns))
    fair, found = run(both, "fairness.adverse_impact", fail_below=0.8, options={"cutoff": 0.3})
    assert (fair.segment, fair.outcome) == ("SEX", Outcome.PASS)
    assert (found.segment, found.outcome, found.statistic) == ("UNFAIR", Outcome.FAIL, 0.0)
    assert [g["ratio"] for g in found.details["groups"]] == [1.0, 0.0]


def test_favourable_above_turns_the_decision_round(samples):
    options = {"cutoff": 0.3, "favourable": "above"}
    groups = run(samples, "fairness.adverse_impact", options=options)[0].details["groups"]
    assert sum(g["favourable"] for g in groups) == int((samples.validation.p > 0.3).sum())


@pytest.mark.parametrize("favourable", ["below", "above"])
def test_a_probability_on_the_cut_off_is_not_favoured(samples, favourable):
    p = [0.28, 0.3, 0.3, 0.32] * 25
    sample = Sample("validation", [0, 1] * 50, p, {"SEX": np.array(["f", "m"] * 50)})
    options = {"cutoff": 0.3, "favourable": favourable}
    result = run(Samples(samples.development, sample), "fairness.adverse_impact", options=options)
    assert sum(g["favourable"] for g in result[0].details["groups"]) == 25


def test_groups_too_small_to_judge_are_a_warning(samples):
    options = {"cutoff": 0.3, "min_cell": 100_000}
    result = run(samples, "fairness.adverse_impact", fail_below=0.8, options=options)[0]
    assert (result.statistic, result.outcome) == (None, Outcome.WARN)


def test_an_attribute_with_many_values_needs_bands(samples):
    at = samples.validation
    age = Samples(samples.development, Sample("validation", at.y, at.p, {"AGE": np.arange(2000)}))
    with pytest.raises(ConfigurationError, match=r"bands\.AGE"):
        run(age, "fairness.adverse_impact", options={"cutoff": 0.3})
    options = {"cutoff": 0.3, "bands": {"AGE": [500, 1500]}}
    groups = run(age, "fairness.adverse_impact", options=options)[0].details["groups"]
    assert {g["group"]: g["rows"] for g in groups} == {
        "below 500": 500, "500 to below 1500": 1000, "1500 and above": 500,
    }  # fmt: skip


def test_grades_are_segments(samples):
    results = run(samples, "calibration.jeffreys", options={"grades": [0.1, 0.3]})
    assert [r.segment for r in results] == ["", "grade 1", "grade 2", "grade 3"]
    assert sum(r.sample_sizes["validation"] for r in results[1:]) == 2000


def test_intercept_with_the_slope_held(samples):
    free, fixed = (
        run(samples, "calibration.intercept", options={"slope": slope})[0]
        for slope in ("free", "fixed")
    )
    assert fixed.statistic == free.details["in_the_large"]
    assert free.statistic == free.details["intercept"]


@pytest.mark.parametrize("test", ["calibration.slope", "calibration.intercept", "stability.psi"])
def test_what_cannot_be_computed_fails_and_says_why(test):
    constant = [Sample(name, [0, 1] * 50, [0.3] * 100) for name in ("development", "validation")]
    result = run(Samples(*constant), test)[0]
    assert (result.outcome, result.statistic) == (Outcome.FAIL, None)
    assert "all" in result.details["not_computed"]


def test_a_planned_comparison_without_challenger_fails(samples):
    alone = Samples(samples.development, sample("validation", 2, challenger=False))
    result = run(alone, "challenger.delong", fail_p_below=0.05)[0]
    assert (result.outcome, result.statistic) == (Outcome.FAIL, None)
    assert "none was given" in result.details["not_computed"]


def test_one_event_is_too_few_for_an_interval(samples):
    y = np.zeros(100)
    y[0] = 1
    few = Samples(samples.development, Sample("validation", y, np.linspace(0, 1, 100)))
    assert "2 rows of each class" in run(few, "discrimination.auc")[0].details["not_computed"]


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ([], "it has no test"),
        ([planned("discrimination.roc")], "'discrimination.roc' is no test"),
        ([planned("stability.psi", fail_below=0.1)], "reads no threshold 'fail_below'"),
        ([planned("stability.psi", options={"bin": 5})], "reads no option 'bin'"),
        ([planned("fairness.adverse_impact")], "needs option 'cutoff'"),
        ([planned("discrimination.ks"), planned("discrimination.ks")], "more than once"),
        ([planned("discrimination.ks", fail_below="low")], "is not a number"),
        ([planned("discrimination.ks", fail_below=float("nan"))], "is not a number"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(plan, problem, samples):
    with pytest.raises(ConfigurationError, match=problem):
        check_plan(plan)
    with pytest.raises(ConfigurationError, match=problem):
        run_plan(samples, plan)


def test_every_problem_is_named_at_once():
    with pytest.raises(ConfigurationError, match=r"(?s)nonsense.*'bin'"):
        check_plan([planned("nonsense"), planned("stability.psi", options={"bin": 5})])


def test_a_number_that_is_not_finite_never_leaves(samples, monkeypatch):
    monkeypatch.setattr(
        "airflow_mlgov.validation.calibration_tests.brier_score", lambda y, p: float("nan")
    )
    with pytest.raises(DataError, match=r"calibration\.brier.*not finite"):
        run(samples, "calibration.brier")
