"""What `make mutate` changes, and that its list of changes without effect is up to date."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "mutation"
EQUAL = tomllib.loads((FOLDER / "equal.toml").read_text())

SOURCE = '''
"""Says what it is."""

def first(items: list[int] = None, *, most: int = 9) -> int:
    """Say it."""
    if not items or len(items) > most:
        raise ValueError(f"Not {1 + 1} items.")
    return items[0]
'''


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


MUTANTS = load("mutants")


def test_behaviour_is_changed_and_words_are_not() -> None:
    made = list(MUTANTS.mutants_of(SOURCE))
    assert {mutant.where for mutant in made} == {"first"}
    assert [mutant.now for mutant in made] == [
        "def first(items: list[int]=None, *, most: int=10) -> int:",
        "if False:",
        "if not items and len(items) > most:",
        "if len(items) > most:",
        "if not items:",
        "if items or len(items) > most:",
        "if not items or len(items) >= most:",
        "return None",
        "return items[1]",
    ]
    for mutant in made:
        assert mutant.now in mutant.source


def test_changes_that_read_the_same_are_told_apart() -> None:
    made = [(m.was, m.now) for m in MUTANTS.mutants_of("def f(a):\n    a = 1\n    a = 1")]
    assert made == [("a = 1", "a = 2"), ("a = 1", "a = 2 #2")]


@pytest.mark.parametrize("name", EQUAL)
def test_a_change_that_is_listed_as_without_effect_exists_and_has_a_reason(name: str) -> None:
    (module,) = (m for m in load("run").MODULES if m.partition("/")[2] == name)
    source = (ROOT / "airflow_mlgov" / f"{module}.py").read_text("utf-8")
    made = {mutant.change for mutant in MUTANTS.mutants_of(source)}
    for listed in EQUAL[name]:
        assert (listed["where"], listed["was"], listed["now"]) in made
        assert listed["why"].endswith(".")
