"""Where the lines, bars and numbers of a plot stand; a template writes them as inline SVG.

Each plot brings the numbers that it shows as a table and says in words what can be seen, so nobody
needs to see it, or its colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Points: TypeAlias = "Sequence[tuple[float, float]]"

WIDTH, HEIGHT = 320.0, 230.0
"""Size of a plot in user units."""

LEFT, RIGHT, TOP, BOTTOM = 42.0, 304.0, 10.0, 192.0
"""Where its axes stand."""

_RATES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """A group of rows with similar probabilities: rows, mean probability and event rate."""

    rows: int
    mean_probability: float
    event_rate: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of events and non-events between edges; there is one edge more than counts."""

    edges: Sequence[float]
    events: Sequence[int]
    non_events: Sequence[int]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where it stands, in user units, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A polyline: its kind (a CSS class) and its points as SVG writes them."""

    kind: str
    points: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, in user units."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, its key, and its numbers.

    Attributes:
        title: What it is.
        description: What can be seen, in words.
        x_label: Under the horizontal axis.
        y_label: Beside the vertical axis.
        x_ticks: Marks on the horizontal axis.
        y_ticks: Marks on the vertical axis.
        lines: Polylines.
        bars: Rectangles.
        dots: Where dots stand, in user units.
        key: Kind and meaning of what is drawn.
        columns: Headings of the table.
        rows: Its rows.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    key: Sequence[tuple[str, str]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    dots: Sequence[tuple[float, float]] = ()


def plot_roc(sample: str, roc: Points, challenger: Points) -> Plot:
    """Return the ROC curve on a sample, with the challenger's if it has points.

    Args:
        sample: Name of the sample.
        roc: False-positive rate, true-positive rate; each 0 to 1.
        challenger: The same of the challenger.
    """
    curves = [("champion", "this version", roc)]
    if challenger:
        curves.append(("challenger", "challenger", challenger))
    columns = [f"events found: {name}" for _, name, _ in curves]
    rows = [
        [_short(rate), *(_percent(_height_at(points, rate)) for _, _, points in curves)]
        for rate in _RATES
    ]
    found = " and ".join(
        f"{name} finds {_percent(_height_at(points, 0.1))}" for _, name, points in curves
    )
    ticks = _ticks(1.0)
    return Plot(
        title=f"ROC curve, {sample} sample",
        description=f"Where 10% of the non-events are taken for events, {found} of the events.",
        x_label="non-events taken for events",
        y_label="events found",
        x_ticks=[Tick(_x(at), _short(at)) for at in ticks],
        y_ticks=[Tick(_y(at), _short(at)) for at in ticks],
        lines=[_diagonal(), *(Line(kind, _polyline(points)) for kind, _, points in curves)],
        key=[*((kind, name) for kind, name, _ in curves), ("diagonal", "chance")],
        columns=["non-events taken for events", *columns],
        rows=rows,
    )


def plot_calibration(sample: str, groups: Sequence[Calibration]) -> Plot:
    """Return event rates against predicted probabilities of a sample's groups.

    Args:
        sample: Name of the sample.
        groups: At least one, lowest probabilities first.
    """
    most = max(max(group.mean_probability, group.event_rate) for group in groups)
    ticks = _ticks(most)
    top = ticks[-1]
    at = [(group.mean_probability / top, group.event_rate / top) for group in groups]
    worst = max(groups, key=lambda group: abs(group.mean_probability - group.event_rate))
    return Plot(
        title=f"Calibration, {sample} sample",
        description=f"Of {len(groups)} groups the one farthest from the line was predicted "
        f"{_percent(worst.mean_probability)} and had {_percent(worst.event_rate)} events.",
        x_label="predicted probability",
        y_label="event rate",
        x_ticks=[Tick(_x(tick / top), _short(tick)) for tick in ticks],
        y_ticks=[Tick(_y(tick / top), _short(tick)) for tick in ticks],
        lines=[_diagonal(), Line("champion", _polyline(at))],
        dots=[(_x(x), _y(y)) for x, y in at],
        key=[("champion", "groups of equal size"), ("diagonal", "perfect calibration")],
        columns=["rows", "predicted", "event rate"],
        rows=[
            [f"{g.rows:,}", _percent(g.mean_probability), _percent(g.event_rate)] for g in groups
        ],
    )


def plot_histogram(sample: str, histogram: Histogram) -> Plot:
    """Return how the scores of events and of non-events are distributed, as shares of each.

    Args:
        sample: Name of the sample.
        histogram: Its edges rise from 0 to 1.
    """
    events, non_events = _shares(histogram.events), _shares(histogram.non_events)
    ticks = _ticks(max(*events, *non_events))
    top = ticks[-1]
    bars = []
    for low, high, *both in zip(
        histogram.edges, histogram.edges[1:], non_events, events, strict=False
    ):
        half = (_x(high) - _x(low)) / 2
        for place, (kind, share) in enumerate(zip(("non_events", "events"), both, strict=True)):
            y = _y(share / top)
            bars.append(Bar(kind, _x(low) + place * half, y, half, round(BOTTOM - y, 2)))
    return Plot(
        title=f"Score distribution, {sample} sample",
        description=f"{_peak('Events', histogram.edges, events)} "
        f"{_peak('Non-events', histogram.edges, non_events)}",
        x_label="predicted probability",
        y_label="share of the class",
        x_ticks=[Tick(_x(tick), _short(tick)) for tick in _ticks(1.0)],
        y_ticks=[Tick(_y(tick / top), _short(tick)) for tick in ticks],
        bars=bars,
        key=[
            ("non_events", f"non-events ({sum(histogram.non_events):,})"),
            ("events", f"events ({sum(histogram.events):,})"),
        ],
        columns=["predicted", "non-events", "events"],
        rows=[
            [f"{low * 100:.0f} to {high:.0%}", f"{outside:,}", f"{inside:,}"]
            for low, high, outside, inside in zip(
                histogram.edges,
                histogram.edges[1:],
                histogram.non_events,
                histogram.events,
                strict=False,
            )
            if outside or inside
        ],
    )


def _shares(counts: Sequence[int]) -> list[float]:
    return [count / (sum(counts) or 1) for count in counts]


def _peak(name: str, edges: Sequence[float], shares: Sequence[float]) -> str:
    most = max(range(len(shares)), key=shares.__getitem__)
    return (
        f"{name} are most often given {edges[most]:.0%} to {edges[most + 1]:.0%} "
        f"({_percent(shares[most])} of them)."
    )


def _ticks(most: float) -> list[float]:
    """Return marks from 0 in even steps of a round number, the last at or above the most."""
    most = max(most, _STEPS[0])
    step = next((step for step in _STEPS if most <= step * _MOST_TICKS), _STEPS[-1])
    return [round(number * step, 2) for number in range(math.ceil(round(most / step, 6)) + 1)]


def _height_at(points: Points, x: float) -> float:
    """Return the height of a rising curve at x, on the straight line between its points."""
    before = (0.0, 0.0)
    for point in points:
        if point[0] > x:
            share = (x - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]


def _diagonal() -> Line:
    return Line("diagonal", _polyline([(0.0, 0.0), (1.0, 1.0)]))


def _polyline(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_x(x):g},{_y(y):g}" for x, y in points)


def _x(share: float) -> float:
    return round(LEFT + share * (RIGHT - LEFT), 2)


def _y(share: float) -> float:
    return round(BOTTOM - share * (BOTTOM - TOP), 2)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _short(share: float) -> str:
    return f"{share:.0%}"
