"""Each way to cheat the ledger, or round a gate, is tried by numbered tests (tests/README.md)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LEDGER, GATE = (TESTS / "README.md").read_text("utf-8").split("# Ways round a gate")
LISTED = [int(number) for number in re.findall(r"^\| (\d+) \|", LEDGER, re.MULTILINE)]
WAYS = {
    int(number): then
    for number, then in re.findall(r"^\| (\d+) \|.*\| (.*) \|$", GATE, re.MULTILINE)
}
MARKERS = {"attack": set(LISTED), "bypass": set(WAYS), "stock": set(WAYS)}


def marked(source: str, marker: str) -> Iterator[tuple[str, list[object]]]:
    """Yield each test function that carries the marker, and the marker's arguments.

    Read from the source, so that it does not matter which tests a run collects.
    """
    for node in ast.walk(ast.parse(source)):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{marker}":
                yield node.name, [ast.literal_eval(argument) for argument in mark.args]


def numbers(marker: str, *folders: str) -> set[object]:
    files = [file for folder in folders for file in (TESTS / folder).rglob("test_*.py")]
    return {
        number
        for file in files
        for _, each in marked(file.read_text("utf-8"), marker)
        for number in each
    }


def test_the_lists_have_37_attacks_and_19_ways():
    assert list(range(1, 38)) == LISTED
    assert list(range(1, 20)) == list(WAYS)


def test_every_attack_is_played_by_a_test_of_the_ordinary_run():
    assert sorted(set(LISTED) - numbers("attack", "unit", "integration")) == []


def test_every_way_round_a_gate_is_tried_live_and_on_airflow_alone():
    assert sorted(set(WAYS) - numbers("bypass", "e2e")) == []
    through = {number for number, then in WAYS.items() if then == "lets it through"}
    assert numbers("stock", "e2e") == through


@pytest.mark.parametrize("folder", ["unit", "integration", "e2e", "long"])
@pytest.mark.parametrize("marker", MARKERS)
def test_no_test_carries_a_number_that_is_none(folder, marker):
    assert numbers(marker, folder) <= MARKERS[marker]


@pytest.mark.parametrize("marker", MARKERS)
def test_only_tests_carry_numbers_each_at_least_one(marker):
    for file in TESTS.rglob("*.py"):
        text = file.read_text("utf-8")
        every = list(marked(text, marker))
        assert all(name.startswith("test_") and given for name, given in every), file
        # Written in any other way, it would not be counted.
        name = f"pytest.mark.{marker}"
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)]
        assert sum(ast.unparse(node) == name for node in nodes) == len(every), file


def test_a_marker_is_read_from_the_source():
    source = (
        "@pytest.mark.attack(1, 2)\ndef test_x(): ...\n@other\n@pytest.mark.attack(3)\ndef f(): ..."
    )
    assert list(marked(source, "attack")) == [("test_x", [1, 2]), ("f", [3])]
    assert list(marked(source, "bypass")) == []
