"""What a run is, by its events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_mlgov.records.trace import NodeKind
from airflow_mlgov.service.sent_runs import SentRun, kind_of, moment_of


def event(kind: str, minute: int, reads: str = "", writes: str = "", **facets: Any) -> dict:
    named = [
        [{"namespace": "n", "name": name} for name in side.split()] for side in (reads, writes)
    ]
    return {
        "eventType": kind,
        "eventTime": f"2026-06-01T09:{minute:02}:00Z",
        "run": {"runId": "r", "facets": facets},
        "job": {"namespace": "bank", "name": "job"},
        "inputs": named[0],
        "outputs": named[1],
    }


def at(minute: int) -> datetime:
    return datetime(2026, 6, 1, 9, minute, tzinfo=UTC)


def test_a_run_is_told_up_to_its_end():
    run = SentRun.of(
        [
            event("START", 1, "a", "x", one={"v": 1}, two={"v": 1}),
            event("START", 2, "a b"),
            event("COMPLETE", 3, "c a", "y", two={"v": 2}),
            event("RUNNING", 4, "d", "z", two={"v": 3}),
            event("COMPLETE", 5, "e"),
        ]
    )
    assert (run.state, run.started_at, run.ended_at, run.at) == ("COMPLETE", at(1), at(3), at(3))
    assert [name for _, name in run.inputs] == ["a", "b", "c"]
    assert run.outputs == (("n", "y"),)
    assert run.facets == {"one": {"v": 1}, "two": {"v": 2}}
    assert run.came_later == ""


def test_a_run_that_did_not_end_wrote_nothing():
    run = SentRun.of([event("START", 1, "a", "x"), event("RUNNING", 2, "a", "x")])
    assert (run.state, run.ended_at, run.at, run.outputs) == ("RUNNING", None, at(1), ())


def test_what_says_otherwise_after_the_end_is_kept_apart():
    run = SentRun.of([event("COMPLETE", 1, "", "x"), event("FAIL", 2), event("ABORT", 3)])
    assert (run.state, run.started_at, run.came_later) == ("COMPLETE", None, "FAIL")


def test_a_task_is_named_by_airflows_facet_alone_if_it_is_whole():
    dag_run, task = {"dag_id": "d", "run_id": "m"}, {"task_id": "t"}
    mapped = {"taskInstance": {"map_index": 3}}
    whole = event("COMPLETE", 1, airflow={"dagRun": dag_run, "task": task})
    assert SentRun.of([whole]).task == ("d", "m", "t", -1)
    one = event("COMPLETE", 1, airflow={"dagRun": dag_run, "task": task, **mapped})
    assert SentRun.of([one]).task == ("d", "m", "t", 3)
    assert SentRun.of([event("COMPLETE", 1, airflow={"dagRun": dag_run})]).task is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m/1/approval/x", NodeKind.APPROVAL),
        ("m/1/denial/x", NodeKind.DENIAL),
        ("m/1/endpoint/production/x", NodeKind.ENDPOINT),
        ("request/1/breakglass/x", NodeKind.BREAK_GLASS),
        ("approval/x", NodeKind.DATA),
    ],
)
def test_a_record_without_facets_is_known_by_its_name(name, kind):
    assert kind_of(("mlgov", name), {}) is kind
    assert kind_of(("other", name), {}) is NodeKind.DATA
    said = {"datasetType": {"datasetType": "FILE", "subType": "VALIDATION_REPORT"}}
    assert kind_of(("mlgov", name), said) is NodeKind.REPORT


def test_times_are_read_as_they_are_written():
    assert moment_of("2026-06-01T09:01:00") == moment_of("2026-06-01T11:01:00+02:00") == at(1)
    assert moment_of("soon") is moment_of(None) is moment_of(7) is None
