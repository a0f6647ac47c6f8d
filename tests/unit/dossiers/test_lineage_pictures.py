"""A trace as a tree and as a picture: all is there, nothing overlaps, nothing is executed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

import pytest

from airflow_mlgov.dossiers.lineage_layout import lay_out
from airflow_mlgov.dossiers.lineage_svg import draw_trace, short_name
from airflow_mlgov.dossiers.lineage_tree import write_tree
from airflow_mlgov.records.trace import Gap, Node, NodeKind, Trace

AT = datetime(2026, 6, 1, 9, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"
SHORT = "0123456789ab"


def node(name: str, kind: NodeKind = NodeKind.DATA, **more: object) -> Node:
    return Node(f"{kind.value}:{name}", kind, name, **more)  # type: ignore[arg-type]


def graph(*paths: str, **kinds: NodeKind) -> Trace:
    """Make a trace of paths like ``a b c``: from what comes first to what comes of it."""
    names = dict.fromkeys(name for path in paths for name in reversed(path.split()))
    nodes = {name: node(name, kinds.get(name, NodeKind.DATA)) for name in names}
    edges = dict.fromkeys(
        (nodes[one].id, nodes[other].id)
        for path in paths
        for one, other in zip(path.split(), path.split()[1:], strict=False)
    )
    return Trace(tuple(nodes.values()), tuple(edges))


CHAIN = graph(
    "raw prepare data train model score scores",
    "data validate report request_run request decide approval score",
    "model validate",
    "model request_run",
    "approval promote endpoint score",
    "model promote",
    "features score",
    raw=NodeKind.SOURCE,
    prepare=NodeKind.RUN,
    train=NodeKind.RUN,
    score=NodeKind.RUN,
    validate=NodeKind.RUN,
    request_run=NodeKind.RUN,
    decide=NodeKind.RUN,
    promote=NodeKind.RUN,
    model=NodeKind.MODEL,
    report=NodeKind.REPORT,
    request=NodeKind.REQUEST,
    approval=NodeKind.APPROVAL,
    endpoint=NodeKind.ENDPOINT,
)
WIDE = graph(*(f"in{n} run{n} mid out{n % 3}" for n in range(7)), "in1 out1", "in3 mid")
CIRCLE = graph("a b c a", "c d", "e e")


def test_a_tree_shows_each_thing_and_follows_it_once():
    tree = write_tree(graph("raw prepare data", "raw prepare more data end", "data end"))
    assert tree.splitlines() == [
        "data end",
        "└─ data data",
        "   ├─ data prepare",
        "   │  └─ data raw",
        "   └─ data more",
        "      └─ data prepare  (shown above)",
    ]


def test_a_line_of_a_tree_says_what_is_known():
    shown = Node(
        "r", NodeKind.APPROVAL, "retail_pd/1/approval/x", "sha256:" + "ab" * 32, "consumed", AT
    )
    assert write_tree(Trace((shown,), ())) == (
        "approval retail_pd/1/approval/x  sha256:abababababab  consumed  2026-06-01T09:00:00.000Z"
    )
    odd = Node("r", NodeKind.DATA, "x", digest="v7")
    assert write_tree(Trace((odd,), ())) == "data x  v7"


def test_trees_of_circles_end():
    assert write_tree(graph("a b a")).splitlines() == [
        "data a",
        "└─ data b",
        "   └─ data a  (shown above)",
    ]


@pytest.mark.parametrize("trace", [CHAIN, WIDE, CIRCLE], ids=["chain", "wide", "circle"])
def test_no_node_touches_another_and_all_are_within(trace):
    sizes = {each.id: (60.0, 20.0) for each in trace.nodes}
    layout = lay_out(trace, sizes, (30.0, 8.0), 6.0)
    for one, other in combinations(layout.centres.values(), 2):
        assert abs(one[0] - other[0]) >= 60 or abs(one[1] - other[1]) >= 20 + 7.99
    for x, y in layout.centres.values():
        assert 30 <= x <= layout.width - 30
        assert 10 - 0.01 <= y <= layout.height - 10 + 0.01


@pytest.mark.parametrize("trace", [CHAIN, WIDE], ids=["chain", "wide"])
def test_what_comes_first_stands_left_and_lines_pass_no_node(trace):
    sizes = {each.id: (60.0, 20.0) for each in trace.nodes}
    layout = lay_out(trace, sizes, (30.0, 8.0), 6.0)
    assert len(layout.lines) == len(trace.edges)
    for (origin, end), line in zip(trace.edges, layout.lines, strict=True):
        left, right = layout.centres[origin], layout.centres[end]
        assert left[0] < right[0]
        assert line[0] == (left[0] + 30, left[1])
        assert line[-1] == (right[0] - 30, right[1])
        assert [x for x, _ in line] == sorted(x for x, _ in line)
        for (x, y), (to_x, to_y) in zip(line[1:-1:2], line[2:-1:2], strict=True):
            assert y == to_y
            for middle in layout.centres.values():
                is_level = x <= middle[0] <= to_x
                assert not is_level or abs(middle[1] - y) > 10


def test_the_same_trace_gives_the_same_picture():
    assert draw_trace(CHAIN) == draw_trace(graph_again())


def graph_again() -> Trace:
    return Trace(CHAIN.nodes, CHAIN.edges)


def test_a_picture_is_whole_and_loads_nothing():
    root = ET.fromstring(draw_trace(CHAIN))
    assert root.tag == f"{SVG}svg"
    tags = {each.tag.removeprefix(SVG) for each in root.iter()}
    assert tags <= {"svg", "title", "desc", "defs", "marker", "path", "rect", "g", "text", "circle"}
    assert not re.search(r"href|url\((?!#)|<script|style=|\son\w+=", draw_trace(CHAIN))
    named = [each.text for each in root.iter(f"{SVG}title")]
    assert named[0] == "What scores rests on"
    assert sorted(named[1:]) == sorted(f"{each.kind.value} {each.name}" for each in CHAIN.nodes)
    assert "run train comes from data data." in root.findtext(f"{SVG}desc")
    ids = {each.get("id") for each in root.iter() if each.get("id")}
    assert root.get("role") == "img"
    assert set(root.get("aria-labelledby").split()) <= ids


def test_each_kind_is_told_by_its_colour_and_by_its_shape_alone():
    shapes, colours = {}, {}
    for kind in NodeKind:
        root = ET.fromstring(draw_trace(Trace((node("x", kind),), ())))
        (drawn,) = (g for g in root.iter(f"{SVG}g") if g.find(f"{SVG}title") is not None)
        shapes[kind], colours[kind] = (drawn.find(f"{SVG}path").get(key) for key in ("d", "fill"))
    assert len(set(shapes.values())) == len(NodeKind)
    assert colours.pop(NodeKind.BREAK_GLASS) == colours[NodeKind.DENIAL]  # both are alarms
    assert len(set(colours.values())) == len(colours)


def test_names_of_others_are_escaped_and_cannot_break_the_file():
    evil = "</text><script>alert(1)</script>\"'&\x00\x1b\ud800\uffff"
    marked = node(evil, NodeKind.MODEL, digest=evil, state=evil)
    trace = Trace((marked,), (), (Gap("marquez", evil, marked.id),))
    drawn = draw_trace(trace)
    root = ET.fromstring(drawn.encode("utf-8"))
    assert not list(root.iter(f"{SVG}script"))
    assert "<script" not in drawn
    assert any("<script>" in (each.text or "") for each in root.iter(f"{SVG}title"))


def test_what_has_a_gap_is_marked_and_the_gap_is_written():
    decide = next(each for each in CHAIN.nodes if each.name == "decide")
    gaps = [Gap("marquez", f"problem {n}", decide.id) for n in range(14)]
    root = ET.fromstring(draw_trace(replace(CHAIN, gaps=tuple(gaps))))
    marked = [group for group in root.iter(f"{SVG}g") if group.find(f"{SVG}circle") is not None]
    assert [group.findtext(f"{SVG}title") for group in marked] == ["run decide"]
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "! marquez: problem 0" in texts
    assert "! and 2 more" in texts
    assert "No gap was found." in [e.text for e in ET.fromstring(draw_trace(CHAIN)).iter()]


@pytest.mark.parametrize(
    ("shown", "short"),
    [
        (node("retail_pd.gate.decide", NodeKind.RUN), "gate.decide"),
        (node("alone", NodeKind.RUN), "alone"),
        (node(f"/data/in/scores.csv@{SHORT}"), "scores.csv"),
        (node("credit.public.features"), "credit.public.features"),
        (node("/"), "/"),
        (node("retail_pd/7", NodeKind.MODEL), "retail_pd/7"),
        (node(f"retail_pd/7/approval/{SHORT}", NodeKind.APPROVAL), "retail_pd/7"),
        (node(f"a/report/7/report/{SHORT}", NodeKind.REPORT), "a/report/7"),
        (node(f"retail_pd/7/breakglass/{SHORT}", NodeKind.BREAK_GLASS), "retail_pd/7"),
        (
            node(f"retail_pd/7/endpoint/production/{SHORT}", NodeKind.ENDPOINT),
            "retail_pd/7 production",
        ),
        (node("odd", NodeKind.REQUEST), "odd"),
    ],
)
def test_short_names_say_what_differs(shown, short):
    assert short_name(shown) == short
