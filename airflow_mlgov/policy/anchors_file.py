"""Anchors from a YAML file: where checkpoints are handed to, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import (
    ANCHORS_SCHEMA,
    Document,
    inspect_yaml,
    parse_yaml,
)
from airflow_mlgov.policy.files import read_bytes

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NEEDED = {
    "directory": ("path",),
    "timestamp": ("url", "certificates"),
    "witness": ("url", "key"),
}


@dataclass(frozen=True, slots=True)
class AnchorTerms:
    """What a file says of one anchor.

    Attributes:
        name: For messages, metrics and what is kept.
        kind: ``directory``, ``timestamp`` or ``witness``.
        every: How long after a success the next checkpoint is handed over.
        path: Folder of a directory; empty for others.
        url: Address of an authority or witness; empty for others.
        key: A witness's public key, unread; empty for others.
        certificates: PEM file of an authority; empty for others.
        file: Where it stands, for errors.
        line: Line of its key, or of its first.
    """

    name: str
    kind: str
    every: timedelta
    path: str
    url: str
    key: str
    certificates: str
    file: str
    line: int


def read_anchors(file: str | Path) -> list[AnchorTerms]:
    """Return the anchors that a file names, in its order.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    document = parse_yaml(read_bytes(file), str(file))
    problems = inspect_yaml(document, ANCHORS_SCHEMA) or list(_problems(document))
    if problems:
        raise problems[0]
    return [_terms(document, index) for index in range(len(document.value["anchors"]))]


def _problems(document: Document) -> Iterator[DocumentError]:
    names: list[str] = []
    for index, said in enumerate(document.value["anchors"]):
        place, kind = ("anchors", index), said["kind"]
        if said["name"] in names:
            problem, remedy = f"{said['name']!r} stands here twice.", "Give each its own name."
            yield document.error(problem, *place, "name", remedy=remedy)
        names.append(said["name"])
        needed = _NEEDED[kind]
        for key in ("path", "url", "key", "certificates"):
            if key in needed and key not in said:
                problem, remedy = f"{kind} needs {key!r}.", f"A {kind} has {' and '.join(needed)}."
                yield document.error(problem, *place, "kind", remedy=remedy)
            elif key in said and key not in needed:
                problem, remedy = f"{kind} has no {key!r}.", f"A {kind} has {' and '.join(needed)}."
                yield document.error(problem, *place, key, remedy=remedy)


def _terms(document: Document, index: int) -> AnchorTerms:
    said: dict[str, Any] = document.value["anchors"][index]
    every = timedelta(seconds=int(said["every"][:-1]) * _UNITS[said["every"][-1]])
    given = {key: said.get(key, "") for key in ("path", "url", "key", "certificates")}
    line = document.line_of(("anchors", index, "key"))
    return AnchorTerms(said["name"], said["kind"], every, **given, file=document.file, line=line)
