"""Scoring of files on a live Airflow: by the approved version, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.records.people import Person
from airflow_mlgov.service.stop import stop_model
from tests.e2e.conftest import Run
from tests.e2e.test_guard import changed_byte
from tests.e2e.test_jobs import until

pytestmark = pytest.mark.e2e


@pytest.mark.scenario("batches")
def test_files_are_scored_here_and_there_by_the_approved_version_only(run, cloud, tmp_path):
    run.approve_fully()
    run.wait("score", "success")
    file, before = run.live.model_file(run.model, run.version), cloud.started
    cloud.script("running")
    first = started(run, tmp_path / "first")
    assert first.wait("here", "success", "failed") == "success"
    first.wait("there", "deferred")
    end(cloud)
    assert first.wait("there", "success", "failed") == "success"
    assert cloud.started == before + 1
    for task in ("here", "there"):
        scores = tmp_path / "first" / task / "data.scores.csv"
        assert scores.read_text().splitlines()[:2] == ["row,score", "0,1"]
    entries = run.entries("batch.scored")
    assert {entry.source.task_id for entry in entries} == {"here", "there"}
    assert {str(entry.version) for entry in entries} == {run.version}

    with changed_byte(file):
        second = started(run, tmp_path / "second")
        assert second.wait("here", "success", "failed") == "failed"
        assert second.wait("there", "success", "failed") == "failed"
    assert run.refusals() == ["digest", "digest"]
    assert cloud.started == before + 1
    assert not (tmp_path / "second").exists()

    cloud.script("running")
    third = started(run, tmp_path / "third")
    third.wait("there", "deferred")
    until(lambda: cloud.running == 1, "nobody has started the job")
    stop_model(run.live.governance(), run.model, "The data have drifted.", Person("sam", "sam"))
    end(cloud)
    assert third.wait("there", "success", "failed") == "failed"
    assert run.refusals()[-1] == "stopped"
    assert not (tmp_path / "third" / "there").exists()


def end(cloud) -> None:
    """Let the newest job end well at its next look."""
    cloud.jobs.all[-1].script[:] = ["JOB_STATE_SUCCEEDED"]


def started(run: Run, folder: Path) -> Run:
    """Start a run of the DAG that scores."""
    client = run.live.client("admin")
    client.wait_for_dags(["batches"])
    conf = {"model": run.model, "folder": str(folder)}
    return Run(run.live, run.model, run.version, client.trigger("batches", conf), dag="batches")
