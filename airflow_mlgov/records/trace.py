"""A trace: what a decision rests on, as a graph, and where those who tell of it disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_mlgov.records.clock import to_text


class NodeKind(StrEnum):
    """What a node is."""

    SOURCE = "source"
    """Data that no run of ours wrote: where the graph begins."""
    DATA = "data"
    MODEL = "model"
    REPORT = "report"
    REQUEST = "request"
    APPROVAL = "approval"
    DENIAL = "denial"
    BREAK_GLASS = "break_glass"
    ENDPOINT = "endpoint"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Node:
    """A run, or one immutable thing that runs read and write.

    Attributes:
        id: ``run:<id>`` or ``dataset:<namespace>:<name>``.
        kind: What it is.
        name: The run's job, or the dataset's name.
        digest: ``sha256:...`` of what it is, as its writer states it; empty if nobody does.
        state: How a run ended (``COMPLETE``, ``FAIL``, ``ABORT``) or ``RUNNING``; where a request
            stands by the votes in the ledger; else empty.
        at: When the run ended, or began if it has not; when the dataset was written.
    """

    id: str
    kind: NodeKind
    name: str
    digest: str = ""
    state: str = ""
    at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the node as JSON values, without what is not known."""
        known = {"digest": self.digest, "state": self.state, "at": self.at and to_text(self.at)}
        return {
            "id": self.id,
            "kind": self.kind.value,
            "name": self.name,
            **{key: value for key, value in known.items() if value},
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that is missing, or told differently elsewhere.

    Attributes:
        where: Who lacks it or tells it differently: ``outbox``, ``ledger`` or ``marquez``.
        problem: What, in one sentence.
        node: Id of the node that it is about; empty if of none.
        field: Which field of it (``state``, ``inputs``, ``mlgov_approval.decision``); empty if the
            whole.
    """

    where: str
    problem: str
    node: str = ""
    field: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the gap as JSON values, without what is empty."""
        values = {
            "where": self.where,
            "node": self.node,
            "field": self.field,
            "problem": self.problem,
        }
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered a request, as the ledger discloses it now.

    Attributes:
        record: Name of the record that came of it.
        seat: Which seat was filled.
        who: Name; ``(erased)`` if nobody can tell any more.
        assurance: Who vouches for it.
        at: When.
    """

    record: str
    seat: str
    who: str
    assurance: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Trace:
    """What was found from some nodes backwards.

    Attributes:
        nodes: Each once; those nearest to where it began come first.
        edges: From what was read or done to what was done with it or came of it, as ids of nodes.
        gaps: Where ledger, outbox and Marquez disagree, or could not be asked.
        answers: Who filled the seats of the approvals in it.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    gaps: tuple[Gap, ...] = ()
    answers: tuple[Answer, ...] = ()
    _upstream: dict[str, list[Node]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id = {node.id: node for node in self.nodes}
        upstream = defaultdict(list)
        for origin, end in self.edges:
            upstream[end].append(by_id[origin])
        object.__setattr__(self, "_upstream", upstream)

    def upstream(self, node: Node) -> list[Node]:
        """Return what leads to a node directly."""
        return self._upstream.get(node.id, [])

    @property
    def ends(self) -> list[Node]:
        """The nodes that lead nowhere further; the first of all if every one is in a circle."""
        origins = {origin for origin, _ in self.edges}
        return [node for node in self.nodes if node.id not in origins] or list(self.nodes[:1])

    def as_json(self) -> dict[str, Any]:
        """Return the trace as JSON values, in which no person is named."""
        return {
            "nodes": [node.as_json() for node in self.nodes],
            "edges": [{"from": origin, "to": end} for origin, end in self.edges],
            "gaps": [gap.as_json() for gap in self.gaps],
        }


def run_node_id(run_id: str) -> str:
    """Return the id of a run's node."""
    return f"run:{run_id}"


def dataset_node_id(namespace: str, name: str) -> str:
    """Return the id of a dataset's node, as Marquez writes it."""
    return f"dataset:{namespace}:{name}"


def in_order(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Return gaps without doubles, in the order in which they were found."""
    return tuple(dict.fromkeys(gaps))
