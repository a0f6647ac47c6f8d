from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlgov.lineage import facets
from airflow_mlgov.lineage.emission import PRODUCER
from airflow_mlgov.lineage.facet_schemas import PUBLISHED
from airflow_mlgov.lineage.facets import Check
from airflow_mlgov.lineage.names import DatasetName
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Outcome, TestResult


def result(outcome: Outcome, statistic: float | None = 0.78123456, segment: str = "") -> TestResult:
    return TestResult(
        "discrimination.auc", "AUC", statistic, outcome, "fail below 0.65", {}, "x", {}, segment
    )


@pytest.mark.parametrize(
    ("outcome", "status", "severity"),
    [
        (Outcome.PASS, "pass", "error"),
        (Outcome.WARN, "fail", "warn"),
        (Outcome.FAIL, "fail", "error"),
    ],
)
def test_a_warning_is_a_failed_test_that_blocks_nothing(
    outcome: Outcome, status: str, severity: str
) -> None:
    stated = facets.tests([Check.of(result(outcome))])["tests"][0]
    assert (stated["status"], stated["severity"], stated["actual"]) == (
        status,
        severity,
        "0.781235",
    )


def test_a_statistic_that_could_not_be_computed_is_not_stated() -> None:
    assert Check.of(result(Outcome.FAIL, None)).actual == ""
    assert "actual" not in json.dumps(facets.tests([Check("x", passed=True)])).replace(
        '"actual": ""', ""
    )


def test_segments_tell_results_of_one_test_apart() -> None:
    assert Check.of(result(Outcome.PASS, segment="sex=2")).name == "discrimination.auc[sex=2]"


def test_failures_are_listed_before_the_limit_cuts() -> None:
    many = [Check(f"c{number}", passed=True) for number in range(200)]
    listed = facets.assertions([*many, Check("bad", passed=False)])["assertions"]
    assert len(listed) == facets.MAX_ITEMS
    assert listed[0]["assertion"] == "bad"


def test_a_column_is_told_to_be_where_a_field_comes_from_if_it_has_its_name() -> None:
    a, b = DatasetName("file", "/a.csv@1"), DatasetName("file", "/b.csv@2")
    fields = [("AGE", "long"), ("LIMIT", "double"), ("age", "long")]
    stated = facets.column_lineage(fields, [(a, ["AGE", "ID"]), (b, ["AGE", "LIMIT"])])
    read = {
        name: [(field["name"], field["field"]) for field in one["inputFields"]]
        for name, one in stated["fields"].items()
    }
    assert read == {
        "AGE": [("/a.csv@1", "AGE"), ("/b.csv@2", "AGE")],
        "LIMIT": [("/b.csv@2", "LIMIT")],
    }
    assert facets.column_lineage(fields, [(a, []), (b, ["ID"])]) == {}


def test_a_field_is_told_with_all_its_columns_or_not_at_all() -> None:
    inputs = [(DatasetName("file", f"/{n}.csv@1"), ["a", "b", "c"]) for n in range(15)]
    stated = facets.column_lineage([("a", ""), ("b", ""), ("c", "")], inputs)
    assert {name: len(one["inputFields"]) for name, one in stated["fields"].items()} == {
        "a": 15,
        "b": 15,
    }


def test_a_digest_of_json_is_of_one_form() -> None:
    assert facets.digest_of({"b": [1], "a": "é"}) == Digest.of(b'{"a":"\\u00e9","b":[1]}')


def test_a_full_facet_stays_small() -> None:
    long = "x" * 10_000
    checks = [
        Check(f"c{n}", passed=False, title=long, expected=long, actual=long) for n in range(500)
    ]
    both = [
        facets.tests(checks),
        facets.assertions(checks),
        facets.execution_parameters({long[:50]: long}),
    ]
    assert sum(len(json.dumps(facet).encode()) for facet in both) < 40_000
    assert len(facets.documentation(long)["description"]) == facets.MAX_DOCUMENTATION


@pytest.mark.parametrize("key", sorted([*facets.CLASSES, *PUBLISHED]))
def test_every_facet_matches_its_published_schema(
    key: str, schemas: Any, recorded: list[dict[str, Any]], checks: Any
) -> None:
    seen = [
        facet
        for event in recorded
        for found, facet in checks.facets_of(event)
        if found == key and facet["_producer"] == PRODUCER
    ]
    assert seen, f"no step of a whole run states {key!r}"
    for facet in seen:
        assert schemas.errors(facet, facet["_schemaURL"]) == []
        where = "urn:airflow-mlgov:" if key in PUBLISHED else "https://openlineage.io/"
        assert facet["_schemaURL"].startswith(f"{where}spec")


def test_the_schema_check_can_fail(schemas: Any) -> None:
    url = "https://openlineage.io/spec/facets/1-0-1/TestRunFacet.json#/$defs/TestRunFacet"
    good = {"_producer": PRODUCER, "_schemaURL": url, **facets.tests([Check("x", passed=True)])}
    assert schemas.errors(good, url) == []
    assert schemas.errors({**good, "tests": [{"name": "x"}]}, url)
    assert schemas.errors({**good, "_producer": "not a uri"}, url)


def test_a_code_location_names_the_digest() -> None:
    location = facets.source_code_location("/dags/my train.py", Digest.of(b"code"))
    assert location["url"] == "file:///dags/my%20train.py"
    assert location["version"] == str(Digest.of(b"code"))
