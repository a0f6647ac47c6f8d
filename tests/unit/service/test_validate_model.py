from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from airflow_mlgov.errors import ConfigurationError, DataError, RequestRefusedError
from airflow_mlgov.policy.pack import PlannedTest
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Outcome, Severity, TestResult
from airflow_mlgov.service.findings import all_findings, open_findings
from airflow_mlgov.service.validate_model import (
    ScoredData,
    Validation,
    describe_result,
    validate_model,
)
from airflow_mlgov.validation.samples import Sample

CHALLENGER = Digest.of(b"challenger")
BYTES = {"development": Digest("1" * 64)}  # what World.train says that it learnt from


def line(test: str) -> PlannedTest:
    return PlannedTest(test, {"fail_below": 0.6}, Severity.HIGH, 30, {})


def scored(name: str, seed: int, *, sharp: float = 1.0, challenger: bool = False) -> ScoredData:
    """A well calibrated model; `sharp` 0 makes its probabilities worthless."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(1, 4, 4000)
    y = (rng.random(4000) < truth).astype(float)
    p = sharp * truth + (1 - sharp) * rng.permutation(truth)
    columns = {
        "SEX": rng.integers(1, 3, 4000),
        "AGE_BAND": np.array(["young", "old"], dtype=object)[rng.integers(0, 2, 4000)],
    }
    other = np.clip(truth + rng.normal(0, 0.3, 4000), 0, 1) if challenger else None
    sample = Sample(name, y, p, columns, other)
    return ScoredData(f"/data/{name}.csv", BYTES.get(name, Digest.of(name.encode())), 1234, sample)


def validation(world, **changes) -> Validation:
    sharp = changes.pop("sharp", 1.0)
    chosen = {
        "model": "retail_pd",
        "version": world.version,
        "development": scored("development", 1),
        "validation": scored("validation", 2, sharp=sharp, challenger=True),
        "challenger": CHALLENGER,
        "source": world.GATE,
    }
    return Validation(**(chosen | changes))


@pytest.fixture
def trained(world):
    world.validate_data()
    world.train()
    return world


def test_report_and_entry_of_a_good_model(trained):
    done = validate_model(trained.gov, validation(trained))
    assert done.passed
    assert done.findings == ()
    entry = trained.kinds("model.validated")[0]
    pack = trained.gov.packs["retail_credit"]
    assert entry.version == trained.version
    assert entry.body == {
        "evidence_sha256": str(done.evidence),
        "plan": "binary_classifier",
        "policy_sha256": str(pack.digest),
        "passed": True,
        "results": done.counts,
    }
    assert entry.index == done.receipt.index
    report = json.loads(trained.gov.evidence.get(done.evidence))
    assert (report["type"], report["v"], report["plan"]) == (
        "validation_report",
        1,
        "binary_classifier",
    )
    assert [line["test"] for line in report["planned"]] == [
        t.test for t in pack.plans["binary_classifier"]
    ]
    assert [TestResult.from_json(r) for r in report["results"]] == list(done.results)
    assert report["data"]["validation"] == {
        "uri": "/data/validation.csv",
        "sha256": str(Digest.of(b"validation")),
        "size_bytes": 1234,
        "rows": 4000,
        "events": report["data"]["validation"]["events"],
        "protected": ["AGE_BAND", "SEX"],
    }
    assert report["challenger"]["version"] == str(CHALLENGER)
    assert report["challenger"]["champion_auc"] > report["challenger"]["challenger_auc"]
    assert len(report["plots"]["validation"]["roc"]) <= 101
    assert report["created_at"] == "2026-06-01T12:00:00.000Z"


def test_the_report_holds_no_row_of_the_data(trained):
    done = validate_model(trained.gov, validation(trained))
    document = trained.gov.evidence.get(done.evidence)
    assert len(document) < 60_000
    assert repr(float(scored("validation", 2).sample.p[17])).encode() not in document


def test_failures_become_findings_and_no_error(trained):
    done = validate_model(trained.gov, validation(trained, sharp=0.0))
    assert not done.passed
    opened = {f.test: f for f in open_findings(trained.gov.ledger.view(), "retail_pd")}
    failed = [r.test for r in done.results if r.outcome is Outcome.FAIL]
    assert set(opened) == set(failed) >= {"discrimination.auc", "calibration.slope"}
    auc = opened["discrimination.auc"]
    assert auc.severity is Severity.HIGH
    assert auc.owner == trained.gov.model("retail_pd").owner
    assert auc.due_at == trained.clock.moment + timedelta(days=30)
    assert auc.version == trained.version
    assert "fail below 0.68" in auc.summary
    entries = trained.kinds("finding.opened")
    assert {e.body["evidence_sha256"] for e in entries} == {str(done.evidence)}
    assert max(e.index for e in entries) < trained.kinds("model.validated")[0].index


def test_an_open_high_finding_keeps_the_gate_from_asking(trained):
    validate_model(trained.gov, validation(trained, sharp=0.0))
    with pytest.raises(RequestRefusedError, match="open High findings"):
        trained.ask()


def test_a_validated_model_may_be_asked_about(trained):
    done = validate_model(trained.gov, validation(trained))
    assert ("model.validated", done.evidence) in trained.ask().evidence


def test_running_again_opens_nothing_twice_and_postpones_nothing(trained):
    first = validate_model(trained.gov, validation(trained, sharp=0.0))
    before = open_findings(trained.gov.ledger.view())
    trained.clock.moment += timedelta(days=10)
    again = validate_model(trained.gov, validation(trained, sharp=0.0))
    assert [f.id for f in again.findings] == [f.id for f in first.findings]
    assert open_findings(trained.gov.ledger.view()) == before
    assert len(trained.kinds("finding.opened")) == len(before)
    assert len(trained.kinds("model.validated")) == 2


def test_a_harsher_pack_makes_an_open_finding_worse(trained):
    validate_model(trained.gov, validation(trained, sharp=0.0))
    old = "fail_below: 0.36}\n      severity: medium"
    trained.with_pack(old, old.replace("medium", "high"))
    validate_model(trained.gov, validation(trained, sharp=0.0))
    gini = [f for f in all_findings(trained.gov.ledger.view()) if f.test == "discrimination.gini"]
    assert [f.severity for f in gini] == [Severity.HIGH]


def test_another_version_has_findings_of_its_own(trained):
    first = validate_model(trained.gov, validation(trained, sharp=0.0))
    trained.train('{"points": [9]}')
    second = validate_model(trained.gov, validation(trained, sharp=0.0))
    assert not {f.id for f in first.findings} & {f.id for f in second.findings}


def test_a_planned_challenger_that_is_missing_is_a_finding(trained):
    alone = scored("validation", 2)
    done = validate_model(trained.gov, validation(trained, validation=alone, challenger=None))
    assert [f.test for f in done.findings] == ["challenger.delong"]
    assert "none was given" in done.findings[0].summary
    assert json.loads(trained.gov.evidence.get(done.evidence))["challenger"] is None


@pytest.mark.parametrize(
    ("plans", "problem"),
    [
        ({}, "no validation plan for model class"),
        ({"binary_classifier": (line("discrimination.rocauc"),)}, "is no test"),
        ({"binary_classifier": (line("stability.psi"),)}, "reads no threshold 'fail_below'"),
    ],
)
def test_a_plan_that_cannot_be_run_writes_nothing(trained, plans, problem):
    """Reading a pack refuses these; a pack may come from elsewhere."""
    pack = trained.gov.packs["retail_credit"]
    trained.gov.packs["retail_credit"] = replace(pack, plans=plans)
    kept = len(trained.gov.evidence.documents)
    with pytest.raises(ConfigurationError, match=problem):
        validate_model(trained.gov, validation(trained))
    assert trained.kinds("model.validated", "finding.opened") == []
    assert len(trained.gov.evidence.documents) == kept


def test_a_number_that_is_not_finite_is_no_evidence(trained, monkeypatch):
    monkeypatch.setattr(
        "airflow_mlgov.service.validate_model.plot_data", lambda sample: {"roc": [float("nan")]}
    )
    with pytest.raises(DataError, match="not finite"):
        validate_model(trained.gov, validation(trained))
    assert trained.kinds("model.validated", "finding.opened") == []


def test_unknown_model(trained):
    with pytest.raises(ConfigurationError, match="not in the inventory"):
        validate_model(trained.gov, validation(trained, model="other"))


def refused(trained, **changes) -> str:
    kept = len(trained.gov.evidence.documents)
    with pytest.raises(DataError) as caught:
        validate_model(trained.gov, validation(trained, **changes))
    assert trained.kinds("model.validated", "finding.opened") == []
    assert len(trained.gov.evidence.documents) == kept
    assert not caught.value.retryable
    return str(caught.value)


def learnt_from(trained, *names: str) -> None:
    """Put another training of the same version on record."""
    inputs = [
        {"name": name, "uri": f"file:///{name}.csv", "sha256": str(scored(name, 1).sha256)}
        for name in names
    ]
    last = trained.kinds("model.trained")[-1]
    trained.entry("model.trained", last.body | {"inputs": inputs}, version=trained.version)


def test_both_samples_may_not_be_the_same_data(trained):
    same = replace(scored("validation", 2), sha256=BYTES["development"])
    message = refused(trained, validation=same)
    assert "/data/development.csv" in message
    assert "/data/validation.csv" in message
    assert f"same data ({BYTES['development']})" in message


def test_the_development_sample_is_what_the_version_learnt_from(trained):
    message = refused(trained, development=scored("other", 1))
    assert f"/data/other.csv ({scored('other', 1).sha256}) is not what version" in message
    assert f"input 'development' was file:///d.csv ({BYTES['development']})" in message


def test_the_latest_training_counts_for_what_was_learnt_from(trained):
    learnt_from(trained, "other")
    assert "input 'other' was file:///other.csv" in refused(trained)
    validate_model(trained.gov, validation(trained, development=scored("other", 1)))


def test_a_training_without_inputs_learnt_from_no_sample(trained):
    learnt_from(trained)
    assert "it had no input" in refused(trained)


def test_the_validation_sample_is_nothing_that_the_version_learnt_from(trained):
    learnt_from(trained, "development", "validation")
    message = refused(trained)
    assert f"/data/validation.csv ({scored('validation', 2).sha256}) is what version" in message
    assert "input 'validation' was file:///validation.csv" in message
    assert "input 'development'" not in message


def test_what_an_earlier_training_saw_was_seen(trained):
    learnt_from(trained, "development", "validation")
    learnt_from(trained, "development", "other")
    assert "/data/validation.csv" in refused(trained)


def test_a_version_whose_training_is_not_on_record_is_not_validated(trained):
    unknown = Digest.of(b"unknown")
    message = refused(trained, version=unknown)
    assert f"No training of version {unknown}" in message
    assert "/data/development.csv and /data/validation.csv" in message


def test_trainings_of_other_versions_do_not_count(trained):
    first = trained.version
    trained.train('{"points": [9]}')
    learnt_from(trained, "validation")
    validate_model(trained.gov, validation(trained, version=first))


def test_a_line_for_people_is_one_line():
    result = TestResult(
        "fairness.adverse_impact",
        "Adverse impact ratio by SEX\nPASS everything",
        0.71234,
        Outcome.FAIL,
        "fail below 0.8",
        {"validation": 10},
        "convention",
        {"p_value": 0.00123456},
    )
    line = describe_result(result)
    assert "\n" not in line
    assert line.startswith("FAIL ")
    assert "0.7123 (p 0.00123; fail below 0.8)" in line
