"""Whether the validation sample's scores are spread as the development sample's were: PSI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from airflow_mlgov.records.governance import TestResult
from airflow_mlgov.validation.rules import (
    PlannedTest,
    choose,
    in_words,
    judge,
    number,
    require,
    whole_number,
)
from airflow_mlgov.validation.samples import Floats, Samples, as_probabilities

SOURCE = (
    "Population stability index: industry convention, not a statistic that the ECB prescribes; "
    "critical value of Yurdakul & Naranjo (2020)"
)


@dataclass(frozen=True, slots=True)
class Stability:
    """Population stability index of two samples over common bins.

    Attributes:
        psi: Sum over bins of (a - e) ln(a / e); 0 if the shares are equal.
        critical_value: What samples of these sizes exceed with probability alpha though nothing
            moved.
        alpha: That probability.
        edges: Inner edges of the bins, ascending; a score equal to an edge is in the lower bin.
        development: Rows by bin of the sample that set the bins.
        validation: Rows by bin of the other.
        empty_bins: How many bins were empty in one of the samples before the rule for them was
            applied.
    """

    psi: float
    critical_value: float
    alpha: float
    edges: tuple[float, ...]
    development: tuple[int, ...]
    validation: tuple[int, ...]
    empty_bins: int


def population_stability_index(expected: Any, actual: Any) -> float:
    """Return the PSI of two sets of shares.

    Args:
        expected: Shares by bin, shape (b,), each above 0.
        actual: Shares by bin, shape (b,), each above 0.

    Raises:
        DataError: An empty bin (the index is not defined), or shapes that differ; a retry does not
            help.

    Source:
        Siddiqi, Credit Risk Scorecards (2006); the symmetrised Kullback-Leibler divergence of
        Jeffreys (1946).
    """
    e, a = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    require(
        e.shape == a.shape and e.ndim == 1 and e.size > 0,
        "The PSI needs one share a bin of both samples.",
    )
    require(
        bool((e > 0).all() and (a > 0).all()),
        "The PSI is not defined for an empty bin; declare a rule for it.",
    )
    return float(np.sum((a - e) * np.log(a / e)))


def critical_psi(rows: int, other_rows: int, bins: int, alpha: float = 0.05) -> float:
    """Return the PSI that two samples of one distribution exceed with probability alpha.

    Args:
        rows: Rows of the first sample, at least 1.
        other_rows: Rows of the second sample, at least 1.
        bins: Number of bins, at least 2.
        alpha: In (0, 1).

    Raises:
        DataError: Values outside those bounds; a retry does not help.

    Source:
        Yurdakul & Naranjo, Statistical properties of the population stability index, Journal of
        Risk Model
        Validation 14 (2020): (1/n + 1/m) times the chi-squared quantile with B - 1 degrees of
        freedom.
    """
    require(
        rows >= 1 and other_rows >= 1 and bins >= 2,
        "A critical PSI needs rows in both samples and 2 bins.",
    )
    require(0.0 < alpha < 1.0, f"alpha is {alpha!r}; it must lie strictly between 0 and 1.")
    return float((1 / rows + 1 / other_rows) * stats.chi2.ppf(1 - alpha, bins - 1))


def compare_populations(
    development: Any, validation: Any, *, bins: int, empty_bin: str, floor: float, alpha: float
) -> Stability:
    """Return the PSI between two samples of probabilities, binned at the first one's quantiles.

    Args:
        development: Probabilities that set the bins, shape (n,).
        validation: Probabilities held against them, shape (m,).
        bins: How many bins are wanted, 2 or more; ties can leave fewer.
        empty_bin: ``floor``: the share of an empty bin counts as `floor`, the others stay as they
            are. ``merge``: an empty bin is joined with the bin below it (the lowest one with the
            bin above).
        floor: Share that stands for an empty bin, in (0, 1); read only with ``floor``.
        alpha: Level of the critical value, in (0, 1).

    Raises:
        DataError: Values outside [0, 1], or all development probabilities alike; a retry does not
            help.
    """
    first = as_probabilities(development, "development probabilities")
    second = as_probabilities(validation, "validation probabilities")
    edges = _edges(first, bins)
    expected, actual = _count(first, edges), _count(second, edges)
    empty = int(((expected == 0) | (actual == 0)).sum())
    if empty_bin == "merge":
        edges, expected, actual = _merged(edges, expected, actual)
        require(
            edges.size > 0,
            "All bins but one are empty in one of the samples; nothing is left to compare.",
        )
    shares = [_shares(counts, floor) for counts in (expected, actual)]
    return Stability(
        psi=population_stability_index(*shares),
        critical_value=critical_psi(len(first), len(second), len(expected), alpha),
        alpha=alpha,
        edges=tuple(float(edge) for edge in edges),
        development=tuple(int(count) for count in expected),
        validation=tuple(int(count) for count in actual),
        empty_bins=empty,
    )


def _edges(values: Floats, bins: int) -> Floats:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    edges = edges[edges < values.max()]  # an edge at the maximum would leave an empty bin above it
    require(
        edges.size > 0,
        "The development sample's probabilities are (nearly) all alike: no two bins can be made.",
    )
    return np.asarray(edges, dtype=np.float64)


def _count(values: Floats, edges: Floats) -> Floats:
    assigned = np.searchsorted(edges, values, side="left")
    return np.bincount(assigned, minlength=len(edges) + 1).astype(np.float64)


def _shares(counts: Floats, floor: float) -> Floats:
    return np.where(counts > 0, counts / counts.sum(), floor)


def _merged(edges: Floats, expected: Floats, actual: Floats) -> tuple[Floats, Floats, Floats]:
    kept: list[float] = []
    sums = [[float(expected[0]), float(actual[0])]]
    for edge, e, a in zip(edges, expected[1:], actual[1:], strict=True):
        if min(e, a) > 0 and min(sums[-1]) > 0:
            kept.append(float(edge))
            sums.append([float(e), float(a)])
        else:
            sums[-1] = [sums[-1][0] + float(e), sums[-1][1] + float(a)]
    joined = np.asarray(sums, dtype=np.float64)
    return np.asarray(kept, dtype=np.float64), joined[:, 0], joined[:, 1]


def assess_psi(samples: Samples, planned: PlannedTest) -> list[TestResult]:
    """Test id ``stability.psi``: PSI of the validation sample against the development sample."""
    empty_bin = choose(planned, "empty_bin", ("floor", "merge"))
    floor = number(planned, "floor", 0.0001, 1e-9, 0.1)
    found = compare_populations(
        samples.development.p,
        samples.validation.p,
        bins=whole_number(planned, "bins", 10, 2, 1000),
        empty_bin=empty_bin,
        floor=floor,
        alpha=number(planned, "alpha", 0.05, 1e-6, 0.5),
    )
    details: dict[str, Any] = {
        "critical_value": found.critical_value,
        "alpha": found.alpha,
        "beyond_noise": found.psi > found.critical_value,
        "bins": len(found.development),
        "binning": "quantiles of the development sample",
        "empty_bin": f"floor {floor:g}" if empty_bin == "floor" else "merge",
        "empty_bins": found.empty_bins,
        "edges": list(found.edges),
        "development": list(found.development),
        "validation": list(found.validation),
    }
    result = TestResult(
        test=planned.test,
        title="Population stability index",
        statistic=found.psi,
        outcome=judge(found.psi, planned.thresholds),
        threshold=in_words(planned.thresholds),
        sample_sizes={
            sample.name: sample.rows for sample in (samples.development, samples.validation)
        },
        source=SOURCE,
        details=details,
    )
    return [result]
