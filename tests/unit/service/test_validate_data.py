from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from airflow_mlgov.errors import ConfigurationError, DataError, EvidenceError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.fingerprint import Column, fingerprint_table
from airflow_mlgov.service.suite_file import Expectation, Suite
from airflow_mlgov.service.validate_data import (
    Checked,
    DataValidation,
    Observed,
    validate_data,
)

ROOT = Path(__file__).parents[3]
TASK = Source("retail_pd", "run-1", "check", -1, 1)
AGE_TO = {"column": "AGE"}
SUITE = Suite(
    "clients",
    Digest.of(b"suite"),
    "/rules/clients.yaml",
    (
        Expectation("expect_column_values_to_not_be_null", {"column": "AGE"}, "critical", 3),
        Expectation("expect_column_mean_to_be_between", AGE_TO | {"max_value": 40}, "info", 7),
        Expectation("expect_column_max_to_be_between", AGE_TO | {"max_value": 99}, "info", 9),
    ),
)  # fmt: skip
PASSED = (
    Observed(True, {"element_count": 12, "unexpected_count": 0, "partial_unexpected_list": []}),
    Observed(True, {"observed_value": 35.5}),
    Observed(True, {"observed_value": 79}),
)
FAILED = (
    Observed(False, {"element_count": 12, "unexpected_count": 3, "partial_unexpected_list": [47]}),
    *PASSED[1:],
)
COLUMNS = [Column("AGE", "int64")]


@dataclass(frozen=True)
class StatedData:
    """Data whose result is stated by the test; it proves nothing about an engine."""

    observed: tuple[Observed, ...]
    uri: str = "file:///data/clients.csv"
    name: str = "clients"

    def check(self, suite: Suite) -> Checked:
        fingerprint = fingerprint_table(COLUMNS, [[list(range(12))]])
        return Checked(fingerprint, self.observed, "an engine 1.0")


def _validate(world, observed=PASSED, **changes):
    data = StatedData(observed, **{k: changes.pop(k) for k in ("uri", "name") if k in changes})
    validation = DataValidation("retail_pd", "", SUITE, TASK)
    return validate_data(world.gov, replace(validation, **changes), data)


def _document(world, digest: Digest) -> dict:
    return json.loads(world.gov.evidence.get(digest))


def test_data_that_passes_is_on_record_under_a_signed_checkpoint(world) -> None:
    result = _validate(world)

    # Before anything is read, which would seal it too: genesis and the entry, signed.
    head = world.gov.ledger._store.head()
    assert head.size == 2
    assert head.note
    result.refuse_failed()
    (entry,) = world.kinds("data.validated")
    assert entry.model == "retail_pd"
    assert entry.version is None
    assert (entry.source, entry.body) == (
        TASK,
        {
            "dataset": "clients",
            "uri": "file:///data/clients.csv",
            "sha256": str(result.fingerprint.sha256),
            "rows": 12,
            "columns": 1,
            "passed": True,
            "evidence_sha256": str(result.evidence),
        },
    )
    assert result.as_json() == {
        "dataset": "clients",
        "uri": "file:///data/clients.csv",
        "sha256": str(result.fingerprint.sha256),
        "rows": 12,
        "columns": 1,
        "passed": True,
        "evidence": str(result.evidence),
    }


def test_the_evidence_says_everything_but_a_rows_value(world) -> None:
    document = _document(world, _validate(world).evidence)

    assert document["created_at"] == "2026-06-01T12:00:00.000Z"
    assert document["fingerprint"]["schema"] == [{"name": "AGE", "type": "int64"}]
    assert document["suite"] == {
        "name": "clients",
        "sha256": str(SUITE.sha256),
        "file": "/rules/clients.yaml",
    }
    assert (document["v"], document["type"], document["engine"]) == (
        1,
        "data_validation",
        "an engine 1.0",
    )
    assert document["statistics"] == {"evaluated": 3, "passed": 3, "failed": 0}
    assert document["expectations"][0] == {
        "type": "expect_column_values_to_not_be_null",
        "kwargs": {"column": "AGE"},
        "severity": "critical",
        "success": True,
        "element_count": 12,
        "missing_count": None,
        "unexpected_count": 0,
        "unexpected_percent": None,
        "observed_value": None,
        "error": "",
    }
    assert document["expectations"][1]["observed_value"] == 35.5
    assert document["expectations"][2]["observed_value"] is None
    assert "79" not in json.dumps(document["expectations"])


def test_version_1_of_the_document_never_changes(world) -> None:
    golden = ROOT / "tests" / "assets" / "evidence" / "data_validation-1.json"

    assert world.gov.evidence.get(_validate(world, FAILED).evidence) == golden.read_bytes()


