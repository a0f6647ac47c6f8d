"""The reference pages say about each key what the schema says, and nothing less."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlgov.policy.documents import schema
from airflow_mlgov.policy.plan_tests import KNOWN_TESTS

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
TYPES = {
    "object": "mapping",
    "array": "list",
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
}


def key_table(name: str) -> str:
    """Return a Markdown table of every key of a schema."""
    whole = schema(name)
    lines = ["| key | value | needed | what it says |", "|---|---|---|---|"]
    lines += [
        f"| `{path}` | {value} | {needed} | {said} |"
        for path, value, needed, said in _keys(whole, whole, "")
    ]
    return "\n".join(lines)


def _keys(whole: dict, part: dict, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for key, stated in part.get("properties", {}).items():
        full = _resolved(whole, stated)
        needed = "yes" if key in part.get("required", ()) else "no"
        yield f"{prefix}{key}", _value(full), needed, full["description"]
        yield from _inside(whole, full, f"{prefix}{key}")


def _inside(whole: dict, full: dict, path: str) -> Iterator[tuple[str, str, str, str]]:
    yield from _keys(whole, full, f"{path}.")
    if "items" in full:
        yield from _inside(whole, _resolved(whole, full["items"]), f"{path}[]")
    if isinstance(full.get("additionalProperties"), dict):
        yield from _inside(whole, _resolved(whole, full["additionalProperties"]), f"{path}.*")


def _resolved(whole: dict, stated: dict) -> dict:
    if "$ref" not in stated:
        return stated
    return {**whole["$defs"][stated["$ref"].rpartition("/")[2]], **stated}


def _value(full: dict) -> str:
    if "const" in full:
        return f"`{full['const']}`"
    if "enum" in full:
        return ", ".join(f"`{choice}`" for choice in full["enum"])
    return "date" if full.get("format") == "date" else TYPES[full["type"]]


def plan_table() -> str:
    """Return a Markdown table of what a plan may say about each test."""
    lines = ["| test | thresholds | options |", "|---|---|---|"]
    for name, terms in KNOWN_TESTS.items():
        bounds = ", ".join(f"`{word}`" for word in sorted(terms.thresholds))
        options = ", ".join(
            f"`{word}` (needed)" if word in terms.required else f"`{word}`"
            for word in sorted(terms.options)
        )
        lines.append(f"| `{name}` | {bounds} | {options or '-'} |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("inventory-file.md", "inventory-1"),
        ("policy-pack.md", "policy-pack-1"),
        ("anchors-file.md", "anchors-1"),
        ("lineage-targets-file.md", "lineage-targets-1"),
        ("platforms.md", "platforms-1"),
    ],
)
def test_the_page_has_the_table_of_keys(page: str, name: str) -> None:
    assert key_table(name) in (REFERENCE / page).read_text("utf-8")


def test_the_page_has_the_table_of_tests() -> None:
    assert plan_table() in (REFERENCE / "policy-pack.md").read_text("utf-8")
