"""Whether probabilities mean what they say: Brier, calibration line, grouped tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special, stats

from airflow_mlgov.errors import DataError
from airflow_mlgov.validation.rules import require
from airflow_mlgov.validation.samples import Floats, as_outcomes, as_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP = 1e-12  # probabilities of exactly 0 and 1 have no log-odds
_MOST_STEPS = 100
_FAR_OUT = 1e4  # coefficients beyond it mean that the classes are separated


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """Logistic regression of the outcome on the log-odds that the model states.

    Attributes:
        intercept: 0 if calibrated (given the slope).
        slope: 1 if calibrated; below 1 the model is over-confident.
        intercept_error: Standard error.
        slope_error: Standard error.
        in_the_large: Intercept when the slope is held at 1: above 0 the model states too little
            risk.
        likelihood_ratio: Of H0 intercept 0 and slope 1, chi-squared with 2 degrees of freedom.
        p_value: Of that test.
        clipped: Rows whose probability was moved to within `CLIP` of 0 or 1.
    """

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    in_the_large: float
    likelihood_ratio: float
    p_value: float
    clipped: int


@dataclass(frozen=True, slots=True)
class HosmerLemeshow:
    """Grouped chi-squared test of calibration.

    Attributes:
        statistic: Sum over groups of (O-E)^2 / (E (1 - E/n)).
        degrees_of_freedom: Of the chi-squared distribution that it is held against.
        p_value: Small if observed and expected events differ.
        sizes: Rows by group.
        observed: Events by group.
        expected: Events that the probabilities promise, by group.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float
    sizes: tuple[int, ...]
    observed: tuple[int, ...]
    expected: tuple[float, ...]


def brier_score(y: Any, p: Any) -> float:
    """Return the mean squared difference between probability and outcome.

    Args:
        y: Outcomes 0 or 1, shape (n,).
        p: Probabilities in [0, 1], shape (n,).

    Raises:
        DataError: Other values; a retry does not help.

    Source:
        Brier, Monthly Weather Review 78 (1950), in its one-event form.
    """
    outcomes, probabilities = _pairs(y, p)
    return float(np.mean((probabilities - outcomes) ** 2))


def fit_calibration_line(y: Any, p: Any) -> CalibrationLine:
    """Fit outcome ~ logit(p) by maximum likelihood (Newton's method).

    Args:
        y: Outcomes 0 or 1, shape (n,), both present.
        p: Probabilities in [0, 1], shape (n,), not all equal.

    Raises:
        DataError: Other values, constant probabilities, or classes that the probabilities separate;
            a retry does not help.

    Source:
        Cox, Biometrika 45 (1958): two further applications of a model for binary regression.
    """
    outcomes, probabilities = _pairs(y, p)
    require(
        outcomes.min() != outcomes.max(),
        "A calibration line needs events and non-events; one class only was given.",
    )
    inside = np.clip(probabilities, CLIP, 1 - CLIP)
    log_odds = special.logit(inside)
    require(
        np.ptp(log_odds) > 1e-9,
        "A calibration line needs probabilities that differ; all rows have the same one.",
    )
    ones = np.ones_like(log_odds)
    (intercept, slope), covariance = _fit_logistic(
        np.column_stack([ones, log_odds]), outcomes, np.zeros_like(log_odds)
    )
    (in_the_large,), _ = _fit_logistic(ones[:, None], outcomes, log_odds)
    ratio = _likelihood_ratio(outcomes, intercept + slope * log_odds, log_odds)
    return CalibrationLine(
        intercept=float(intercept),
        slope=float(slope),
        intercept_error=float(covariance[0, 0] ** 0.5),
        slope_error=float(covariance[1, 1] ** 0.5),
        in_the_large=float(in_the_large),
        likelihood_ratio=ratio,
        p_value=float(stats.chi2.sf(ratio, 2)),
        clipped=int((inside != probabilities).sum()),
    )


