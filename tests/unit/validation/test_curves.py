from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from airflow_mlgov.validation.curves import calibration_by_decile, plot_data, roc_points
from airflow_mlgov.validation.samples import Sample


def made_up(rows: int = 5000):
    rng = np.random.default_rng(5)
    p = rng.beta(2, 5, rows)
    return (rng.random(rows) < p).astype(float), p


def test_roc_is_small_monotone_and_has_its_area():
    y, p = made_up()
    points = np.array(roc_points(y, p))
    assert len(points) == 101
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    area = np.trapezoid(points[:, 1], points[:, 0])
    assert area == pytest.approx(roc_auc_score(y, p), abs=0.002)


def test_ties_are_one_step_of_the_roc():
    assert roc_points(np.array([0.0, 1, 1, 0]), np.full(4, 0.5)) == [[0, 0], [1, 1]]


def test_deciles_hold_every_row():
    y, p = made_up()
    deciles = calibration_by_decile(y, p)
    assert [decile["rows"] for decile in deciles] == [500] * 10
    assert np.mean([decile["event_rate"] for decile in deciles]) == pytest.approx(y.mean())
    means = [decile["mean_probability"] for decile in deciles]
    assert means == sorted(means)


def test_plot_data_is_small_json_and_counts_every_row():
    y, p = made_up()
    y[:2], p[:2] = [0, 1], [0.0, 1.0]
    drawn = plot_data(Sample("validation", y, p, {}, 1 - p))
    assert len(json.dumps(drawn, allow_nan=False)) < 20_000
    counted = drawn["histogram"]["events"] + drawn["histogram"]["non_events"]
    assert sum(counted) == 5000
    assert "challenger_roc" in drawn
    assert "challenger_roc" not in plot_data(Sample("validation", y, p))
