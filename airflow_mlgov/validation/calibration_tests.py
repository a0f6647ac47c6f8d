"""The calibration tests as a validation plan runs them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.governance import Outcome, TestResult
from airflow_mlgov.validation.calibration import (
    CLIP,
    CalibrationLine,
    binomial_p_value,
    brier_score,
    fit_calibration_line,
    hosmer_lemeshow,
    jeffreys_p_value,
)
from airflow_mlgov.validation.rules import (
    CONVENTION,
    PlannedTest,
    choose,
    in_words,
    increasing,
    judge,
    judge_p,
    whole_number,
)
from airflow_mlgov.validation.samples import Sample, Samples

COX = "Cox (1958), logistic recalibration"
JEFFREYS = "ECB, Instructions for reporting the validation results of internal models (2019), 2.5.3"
BINOMIAL = "Basel Committee, Working Paper 14 (2005)"


def assess_brier(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``calibration.brier``: Brier score of the validation sample."""
    sample = samples.validation
    score = brier_score(sample.y, sample.p)
    rate = sample.events / sample.rows
    uninformed = rate * (1 - rate)
    details = {
        "event_rate": rate,
        "mean_probability": float(sample.p.mean()),
        "score_of_the_event_rate": uninformed,
        "skill": 1 - score / uninformed,
        "development": brier_score(samples.development.y, samples.development.p),
    }
    outcome = judge(score, planned.thresholds)
    return [
        _result(
            planned, "Brier score", (score, outcome), sample, details, f"Brier (1950); {CONVENTION}"
        )
    ]


def assess_slope(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``calibration.slope``: slope of outcome ~ logit(p), validation sample; 1 is ideal."""
    sample = samples.validation
    line = fit_calibration_line(sample.y, sample.p)
    details = _line_details(line, line.slope, line.slope_error)
    outcome = judge(line.slope, planned.thresholds)
    return [
        _result(
            planned,
            "Calibration slope",
            (line.slope, outcome),
            sample,
            details,
            f"{COX}; {CONVENTION}",
        )
    ]


def assess_intercept(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``calibration.intercept``: intercept on the validation sample; 0 is ideal.

    Option ``slope``: ``free`` takes the intercept of the line whose slope is fitted too, ``fixed``
    the one with the
    slope held at 1 (calibration in the large).
    """
    sample = samples.validation
    line = fit_calibration_line(sample.y, sample.p)
    slope = choose(planned, "slope", ("free", "fixed"))
    value = line.intercept if slope == "free" else line.in_the_large
    details = _line_details(line, line.intercept, line.intercept_error) | {"slope_is": slope}
    outcome = judge(value, planned.thresholds)
    return [
        _result(
            planned,
            "Calibration intercept",
            (value, outcome),
            sample,
            details,
            f"{COX}; {CONVENTION}",
        )
    ]


def _line_details(line: CalibrationLine, value: float, error: float) -> dict[str, Any]:
    return {
        **{
            name: number
            for name, number in asdict(line).items()
            if name not in {"clipped", "p_value"}
        },
        "interval": [value - 1.959963984540054 * error, value + 1.959963984540054 * error],
        "confidence": 0.95,
        "p_value": line.p_value,
        "hypothesis": "intercept 0 and slope 1, likelihood ratio, 2 degrees of freedom",
        "clipped_rows": line.clipped,
        "clip": CLIP,
    }


def assess_hosmer_lemeshow(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``calibration.hosmer_lemeshow``, on the sample that option ``sample`` names.

    Degrees of freedom are g on the validation sample and g-2 on the development sample, on which
    the model was
    fitted; option ``degrees_of_freedom`` states one of them and is refused if it does not suit the
    sample.
    """
    which = choose(planned, "sample", ("validation", "development"))
    sample = getattr(samples, which)
    suits = "g" if which == "validation" else "g-2"
    stated = choose(planned, "degrees_of_freedom", (suits, "g-2" if suits == "g" else "g"))
    if stated != suits:
        raise ConfigurationError(
            f"{planned.test}: {stated} degrees of freedom do not suit the {which} sample; they "
            f"are {suits} there.",
            remedy="g-2 holds where the model was fitted on these rows, g everywhere else.",
        )
    grouping = choose(planned, "grouping", ("rank", "quantile"))
    groups = whole_number(planned, "groups", 10, 3, 1000)
    found = hosmer_lemeshow(
        sample.y, sample.p, groups=groups, grouping=grouping, fitted_here=suits == "g-2"
    )
    details = {
        "p_value": found.p_value,
        "degrees_of_freedom": found.degrees_of_freedom,
        "degrees_of_freedom_rule": suits,
        "grouping": grouping,
        "groups": len(found.sizes),
        "sizes": list(found.sizes),
        "observed": list(found.observed),
        "expected": list(found.expected),
    }
    outcome = judge_p(found.p_value, planned.thresholds)
    source = "Hosmer & Lemeshow, Applied Logistic Regression; the level is the policy pack's"
    return [
        _result(
            planned, "Hosmer-Lemeshow test", (found.statistic, outcome), sample, details, source
        )
    ]


def assess_jeffreys(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``calibration.jeffreys``: portfolio and grades; small p: too little risk."""
    return _assess_grades(
        samples.validation, planned, ("Jeffreys test", jeffreys_p_value, JEFFREYS)
    )


def assess_binomial(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``calibration.binomial``: portfolio and grades; small p: too little risk."""
    return _assess_grades(
        samples.validation, planned, ("Binomial test", binomial_p_value, BINOMIAL)
    )


def _assess_grades(
    sample: Sample, planned: PlannedTest, how: tuple[str, Any, str]
) -> list[TestResult]:
    title, p_value_of, source = how
    edges: list[float] = []
    if "grades" in planned.options:
        edges = increasing(planned, "'grades'", planned.options["grades"])
    grade_of = np.searchsorted(edges, sample.p, side="right")
    parts = [("", np.ones(sample.rows, dtype=np.bool_))]
    parts += [
        (f"grade {grade + 1}", grade_of == grade) for grade in np.unique(grade_of).tolist() if edges
    ]
    results = []
    for segment, rows in parts:
        count, events = int(rows.sum()), int(sample.y[rows].sum())
        stated = float(sample.p[rows].mean())
        p_value = p_value_of(count, events, stated)
        details = {
            "p_value": p_value,
            "events": events,
            "stated_probability": stated,
            "grade_edges": edges,
        }
        results.append(
            TestResult(
                test=planned.test,
                title=f"{title}, {segment or 'portfolio'}",
                statistic=p_value,
                outcome=judge_p(p_value, planned.thresholds),
                threshold=in_words(planned.thresholds),
                sample_sizes={sample.name: count},
                source=f"{source}; the level is the policy pack's",
                details=details,
                segment=segment,
            )
        )
    return results


def _result(
    planned: PlannedTest,
    title: str,
    found: tuple[float, Outcome],
    sample: Sample,
    details: dict[str, Any],
    source: str,
) -> TestResult:
    return TestResult(
        test=planned.test,
        title=title,
        statistic=found[0],
        outcome=found[1],
        threshold=in_words(planned.thresholds),
        sample_sizes={sample.name: sample.rows},
        source=source,
        details=details,
    )
