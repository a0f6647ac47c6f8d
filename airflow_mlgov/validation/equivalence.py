"""Whether two versions of one model score alike, row by row: what an exit rehearsal is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from airflow_mlgov.validation.rules import require
from airflow_mlgov.validation.samples import as_probabilities
from airflow_mlgov.validation.stability import compare_populations

PSI_BINS = 10
_FLOOR = 0.0001
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class ScoredApart:
    """A row that two versions score differently.

    Attributes:
        row: Its place in the sample, counted from 1.
        first: Probability that the first version gives.
        second: Probability that the second gives.
    """

    row: int
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Equivalence:
    """How far apart two versions score the same rows.

    Attributes:
        rows: How many rows.
        max_difference: Largest absolute difference of two probabilities.
        mean_difference: Mean absolute difference.
        rank_agreement: Spearman's correlation of ranks, -1 to 1; None if the second version gives
            all rows the same score, so that it ranks nothing.
        psi: Population stability index of the second's scores, in the first's deciles.
        apart: The rows that differ most, at most as many as were asked for; none that are equal.
    """

    rows: int
    max_difference: float
    mean_difference: float
    rank_agreement: float | None
    psi: float
    apart: tuple[ScoredApart, ...]


def compare_scores(first: Any, second: Any, *, most: int = 20) -> Equivalence:
    """Return how far apart two versions score the same rows.

    Args:
        first: Probabilities of the version that is in use, shape (n,).
        second: Those of the version that is to take its place, for the same rows in the same order.
        most: How many rows to name.

    Raises:
        DataError: Lengths that differ, values outside [0, 1], or a first version that gives all
            rows the same score; a retry does not help.

    Source:
        Spearman, The proof and measurement of association between two things (1904), ties by
        average ranks; for the PSI see `airflow_mlgov.validation.stability`.
    """
    p = as_probabilities(first, "scores of the version in use")
    q = as_probabilities(second, "scores of the rehearsed version")
    require(len(p) == len(q), f"There are {len(p)} scores of one version, {len(q)} of the other.")
    require(p.min() < p.max(), "The version in use gives all rows the same score.")
    apart = np.abs(p - q)
    largest = [int(row) for row in np.argsort(-apart, kind="stable")[:most] if apart[row] > 0]
    spread = compare_populations(p, q, bins=PSI_BINS, empty_bin="floor", floor=_FLOOR, alpha=_ALPHA)
    return Equivalence(
        rows=len(p),
        max_difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        rank_agreement=float(stats.spearmanr(p, q).statistic) if q.min() < q.max() else None,
        psi=spread.psi,
        apart=tuple(ScoredApart(row + 1, float(p[row]), float(q[row])) for row in largest),
    )
