"""Each kind of document, as its writer writes it and as it must not be."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_mlgov.service.evidence_readers import read_data_check, read_report, read_training
from airflow_mlgov.validation.curves import plot_data
from airflow_mlgov.validation.samples import Sample

DIGEST = "sha256:" + "1" * 64
RESULT = {
    "test": "discrimination.auc",
    "title": "AUC",
    "statistic": 0.77,
    "outcome": "pass",
    "threshold": "fail below 0.68",
    "sample_sizes": {"validation": 4},
    "source": "convention",
    "details": {"interval": [0.75, 0.79], "confidence": 0.95, "p_value": 0.02, "note": "few"},
    "segment": "",
}
FAIRNESS = RESULT | {
    "test": "fairness.adverse_impact",
    "details": {
        "groups": [
            {"group": "1", "rows": 90, "rate": 0.7, "ratio": 1.0, "p_value": None},
            {"group": "2", "rows": 9, "rate": 0.5, "ratio": None, "p_value": 0.2},
        ]
    },
}


def drawn() -> dict[str, Any]:
    import numpy as np

    sample = Sample(
        "validation",
        np.array([0.0, 1.0, 0.0, 1.0]),
        np.array([0.1, 0.7, 0.4, 0.3]),
        challenger=np.array([0.2, 0.9, 0.1, 0.8]),
    )
    return plot_data(sample)


def report(**changes: Any) -> dict[str, Any]:
    return {
        "results": [RESULT, FAIRNESS],
        "planned": [{"test": "fairness.adverse_impact", "thresholds": {"fail_below": 0.8}}],
        "data": {
            "validation": {"uri": "file:///v.csv", "sha256": DIGEST, "rows": 4, "events": 2}
        },
        "plots": {"validation": drawn()},
        "challenger": {
            "version": DIGEST, "champion_auc": 0.7, "challenger_auc": 0.8, "p_value": None
        },
    } | changes  # fmt: skip


def test_a_report_as_the_service_writes_it():
    read = read_report(report())
    auc, fairness = read.tests
    assert (auc.interval, auc.confidence, auc.p_value, auc.note) == (
        (0.75, 0.79),
        0.95,
        0.02,
        "few",
    )
    assert auc.bounds == {}
    assert [(g.group, g.rows, g.ratio) for g in fairness.groups] == [("1", 90, 1.0), ("2", 9, None)]
    assert fairness.bounds == {"fail_below": 0.8}
    (sample,) = read.samples
    assert (sample.name, sample.sha256, sample.rows, sample.events) == ("validation", DIGEST, 4, 2)
    (curves,) = read.curves
    assert (curves.roc[0], curves.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert curves.challenger_roc
    assert sum(group.rows for group in curves.calibration) == 4
    assert (sum(curves.histogram.events), sum(curves.histogram.non_events)) == (2, 2)
    assert read.challenger is not None
    assert (read.challenger.version, read.challenger.p_value) == (DIGEST, None)


def test_a_report_of_results_only():
    read = read_report({"results": [RESULT]})
    assert (len(read.tests), read.samples, read.curves, read.challenger) == (1, [], [], None)


def test_groups_that_are_a_number_are_no_segments():
    (test,) = read_report({"results": [RESULT | {"details": {"groups": 10}}]}).tests
    assert list(test.groups) == []


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(report())
    *way, last = path.split(".")
    inner: Any = document
    for step in way:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[int(last) if last.isdigit() else last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("results", None),
        ("results.0.details", []),
        ("results.0.details.interval", [1]),
        ("results.0.details.interval", "0.1 to 0.2"),
        ("results.0.details.interval", [0.1, float("nan")]),
        ("results.0.details.p_value", 2),
        ("results.0.details.p_value", "0.1"),
        ("results.0.details.note", 5),
        ("results.1.details.groups.0", "a group"),
        ("results.1.details.groups.0.rate", 7),
        ("results.1.details.groups.0.ratio", float("inf")),
        ("planned.0.thresholds", {"fail_below": "low"}),
        ("planned.0", 3),
        ("data.validation.rows", -1),
        ("data.validation.uri", None),
        ("plots.validation.roc", [[0.0, 0.0]]),
        ("plots.validation.roc", [[0.0, 0.0], [2.0, 1.0]]),
        ("plots.validation.roc", [[0.0, 0.0, 0.0], [1.0, 1.0]]),
        ("plots.validation.roc", [[0.0, 0.0]] * 3000),
        ("plots.validation.challenger_roc", "none"),
        ("plots.validation.calibration", []),
        ("plots.validation.calibration.0.event_rate", True),
        ("plots.validation.histogram.events", [1]),
        ("plots.validation.histogram.edges", []),
        ("plots.validation", 4),
        ("challenger.champion_auc", None),
        ("challenger", []),
    ],
)
def test_a_report_of_another_shape_is_refused(path, value):
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError)):
        read_report(changed(path, value))


TRAINING = {
    "script": "train.py",
    "code_sha256": DIGEST,
    "seed": 42,
    "inputs": [{"name": "clients", "uri": "file:///d.csv", "sha256": DIGEST}],
    "git_commit": "b2d2a88",
    "git_is_clean": False,
    "platform": "local",
    "environment": {"platform": "Linux", "python": "3.11.7", "packages": ["a==1", "b==2"]},
    "parameters": {"depth": 3},
}


def test_a_training_record():
    read = read_training(TRAINING)
    assert (read.line.seed, read.git_commit, read.git_is_clean) == ("42", "b2d2a88", False)
    assert (read.platform, read.packages) == ("local, Linux, Python 3.11.7", 2)
    assert [(item.name, item.sha256) for item in read.inputs] == [("clients", DIGEST)]
    assert read.parameters == {"depth": "3"}
    bare = read_training({"script": "t.py", "code_sha256": DIGEST, "seed": 1, "git_commit": None})
    assert (bare.git_commit, bare.git_is_clean, bare.platform, bare.packages) == ("", None, "", 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": [1]},
        {"inputs": [{"name": "clients"}]},
        {"git_is_clean": "yes"},
        {"environment": "Linux"},
        {"environment": {"python": 3}},
        {"parameters": []},
    ],
)
def test_a_training_record_of_another_shape_is_refused(changes):
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_training(TRAINING | changes)


def test_a_data_validation_names_what_was_not_met():
    document = {
        "dataset": "development",
        "fingerprint": {"sha256": DIGEST, "rows": 10, "columns": 2},
        "suite": {"name": "clients"},
        "passed": True,
        "uri": "file:///d.csv",
        "expectations": [
            {"type": "expect_unique", "kwargs": {"column": "ID"}, "success": True},
            {
                "type": "expect_mean",
                "kwargs": {"column": "AGE"},
                "severity": "warning",
                "success": False,
            },
        ],
    }
    read = read_data_check(document)
    assert (read.line.rows, read.uri, read.expectations) == (10, "file:///d.csv", 2)
    assert list(read.unmet) == ["expect mean AGE (warning)"]
    with pytest.raises(TypeError):
        read_data_check(document | {"expectations": [{"type": "x", "success": "no"}]})
