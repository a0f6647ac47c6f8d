"""A trace as a picture: data on the left, the decision on the right, kinds by colour and shape.

It is one SVG file without script, font or anything that it would load. Each node says its whole
name to who points at it, or has it read out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from airflow_mlgov.dossiers.lineage_layout import Layout, Point, lay_out
from airflow_mlgov.dossiers.lineage_tree import short_digest
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.trace import Node, NodeKind, Trace

_BOX, _PILL = (174.0, 58.0), (134.0, 44.0)
_APART = (34.0, 22.0)
_PASSING = 8.0
_MARGIN = 24.0
_LETTER = 0.57
"""Width of a letter in its size; all but the widest words are narrower."""
_LINE = 18.0
_KEY_WIDTH = 118.0
_MOST_GAPS = 12
_GAP_COLOUR = "#b00020"
_BOLD = ' font-weight="bold"'

_COLOURS = {
    NodeKind.SOURCE: ("#e8ecef", "#3d4a54"),
    NodeKind.DATA: ("#e3f0fb", "#1f5f99"),
    NodeKind.MODEL: ("#efe6fa", "#5b2d9b"),
    NodeKind.REPORT: ("#fdf3d6", "#7a5a00"),
    NodeKind.REQUEST: ("#fde8d8", "#9a4a12"),
    NodeKind.APPROVAL: ("#ddf3e0", "#1b6b2c"),
    NodeKind.DENIAL: ("#fbe0e2", "#a11224"),
    NodeKind.BREAK_GLASS: ("#fbe0e2", "#a11224"),
    NodeKind.ENDPOINT: ("#d9f2f1", "#0f6360"),
    NodeKind.RUN: ("#ffffff", "#444444"),
}
_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#666666"/></marker></defs>'
)
_BAD_STATES = frozenset({"ABORT", "FAIL", "denied", "expired", "revoked", "unconfirmed"})
_WORDS = {NodeKind.BREAK_GLASS: "break glass"}
_SNAPSHOT = re.compile(r"@[0-9a-f]{12}$")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CORNERS: Mapping[NodeKind, Sequence[tuple[float, float, float, float]]] = {
    NodeKind.DATA: [(0, 0, 0, 0), (1, 0, 0, 0), (1, 0, 1, 0), (0, 0, 1, 0)],
    NodeKind.SOURCE: [(0, 1, 0, 0), (1, 0, 0, 0), (1, -1, 1, 0), (0, 0, 1, 0)],
    NodeKind.DENIAL: [(0, 1, 0, 0), (1, -1, 0, 0), (1, 0, 1, 0), (0, 0, 1, 0)],
    NodeKind.REQUEST: [(0, 0, 0, 0), (1, -1, 0, 0), (1, 0, 0.5, 0), (1, -1, 1, 0), (0, 0, 1, 0)],
    NodeKind.MODEL: [
        *((0, 1, 0, 0), (1, -1, 0, 0), (1, 0, 0.5, 0)),
        *((1, -1, 1, 0), (0, 1, 1, 0), (0, 0, 0.5, 0)),
    ],
    NodeKind.BREAK_GLASS: [
        *((0, 0, 0, 0), (1, 0, 0, 0), (1, -0.7, 0.5, 0)),
        *((1, 0, 1, 0), (0, 0, 1, 0), (0, 0.7, 0.5, 0)),
    ],
    NodeKind.REPORT: [  # with a corner that is folded
        *((0, 0, 0, 0), (1, -1, 0, 0), (1, 0, 0, 1), (1, -1, 0, 1)),
        *((1, -1, 0, 0), (1, 0, 0, 1), (1, 0, 1, 0), (0, 0, 1, 0)),
    ],
    NodeKind.APPROVAL: [
        *((0, 1, 0, 0), (1, -1, 0, 0), (1, 0, 0, 1), (1, 0, 1, -1)),
        *((1, -1, 1, 0), (0, 1, 1, 0), (0, 0, 1, -1), (0, 0, 0, 1)),
    ],
}
"""Corners of shapes: shares of width and height, each with how many cuts are added to it."""
_RECORDS = frozenset(
    {
        NodeKind.APPROVAL,
        NodeKind.BREAK_GLASS,
        NodeKind.DENIAL,
        NodeKind.ENDPOINT,
        NodeKind.REPORT,
        NodeKind.REQUEST,
    }
)


def draw_trace(trace: Trace) -> str:
    """Return a trace as an SVG document.

    Args:
        trace: With at least one node.
    """
    sizes = {node.id: _size(node) for node in trace.nodes}
    layout = lay_out(trace, sizes, _APART, _PASSING)
    marked = {gap.node for gap in trace.gaps}
    body = [
        *(_edge(line) for line in layout.lines),
        *(
            _node(node, layout.centres[node.id], is_marked=node.id in marked)
            for node in trace.nodes
        ),
    ]
    notes, notes_height = _notes(trace, layout)
    width = layout.width + 2 * _MARGIN
    height = layout.height + 3 * _MARGIN + notes_height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" '
        'aria-labelledby="title description" font-family="Helvetica, Arial, sans-serif">\n'
        f'<title id="title">{_text(_title(trace))}</title>\n'
        f'<desc id="description">{_text(_description(trace))}</desc>\n'
        f'{_ARROW}\n<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>\n'
        f"{_group(_MARGIN, body)}{_group(layout.height + 2 * _MARGIN, notes)}</svg>\n"
    )


def short_name(node: Node) -> str:
    """Return what a node's name says beyond its kind and digest, without folders and DAG."""
    if node.kind is NodeKind.RUN:
        return node.name.partition(".")[2] or node.name
    if node.kind in _RECORDS:
        parts = node.name.split("/")[:-1]
        word = {NodeKind.BREAK_GLASS: "breakglass"}.get(node.kind, node.kind.value)
        place = len(parts) - parts[::-1].index(word) - 1 if word in parts else len(parts)
        return " ".join(["/".join(parts[:place]), *parts[place + 1 :]]) or node.name
    if node.kind is NodeKind.MODEL:
        return node.name
    return _SNAPSHOT.sub("", node.name).rpartition("/")[2] or node.name


