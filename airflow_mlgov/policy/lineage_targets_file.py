"""Targets of lineage events from a YAML file: where they are sent to; no secret stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import (
    LINEAGE_TARGETS_SCHEMA,
    Document,
    inspect_yaml,
    parse_yaml,
)
from airflow_mlgov.policy.files import read_bytes

_KEYS = ("url", "token_env", "transport")
_NEEDED = {"marquez": "url", "folder": "url", "openlineage": "transport"}
_OPTIONAL = {"marquez": ("token_env",), "folder": (), "openlineage": ()}
_HTTP = re.compile(r"https?://[^@]+")
_FOLDER = re.compile(r"file:///.+|(?!file:)[a-z][a-z0-9+.-]*://.+")
_SECRET = re.compile(r"(api_?key|token|password|passphrase|secret|authorization)$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s]*:[^/\s]*@")


@dataclass(frozen=True, slots=True)
class LineageTargetTerms:
    """What a file says of one target.

    Attributes:
        name: For messages, metrics and what was delivered.
        kind: ``marquez``, ``folder`` or ``openlineage``.
        url: Address of a Marquez, folder or bucket; empty for others.
        token_env: Environment variable of a Marquez's token; empty for none.
        transport: Configuration of the OpenLineage client's transport; empty for others.
        file: Where it stands, for errors.
        line: Line of its name.
    """

    name: str
    kind: str
    url: str
    token_env: str
    transport: dict[str, Any]
    file: str
    line: int


def read_lineage_targets(file: str | Path) -> list[LineageTargetTerms]:
    """Return the targets that a file names, in its order.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    document = parse_yaml(read_bytes(file), str(file))
    problems = inspect_yaml(document, LINEAGE_TARGETS_SCHEMA) or list(_problems(document))
    if problems:
        raise min(problems, key=lambda problem: problem.line)
    return [_terms(document, index) for index in range(len(document.value["targets"]))]


def _problems(document: Document) -> Iterator[DocumentError]:
    names: list[str] = []
    for index, said in enumerate(document.value["targets"]):
        place = ("targets", index)
        if said["name"] in names:
            problem, remedy = f"{said['name']!r} stands here twice.", "Give each its own name."
            yield document.error(problem, *place, "name", remedy=remedy)
        names.append(said["name"])
        yield from _problems_of_kind(document, said, place)
        yield from _problems_of_url(document, said, place)
        if "transport" in said:
            yield from _secrets(document, said["transport"], (*place, "transport"))


def _problems_of_kind(
    document: Document, said: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[DocumentError]:
    kind = said["kind"]
    needed, optional = _NEEDED[kind], _OPTIONAL[kind]
    remedy = (
        f"A target of kind {kind} has {needed}{', and may have token_env' if optional else ''}."
    )
    for key in _KEYS:
        if key == needed and key not in said:
            yield document.error(f"{kind} needs {key!r}.", *place, "kind", remedy=remedy)
        elif key in said and key != needed and key not in optional:
            yield document.error(f"{kind} has no {key!r}.", *place, key, remedy=remedy)


def _problems_of_url(
    document: Document, said: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[DocumentError]:
    url, kind = said.get("url", ""), said["kind"]
    if url and kind == "marquez" and not _HTTP.fullmatch(url):
        remedy = "Write http://host:port or https://host; the token's variable is token_env."
        yield document.error("it is no address of a Marquez.", *place, "url", remedy=remedy)
    if url and kind == "folder" and not _FOLDER.fullmatch(url):
        remedy = "Write file:///absolute/folder, or scheme://connection@bucket/prefix."
        yield document.error("it is no folder or bucket.", *place, "url", remedy=remedy)


def _secrets(
    document: Document, value: Any, place: tuple[str | int, ...]
) -> Iterator[DocumentError]:
    if isinstance(value, dict):
        for key, inner in value.items():
            is_secret = bool(_SECRET.search(key)) and isinstance(inner, str)
            if is_secret or (isinstance(inner, str) and _LOGIN.search(inner)):
                yield document.error(
                    "a secret stands in the file.",
                    *place,
                    key,
                    remedy=f"Write {key}: {{env: NAME}}, and set that environment variable.",
                )
            yield from _secrets(document, inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secrets(document, inner, (*place, index))


def _terms(document: Document, index: int) -> LineageTargetTerms:
    said: dict[str, Any] = document.value["targets"][index]
    return LineageTargetTerms(
        said["name"],
        said["kind"],
        said.get("url", ""),
        said.get("token_env", ""),
        said.get("transport", {}),
        file=document.file,
        line=document.line_of(("targets", index, "name")),
    )
