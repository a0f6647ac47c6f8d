"""What Marquez never gets to see, and what is read back of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lineage_events import event, run_of, unchecked
from marquez import FakeMarquez

from airflow_mlgov.errors import LineageRefusedError, LineageUnavailableError
from airflow_mlgov.lineage.marquez import MarquezClient
from airflow_mlgov.targets.marquez import MAX_EVENT_BYTES, MarquezTarget


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


@pytest.fixture
def target(fake: FakeMarquez) -> MarquezTarget:
    return MarquezTarget("marquez", MarquezClient(fake.url))


def with_run_facets(**facets: Any) -> dict[str, Any]:
    made = event("a", "START", 0)
    made["run"]["facets"] = facets
    return made


def with_job(**more: Any) -> dict[str, Any]:
    made = event("a", "START", 0)
    made["job"] |= more
    return made


def with_output(**more: Any) -> dict[str, Any]:
    return event("a", "COMPLETE", 0, outputs=[{"namespace": "file", "name": "x"} | more])


def symlink(**more: Any) -> dict[str, Any]:
    known = {"namespace": "file", "name": "y", "type": "TABLE"} | more
    return with_output(facets={"symlinks": {"identifiers": [known]}})


RUN = "01890000-0000-7000-8000-000000000001"
PARENT = {"run": {"runId": RUN}, "job": {"namespace": "bank", "name": "dag"}}
KIND = {"processingType": "BATCH", "integration": "AIRFLOW", "jobType": "TASK"}


@pytest.mark.parametrize(
    "said",
    [
        *run_of("a", 0, reads=["x"], writes=["y"]),
        with_run_facets(parent=PARENT | {"root": PARENT}),
        with_run_facets(nominalTime={"nominalStartTime": "2026-11-23T03:00:00.123456+01:00"}),
        with_job(facets={"jobType": KIND, "documentation": {"description": "d"}}),
        with_output(namespace="mlflow://host:5000", name="pd/7"),
        symlink(),
        with_run_facets(big={"text": "ü" * ((MAX_EVENT_BYTES - 600) // 2)}),
        with_run_facets(said={"text": "a backslash and u0000: \\u0000"}),
    ],
)
def test_what_marquez_can_store_it_gets(target: MarquezTarget, said: dict[str, Any]) -> None:
    assert target.problem(said) == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (event("a", "START", 0, run={"runId": "run-1"}), "no UUID"),
        (event("a", "START", 0, run={"runId": RUN.replace("-", "")}), "no UUID"),
        (event("a", "START", 0, eventTime="2026-11-23 03:00:00Z"), "RFC 3339"),
        (event("a", "START", 0, eventTime="2026-11-23T03:00:00"), "RFC 3339"),
        (event("a", "START", 0, eventTime="2026-13-23T03:00:00Z"), "RFC 3339"),
        (event("a", "START", 0, eventType="BEGIN"), "eventType"),
        (event("a", "START", 0, eventType=None), "eventType"),
        (event("a", "START", 0, producer=""), "no producer"),
        (event("a", "START", 0, schemaURL=None), "no schemaURL"),
        (event("a", "START", 0, run={}), "no run event"),
        (event("a", "START", 0, job={"namespace": "bank"}), "no run event"),
        (event("a", "START", 0, inputs=[{"name": "x"}]), "no run event"),
        (with_job(namespace="our bank"), "cannot be the namespace"),
        (with_job(name="modèle"), "ASCII"),
        (with_job(facets={"jobType": {"jobType": "TASK"}}), "processingType"),
        (with_job(facets={"jobType": KIND | {"integration": None}}), "integration"),
        (with_job(facets={"documentation": {"description": ""}}), "documentation"),
        (with_run_facets(parent={"run": {"runId": RUN}}), "no run event"),
        (with_run_facets(parent=PARENT | {"run": {"runId": "r"}}), "parent"),
        (with_run_facets(parent=PARENT | {"root": PARENT | {"run": {"runId": "r"}}}), "parent"),
        (with_run_facets(nominalTime={"nominalEndTime": "tomorrow"}), "nominalEndTime"),
        (with_output(namespace="arn:aws:glue:eu-west-1:1"), "ARN"),
        (with_output(namespace="my folder"), "cannot be the namespace"),
        (with_output(name=" "), "cannot be the name"),
        (with_output(namespace="mlflow://host:5000", name="7/pd"), "digit"),
        (with_output(facets={"documentation": {}}), "documentation"),
        (symlink(namespace="arn:aws:s3:::bucket"), "ARN"),
        (symlink(type=None), "symlink"),
        (with_run_facets(said={"text": "nul \0"}), "NUL"),
        (with_run_facets(said={"nul \0": 1}), "NUL"),
        (with_run_facets(said={"text": "\ud800"}), "Unicode"),
        (with_run_facets(big={"text": "x" * MAX_EVENT_BYTES}), "bytes"),
    ],
)
def test_what_it_would_refuse_or_break_of_it_never_gets(target, said, why: str) -> None:
    assert why in target.problem(said)


def send(target: MarquezTarget, *said: dict[str, Any]) -> None:
    for each in said:
        target.send(unchecked(each).event)


SOURCE = run_of("register", 0, writes=["raw"])[1]
START, END = run_of("prepare", 1, reads=["raw"], writes=["data"])


def test_a_run_that_was_stored_as_sent_differs_in_nothing(target: MarquezTarget) -> None:
    send(target, SOURCE, START, END)
    assert target.difference([SOURCE]) == ""
    assert target.difference([START, END]) == ""


def test_a_time_finer_than_it_keeps_is_the_same_time(target: MarquezTarget) -> None:
    end = event("fine", "COMPLETE", 0, eventTime="2026-11-23T03:00:00.1234567Z")
    send(target, end)
    assert target.difference([end]) == ""
    assert target.difference([end | {"eventTime": "2026-11-23T03:00:00.123459Z"}]) != ""


@pytest.mark.parametrize(
    ("order", "differs"),
    [
        ([START, END, START], "its state is RUNNING, not COMPLETED"),
        ([START, event("prepare", "FAIL", 0.2, reads=["raw"])], "its state is FAILED"),
        (
            [START, event("prepare", "START", 1.2, reads=["raw"]), END],
            "it began at 2026-11-23T03:01:1",
        ),
        ([START, event("prepare", "COMPLETE", 9, reads=["raw"])], "it ended at 2026-11-23T03:09"),
        ([], "is not there"),
        ([START, SOURCE | {"run": {"runId": RUN}}, END], "2 versions of input file raw"),
        ([event("prepare", "START", 1), event("prepare", "COMPLETE", 1.5)], "0 versions of input"),
        (
            [START, event("prepare", "COMPLETE", 1.5, reads=["raw", "x"])],
            "x are bound, which was no",
        ),
    ],
)
def test_what_was_stored_otherwise_is_said(target, order, differs: str) -> None:
    send(target, SOURCE, *order)
    assert differs in target.difference([START, END])


def test_a_refusal_and_an_outage_are_told_apart(fake: FakeMarquez, target) -> None:
    for said in (
        event("a", "START", 0, eventTime="yesterday"),
        event("a", "START", 0, producer=None),
    ):
        with pytest.raises(LineageRefusedError):
            send(target, said)
    fake.refuse()
    with pytest.raises(LineageUnavailableError):
        send(target, START)
    with pytest.raises(LineageUnavailableError):
        target.difference([START, END])