def _likelihood_ratio(y: Floats, fitted: Floats, stated: Floats) -> float:
    return max(0.0, 2 * (_log_likelihood(y, fitted) - _log_likelihood(y, stated)))


def _log_likelihood(y: Floats, log_odds: Floats) -> float:
    return float(np.sum(y * log_odds - np.logaddexp(0.0, log_odds)))


def _fit_logistic(design: Floats, y: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """Return coefficients and their covariance (inverse information)."""
    beta = np.zeros(design.shape[1])
    likelihood = _log_likelihood(y, offset)
    for _ in range(_MOST_STEPS):
        fitted = special.expit(offset + design @ beta)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        step = _solve(information, design.T @ (y - fitted))
        beta, gained = _climb(design, y, offset, (beta, step, likelihood))
        likelihood += gained
        if np.abs(beta).max() > _FAR_OUT:
            break
        if np.abs(step).max() <= 1e-10 * (1 + np.abs(beta).max()):
            return beta, _solve(information, np.eye(len(beta)))
    raise DataError(
        "No calibration line can be fitted: the probabilities separate events from non-events "
        "(almost) perfectly."
    )


def _solve(information: Floats, right: Floats) -> Floats:
    try:
        return np.asarray(np.linalg.solve(information, right), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise DataError(
            "No calibration line can be fitted: the probabilities separate events from "
            "non-events or hardly differ."
        ) from error


def _climb(
    design: Floats, y: Floats, offset: Floats, at: tuple[Floats, Floats, float]
) -> tuple[Floats, float]:
    """Take the Newton step, halved until the likelihood does not fall."""
    beta, step, likelihood = at
    for halvings in range(40):
        reached = beta + step / 2**halvings
        gained = _log_likelihood(y, offset + design @ reached) - likelihood
        if gained >= -1e-9 * (1 + abs(likelihood)):
            return reached, gained
    return beta, 0.0


def group_rows(p: Any, groups: int, grouping: str) -> NDArray[np.intp]:
    """Return each row's group, 0 for the lowest probabilities.

    Args:
        p: Probabilities, shape (n,).
        groups: How many groups are wanted, 2 or more; ties can leave fewer.
        grouping: ``rank``: rows sorted by probability (ties in the order given) and cut into runs
            of equal length, the
            first ones a row longer where they cannot be equal. ``quantile``: cut at the quantiles
            of p (linear
            interpolation, upper edge inclusive), so that equal probabilities always share a group.

    Raises:
        DataError: Fewer rows than groups; a retry does not help.
    """
    probabilities = as_probabilities(p, "probabilities")
    require(len(probabilities) >= groups, f"{len(probabilities)} rows cannot make {groups} groups.")
    if grouping == "rank":
        order = np.argsort(probabilities, kind="stable")
        assigned = np.empty(len(probabilities), dtype=np.intp)
        for index, rows in enumerate(np.array_split(order, groups)):
            assigned[rows] = index
        return assigned
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, groups + 1)))
    return np.searchsorted(edges[1:-1], probabilities, side="left").astype(np.intp)


def hosmer_lemeshow(
    y: Any, p: Any, *, groups: int, grouping: str, fitted_here: bool
) -> HosmerLemeshow:
    """Run the Hosmer-Lemeshow test; grouping and degrees of freedom are stated choices.

    Args:
        y: Outcomes 0 or 1, shape (n,).
        p: Probabilities in [0, 1], shape (n,).
        groups: How many groups, 3 or more.
        grouping: ``rank`` or ``quantile``, see `group_rows`.
        fitted_here: Whether the model was fitted on these very rows: g-2 degrees of freedom if so,
            else g.

    Raises:
        DataError: Other values, too few rows, or a group in which an outcome was held impossible; a
            retry does not help.

    Source:
        Hosmer & Lemeshow, Applied Logistic Regression; g degrees of freedom out of sample as
        Stata's ``estat gof, outsample``.
    """
    outcomes, probabilities = _pairs(y, p)
    _, assigned = np.unique(group_rows(probabilities, groups, grouping), return_inverse=True)
    sizes = np.bincount(assigned)
    observed = np.bincount(assigned, weights=outcomes)
    expected = np.bincount(assigned, weights=probabilities)
    return compare_grouped(
        sizes, observed, expected, degrees_of_freedom=len(sizes) - 2 if fitted_here else len(sizes)
    )


