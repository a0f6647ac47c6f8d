"""Expectation suites: what data must look like, as a file that is reviewed like code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.policy.documents import Document, check_yaml, parse_yaml
from airflow_mlgov.policy.files import read_bytes
from airflow_mlgov.records.digest import Digest

SUITE_SCHEMA = "gx-suite-1"
_ENDINGS = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that data must hold to.

    Attributes:
        type: Its name in Great Expectations (``expect_column_values_to_not_be_null``).
        kwargs: Its arguments.
        severity: ``critical``, ``warning`` or ``info``; a label, as every failure fails the task.
        line: Where it stands in the file, counted from 1.
    """

    type: str
    kwargs: dict[str, Any]
    severity: str
    line: int


@dataclass(frozen=True, slots=True)
class Suite:
    """An expectation suite.

    Attributes:
        name: For evidence and logs.
        sha256: Digest of the file's bytes.
        file: The file as the user named it.
        expectations: In the order of the file; at least one.
    """

    name: str
    sha256: Digest
    file: str
    expectations: tuple[Expectation, ...]

    def as_json(self) -> dict[str, str]:
        """Return which suite it is as JSON values."""
        return {"name": self.name, "sha256": str(self.sha256), "file": self.file}

    def error(self, index: int, problem: str, *path: str, remedy: str) -> DocumentError:
        """Return an error about one expectation of this suite."""
        return DocumentError(
            problem,
            file=self.file,
            line=self.expectations[index].line,
            path=".".join(("expectations", str(index), *path)),
            remedy=remedy,
        )


def read_suite(file: str) -> Suite:
    """Read an expectation suite.

    Args:
        file: Path of a JSON or YAML file: ``name``, and ``expectations`` with ``type``, ``kwargs``
            and, if wanted, ``severity`` each.

    Raises:
        DocumentError: Missing or malformed, with line, path and remedy; a retry does not help.
    """
    if Path(file).suffix not in _ENDINGS:
        raise DocumentError(
            "an expectation suite is a JSON or YAML file.",
            file=file,
            remedy=f"Name a file that ends in {', '.join(_ENDINGS)}.",
        )
    source = read_bytes(file)
    # Valid JSON is YAML but for tabs, which it may hold between its parts only.
    text = source.replace(b"\t", b" ") if file.endswith(".json") else source
    document = check_yaml(parse_yaml(text, file), SUITE_SCHEMA)
    expectations = tuple(_expectations(document))
    return Suite(document.value["name"], Digest.of(source), file, expectations)


def _expectations(document: Document) -> Iterator[Expectation]:
    for index, item in enumerate(document.value["expectations"]):
        place = ("expectations", index)
        if _has_parameter(item["kwargs"]):
            raise document.error(
                "'$PARAMETER' is not filled in.",
                *place,
                "kwargs",
                remedy="Write the value itself: what data was held against must be on record.",
            )
        severity = item.get("severity", "critical")
        yield Expectation(item["type"], item["kwargs"], severity, document.line_of(place))


def _has_parameter(value: Any) -> bool:
    if isinstance(value, dict):
        return "$PARAMETER" in value or any(map(_has_parameter, value.values()))
    return isinstance(value, list) and any(map(_has_parameter, value))
