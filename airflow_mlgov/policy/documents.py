"""Policy documents: YAML files held against the JSON Schemas that this package publishes.

`load_yaml` raises the first problem of a file; `inspect_yaml` lists them all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.files import read_bytes
from airflow_mlgov.policy.schema import Departure, explain, validator_of
from airflow_mlgov.policy.yaml_nodes import Node, compose

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

INVENTORY_SCHEMA = "inventory-1"
PACK_SCHEMA = "policy-pack-1"
ANCHORS_SCHEMA = "anchors-1"
LINEAGE_TARGETS_SCHEMA = "lineage-targets-1"
PLATFORMS_SCHEMA = "platforms-1"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where it says it.

    Attributes:
        file: The file as the user named it.
        source: Its bytes.
        root: Its values with their lines.
    """

    file: str
    source: bytes
    root: Node

    @property
    def value(self) -> dict[str, Any]:
        """The document as plain JSON values; a mapping once it was held against a schema."""
        return cast("dict[str, Any]", self.root.value)

    def line_of(self, path: Sequence[str | int]) -> int:
        """Return the line of a key or item, or of the deepest part of the path that stands here."""
        line, node = self.root.line, self.root
        for step in path:
            if step not in node.members:
                break
            line, node = node.members[step]
        return line

    def locate(self, found: Departure) -> DocumentError:
        """Return the error about what was found in this document."""
        return self.error(found.problem, *found.path, remedy=found.remedy)

    def error(self, problem: str, *path: str | int, remedy: str) -> DocumentError:
        """Return an error about a part of this document."""
        dotted = ".".join(str(step) for step in path)
        return DocumentError(
            problem, file=self.file, line=self.line_of(path), path=dotted, remedy=remedy
        )


@cache
def schema(name: str) -> dict[str, Any]:
    """Return a schema of this package by name (``inventory-1``, ``policy-pack-1`` ...)."""
    text = (files("airflow_mlgov.policy") / "schemas" / f"{name}.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@cache
def _validator(name: str) -> Draft202012Validator:
    return validator_of(schema(name))


def parse_yaml(source: bytes, file: str) -> Document:
    """Return a document that is YAML, whatever it says.

    Raises:
        DocumentError: Not one bounded YAML document in UTF-8; a retry does not help.
    """
    return Document(file, source, compose(source, file))


def inspect_yaml(document: Document, schema_name: str) -> list[DocumentError]:
    """Return everything in which a document departs from a schema, in the order of its lines."""
    found = explain(document.value, _validator(schema_name))
    problems = [document.locate(departure) for departure in found]
    return sorted(problems, key=lambda problem: problem.line)


def load_yaml(file: str | Path, schema_name: str) -> Document:
    """Read a YAML file and hold it against a schema of this package.

    Args:
        file: The file.
        schema_name: ``inventory-1`` or ``policy-pack-1``.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    return check_yaml(parse_yaml(read_bytes(file), str(file)), schema_name)


def check_yaml(document: Document, schema_name: str) -> Document:
    """Return the document if it keeps to a schema.

    Raises:
        DocumentError: The first thing that is wrong with it; a retry does not help.
    """
    problems = inspect_yaml(document, schema_name)
    if problems:
        raise problems[0]
    return document