def compare_grouped(
    sizes: Any, observed: Any, expected: Any, *, degrees_of_freedom: int
) -> HosmerLemeshow:
    """Run the Hosmer-Lemeshow test on groups that stand already, such as rating grades.

    Args:
        sizes: Rows by group, shape (g,), each at least 1.
        observed: Events by group.
        expected: Expected events by group, strictly between 0 and the group's rows.
        degrees_of_freedom: g for grades and out of sample, g-2 where the model was fitted on these
            rows; at least 1.

    Raises:
        DataError: No degrees of freedom, empty group or impossible expectation; no retry helps.
    """
    rows, events, promised = (
        np.asarray(values, dtype=np.float64) for values in (sizes, observed, expected)
    )
    require(
        degrees_of_freedom >= 1,
        f"{len(rows)} groups leave {degrees_of_freedom} degrees of freedom; use more groups.",
    )
    require(bool((rows >= 1).all()), "A group is empty.")
    spread = promised * (1 - promised / rows)
    surprising = (spread <= 0) & (np.abs(events - promised) > 1e-9)
    require(
        not surprising.any(),
        "A group holds events although its probabilities are all 0, or non-events although all "
        "are 1.",
    )
    terms = np.where(spread > 0, (events - promised) ** 2 / np.where(spread > 0, spread, 1.0), 0.0)
    statistic = float(terms.sum())
    return HosmerLemeshow(
        statistic=statistic,
        degrees_of_freedom=degrees_of_freedom,
        p_value=float(stats.chi2.sf(statistic, degrees_of_freedom)),
        sizes=tuple(int(n) for n in rows),
        observed=tuple(int(n) for n in events),
        expected=tuple(float(n) for n in promised),
    )


def jeffreys_p_value(rows: int, events: int, probability: float) -> float:
    """Return the one-sided p-value of "the true default rate is at most the estimate".

    Args:
        rows: Rows of the grade, at least 1.
        events: Defaults among them, 0..rows.
        probability: Estimated default probability of the grade, in (0, 1).

    Raises:
        DataError: Values outside those bounds; a retry does not help.

    Source:
        ECB, Instructions for reporting the validation results of internal models (February 2019),
        section 2.5.3:
        distribution function of Beta(events + 1/2, rows - events + 1/2) at the estimate.
    """
    _check_grade(rows, events, probability)
    return float(stats.beta.cdf(probability, events + 0.5, rows - events + 0.5))


def binomial_p_value(rows: int, events: int, probability: float) -> float:
    """Return the chance of so many defaults or more if the estimate were true.

    Args:
        rows: Rows of the grade, at least 1.
        events: Defaults among them, 0..rows.
        probability: Estimated default probability of the grade, in (0, 1).

    Raises:
        DataError: Values outside those bounds; a retry does not help.

    Source:
        Basel Committee, Working Paper 14 (2005), studies on the validation of internal rating
        systems.
    """
    _check_grade(rows, events, probability)
    return float(stats.binom.sf(events - 1, rows, probability))


def _check_grade(rows: int, events: int, probability: float) -> None:
    require(rows >= 1, "A grade without rows cannot be tested.")
    require(0 <= events <= rows, f"{events} events among {rows} rows is impossible.")
    require(
        0.0 < probability < 1.0,
        f"A grade's probability is {probability!r}; it must lie strictly between 0 and 1.",
    )


def _pairs(y: Any, p: Any) -> tuple[Floats, Floats]:
    outcomes, probabilities = as_outcomes(y, "outcomes"), as_probabilities(p, "probabilities")
    require(
        len(outcomes) == len(probabilities),
        f"{len(outcomes)} outcomes, but {len(probabilities)} probabilities.",
    )
    return outcomes, probabilities
