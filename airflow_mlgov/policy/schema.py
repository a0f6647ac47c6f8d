"""What a JSON Schema finds wrong with a document, in plain words with a remedy.

Source:
    JSON Schema draft 2020-12, https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

if TYPE_CHECKING:
    from jsonschema import ValidationError

    from airflow_mlgov.policy.yaml_nodes import Plain

_TYPES = {
    "object": "a mapping (`key: value` lines)",
    "array": "a list (`- item` lines)",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_YAML_1_1_BOOLEANS = frozenset({"yes", "no", "on", "off", "y", "n"})
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Departure:
    """One thing in which a document departs from what it may say.

    Attributes:
        path: Keys and indices down to the place.
        problem: What is wrong.
        remedy: What to write instead.
    """

    path: tuple[str | int, ...]
    problem: str
    remedy: str


def validator_of(schema: dict[str, Any]) -> Draft202012Validator:
    """Return what holds documents against a schema; making one costs more than using it once."""
    return _validator()(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def explain(value: Plain, validator: Draft202012Validator) -> list[Departure]:
    """Return every departure of a value from a validator's schema, each once."""
    broken = map(_Broken.of, validator.iter_errors(value))
    found = [departure for each in broken for departure in _departures(each)]
    misspelt = {(d.path[:-1], _meant(d)) for d in found}
    return [d for d in dict.fromkeys(found) if not _is_missing_because_misspelt(d, misspelt)]


@cache
def _validator() -> type[Draft202012Validator]:
    """Return draft 2020-12 with 1.0 no whole number: Python would not count people with it."""
    strict = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    made = extend(Draft202012Validator, type_checker=strict)  # type: ignore[no-untyped-call]
    return cast("type[Draft202012Validator]", made)


def shown(value: Plain) -> str:
    """Return a value as it may stand in an error: short, on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, str) else str(value)
    short = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return repr(short) if isinstance(value, str) else short


def suggestion(word: str, known: list[str]) -> str:
    """Return the known word that was probably meant; empty if none is near."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), "")


@dataclass(frozen=True, slots=True)
class _Broken:
    """A keyword of the schema that a value breaks."""

    keyword: str
    wanted: Any
    value: Any
    schema: dict[str, Any]
    path: tuple[str | int, ...]

    @classmethod
    def of(cls, error: ValidationError) -> _Broken:
        path = tuple(error.absolute_path)
        if "propertyNames" in error.absolute_schema_path:
            path = (*path, str(error.instance))
        schema = cast("dict[str, Any]", error.schema)  # true and false state nothing to break
        return cls(str(error.validator), error.validator_value, error.instance, schema, path)

    @property
    def described(self) -> str:
        return str(self.schema["description"])


def _departures(broken: _Broken) -> Iterator[Departure]:
    if broken.keyword == "additionalProperties":
        yield from _unknown_keys(broken)
    elif broken.keyword == "required":
        yield from _missing_keys(broken)
    else:
        problem, remedy = _EXPLAIN.get(broken.keyword, _unlike)(broken)
        yield Departure(broken.path, problem, remedy)


def _unknown_keys(broken: _Broken) -> Iterator[Departure]:
    known = sorted(broken.schema["properties"])
    for key in broken.value:
        if key not in known:
            meant = suggestion(key, known)
            remedy = (
                f"Did you mean {meant!r}?" if meant else f"Known keys here: {', '.join(known)}."
            )
            yield Departure((*broken.path, key), f"the key {shown(key)} is not known.", remedy)


def _missing_keys(broken: _Broken) -> Iterator[Departure]:
    for key in broken.wanted:
        if key not in broken.value:
            described = broken.schema["properties"][key]["description"]
            yield Departure((*broken.path, key), "the key is missing.", f"Add {key!r}: {described}")


def _meant(departure: Departure) -> str:
    return departure.remedy.removeprefix("Did you mean '").removesuffix("'?")


def _is_missing_because_misspelt(
    departure: Departure, misspelt: set[tuple[tuple[str | int, ...], str]]
) -> bool:
    is_missing = departure.problem == "the key is missing."
    return is_missing and (departure.path[:-1], str(departure.path[-1])) in misspelt


