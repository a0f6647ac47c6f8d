"""Sizes that keep the package readable: a file of 400 lines, a function of 40."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "airflow_mlgov"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 40


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, the docstring aside."""
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        count -= text.end_lineno - text.lineno + 1
    return count


def test_lines_are_counted_without_the_docstring():
    (one,) = functions(
        ast.parse('@x\ndef f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    return a')
    )
    (two,) = functions(ast.parse("async def g():\n    return 1"))
    assert (lines_of(one), lines_of(two)) == (4, 2)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_and_no_function_is_too_long(file):
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_FILE
    long = {f.name: lines_of(f) for f in functions(ast.parse(text)) if lines_of(f) > MAX_FUNCTION}
    assert long == {}


def test_the_package_is_where_it_is_looked_for():
    assert len(FILES) > 50
