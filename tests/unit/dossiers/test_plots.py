from __future__ import annotations

import pytest

from airflow_mlgov.dossiers.plots import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Calibration,
    Histogram,
    plot_calibration,
    plot_histogram,
    plot_roc,
)

ROC = [(0.0, 0.0), (0.0, 0.2), (0.2, 0.6), (1.0, 1.0)]


def points_of(line):
    return [tuple(map(float, point.split(","))) for point in line.points.split()]


def test_a_roc_curve_goes_from_corner_to_corner():
    plot = plot_roc("validation", ROC, ())
    diagonal, curve = plot.lines
    assert points_of(curve)[0] == points_of(diagonal)[0] == (LEFT, BOTTOM)
    assert points_of(curve)[-1] == points_of(diagonal)[-1] == (RIGHT, TOP)
    assert points_of(curve)[2] == pytest.approx(
        (LEFT + 0.2 * (RIGHT - LEFT), BOTTOM - 0.6 * (BOTTOM - TOP)), abs=0.01
    )
    assert [kind for kind, _ in plot.key] == ["champion", "diagonal"]


def test_a_roc_table_reads_the_curve_between_its_points():
    plot = plot_roc("validation", ROC, [(0.0, 0.0), (1.0, 1.0)])
    assert plot.columns == [
        "non-events taken for events",
        "events found: this version",
        "events found: challenger",
    ]
    assert list(plot.rows[0]) == ["1%", "22.0%", "1.0%"]
    assert list(plot.rows[2]) == ["10%", "40.0%", "10.0%"]
    assert list(plot.rows[-1]) == ["50%", "75.0%", "50.0%"]
    assert "this version finds 40.0% and challenger finds 10.0%" in plot.description
    assert [line.kind for line in plot.lines] == ["diagonal", "champion", "challenger"]


def test_calibration_keeps_to_its_axes_and_names_the_worst_group():
    groups = [Calibration(90, 0.02, 0.03), Calibration(90, 0.2, 0.43), Calibration(91, 0.5, 0.51)]
    plot = plot_calibration("validation", groups)
    assert [tick.label for tick in plot.x_ticks] == ["0%", "20%", "40%", "60%"]
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in plot.dots)
    assert plot.dots[1] == pytest.approx(
        (LEFT + 0.2 / 0.6 * (RIGHT - LEFT), BOTTOM - 0.43 / 0.6 * (BOTTOM - TOP)), abs=0.01
    )
    assert "was predicted 20.0% and had 43.0% events" in plot.description
    assert list(plot.rows[2]) == ["91", "50.0%", "51.0%"]


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.3, 1.0])
def test_calibration_of_any_size_fits(rate):
    plot = plot_calibration("validation", [Calibration(1, rate, rate)])
    ((x, y),) = plot.dots
    assert (LEFT <= x <= RIGHT, TOP <= y <= BOTTOM) == (True, True)
    assert 2 <= len(plot.x_ticks) <= 6


def test_a_histogram_shows_shares_and_lists_counts():
    plot = plot_histogram("validation", Histogram([0.0, 0.5, 0.75, 1.0], [1, 3, 0], [90, 10, 0]))
    heights = {
        kind: [b.height for b in plot.bars if b.kind == kind] for kind in ("events", "non_events")
    }
    full = BOTTOM - TOP
    assert heights["non_events"] == pytest.approx([full * 0.9, full * 0.1, 0], abs=0.05)
    assert heights["events"] == pytest.approx([full * 0.25, full * 0.75, 0], abs=0.05)
    assert all(bar.y + bar.height == pytest.approx(BOTTOM, abs=0.01) for bar in plot.bars)
    assert [list(row) for row in plot.rows] == [["0 to 50%", "90", "1"], ["50 to 75%", "10", "3"]]
    assert plot.key == [("non_events", "non-events (100)"), ("events", "events (4)")]
    assert "Events are most often given 50% to 75% (75.0% of them)." in plot.description


def test_a_histogram_without_events_has_no_bars_for_them():
    plot = plot_histogram("validation", Histogram([0.0, 1.0], [0], [5]))
    assert [bar.height for bar in plot.bars if bar.kind == "events"] == [0]
