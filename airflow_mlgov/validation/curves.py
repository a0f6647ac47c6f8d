"""Small plot data that pages and reports draw: ROC, calibration by decile, scores by class."""

from __future__ import annotations

from typing import Any

import numpy as np

from airflow_mlgov.validation.calibration import group_rows
from airflow_mlgov.validation.samples import Floats, Sample

ROC_POINTS = 101
_DECILES = 10
_BARS = 20


def roc_points(y: Floats, p: Floats) -> list[list[float]]:
    """Return at most 101 points of the ROC curve, (0, 0) first and (1, 1) last.

    A point is false-positive rate, true-positive rate.

    Args:
        y: Outcomes 0.0 or 1.0, shape (n,), both present.
        p: Probabilities, shape (n,).
    """
    order = np.argsort(-p, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    true_positives = np.cumsum(y[order])[last_of_tie]
    false_positives = last_of_tie + 1 - true_positives
    points = np.column_stack(
        [false_positives / false_positives[-1], true_positives / true_positives[-1]]
    )
    points = np.vstack([[0.0, 0.0], points])
    if len(points) > ROC_POINTS:
        points = points[np.unique(np.linspace(0, len(points) - 1, ROC_POINTS).round().astype(int))]
    return [[float(x), float(t)] for x, t in points]


def calibration_by_decile(y: Floats, p: Floats) -> list[dict[str, Any]]:
    """Return rows, mean probability and event rate of each tenth, lowest probabilities first."""
    tenths = group_rows(p, min(_DECILES, len(p)), "rank")
    return [
        {
            "rows": int((tenths == tenth).sum()),
            "mean_probability": float(p[tenths == tenth].mean()),
            "event_rate": float(y[tenths == tenth].mean()),
        }
        for tenth in np.unique(tenths)
    ]


def score_histogram(y: Floats, p: Floats) -> dict[str, Any]:
    """Return counts of events and non-events in twenty equal bars over [0, 1]."""
    edges = np.linspace(0.0, 1.0, _BARS + 1)
    counts = {
        name: np.histogram(p[y == of], bins=edges)[0]
        for name, of in (("events", 1.0), ("non_events", 0.0))
    }
    return {
        "edges": [float(e) for e in edges],
        **{name: [int(n) for n in values] for name, values in counts.items()},
    }


def plot_data(sample: Sample) -> dict[str, Any]:
    """Return everything that is drawn of a sample, as JSON values of a few kilobytes."""
    drawn: dict[str, Any] = {
        "roc": roc_points(sample.y, sample.p),
        "calibration": calibration_by_decile(sample.y, sample.p),
        "histogram": score_histogram(sample.y, sample.p),
    }
    if sample.challenger is not None:
        drawn["challenger_roc"] = roc_points(sample.y, sample.challenger)
    return drawn
