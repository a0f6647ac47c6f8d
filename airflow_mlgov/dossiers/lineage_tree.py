"""A trace as a tree in text: the decision first, and under each line what it rests on."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.trace import Node, Trace

_ABOVE = "shown above"


def write_tree(trace: Trace) -> str:
    """Return a trace as lines; what several things rest on is followed once."""
    seen: set[str] = set()
    return "\n".join(line for end in trace.ends for line in _lines(trace, end, seen, ("", "")))


def short_digest(digest: str) -> str:
    """Return a digest as people read it; what is none stays as it is."""
    is_digest = digest.startswith("sha256:") and len(digest) == len("sha256:") + 64
    return f"sha256:{Digest.parse(digest).short}" if is_digest else digest


def _lines(trace: Trace, node: Node, seen: set[str], prefixes: tuple[str, str]) -> Iterator[str]:
    """Yield a node and what is under it.

    Args:
        trace: What it is in.
        node: Which.
        seen: Ids of the nodes that were followed.
        prefixes: What stands before its own line, and before those under it.
    """
    own, under = prefixes
    upstream = trace.upstream(node)
    is_above = node.id in seen and bool(upstream)
    yield f"{own}{_said(node)}{f'  ({_ABOVE})' if is_above else ''}"
    if is_above:
        return
    seen.add(node.id)
    for place, other in enumerate(upstream, 1):
        is_last = place == len(upstream)
        branch = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield from _lines(trace, other, seen, (under + branch[0], under + branch[1]))


def _said(node: Node) -> str:
    parts = (short_digest(node.digest), node.state, to_text(node.at) if node.at else "")
    return "  ".join([f"{node.kind.value} {node.name}", *filter(None, parts)])