def _group(top: float, parts: Iterable[str]) -> str:
    inner = "\n".join(parts)
    return f'<g transform="translate({_MARGIN:.0f} {top:.0f})">\n{inner}\n</g>\n'


def _size(node: Node) -> tuple[float, float]:
    return _PILL if node.kind is NodeKind.RUN else _BOX


def _node(node: Node, centre: Point, *, is_marked: bool) -> str:
    (width, height), (x, y) = _size(node), centre
    fill, stroke = _COLOURS[node.kind]
    outline = _outline(node.kind, x - width / 2, y - height / 2, width, height)
    mark = _mark(x + width / 2, y - height / 2) if is_marked else ""
    line = f'stroke="{stroke}" stroke-width="1.4"'
    if is_marked:
        line = f'stroke="{_GAP_COLOUR}" stroke-width="2" stroke-dasharray="5 3"'
    return (
        f"<g><title>{_text(_whole(node))}</title>"
        f'<path d="{outline}" fill="{fill}" {line}/>{_written(node, centre, stroke)}{mark}</g>'
    )


def _written(node: Node, centre: Point, colour: str) -> str:
    """Return what is written in a node: kind, name and digest, or name and state of a run."""
    state = (10, node.state, _GAP_COLOUR if node.state in _BAD_STATES else colour)
    name = (11 if node.kind is NodeKind.RUN else 12, short_name(node), colour)
    lines = [name, state]
    if node.kind is not NodeKind.RUN:
        kind = _WORDS.get(node.kind, node.kind.value).upper()
        above = (10, f"{kind} · {node.state}" if node.state else kind, state[2])
        lines = [above, name, (10, short_digest(node.digest).removeprefix("sha256:"), colour)]
    free = _size(node)[0] - 20
    first = centre[1] - (len(lines) - 1) * 8 + 4
    return "".join(
        f'<text x="{centre[0]:.1f}" y="{first + place * 16:.1f}" font-size="{size}" '
        f'text-anchor="middle" fill="{shade}"{_BOLD if size == name[0] else ""}>'
        f"{_text(_cut(words, int(free / size / _LETTER)))}</text>"
        for place, (size, words, shade) in enumerate(lines)
    )


def _mark(x: float, y: float) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{_GAP_COLOUR}"/><text x="{x:.1f}" '
        f'y="{y + 4:.1f}" font-size="12" font-weight="bold" text-anchor="middle" '
        'fill="#ffffff">!</text>'
    )


