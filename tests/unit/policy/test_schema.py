from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from airflow_mlgov.policy.schema import explain, suggestion, validator_of

FOLDER = Path(__file__).parents[3] / "airflow_mlgov" / "policy" / "schemas"
OURS = ["inventory-1", "policy-pack-1"]


def load(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))


def parts(schema: object) -> Iterator[dict]:
    """Yield every sub-schema."""
    if not isinstance(schema, dict):
        return
    yield schema
    for key in ("properties", "$defs"):
        for part in schema.get(key, {}).values():
            yield from parts(part)
    for key in ("items", "additionalProperties", "propertyNames"):
        yield from parts(schema.get(key))


@pytest.mark.parametrize("name", OURS)
def test_each_schema_is_a_schema_with_its_own_name(name: str) -> None:
    schema = load(name)
    Draft202012Validator.check_schema(schema)
    format_name, _, version = name.rpartition("-")
    assert schema["$id"] == f"urn:airflow-mlgov:schema:{format_name}:{version}"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["version"]["const"] == int(version)


@pytest.mark.parametrize("name", OURS)
def test_every_property_is_described_and_nothing_else_may_stand(name: str) -> None:
    for part in parts(load(name)):
        for key, described in part.get("properties", {}).items():
            assert described.get("description", "").endswith("."), key
        if "properties" in part:
            assert part["additionalProperties"] is False
            assert set(part["required"]) <= set(part["properties"])


@pytest.mark.parametrize("name", OURS)
def test_no_pattern_lets_a_line_break_through(name: str) -> None:
    for part in parts(load(name)):
        pattern = part.get("pattern")
        if pattern and pattern != "\\S":
            assert pattern.endswith("$(?!\\n)"), pattern


def explained(value: object, **schema: object) -> list[tuple[str, str, str]]:
    found = explain(value, validator_of({"description": "D.", **schema}))
    return [(".".join(map(str, d.path)), d.problem, d.remedy) for d in found]


def test_a_misspelt_key_is_told_once() -> None:
    schema = {
        "properties": {"owner": {"description": "Who answers."}, "id": {"description": "Its id."}},
        "required": ["owner", "id"],
        "additionalProperties": False,
    }
    assert explained({"ownr": 1, "id": 2}, **schema) == [
        ("ownr", "the key 'ownr' is not known.", "Did you mean 'owner'?")
    ]
    assert sorted(explained({"zzz": 1, "id": 2}, **schema)) == [
        ("owner", "the key is missing.", "Add 'owner': Who answers."),
        ("zzz", "the key 'zzz' is not known.", "Known keys here: id, owner."),
    ]


@pytest.mark.parametrize(
    ("value", "schema", "problem", "remedy"),
    [
        ("yes", {"type": "boolean"}, "'yes' is text.", "Write true or false."),
        (
            17,
            {"type": "string"},
            "17 is a whole number, and text is needed.",
            "Put it in quotation marks.",
        ),
        (
            True,
            {"type": "string"},
            "true is true or false, and text is needed.",
            "Put it in quotation marks.",
        ),
        (
            1.0,
            {"type": "integer"},
            "1.0 is a number, and a whole number is needed.",
            "Write a whole number.",
        ),
        (
            True,
            {"type": "integer"},
            "true is true or false, and a whole number is needed.",
            "Write a whole number.",
        ),
        (
            None,
            {"type": "array"},
            "nothing is nothing, and a list (`- item` lines) is needed.",
            "Write a list (`- item` lines).",
        ),
        (
            [1],
            {"type": "object"},
            "it is a list (`- item` lines), and a mapping (`key: value` lines) is needed.",
            "Write a mapping (`key: value` lines).",
        ),
        (
            {},
            {"type": ["string", "null"]},
            "it is a mapping (`key: value` lines), and text or nothing is needed.",
            "Write text or nothing.",
        ),
        (
            "enforced",
            {"enum": ["warn", "enforce"]},
            "'enforced' is not one of the values known here.",
            "Did you mean 'enforce'? Write one of: warn, enforce.",
        ),
        (
            2,
            {"const": 1},
            "version 2 of this format is not known to this release.",
            "Write `version: 1`, or install the release that the file was written for.",
        ),
        ("A b", {"pattern": "^[a-z]+$"}, "'A b' cannot stand here.", "D."),
        ("  ", {"pattern": "\\S"}, "the text is empty.", "D."),
        (
            "2026-02-30",
            {"format": "date"},
            "'2026-02-30' is not a date.",
            "Write year-month-day, such as 2026-05-04.",
        ),
        ([], {"minItems": 1}, "at least 1 must be listed.", "D."),
        ({}, {"minProperties": 1}, "at least 1 must be listed.", "D."),
        ("", {"minLength": 1}, "'' is too short.", "D."),
        (0, {"minimum": 1}, "0 is less than 1.", "Write a number from 1 on."),
        ([1, 2], {"maxItems": 1}, "2 are listed, and at most 1 may be.", "List fewer."),
        ("abc", {"maxLength": 2}, "the text has 3 characters, and at most 2 fit.", "Shorten it."),
        (6, {"maximum": 5}, "6 is more than 5.", "Write a number up to 5."),
        (["a", "b", "a"], {"uniqueItems": True}, "'a' is listed twice.", "List it once."),
        (3, {"multipleOf": 2}, "3 does not keep to multipleOf 2.", "D."),
    ],
)
def test_each_keyword_in_plain_words(
    value: object, schema: dict, problem: str, remedy: str
) -> None:
    assert explained(value, **schema) == [("", problem, remedy)]


def test_a_wrong_name_in_a_map_is_placed_at_its_key() -> None:
    names = {"pattern": "^[a-z]+$", "description": "A name."}
    assert explained({"A": 1}, propertyNames=names) == [("A", "'A' cannot stand here.", "A name.")]


def test_long_values_are_cut_and_control_characters_escaped() -> None:
    ((_, problem, _),) = explained("x" * 500 + "\n", enum=["a"])
    assert len(problem) < 120
    ((_, problem, _),) = explained("a\nb", enum=["zz"])
    assert "\n" not in problem


def test_suggestion() -> None:
    assert suggestion("calibration.brir", ["calibration.brier", "x"]) == "calibration.brier"
    assert suggestion("qqq", ["calibration.brier"]) == ""
