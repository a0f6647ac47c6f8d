"""What stands under which key of a ledger entry's body: one shape a key, in every kind.

Whoever holds the writer key could otherwise put a number where a digest belongs, and break
everybody who reads it. A key that is not listed may hold anything that can be signed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from airflow_mlgov.records.clock import from_text, to_text
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.governance import Choice, EraseReason, Severity
from airflow_mlgov.records.kinds import KeyRole

_MILLENNIUM = re.compile(r"2[0-9]{3}-.*Z")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value must be.

    Attributes:
        name: In words, to be put after "is not".
        fits: Whether a value is that; never raises, whatever the value.
    """

    name: str
    fits: Callable[[Any], bool]


def shape_of(key: str) -> Shape | None:
    """Return the shape of what stands under a key of a body; None if anything may."""
    return DIGEST if key.endswith("_sha256") else SHAPES.get(key)


def misfit(body: Mapping[str, Any]) -> str:
    """Return what has the wrong shape in a body, as a sentence; empty if nothing has."""
    for key, value in body.items():
        shape = shape_of(key)
        if shape is not None and not shape.fits(value):
            return f"body.{key} is not {shape.name}."
    return ""


def _pattern(name: str, pattern: str) -> Shape:
    compiled = re.compile(pattern)
    return Shape(name, lambda value: isinstance(value, str) and bool(compiled.fullmatch(value)))


def _one_of(*choices: str) -> Shape:
    return Shape(
        f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices
    )


def _integer(name: str, at_least: int | None = None, at_most: int | None = None) -> Shape:
    def fits(value: Any) -> bool:
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return (at_least is None or value >= at_least) and (at_most is None or value <= at_most)

    return Shape(name, fits)


def _list_of(item: Shape, items: str) -> Shape:
    # A writer may hold a tuple: it is signed as a list, and read as one.
    return Shape(
        f"a list of {items}",
        lambda value: isinstance(value, (list, tuple)) and all(map(item.fits, value)),
    )


def _object(**fields: Shape) -> Shape:
    def fits(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and fields.keys() <= value.keys()
            and all(shape.fits(value[name]) for name, shape in fields.items())
        )

    named = ", ".join(f"{name} ({shape.name})" for name, shape in fields.items())
    return Shape(f"an object with {named}" if named else "an object", fits)


def _is_moment(value: Any) -> bool:
    # Four-digit years that both ends of every time zone can hold.
    if not isinstance(value, str) or not _MILLENNIUM.fullmatch(value):
        return False
    try:
        return to_text(from_text(value)) == value
    except ValueError:
        return False


def _are_conditions(value: Any) -> bool:
    try:
        return bool(Conditions.from_json(value))
    except ValueError:
        return False


def _pair_of(first: Shape, second: Shape) -> Shape:
    return Shape(
        "a pair",
        lambda value: (
            isinstance(value, (list, tuple))
            and len(value) == 2
            and first.fits(value[0])
            and second.fits(value[1])
        ),
    )


TEXT = Shape("a text", lambda value: isinstance(value, str))
DIGEST = _pattern("sha256:<64 hexadecimal characters>", "sha256:[0-9a-f]{64}")
MOMENT = Shape("a time in UTC with milliseconds, of the years 2000 to 2999", _is_moment)
OBJECT = _object()
_COUNT = _integer("a whole number, 0 or more", 0)
_COUNTS = "rows columns vote_index size count rotations quorum place"
_TEXTS = _list_of(TEXT, "texts")
_PLAIN_TEXTS = (
    "target alias registry registry_version registered_name name version variant task state check "
    "reason dataset test segment uri namespace plan pack kind origin seat vkey loaded_by "
    "operator file bundle bundle_version airflow instead_of job platform to_platform native_id"
)

SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        **dict.fromkeys(_PLAIN_TEXTS.split(), TEXT),
        **dict.fromkeys(("sha256", "key", "vote", "stop", "breakglass"), DIGEST),
        **dict.fromkeys(("due_at", "answered_at", "since", "until", "confirm_by"), MOMENT),
        **dict.fromkeys(_COUNTS.split(), _COUNT),
        "interval_s": _integer("a whole number of seconds from 1 to 31,536,000", 1, 31_536_000),
        **dict.fromkeys(("reasons", "differs", "unchecked", "roles"), _TEXTS),
        **dict.fromkeys(("request", "statement"), OBJECT),
        "choice": _one_of(*Choice),
        "role": _one_of(*KeyRole),
        "severity": _one_of(*Severity),
        "finding": _pattern("F- and 8 hexadecimal characters", "F-[0-9a-f]{8}"),
        **dict.fromkeys(
            ("passed", "refused"), Shape("true or false", lambda value: isinstance(value, bool))
        ),
        "use": _object(dag_id=TEXT, run_id=TEXT, task_id=TEXT, map_index=_integer("an integer")),
        "inputs": _list_of(
            _object(name=TEXT, uri=TEXT, sha256=DIGEST), "objects with name, uri and sha256"
        ),
        "data": _list_of(_object(name=TEXT, uri=TEXT), "objects with name and uri"),
        "scores": _list_of(
            _object(data=TEXT, sha256=DIGEST, rows=_COUNT), "objects with data, sha256 and rows"
        ),
        "controls": _list_of(
            _object(**dict.fromkeys(["rule", "subject", "field", "verdict", "found"], TEXT)),
            "objects with rule, subject, field, verdict and found",
        ),
        "evidence": _list_of(_pair_of(TEXT, DIGEST), "pairs of a kind and a digest"),
        "hold": _pattern("H- and 8 hexadecimal characters", "H-[0-9a-f]{8}"),
        "because": _one_of(*EraseReason),
        "fields": _list_of(
            _pair_of(_COUNT, _pattern("a field", r"(people|texts)\..+")),
            "pairs of an entry's index and a field of it, people.<name> or texts.<name>",
        ),
        "counts": Shape(
            "an object of whole numbers, 0 or more",
            lambda value: isinstance(value, dict) and all(map(_COUNT.fits, value.values())),
        ),
        "conditions": Shape("what an approval can be bound to", _are_conditions),
        "mode": _one_of("observe", "warn", "enforce"),
        "results": _object(**dict.fromkeys(("pass", "warn", "fail"), _COUNT)),
    }
)
"""Shapes by key; a key that ends in ``_sha256`` holds a digest without standing here."""
