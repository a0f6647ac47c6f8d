"""Where the nodes of a trace stand in its picture: in layers from left to right, data first.

Source:
    K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system
    structures", IEEE Trans. SMC 11 (1981): layers, dummies on long edges, barycentres. Places in a
    layer are the least-squares ones that keep their order and distance (pool adjacent violators).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from airflow_mlgov.records.trace import Trace

Size: TypeAlias = tuple[float, float]
Point: TypeAlias = tuple[float, float]
Spot: TypeAlias = "str | tuple[str, str, int]"
"""A node, or where an edge passes a layer that it is not part of."""

_SWEEPS = 12
_PASSES = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture's geometry, in user units.

    Attributes:
        width: Of the whole.
        height: Of the whole.
        centres: Where each node's centre stands, by id.
        lines: For each edge the points that it goes through, from one node's side to the other's.
    """

    width: float
    height: float
    centres: Mapping[str, Point]
    lines: Sequence[Sequence[Point]]


def lay_out(trace: Trace, sizes: Mapping[str, Size], gaps: Size, passing: float) -> Layout:
    """Return where everything stands.

    Args:
        trace: What is drawn.
        sizes: Width and height of each node, by id.
        gaps: Free space between layers, and between nodes of a layer.
        passing: Height that an edge needs where it passes a layer.
    """
    edges = _without_circles(trace)
    layer_of = _layers(trace, edges)
    chains = [_chain(edge, layer_of) for edge in edges]
    layers = _filled(trace, layer_of, chains)
    near = _neighbours(chains)
    _order(layers, near)

    def height(spot: Spot) -> float:
        return sizes[spot][1] if isinstance(spot, str) else passing

    tops = _heights(layers, near, lambda a, b: (height(a) + height(b)) / 2 + gaps[1])
    lowest = min(tops[spot] - height(spot) / 2 for spot in tops)
    tops = {spot: top - lowest for spot, top in tops.items()}
    widths = [
        max((sizes[s][0] for s in layer if isinstance(s, str)), default=0) for layer in layers
    ]
    lefts = [sum(widths[:n]) + n * gaps[0] for n in range(len(widths))]
    middles = [left + width / 2 for left, width in zip(lefts, widths, strict=True)]
    column = {spot: n for n, layer in enumerate(layers) for spot in layer}

    def line(chain: Sequence[Spot]) -> list[Point]:
        points = []
        for spot in chain:
            half = sizes[spot][0] / 2 if isinstance(spot, str) else widths[column[spot]] / 2
            x, y = middles[column[spot]], tops[spot]
            points += [(x - half, y), (x + half, y)]
        return points[1:-1]

    return Layout(
        width=lefts[-1] + widths[-1],
        height=max(tops[spot] + height(spot) / 2 for spot in tops),
        centres={node.id: (middles[column[node.id]], tops[node.id]) for node in trace.nodes},
        lines=[line(chain) for chain in chains],
    )


def _without_circles(trace: Trace) -> list[tuple[str, str]]:
    """Return the edges but for those that lead back to where one came from."""
    after = defaultdict(list)
    for origin, end in trace.edges:
        after[origin].append(end)
    state: dict[str, bool] = {}  # True while on the way, False when done
    kept: dict[tuple[str, str], None] = {}
    for node in reversed(trace.nodes):
        way = [(node.id, iter(after[node.id]))] if node.id not in state else []
        state.setdefault(node.id, True)
        while way:
            here, rest = way[-1]
            following = next(rest, None)
            if following is None:
                state[here] = False
                way.pop()
                continue
            if state.get(following):
                continue
            kept[here, following] = None
            if following not in state:
                state[following] = True
                way.append((following, iter(after[following])))
    return [edge for edge in trace.edges if edge in kept]


def _layers(trace: Trace, edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: right after what it comes from, or close to what follows."""
    before, after = defaultdict(list), defaultdict(list)
    for origin, end in edges:
        before[end].append(origin)
        after[origin].append(end)
    found = {node.id: 0 for node in trace.nodes}
    open_nodes = [node.id for node in trace.nodes if not before[node.id]]
    waiting = {node.id: len(before[node.id]) for node in trace.nodes}
    for here in open_nodes:  # grows while it is walked
        for following in after[here]:
            found[following] = max(found[following], found[here] + 1)
            waiting[following] -= 1
            if not waiting[following]:
                open_nodes.append(following)
    for here in reversed(open_nodes):
        if not before[here] and after[here]:
            found[here] = min(found[following] for following in after[here]) - 1
    return found


def _chain(edge: tuple[str, str], layer_of: Mapping[str, int]) -> list[Spot]:
    origin, end = edge
    passed = range(layer_of[origin] + 1, layer_of[end])
    return [origin, *((origin, end, layer) for layer in passed), end]


def _filled(
    trace: Trace, layer_of: Mapping[str, int], chains: Sequence[Sequence[Spot]]
) -> list[list[Spot]]:
    layers: list[list[Spot]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for node in trace.nodes:
        layers[layer_of[node.id]].append(node.id)
    for chain in chains:
        for spot in chain[1:-1]:
            layers[int(spot[2])].append(spot)
    return layers


def _neighbours(chains: Sequence[Sequence[Spot]]) -> tuple[dict[Spot, list[Spot]], ...]:
    """Return what stands before and after each spot, in the layer next to it."""
    before: dict[Spot, list[Spot]] = defaultdict(list)
    after: dict[Spot, list[Spot]] = defaultdict(list)
    for chain in chains:
        for here, following in pairwise(chain):
            before[following].append(here)
            after[here].append(following)
    return before, after


def _order(layers: list[list[Spot]], near: tuple[dict[Spot, list[Spot]], ...]) -> None:
    """Put each layer in the order of the middles of its neighbours, forth and back."""
    for sweep in range(_SWEEPS):
        side = near[sweep % 2]
        for layer in layers[1:] if sweep % 2 == 0 else layers[-2::-1]:
            place = {spot: n / len(other) for other in layers for n, spot in enumerate(other)}
            layer.sort(key=lambda spot: _mean([place[s] for s in side.get(spot, ())], place[spot]))


def _heights(
    layers: Sequence[Sequence[Spot]],
    near: tuple[dict[Spot, list[Spot]], ...],
    apart: Callable[[Spot, Spot], float],
) -> dict[Spot, float]:
    """Return how low each spot's middle stands: near its neighbours', in order, not too close."""
    found: dict[Spot, float] = {}
    for layer in layers:
        _place(layer, [0.0] * len(layer), apart, found)
    for turn in range(_PASSES):
        for layer in layers if turn % 2 == 0 else reversed(layers):
            sides = near if turn >= _PASSES - 2 else (near[turn % 2],)
            wanted = [
                _mean([found[s] for side in sides for s in side.get(spot, ())], found[spot])
                for spot in layer
            ]
            _place(layer, wanted, apart, found)
    return found


def _place(
    layer: Sequence[Spot],
    wanted: Sequence[float],
    apart: Callable[[Spot, Spot], float],
    found: dict[Spot, float],
) -> None:
    offsets = [0.0]
    for one, other in pairwise(layer):
        offsets.append(offsets[-1] + apart(one, other))
    blocks: list[tuple[float, int]] = []  # mean, and how many
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append((want - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (upper, count), (lower, more) = blocks[-2:]
            blocks[-2:] = [((upper * count + lower * more) / (count + more), count + more)]
    means = [mean for mean, count in blocks for _ in range(count)]
    found.update(zip(layer, (m + o for m, o in zip(means, offsets, strict=True)), strict=True))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