def _outline(kind: NodeKind, x: float, y: float, width: float, height: float) -> str:
    """Return the path of a kind's shape."""
    if kind is NodeKind.RUN:
        return _rounded(x, y, width, height, height / 2)
    if kind is NodeKind.ENDPOINT:
        inner = _rounded(x + 3, y + 3, width - 6, height - 6, min(9, height / 3 - 3))
        return f"{_rounded(x, y, width, height, min(12, height / 3))} {inner}"
    cut = min(12, height / 3)
    corners = (
        f"{x + right * width + inwards * cut:.1f} {y + down * height + under * cut:.1f}"
        for right, inwards, down, under in _CORNERS.get(kind, _CORNERS[NodeKind.DATA])
    )
    return f"M{'L'.join(corners)}Z"


def _rounded(x: float, y: float, width: float, height: float, radius: float) -> str:
    turn = f"a{radius:.1f} {radius:.1f} 0 0 1"
    across, down = width - 2 * radius, height - 2 * radius
    return (
        f"M{x + radius:.1f} {y:.1f}h{across:.1f}{turn} {radius:.1f} {radius:.1f}v{down:.1f}"
        f"{turn} {-radius:.1f} {radius:.1f}h{-across:.1f}{turn} {-radius:.1f} {-radius:.1f}"
        f"v{-down:.1f}{turn} {radius:.1f} {-radius:.1f}Z"
    )


def _edge(points: Sequence[Point]) -> str:
    """Return an edge: straight where it passes a layer, bent between two."""
    (x, y), path = points[0], ""
    for n, (to_x, to_y) in enumerate(points[1:]):
        middle = (x + to_x) / 2
        bent = f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        path += bent if n % 2 == 0 else f"L{to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return (
        f'<path d="M{points[0][0]:.1f} {points[0][1]:.1f}{path}" fill="none" stroke="#8a8a8a" '
        'stroke-width="1.3" marker-end="url(#arrow)"/>'
    )


def _notes(trace: Trace, layout: Layout) -> tuple[list[str], float]:
    """Return what stands below the graph, and how high that is."""
    kinds = [kind for kind in NodeKind if any(node.kind is kind for node in trace.nodes)]
    columns = max(int(layout.width // _KEY_WIDTH), 1)
    found = [
        _key(kind, (place % columns) * _KEY_WIDTH, place // columns * _LINE * 1.5)
        for place, kind in enumerate(kinds)
    ]
    top = ((len(kinds) - 1) // columns + 1) * _LINE * 1.5 + _LINE
    gaps = [f"{gap.where}: {gap.problem}" for gap in trace.gaps[:_MOST_GAPS]]
    if len(trace.gaps) > _MOST_GAPS:
        gaps.append(f"and {len(trace.gaps) - _MOST_GAPS} more")
    letters = max(int(layout.width / 6.2), 40)
    lines = [(f"! {gap}", _GAP_COLOUR) for gap in gaps] or [("No gap was found.", "#1b6b2c")]
    found += [
        f'<text x="0" y="{top + n * _LINE:.1f}" font-size="12" fill="{colour}">'
        f"{_text(_cut(line, letters))}</text>"
        for n, (line, colour) in enumerate(lines)
    ]
    return found, top + len(lines) * _LINE


def _key(kind: NodeKind, x: float, y: float) -> str:
    fill, stroke = _COLOURS[kind]
    words = _WORDS.get(kind, kind.value)
    outline = _outline(kind, x, y - 14, 30, 18)
    return (
        f'<path d="{outline}" fill="{fill}" stroke="{stroke}"/><text x="{x + 37:.1f}" '
        f'y="{y:.1f}" font-size="12" fill="#222222">{_text(words)}</text>'
    )


def _title(trace: Trace) -> str:
    return f"What {_listed(short_name(node) for node in trace.ends)} rests on"


def _description(trace: Trace) -> str:
    steps = [
        f"{node.kind.value} {node.name} comes from "
        f"{_listed(f'{other.kind.value} {other.name}' for other in trace.upstream(node))}."
        for node in trace.nodes
        if trace.upstream(node)
    ]
    return " ".join([*steps, f"Gaps: {len(trace.gaps)}."])


def _whole(node: Node) -> str:
    at = to_text(node.at) if node.at else ""
    return "\n".join(filter(None, [f"{node.kind.value} {node.name}", node.digest, node.state, at]))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _text(text: str) -> str:
    """Return text as XML takes it."""
    return escape(_NOT_XML.sub("\ufffd", text))