def _wrong_type(broken: _Broken) -> tuple[str, str]:
    types = broken.wanted if isinstance(broken.wanted, list) else [broken.wanted]
    wanted = " or ".join(_TYPES[name] for name in types)
    if broken.wanted == "boolean" and str(broken.value).lower() in _YAML_1_1_BOOLEANS:
        return f"{shown(broken.value)} is text.", "Write true or false."
    if broken.wanted == "string" and isinstance(broken.value, bool | int | float):
        problem = f"{shown(broken.value)} is {_type_name(broken.value)}, and text is needed."
        return problem, "Put it in quotation marks."
    found = shown(broken.value) if not isinstance(broken.value, dict | list) else "it"
    return f"{found} is {_type_name(broken.value)}, and {wanted} is needed.", f"Write {wanted}."


def _type_name(value: Plain) -> str:
    for kind, name in (
        (bool, "boolean"),
        (str, "string"),
        (int, "integer"),
        (float, "number"),
        (dict, "object"),
    ):
        if isinstance(value, kind):
            return _TYPES[name]
    return _TYPES["null" if value is None else "array"]


def _not_one_of(broken: _Broken) -> tuple[str, str]:
    allowed = [str(choice) for choice in broken.wanted]
    meant = suggestion(str(broken.value), allowed)
    listed = f"Write one of: {', '.join(allowed)}."
    return (
        f"{shown(broken.value)} is not one of the values known here.",
        f"Did you mean {meant!r}? {listed}" if meant else listed,
    )


def _other_version(broken: _Broken) -> tuple[str, str]:
    known = broken.wanted
    return (
        f"version {shown(broken.value)} of this format is not known to this release.",
        f"Write `version: {known}`, or install the release that the file was written for.",
    )


def _wrong_shape(broken: _Broken) -> tuple[str, str]:
    if broken.schema.get("format") == "date":
        return _wrong_date(broken)
    if not str(broken.value).strip():
        return "the text is empty.", broken.described
    return f"{shown(broken.value)} cannot stand here.", broken.described


def _wrong_date(broken: _Broken) -> tuple[str, str]:
    return f"{shown(broken.value)} is not a date.", "Write year-month-day, such as 2026-05-04."


def _too_few(broken: _Broken) -> tuple[str, str]:
    least = broken.wanted
    if broken.keyword in {"minItems", "minProperties"}:
        return f"at least {least} must be listed.", broken.described
    if broken.keyword == "minLength":
        return f"{shown(broken.value)} is too short.", broken.described
    return f"{shown(broken.value)} is less than {least}.", f"Write a number from {least} on."


def _too_much(broken: _Broken) -> tuple[str, str]:
    most = broken.wanted
    if broken.keyword in {"maxItems", "maxProperties"}:
        return f"{len(broken.value)} are listed, and at most {most} may be.", "List fewer."
    if broken.keyword == "maxLength":
        problem = f"the text has {len(broken.value)} characters, and at most {most} fit."
        return problem, "Shorten it."
    return f"{shown(broken.value)} is more than {most}.", f"Write a number up to {most}."


def _twice(broken: _Broken) -> tuple[str, str]:
    items = [str(item) for item in broken.value]
    twice = sorted({item for item in items if items.count(item) > 1})
    return f"{', '.join(map(shown, twice))} is listed twice.", "List it once."


def _unlike(broken: _Broken) -> tuple[str, str]:
    problem = f"{shown(broken.value)} does not keep to {broken.keyword} {shown(broken.wanted)}."
    return problem, str(broken.schema.get("description", "See the schema of this file."))


_EXPLAIN: dict[str, Callable[[_Broken], tuple[str, str]]] = {
    "type": _wrong_type,
    "enum": _not_one_of,
    "const": _other_version,
    "pattern": _wrong_shape,
    "format": _wrong_date,
    "minItems": _too_few,
    "minProperties": _too_few,
    "minLength": _too_few,
    "minimum": _too_few,
    "maxItems": _too_much,
    "maxProperties": _too_much,
    "maxLength": _too_much,
    "maximum": _too_much,
    "uniqueItems": _twice,
}
