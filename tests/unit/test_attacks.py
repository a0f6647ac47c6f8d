"""Each way to cheat the ledger is played by a test that carries its number (tests/README.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LISTED = [
    int(number)
    for number in re.findall(
        r"^\| (\d+) \|", (TESTS / "README.md").read_text("utf-8"), re.MULTILINE
    )
]


def marked(source: str) -> Iterator[tuple[str, list[object]]]:
    """Yield each test function that carries the marker, and the marker's arguments.

    Read from the source, so that it does not matter which tests a run collects.
    """
    for node in ast.walk(ast.parse(source)):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.attack":
                yield node.name, [ast.literal_eval(argument) for argument in mark.args]


def numbers(*folders: str) -> set[object]:
    files = [file for folder in folders for file in (TESTS / folder).rglob("test_*.py")]
    found = [
        number for file in files for _, each in marked(file.read_text("utf-8")) for number in each
    ]
    return set(found)


def test_the_list_has_37_attacks():
    assert list(range(1, 38)) == LISTED


def test_every_attack_is_played_by_a_test_of_the_ordinary_run():
    assert sorted(set(LISTED) - numbers("unit", "integration")) == []


@pytest.mark.parametrize("folder", ["unit", "integration", "e2e", "long"])
def test_no_test_carries_a_number_that_is_none(folder):
    assert numbers(folder) <= set(LISTED)


def test_only_tests_carry_numbers_each_at_least_one():
    for file in TESTS.rglob("*.py"):
        text = file.read_text("utf-8")
        every = list(marked(text))
        assert all(name.startswith("test_") and given for name, given in every), file
        # Written in any other way, it would not be counted.
        used = [n for n in ast.walk(ast.parse(text)) if getattr(n, "attr", "") == "attack"]
        assert len(used) == len(every), file


def test_a_marker_is_read_from_the_source():
    source = (
        "@pytest.mark.attack(1, 2)\ndef test_x(): ...\n@other\n@pytest.mark.attack(3)\ndef f(): ..."
    )
    assert list(marked(source)) == [("test_x", [1, 2]), ("f", [3])]
