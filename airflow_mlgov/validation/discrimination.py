"""How well a model ranks events before non-events: AUC, Gini, KS, paired DeLong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from airflow_mlgov.errors import DataError
from airflow_mlgov.records.governance import Outcome, TestResult
from airflow_mlgov.validation.rules import CONVENTION, PlannedTest, in_words, judge, judge_p, number
from airflow_mlgov.validation.samples import Floats, Sample, Samples, as_outcomes

DELONG = "DeLong, DeLong & Clarke-Pearson (1988), computed as in Sun & Xu (2014)"
_NO_SPREAD = 1e-12  # placements are multiples of 1/(2n), so a smaller spread is rounding


@dataclass(frozen=True, slots=True)
class AucEstimate:
    """Area under the ROC curve with DeLong's variance.

    Attributes:
        auc: In [0, 1]; a tie counts one half.
        variance: DeLong's estimate of its variance.
        events: Rows with outcome 1.
        non_events: Rows with outcome 0.
    """

    auc: float
    variance: float
    events: int
    non_events: int

    @property
    def gini(self) -> float:
        """Gini coefficient (accuracy ratio), 2 AUC - 1."""
        return 2 * self.auc - 1

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the normal-approximation interval of the AUC, cut to [0, 1]."""
        half = float(stats.norm.ppf(0.5 + confidence / 2)) * self.variance**0.5
        return max(0.0, self.auc - half), min(1.0, self.auc + half)


@dataclass(frozen=True, slots=True)
class AucComparison:
    """Two models' AUCs on the same rows.

    Attributes:
        first: AUC of the first model.
        second: AUC of the second model.
        z: Standardised difference, positive if the first is better; None if the AUCs differ but
            their difference
            has no estimated variance, so that the normal approximation says nothing.
        p_value: Two-sided; None with z.
        standard_error: Of the difference.
    """

    first: float
    second: float
    z: float | None
    p_value: float | None
    standard_error: float


@dataclass(frozen=True, slots=True)
class KsStatistic:
    """Two-sample Kolmogorov-Smirnov distance between the scores of events and non-events.

    Attributes:
        distance: In [0, 1].
        p_value: Of the two-sided test that both have one distribution.
    """

    distance: float
    p_value: float


