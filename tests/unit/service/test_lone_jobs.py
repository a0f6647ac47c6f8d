"""A job that goes on while no task waits for it is found; one that is waited for is left alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.airflow_records import Step
from airflow_mlgov.service.job_platform import SCORING, TRAINING, JobState
from airflow_mlgov.service.jobs import JobTraining
from airflow_mlgov.service.reconcile import GATES_KEPT, Scope, reconcile
from airflow_mlgov.service.training_order import TrainingOrder
from tests.unit.service.conftest import load_fake
from tests.unit.service.test_jobs import ruled
from tests.unit.service.test_reconcile import close

MemoryJobs = load_fake("memory_jobs").MemoryJobs
LATER = timedelta(minutes=10)
SCRIPT = "raise SystemExit('never mind')"


class Elsewhere:
    """A training whose job runs for ever, as ledger, platform and Airflow know it."""

    def __init__(self, world, told, tmp_path) -> None:
        self.world, self.told = world, told
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "train.py").write_text(SCRIPT)
        (tmp_path / "dev.csv").write_text("a\n1\n")
        (tmp_path / "store").mkdir()
        self.jobs = MemoryJobs(tmp_path / "store", course=[JobState.RUNNING])
        self.order = TrainingOrder(
            model="retail_pd",
            script=tmp_path / "code" / "train.py",
            inputs={"development": str(tmp_path / "dev.csv")},
            source=Source("retail_pd", "run-7", "train", -1, 1),
        )
        self.purpose = TRAINING
        self.asked: list[tuple[str, str]] = []

    def training(self) -> JobTraining:
        return JobTraining(self.order, self.world.gov, self.jobs.terms, self.jobs, print)

    def open(self, platform: str, purpose: str):
        self.asked.append((platform, purpose))
        return self.jobs if purpose == self.purpose else MemoryJobs(self.jobs.store)

    def tell(self, *states: str, task="train", **told) -> None:
        self.told.tell(task, Step.TRAINING, *states, run="run-7", **told)

    def compare(self, *, later=LATER, **scope):
        self.world.clock.moment += later
        registries = [self.world.registry]
        return reconcile(self.world.gov, self.told, registries, Scope(**scope), open_jobs=self.open)

    def found(self, **how) -> list[str]:
        compared = self.compare(**how)
        assert compared.unchecked == ()
        tests = [one.discrepancy.test for one in compared.found]
        return [test for test in tests if test != "reconcile.evidence"]


@pytest.fixture
def elsewhere(world, told, tmp_path) -> Elsewhere:
    return Elsewhere(world, told, tmp_path)


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
def test_one_whose_task_has_ended(elsewhere, state) -> None:
    handle = elsewhere.training().start()
    elsewhere.tell(state)
    assert elsewhere.found() == ["reconcile.job"]
    (again,) = (o for o in elsewhere.compare().found if o.discrepancy.test == "reconcile.job")
    assert (again.is_new, again.discrepancy.segment) == (False, handle.key)
    for words in (handle.native_id, handle.console_url, "running", "'run-7'", state, "clear the"):
        assert words in again.discrepancy.summary


def test_a_finding_that_was_closed_is_opened_again_while_the_job_goes_on(elsewhere, world) -> None:
    elsewhere.training().start()
    (one,) = elsewhere.compare().found
    close(world, one)
    (again,) = elsewhere.compare().found
    assert again.is_new


def test_one_whose_run_or_task_is_gone(elsewhere) -> None:
    elsewhere.training().start()
    assert elsewhere.found() == ["reconcile.job"]
    elsewhere.tell("success", task="other")
    assert elsewhere.found() == ["reconcile.job"]


@pytest.mark.parametrize("state", ["", "queued", "running", "deferred", "up_for_retry"])
def test_one_whose_task_waits_or_will(elsewhere, state) -> None:
    elsewhere.training().start()
    elsewhere.tell("failed", state)
    assert elsewhere.found() == []
    assert elsewhere.asked == []


def test_a_task_of_an_operator_that_is_not_known_here_while_its_run_goes_on(elsewhere) -> None:
    elsewhere.training().start()
    elsewhere.tell("running", task="other")
    elsewhere.told.end("running", run="run-7")
    assert elsewhere.found() == []


@pytest.mark.parametrize(
    "state",
    [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING],
)
def test_one_that_has_ended_or_is_about_to(elsewhere, state) -> None:
    handle = elsewhere.training().start()
    elsewhere.jobs.jobs[handle.key].states = [state]
    elsewhere.jobs.jobs[handle.key].ran = True
    elsewhere.tell("failed")
    assert elsewhere.found() == []


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.PAUSED, JobState.UNKNOWN])
def test_one_that_has_not_ended_whatever_it_does(elsewhere, state) -> None:
    handle = elsewhere.training().start()
    elsewhere.jobs.jobs[handle.key].states = [state]
    elsewhere.tell("failed")
    assert elsewhere.found() == ["reconcile.job"]


def test_one_that_was_never_submitted_or_is_gone(elsewhere) -> None:
    elsewhere.training().start()
    elsewhere.jobs.jobs.clear()
    elsewhere.tell("failed")
    assert elsewhere.found() == []
    assert elsewhere.asked == [("frankfurt", TRAINING), ("frankfurt", SCORING)]


def test_one_that_scores(elsewhere) -> None:
    elsewhere.training().start()
    elsewhere.purpose = SCORING
    elsewhere.tell("failed")
    assert elsewhere.found() == ["reconcile.job"]


def test_a_task_that_has_just_failed_may_still_have_its_job_cancelled(elsewhere) -> None:
    elsewhere.training().start()
    elsewhere.world.clock.moment += LATER
    elsewhere.tell("failed")
    assert elsewhere.found(later=LATER - timedelta(seconds=1)) == []
    assert elsewhere.found(later=timedelta(seconds=1)) == ["reconcile.job"]


def test_what_the_ledger_has_the_end_of_is_not_asked_about(elsewhere, world) -> None:
    training = elsewhere.training()
    handle = training.start()
    elsewhere.jobs.jobs[handle.key].states = [JobState.FAILED]
    with pytest.raises(Exception, match="failed"):
        training.finish(handle, world.registry)
    elsewhere.tell("failed")
    assert elsewhere.found() == []
    assert elsewhere.asked == []


def test_what_was_taken_is_not_asked_about(elsewhere, world) -> None:
    elsewhere.order.script.write_text(
        """import json, os, pathlib
out = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"])
(out / "model").mkdir()
(out / "model" / "m.json").write_text("1")
(out / "metrics.json").write_text('{"auc": 0.7}')
(out / "signature.json").write_text('{"inputs": [{"name": "a", "type": "long"}], "output": "pd"}')
"""
    )
    elsewhere.jobs.course = [JobState.SUCCEEDED]
    training = elsewhere.training()
    training.finish(training.start(), world.registry)
    elsewhere.tell("success")
    assert elsewhere.found() == []
    assert elsewhere.asked == []


def test_a_job_that_was_refused_was_never_there(elsewhere, world) -> None:
    ruled(elsewhere, PlatformRules(regions=("eu-west-1",)))
    with pytest.raises(Exception, match="Nothing was started"):
        elsewhere.training().start()
    assert elsewhere.found() == []
    assert elsewhere.asked == []


def test_one_that_is_older_than_airflow_keeps_runs(elsewhere) -> None:
    elsewhere.training().start()
    assert elsewhere.found(later=GATES_KEPT + LATER) == []


def test_a_platform_that_cannot_be_asked_is_not_taken_for_right(elsewhere, monkeypatch) -> None:
    handle = elsewhere.training().start()
    elsewhere.tell("failed")
    elsewhere.jobs.failures = 1
    (said,) = elsewhere.compare().unchecked
    assert said == f"Job {handle.key} on platform frankfurt: Too many requests."

    def gone(*_):
        raise ConfigurationError("There is no platform 'frankfurt'.")

    monkeypatch.setattr(elsewhere, "open", gone)
    assert "no platform" in elsewhere.compare().unchecked[0]


def test_airflow_goes_away_in_the_middle(elsewhere) -> None:
    elsewhere.training().start()
    elsewhere.told.down_after = 0
    compared = elsewhere.compare()
    assert compared.unchecked == ("Airflow: Airflow cannot be reached",)
    assert elsewhere.asked == []


def test_one_of_another_model_is_left_alone(elsewhere, world) -> None:
    elsewhere.training().start()
    world.gov.inventory["other"] = world.gov.inventory["retail_pd"]
    assert elsewhere.found(model="other") == []
    assert elsewhere.asked == []