def test_a_failure_is_kept_before_it_is_refused(world) -> None:
    result = _validate(world, FAILED)

    (entry,) = world.kinds("data.validated")
    document = _document(world, result.evidence)
    assert entry.body["passed"] is document["passed"] is False
    assert document["statistics"] == {"evaluated": 3, "passed": 2, "failed": 1}
    assert "47" not in json.dumps(document["expectations"])
    with pytest.raises(DataError) as caught:
        result.refuse_failed()
    assert "failed 1 of 3 expectations of suite 'clients'" in caught.value.problem
    assert (
        "/rules/clients.yaml:3: expectations.0: AGE values to not be null: 3 of 12 unexpected"
        in caught.value.problem
    )
    assert str(result.evidence) in caught.value.remedy
    assert not caught.value.retryable


def test_what_could_not_be_evaluated_has_failed(world) -> None:
    result = _validate(world, (Observed(True, {}, "TypeError"), *PASSED[1:]))

    with pytest.raises(DataError, match=r"could not be evaluated \(TypeError; AGE is int64\)"):
        result.refuse_failed()


def test_a_missing_column_is_named(world) -> None:
    expectation = replace(SUITE.expectations[0], kwargs={"column": "INCOME"})
    suite = replace(SUITE, expectations=(expectation, *SUITE.expectations[1:]))

    result = _validate(world, (Observed(False, {}, "KeyError"), *PASSED[1:]), suite=suite)

    with pytest.raises(DataError, match="the data has no column 'INCOME'"):
        result.refuse_failed()


def test_many_failures_are_counted_and_a_few_named(world) -> None:
    suite = replace(SUITE, expectations=SUITE.expectations[:1] * 8)

    with pytest.raises(DataError, match=r"failed 8 of 8.*; and 3 more") as caught:
        _validate(world, FAILED[:1] * 8, suite=suite).refuse_failed()

    assert caught.value.problem.count("3 of 12 unexpected") == 5


def test_each_expectation_is_one_line_of_the_log(world, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "airflow_mlgov.service.validate_data"):
        _validate(world, FAILED)

    lines = [record for record in caplog.records if record.name.endswith("validate_data")]
    assert [(line.levelname, line.message) for line in lines] == [
        ("ERROR", "FAIL  AGE values to not be null: 3 of 12 unexpected"),
        ("INFO", 'PASS  AGE mean to be between {"max_value": 40}: found 35.5'),
        ("INFO", 'PASS  AGE max to be between {"max_value": 99}: holds'),
    ]


def test_a_line_cannot_be_forged_through_the_suite(world, caplog: pytest.LogCaptureFixture) -> None:
    kwargs = {"column": "AGE\nPASS forged", "regex": "a\nPASS forged"}
    suite = replace(SUITE, expectations=(Expectation("expect_x", kwargs, "info", 3),))

    with caplog.at_level(logging.INFO, "airflow_mlgov.service.validate_data"):
        _validate(world, PASSED[:1], suite=suite)

    assert all("\n" not in record.message for record in caplog.records)


def test_an_unknown_model_is_refused_before_the_data_is_read(world) -> None:
    class Unread(StatedData):
        def check(self, suite: Suite) -> Checked:
            raise AssertionError("was read")

    with pytest.raises(ConfigurationError, match="retail_pd"):
        validate_data(world.gov, DataValidation("other", "", SUITE, TASK), Unread(PASSED))


def test_evidence_that_cannot_be_kept_leaves_no_entry(world, monkeypatch) -> None:
    def full(document: bytes) -> Digest:
        raise EvidenceError("disk full")

    monkeypatch.setattr(world.gov.evidence, "put", full)

    with pytest.raises(EvidenceError):
        _validate(world)
    assert world.kinds("data.validated") == []


def test_a_retry_that_sees_the_same_at_the_same_time_is_one_entry(world) -> None:
    _validate(world)
    _validate(world, source=replace(TASK, try_number=2))
    assert len(world.kinds("data.validated")) == 1

    world.clock.moment = world.clock.moment.replace(hour=13)
    _validate(world, source=replace(TASK, try_number=3))
    assert len(world.kinds("data.validated")) == 2


def test_names_that_look_alike_are_one(world) -> None:
    result = _validate(world, dataset="cafe\u0301", uri="file:///cafe\u0301.csv")
    assert (result.dataset, result.uri) == ("caf\u00e9", "file:///caf\u00e9.csv")


def test_an_engine_that_skips_an_expectation_is_not_believed(world) -> None:
    with pytest.raises(ValueError, match="shorter"):
        _validate(world, PASSED[:2])
    assert world.kinds("data.validated") == []