def _placements(y: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Return DeLong's structural components, V10 by event and V01 by non-event, in O(n log n)."""
    is_event = y == 1.0
    events, non_events = int(is_event.sum()), int((~is_event).sum())
    if events < 2 or non_events < 2:
        raise DataError(
            f"DeLong's variance needs 2 rows of each class; there are {events} events and "
            f"{non_events} non-events."
        )
    overall = stats.rankdata(scores)
    among_events = stats.rankdata(scores[is_event])
    among_non_events = stats.rankdata(scores[~is_event])
    v10 = (overall[is_event] - among_events) / non_events
    v01 = 1.0 - (overall[~is_event] - among_non_events) / events
    return v10, v01


def _variance_of_mean(values: Floats) -> float:
    return 0.0 if np.ptp(values) < _NO_SPREAD else float(np.var(values, ddof=1)) / len(values)


def estimate_auc(y: Any, scores: Any) -> AucEstimate:
    """Return the AUC with DeLong's variance.

    Args:
        y: Outcomes 0 or 1, shape (n,), at least two of each.
        scores: Finite numbers, shape (n,); higher means the event is likelier.

    Raises:
        DataError: Other values, or too few rows of a class; a retry does not help.

    Source:
        DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); rank algorithm of Sun & Xu, IEEE SPL
        21 (2014).
    """
    outcomes, values = _outcomes_and_scores(y, scores)
    v10, v01 = _placements(outcomes, values)
    variance = _variance_of_mean(v10) + _variance_of_mean(v01)
    return AucEstimate(float(v10.mean()), variance, len(v10), len(v01))


def compare_aucs(y: Any, first: Any, second: Any) -> AucComparison:
    """Compare two models' AUCs on the same rows (paired DeLong test).

    Args:
        y: Outcomes 0 or 1, shape (n,), at least two of each.
        first: Scores of the first model, shape (n,).
        second: Scores of the second model, shape (n,).

    Raises:
        DataError: Other values, or too few rows of a class; a retry does not help.

    Source:
        DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); rank algorithm of Sun & Xu, IEEE SPL
        21 (2014).
    """
    outcomes, values = _outcomes_and_scores(y, first)
    _, other = _outcomes_and_scores(y, second)
    v10, v01 = _placements(outcomes, values)
    w10, w01 = _placements(outcomes, other)
    difference = float((v10 - w10).mean())
    error = (_variance_of_mean(v10 - w10) + _variance_of_mean(v01 - w01)) ** 0.5
    if abs(difference) < _NO_SPREAD:
        z: float | None = 0.0
    else:
        z = difference / error if error else None
    p_value = None if z is None else 2 * float(stats.norm.sf(abs(z)))
    return AucComparison(float(v10.mean()), float(w10.mean()), z, p_value, error)


def measure_ks(y: Any, scores: Any) -> KsStatistic:
    """Return the Kolmogorov-Smirnov distance between events and non-events.

    Args:
        y: Outcomes 0 or 1, shape (n,), both present.
        scores: Finite numbers, shape (n,).

    Raises:
        DataError: Other values, or one class only; a retry does not help.
    """
    outcomes, values = _outcomes_and_scores(y, scores)
    events, non_events = values[outcomes == 1.0], values[outcomes == 0.0]
    if not events.size or not non_events.size:
        raise DataError("The KS distance needs events and non-events; one class only was given.")
    # The exact null distribution costs O(n m); beyond this size the asymptotic one is as good.
    method = "exact" if events.size * non_events.size <= 250_000 else "asymp"
    tested = stats.ks_2samp(events, non_events, method=method)
    return KsStatistic(float(tested.statistic), float(tested.pvalue))


def _outcomes_and_scores(y: Any, scores: Any) -> tuple[Floats, Floats]:
    outcomes = as_outcomes(y, "outcomes")
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != outcomes.shape or not np.isfinite(values).all():
        raise DataError(
            f"{len(outcomes)} outcomes need as many finite scores; got shape {values.shape}."
        )
    return outcomes, values


def assess_auc(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``discrimination.auc``: AUC on the validation sample, with DeLong's interval."""
    sample = samples.validation
    estimate = estimate_auc(sample.y, sample.p)
    details = _auc_details(estimate, samples.development, _confidence(planned))
    return [_result(planned, "Area under the ROC curve", estimate.auc, sample, details)]


def assess_gini(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``discrimination.gini``: Gini on the validation sample, with DeLong's interval."""
    sample = samples.validation
    estimate = estimate_auc(sample.y, sample.p)
    details = _auc_details(estimate, samples.development, _confidence(planned))
    for name in ("interval", "development"):
        value = details[name]
        details[name] = (
            [2 * bound - 1 for bound in value] if isinstance(value, list) else 2 * value - 1
        )
    details["standard_error"] *= 2
    return [_result(planned, "Gini coefficient (accuracy ratio)", estimate.gini, sample, details)]


def assess_ks(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``discrimination.ks``: Kolmogorov-Smirnov distance on the validation sample."""
    sample = samples.validation
    found = measure_ks(sample.y, sample.p)
    details = {"p_value": found.p_value, "events": sample.events}
    source = f"Kolmogorov-Smirnov two-sample distance; {CONVENTION}"
    return [
        _result(planned, "Kolmogorov-Smirnov distance", found.distance, sample, details, source)
    ]


def assess_challenger(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``challenger.delong``: fails if the challenger ranks significantly better."""
    sample = samples.validation
    if sample.challenger is None:
        raise DataError("The plan compares with a challenger, and none was given.")
    found = compare_aucs(sample.y, sample.p, sample.challenger)
    details: dict[str, Any] = {
        "champion_auc": found.first,
        "challenger_auc": found.second,
        "difference": found.first - found.second,
        "standard_error": found.standard_error,
        "p_value": found.p_value,
        "alternative": "two-sided; only a better challenger counts against the champion",
    }
    outcome = Outcome.PASS
    if found.second > found.first:
        outcome = judge_p(0.0 if found.p_value is None else found.p_value, planned.thresholds)
    if found.z is None:
        details["note"] = (
            "The difference has no estimated variance: the better AUC counts as significantly "
            "better."
        )
    words = in_words(planned.thresholds)
    result = TestResult(
        test=planned.test,
        title="Champion against challenger (paired DeLong test)",
        statistic=found.z,
        outcome=outcome,
        threshold=f"challenger's AUC higher: {words}",
        sample_sizes={sample.name: sample.rows},
        source=f"{DELONG}; the level is the policy pack's",
        details=details,
    )
    return [result]


def _confidence(planned: PlannedTest) -> float:
    return number(planned, "confidence", 0.95, 0.5, 0.9999)


def _auc_details(estimate: AucEstimate, development: Sample, confidence: float) -> dict[str, Any]:
    return {
        "interval": list(estimate.interval(confidence)),
        "confidence": confidence,
        "standard_error": estimate.variance**0.5,
        "events": estimate.events,
        "non_events": estimate.non_events,
        "development": estimate_auc(development.y, development.p).auc,
    }


def _result(
    planned: PlannedTest,
    title: str,
    statistic: float,
    sample: Sample,
    details: dict[str, Any],
    source: str = "",
) -> TestResult:
    return TestResult(
        test=planned.test,
        title=title,
        statistic=statistic,
        outcome=judge(statistic, planned.thresholds),
        threshold=in_words(planned.thresholds),
        sample_sizes={sample.name: sample.rows},
        source=source or f"{DELONG}; {CONVENTION}",
        details=details,
    )
