"""The mutants of a module: its source with one small change each, by the standard library's `ast`.

What a mutant changes is behaviour: annotations, decorators, docstrings and words for people stay as
they are. Words are those of an error, and every text in which two plain words follow each other: a
test of them would only say them again, and no name, field or format that is read back looks so.
What is put into such a text is changed.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

COMPARED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMED = {
    "all": "any",
    "any": "all",
    "bisect_left": "bisect_right",
    "endswith": "startswith",
    "max": "min",
    "min": "max",
    "partition": "rpartition",
    "rpartition": "partition",
    "startswith": "endswith",
}
DROPPED = {"reversed", "sorted"}
LEFT_ALONE = {"annotation", "returns", "decorator_list"}
WORDS = re.compile("[a-z]{2}[,;:.]? [a-z]{2}")
TRUE, FALSE = ast.Constant(True), ast.Constant(False)


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        where: The function or class that it is in; empty for the module's own lines.
        was: The changed lines before, as `ast.unparse` writes them.
        now: The same lines after; ``#2`` stands behind the second change that reads the same.
        source: The whole module with the change.
    """

    where: str
    was: str
    now: str
    source: str

    @property
    def change(self) -> tuple[str, str, str]:
        """What tells it from the module's other mutants."""
        return self.where, self.was, self.now


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield the mutants of a module's source, in its order."""
    tree = ast.parse(source)
    before = ast.unparse(tree)
    seen: Counter[tuple[str, str, str]] = Counter()
    for where, holder, key, changed in _changes(tree, ""):
        kept = _get(holder, key)
        _set(holder, key, changed)
        after = ast.unparse(ast.fix_missing_locations(tree))
        _set(holder, key, kept)
        was, now = _changed_lines(before, after)
        seen[where, was, now] += 1
        number = seen[where, was, now]
        yield Mutant(where, was, now if number == 1 else f"{now} #{number}", after)


def _changed_lines(before: str, after: str) -> tuple[str, str]:
    old, new = before.split("\n"), after.split("\n")
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return "\n".join(old).strip(), "\n".join(new).strip()


def _get(holder: Any, key: Any) -> Any:
    return holder[key] if isinstance(holder, list) else getattr(holder, key)


def _set(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, list):
        holder[key] = value
    else:
        setattr(holder, key, value)


def _changes(node: ast.AST, where: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield where a change is, what holds the changed node under which key, and its new node."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        where = f"{where}.{node.name}".lstrip(".")
    for name, value in ast.iter_fields(node):
        if name in LEFT_ALONE:
            continue
        held = list(enumerate(value)) if isinstance(value, list) else [(name, value)]
        for key, child in held:
            if not isinstance(child, ast.AST) or _is_left_alone(child, node):
                continue
            of_check = isinstance(node, ast.If) and isinstance(child, ast.Raise)
            for changed in [] if of_check else _changed(child):  # `if False` is the same
                yield where, value if isinstance(value, list) else node, key, changed
            if not _is_error(child):
                yield from _changes(child, where)


def _is_left_alone(node: ast.AST, parent: ast.AST) -> bool:
    """Whether a node is a docstring, an import, for the type checker only, or words for people."""
    if isinstance(node, ast.If):
        return _name(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.AnnAssign) and _name(node.annotation) == "TypeAlias":
        return True
    documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return documents or isinstance(node, ast.Import | ast.ImportFrom) or _is_said(node, parent)


def _is_said(node: ast.AST, parent: ast.AST) -> bool:
    """Whether a node is a text of words, or the fixed part of one."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return False
    parts = parent.values if isinstance(parent, ast.JoinedStr) else [node]
    text = "".join(str(p.value) if isinstance(p, ast.Constant) else "0" for p in parts)
    return WORDS.search(text) is not None


def _is_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _name(node.func).endswith("Error")


def _name(node: ast.AST) -> str:
    return getattr(node, "id", None) or getattr(node, "attr", "")


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what may stand in a node's place."""
    for kind, changes in CHANGES.items():
        if isinstance(node, kind):
            yield from changes(node)


def _with(node: Any, **values: Any) -> Any:
    changed = copy.copy(node)
    for name, value in values.items():
        setattr(changed, name, value)
    return changed


def _of_compare(node: ast.Compare) -> Iterator[ast.AST]:
    for index, compared in enumerate(node.ops):
        other = [*node.ops]
        other[index] = COMPARED[type(compared)]()
        yield _with(node, ops=other)


def _of_operation(node: ast.BinOp | ast.AugAssign) -> Iterator[ast.AST]:
    yield _with(node, op=COMPUTED[type(node.op)]())


def _of_bool(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    for value in node.values:
        left = [other for other in node.values if other is not value]
        yield left[0] if len(left) == 1 else _with(node, values=left)


def _of_constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, str | bytes):
        yield ast.Constant(value + (b"X" if isinstance(value, bytes) else "X"))


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    name = _name(node.func)
    if name in NAMED:
        field = "id" if isinstance(node.func, ast.Name) else "attr"
        yield _with(node, func=_with(node.func, **{field: NAMED[name]}))
    if name in DROPPED:
        yield node.args[0]
    if not _is_error(node):
        for keyword in node.keywords:
            yield _with(node, keywords=[other for other in node.keywords if other is not keyword])


def _of_choice(node: ast.IfExp) -> Iterator[ast.AST]:
    yield from (node.body, node.orelse)


def _of_if(node: ast.If) -> Iterator[ast.AST]:
    yield _with(node, test=FALSE)
    if not isinstance(node.body[0], ast.Raise):
        yield _with(node, test=TRUE)


def _of_slice(node: ast.Slice) -> Iterator[ast.AST]:
    if node.lower:
        yield _with(node, lower=None)
    if node.upper:
        yield _with(node, upper=None)


def _of_elements(node: ast.Set | ast.List) -> Iterator[ast.AST]:
    for element in node.elts:
        left = [other for other in node.elts if other is not element]
        if left or isinstance(node, ast.List):
            yield _with(node, elts=left)


def _of_except(node: ast.ExceptHandler) -> Iterator[ast.AST]:
    if isinstance(node.type, ast.Tuple):
        for caught in node.type.elts:
            left = [other for other in node.type.elts if other is not caught]
            yield _with(node, type=ast.Tuple(left, ast.Load()))


def _of_return(node: ast.Return) -> Iterator[ast.AST]:
    if node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield ast.Return(ast.Constant(None))


def _of_unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


def _of_filter(node: ast.comprehension) -> Iterator[ast.AST]:
    if node.ifs:
        yield _with(node, ifs=[])


CHANGES: dict[type[ast.AST], Any] = {
    ast.Compare: _of_compare,
    ast.BinOp: _of_operation,
    ast.AugAssign: _of_operation,
    ast.BoolOp: _of_bool,
    ast.UnaryOp: _of_unary,
    ast.Constant: _of_constant,
    ast.Call: _of_call,
    ast.IfExp: _of_choice,
    ast.If: _of_if,
    ast.While: lambda node: iter([_with(node, test=FALSE)]),
    ast.Slice: _of_slice,
    ast.Set: _of_elements,
    ast.List: _of_elements,
    ast.ExceptHandler: _of_except,
    ast.comprehension: _of_filter,
    ast.Return: _of_return,
    ast.Raise: lambda _: iter([ast.Pass()]),
    ast.Expr: lambda _: iter([ast.Pass()]),
    ast.Break: lambda _: iter([ast.Continue()]),
    ast.Continue: lambda _: iter([ast.Break()]),
}
