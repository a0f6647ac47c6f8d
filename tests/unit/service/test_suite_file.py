from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from airflow_mlgov.errors import DocumentError
from airflow_mlgov.service.suite_file import read_suite

ROOT = Path(__file__).parents[3]
GOOD = """\
name: clients
expectations:
  - type: expect_column_values_to_not_be_null
    kwargs: {column: ID}
  - type: expect_column_mean_to_be_between
    kwargs: {column: X, min_value: 1e-3, max_value: 0.5}
    severity: warning
"""


def _written(tmp_path: Path, text: str, name: str = "suite.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_suite_is_its_expectations_and_the_digest_of_its_bytes(tmp_path: Path) -> None:
    suite = read_suite(_written(tmp_path, GOOD))

    assert suite.name == "clients"
    assert suite.sha256.hex == hashlib.sha256(GOOD.encode()).hexdigest()
    first, second = suite.expectations
    assert (first.type, first.kwargs) == ("expect_column_values_to_not_be_null", {"column": "ID"})
    assert (first.severity, first.line) == ("critical", 3)
    assert second.kwargs == {"column": "X", "min_value": 0.001, "max_value": 0.5}
    assert (second.severity, second.line) == ("warning", 5)


def test_json_as_great_expectations_writes_it_is_read(tmp_path: Path) -> None:
    exported = {
        "name": "clients",
        "id": None,
        "expectations": [
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "X", "max_value": 1e5},
                "id": "0b1a", "meta": {}, "notes": None, "rendered_content": None,
                "severity": "info",
            }
        ],
        "meta": {"great_expectations_version": "1.24.1"},
        "notes": None,
    }  # fmt: skip
    text = json.dumps(exported, indent="\t")

    suite = read_suite(_written(tmp_path, text, "suite.json"))

    assert suite.expectations[0].kwargs == {"column": "X", "max_value": 100000}
    assert suite.expectations[0].line == 5
    assert suite.sha256.hex == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "line", "path", "problem"),
    [
        ("", 0, "", "empty"),
        ("- a", 1, "", "mapping"),
        ("name: x", 1, "expectations", "missing"),
        ("name: x\nexpectations: []", 2, "expectations", "at least 1"),
        ("name: x\nexpectations:\n  - kwargs: {}", 3, "expectations.0.type", "missing"),
        ("name: x\nexpectations:\n  - type: expect_x", 3, "expectations.0.kwargs", "missing"),
        (GOOD + "    kwarg: {}\n", 8, "expectations.1.kwarg", "not known"),
        (GOOD.replace("warning", "bad"), 7, "expectations.1.severity", "not one of"),
        (GOOD.replace("1e-3", ".nan"), 6, "", "finite"),
        (GOOD.replace("1e-3", "{$PARAMETER: low}"), 6, "expectations.1.kwargs", r"\$PARAMETER"),
        (GOOD.replace("0.5", "[{a: {$PARAMETER: b}}]"), 6, "expectations.1.kwargs", "PARAMETER"),
        (GOOD + "name: y\n", 8, "", "'name' stands here"),
        ("name: x\n  expectations: []", 2, "", "YAML"),
    ],
)
def test_a_malformed_suite_says_where_and_what_to_do(
    tmp_path: Path, text: str, line: int, path: str, problem: str
) -> None:
    file = _written(tmp_path, text)

    with pytest.raises(DocumentError, match=problem) as caught:
        read_suite(file)

    assert (caught.value.file, caught.value.line, caught.value.path) == (file, line, path)
    assert caught.value.remedy


def test_a_missing_suite_and_another_kind_of_file_are_document_errors(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="No such file"):
        read_suite(str(tmp_path / "none.yaml"))
    with pytest.raises(DocumentError, match="JSON or YAML"):
        read_suite(_written(tmp_path, GOOD, "suite.toml"))


def test_the_examples_suite_is_well_formed() -> None:
    suite = read_suite(str(ROOT / "dags" / "retail_pd_model" / "data_suite.yaml"))
    assert suite.name == "retail_pd_data"
    assert len(suite.expectations) > 50
