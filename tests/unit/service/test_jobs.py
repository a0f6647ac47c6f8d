"""Training as a job of a cloud, on a platform in memory: one job for one task, whoever dies."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    ControlsRefusedError,
    PlatformError,
    PlatformUnavailableError,
    TrainingError,
)
from airflow_mlgov.policy.platform_controls import PlatformRules, Stated
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.job_platform import JobHandle, JobState, job_key
from airflow_mlgov.service.jobs import JobTraining
from airflow_mlgov.service.one_job import VISIBLE_S
from airflow_mlgov.service.training_order import TrainingOrder
from tests.unit.service.conftest import load_fake

MemoryJobs = load_fake("memory_jobs").MemoryJobs
SCRIPT = """
    import json, os, pathlib
    job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
    out = pathlib.Path(job["output_dir"])
    (out / "model").mkdir()
    data = pathlib.Path(job["inputs"]["development"]).read_text()
    (out / "model" / "scorecard.json").write_text(json.dumps([job["seed"], data]))
    (out / "metrics.json").write_text('{"auc": 0.77}')
    signature = {"inputs": [{"name": "PAY_0", "type": "long"}], "output": "pd"}
    (out / "signature.json").write_text(json.dumps(signature))
    print("trained on", len(data))
"""
BROKEN = 'raise SystemExit("no convergence")'


@pytest.fixture
def order(tmp_path: Path) -> TrainingOrder:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "beside.py").write_text("")
    (tmp_path / "dev.csv").write_text("PAY_0,DEFAULT\n1,0\n")
    return TrainingOrder(
        model="retail_pd",
        script=folder / "train.py",
        inputs={"development": str(tmp_path / "dev.csv")},
        parameters={"rate": 0.1},
        seed=42,
        source=Source("retail_pd", "run-7", "train", -1, 1),
    )


@pytest.fixture
def jobs(tmp_path: Path) -> MemoryJobs:
    (tmp_path / "store").mkdir()
    return MemoryJobs(tmp_path / "store")


class Tries:
    """One try after another of the same task, each with nothing but what is kept elsewhere."""

    def __init__(self, world, jobs, order) -> None:
        self.world, self.jobs, self.order = world, jobs, order
        self.log: list[str] = []
        self.slept: list[float] = []

    def next(self, **changes) -> JobTraining:
        number = self.order.source.try_number + 1
        self.order = replace(
            self.order, source=replace(self.order.source, try_number=number), **changes
        )
        return self.training()

    def training(self) -> JobTraining:
        return JobTraining(
            self.order, self.world.gov, self.jobs.terms, self.jobs, self.log.append, self._sleep
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.world.clock.moment += timedelta(seconds=seconds)

    def entries(self, kind: str):
        return list(self.world.gov.ledger.view().select(kind, model="retail_pd"))


@pytest.fixture
def tries(world, jobs, order) -> Tries:
    return Tries(world, jobs, order)


def ruled(tries: Tries, rules: PlatformRules) -> None:
    gov = tries.world.gov
    packs = {name: replace(pack, platforms=rules) for name, pack in gov.packs.items()}
    tries.world.gov = replace(gov, packs=packs)


def test_a_job_makes_a_registered_version_on_record(tries, world, jobs) -> None:
    training = tries.training()
    handle = training.start()
    trained = training.finish(handle, world.registry)
    assert jobs.started == 1
    assert trained.metrics == {"auc": 0.77}
    registered = world.registry.find("retail_pd", trained.manifest.digest)
    assert registered.version == trained.registered.version
    record = json.loads(world.gov.evidence.get(trained.evidence))
    assert record["platform"] == "frankfurt"
    assert record["job"]["key"] == handle.key
    assert record["job"]["billable_s"] == 90.0
    assert record["job"]["image"] == "train@sha256:1"
    assert record["environment"]["python"].startswith("3.")
    assert record["inputs"][0]["name"] == "development"
    (entry,) = tries.entries("model.trained")
    assert entry.version == trained.manifest.digest


def test_what_is_staged_is_named_by_what_it_holds(tries, jobs, order) -> None:
    tries.training().start()
    data = Digest.of(Path(order.inputs["development"]).read_bytes())
    assert f"staged/{data.hex}/dev.csv" in jobs.staged
    assert {name.rpartition("/")[2] for name in jobs.staged} == {
        "beside.py", "dev.csv", "mlgov-entry.pyz", "spec.json", "train.py",
    }  # fmt: skip


def test_the_key_knows_the_task_and_what_is_asked_and_no_try() -> None:
    source, spec = Source("d", "r", "t", 3, 1), Digest.of(b"spec")
    key = job_key(source, spec, 0)
    assert key == job_key(replace(source, try_number=9), spec, 0)
    assert len(key) == 26
    others = [
        job_key(replace(source, dag_id="e"), spec, 0),
        job_key(replace(source, run_id="e"), spec, 0),
        job_key(replace(source, task_id="e"), spec, 0),
        job_key(replace(source, map_index=4), spec, 0),
        job_key(source, Digest.of(b"other"), 0),
        job_key(source, spec, 1),
    ]
    assert len({key, *others}) == 7


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED])
def test_a_retry_goes_on_with_the_job_there_is(tries, jobs, state) -> None:
    jobs.course = [state]
    first = tries.training().start()
    assert tries.next().start() == first
    assert jobs.started == 1


def test_a_retry_after_the_version_is_on_record_adds_nothing(tries, world, jobs) -> None:
    training = tries.training()
    training.finish(training.start(), world.registry)
    before = [entry.kind for entry in world.gov.ledger.view().select(model="retail_pd")]
    again = tries.next()
    again.finish(again.start(), world.registry)
    after = [entry.kind for entry in world.gov.ledger.view().select(model="retail_pd")]
    assert (jobs.started, after) == (1, before)


def test_a_failure_is_told_once_and_only_clearing_starts_another(tries, world, jobs) -> None:
    jobs.course, jobs.reason = [JobState.FAILED], "AlgorithmError: no convergence"
    jobs.says = ["iteration 1", "iteration 2"]
    training = tries.training()
    handle = training.start()
    with pytest.raises(TrainingError, match="no convergence") as caught:
        training.finish(handle, world.registry)
    assert handle.native_id in str(caught.value)
    assert handle.console_url in str(caught.value)
    assert not caught.value.retryable
    assert "iteration 2" in tries.log
    (told,) = tries.entries("job.ended")
    assert told.body["job"] == handle.key
    jobs.course = [JobState.SUCCEEDED]
    cleared = tries.next()
    second = cleared.start()
    assert second.key != handle.key
    assert jobs.started == 2
    cleared.finish(second, world.registry)


def test_a_failure_that_nobody_was_told_of_is_told_first(tries, jobs) -> None:
    """The worker was killed while the job failed: the retry must not pay for a second one."""
    jobs.course, jobs.reason = [JobState.FAILED], "AlgorithmError"
    tries.training().start()
    with pytest.raises(TrainingError, match="AlgorithmError"):
        tries.next().start()
    assert jobs.started == 1
    tries.next().start()
    assert jobs.started == 2


def test_a_cleared_task_does_not_go_on_with_the_job_that_clearing_cancelled(tries, jobs) -> None:
    jobs.course = [JobState.CANCELLING, JobState.CANCELLING, JobState.CANCELLED]
    first = tries.training().start()
    jobs.course = [JobState.RUNNING]
    second = tries.next().start()
    assert first.key != second.key
    assert jobs.started == 2
    assert sum(tries.slept) > 0


def test_a_try_that_went_on_with_a_job_before_clearing_cancelled_it(tries, world, jobs) -> None:
    jobs.course = [JobState.RUNNING]
    first = tries.training().start()
    cleared = tries.next()
    assert cleared.start() == first  # the triggerer has not cancelled it yet
    assert cleared.start_again(first) is None
    jobs.cancel(first)
    jobs.course = [JobState.SUCCEEDED]
    second = cleared.start_again(first)
    assert second.key != first.key
    cleared.finish(second, world.registry)


def test_a_job_cancelled_in_its_own_try_is_not_started_again(tries, jobs) -> None:
    jobs.course = [JobState.CANCELLED]
    training = tries.training()
    assert training.start_again(training.start()) is None


def test_a_job_cancelled_behind_our_back_fails_the_task(tries, world, jobs) -> None:
    jobs.course = [JobState.CANCELLED]
    training = tries.training()
    with pytest.raises(TrainingError, match="was cancelled"):
        training.finish(training.start(), world.registry)


def test_an_unfinished_job_is_not_taken_for_finished(tries, world, jobs) -> None:
    jobs.course = [JobState.RUNNING]
    training = tries.training()
    with pytest.raises(PlatformError, match="has not ended"):
        training.finish(training.start(), world.registry)


def test_somebody_elses_job_of_that_name(tries, jobs) -> None:
    key = tries.training().start().key
    jobs.jobs[key].request["Spec"] = None
    with pytest.raises(PlatformError, match="taken by somebody else") as caught:
        tries.next().start()
    assert f"native/{key}" in str(caught.value)
    assert jobs.started == 1


def test_a_name_that_is_taken_between_looking_and_submitting(tries, jobs, monkeypatch) -> None:
    handle = JobHandle("frankfurt", "k", "native/other", "https://console/other", None)
    monkeypatch.setattr(jobs, "submit", lambda request: handle)
    with pytest.raises(PlatformError, match="native/other"):
        tries.training().start()


def test_an_output_location_that_is_not_empty(tries, jobs) -> None:
    key = tries.training().start().key
    jobs.jobs.clear()
    (jobs.store / "jobs" / key).mkdir(parents=True)
    (jobs.store / "jobs" / key / "model.bin").write_text("x")
    with pytest.raises(PlatformError, match=r"not empty: there is memory://jobs/.*/model.bin"):
        tries.next().start()
    assert jobs.started == 1


def test_a_job_that_is_shown_late_is_waited_for(tries, jobs) -> None:
    """The worker was killed after submitting; the platform does not show the job at once."""
    first = tries.training().start()
    jobs.hidden = 5
    assert tries.next().start() == first
    assert jobs.started == 1
    assert 0 < sum(tries.slept) < VISIBLE_S


def test_a_try_that_never_submitted_is_followed_by_one_that_does(tries, jobs, monkeypatch) -> None:
    def refuse(folder, files):
        raise PlatformUnavailableError("Slow down.")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "stage", refuse)
        with pytest.raises(PlatformUnavailableError):
            tries.training().start()
    tries.next().start()
    assert jobs.started == 1
    assert sum(tries.slept) == pytest.approx(VISIBLE_S)


def test_a_first_try_waits_for_nothing(tries) -> None:
    tries.training().start()
    assert tries.slept == []


def test_the_request_is_examined_before_anything_is_sent(tries, jobs) -> None:
    ruled(tries, PlatformRules(regions=("eu-west-1",), max_hours=1))
    with pytest.raises(ControlsRefusedError) as caught:
        tries.training().start()
    said = str(caught.value)
    assert "regions: Region is 'eu-central-1'" in said
    assert "max_hours: Seconds is 2.0" in said
    assert "platforms.yaml:3" in said
    assert (jobs.started, jobs.staged) == (0, [])
    (entry,) = tries.entries("job.examined")
    assert entry.body["passed"] is False
    assert {each["verdict"] for each in entry.body["controls"]} == {"failed", "unchecked"}


def test_what_could_not_be_checked_has_not_passed(tries, jobs) -> None:
    ruled(tries, PlatformRules(customer_keys=("output",)))
    jobs.account = [Stated("key.output", "bucket encryption", unknown="AccessDenied")]
    with pytest.raises(ControlsRefusedError, match="could not be checked: AccessDenied"):
        tries.training().start()
    jobs.account = [Stated("key.output", "bucket encryption", "alias/bank")]
    tries.next().start()
    passed, refused = sorted(tries.entries("job.examined"), key=lambda e: not e.body["passed"])
    assert (passed.body["passed"], refused.body["passed"]) == (True, False)
    assert passed.body["job"] == refused.body["job"]


def test_a_pack_without_rules_still_leaves_an_entry(tries) -> None:
    handle = tries.training().start()
    (entry,) = tries.entries("job.examined")
    assert (entry.body["job"], entry.body["controls"]) == (handle.key, [])


def test_an_artefact_that_was_changed_in_the_store(tries, world, jobs) -> None:
    training = tries.training()
    handle = training.start()
    jobs.poll(handle)
    (jobs.store / "jobs" / handle.key / "model" / "scorecard.json").write_text("[0, 0]")
    with pytest.raises(ArtefactError, match="cut short or changed"):
        training.finish(handle, world.registry)
    assert tries.entries("model.trained") == []


@pytest.mark.parametrize("name", ["manifest.json", "environment.json"])
def test_an_artefact_that_is_not_whole(tries, world, jobs, name) -> None:
    training = tries.training()
    handle = training.start()
    jobs.poll(handle)
    path = jobs.store / "jobs" / handle.key / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArtefactError, match=name):
        training.finish(handle, world.registry)


@pytest.mark.parametrize("what", ["script", "input"])
def test_what_changed_while_the_job_ran_counts_for_nothing(tries, world, order, what) -> None:
    training = tries.training()
    handle = training.start()
    path = order.script if what == "script" else Path(order.inputs["development"])
    path.write_text(path.read_text() + "\n")
    with pytest.raises(TrainingError, match="changed while"):
        training.finish(handle, world.registry)


def test_a_script_that_fails_in_the_container(tries, world, order) -> None:
    order.script.write_text(BROKEN)
    training = tries.training()
    with pytest.raises(TrainingError, match="no convergence"):
        training.finish(training.start(), world.registry)


def test_a_memory_limit_is_no_business_of_a_cloud(tries) -> None:
    with pytest.raises(ConfigurationError, match="memory_mb"):
        tries.next(memory_mb=512).start()


@pytest.mark.parametrize(("asked", "given"), [(None, 7200), (60.0, 60), (10**6, 7200)])
def test_a_task_may_only_shorten_the_platforms_limit(tries, jobs, asked, given) -> None:
    handle = tries.next(timeout_s=asked).start()
    assert jobs.jobs[handle.key].request["Seconds"] == given


def test_output_that_cannot_be_shown_stops_nothing(tries, world, jobs) -> None:
    training = tries.training()
    handle = training.start()
    jobs.says = ["x"] * 2500
    assert training.log_output(handle, None) == "2500"
    assert len([line for line in tries.log if line == "x"]) == 2500
    jobs.failures = 1
    assert training.log_output(handle, "2500") == "2500"
    assert "cannot be shown" in tries.log[-1]
