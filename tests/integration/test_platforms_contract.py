"""One contract for all platforms whose jobs outlive the task, on each vendor's own fake.

Every test drives the service as the operator and its trigger do, so what is shown is what a task
does: that there is one job, or none, whatever fails between. The fakes hold requests and answers
against the vendors' own models and say what they cannot prove; none of this has met a real account.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ArtefactError,
    ControlsRefusedError,
    MlgovError,
    PlatformError,
    PlatformUnavailableError,
    TrainingError,
)
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.records.source import Source
from airflow_mlgov.service import job_watch
from airflow_mlgov.service.job_platform import JobState
from airflow_mlgov.service.job_watch import JobWatch
from airflow_mlgov.service.jobs import JobTraining
from airflow_mlgov.service.train import train
from airflow_mlgov.service.training_order import TrainingOrder
from airflow_mlgov.triggers import job as trigger_module
from airflow_mlgov.triggers.job import JobTrigger
from airflow_mlgov.wiring import open_jobs
from tests.unit.service.conftest import make_world

VENDORS = {"sagemaker": "sagemaker_server", "vertex": "vertex_server", "azureml": "azureml_server"}
SCRIPT = """\
import json, os, pathlib
import beside
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
out = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"])
(out / "model").mkdir()
data = pathlib.Path(os.environ["MLGOV_INPUT_DEVELOPMENT"]).read_text()
(out / "model" / "scorecard.json").write_text(json.dumps([job["seed"], job["parameters"], data]))
(out / "model" / "deep").mkdir()
(out / "model" / "deep" / "er.txt").write_text(beside.WORD)
(out / "metrics.json").write_text('{"auc": 0.77}')
signature = {"inputs": [{"name": "PAY_0", "type": "long"}], "output": "pd"}
(out / "signature.json").write_text(json.dumps(signature))
print("trained on", len(data), "characters")
"""


def container(command: list[str], root: Path) -> int:
    """Play the vendor's machine: run what it was told to run, with this interpreter."""
    del root
    first = next(n for n, word in enumerate(command) if word.endswith("mlgov-entry.pyz"))
    done = subprocess.run(
        [sys.executable, *command[first:]], capture_output=True, text=True, check=False
    )
    return done.returncode


@pytest.fixture(scope="session", autouse=True)
def _models_are_read_once():
    """Read each of botocore's models once: every try is a client of its own, and reads them."""
    from botocore.loaders import JSONFileLoader

    read = cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda self, path: read(path))
        yield


@pytest.fixture(params=sorted(VENDORS))
def fake(request, monkeypatch):
    module = importlib.import_module(VENDORS[request.param])
    with module.start() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.container = container
        running.script("queued", "running", "succeeded")
        yield running


@pytest.fixture
def order(tmp_path: Path) -> TrainingOrder:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "beside.py").write_text('WORD = "beside"\n')
    (tmp_path / "dev.csv").write_text("PAY_0,DEFAULT\n1,0\n")
    return TrainingOrder(
        model="retail_pd",
        script=folder / "train.py",
        inputs={"development": str(tmp_path / "dev.csv")},
        parameters={"rate": 0.1},
        seed=42,
        source=Source("retail_pd", "run-7", "train", -1, 1),
    )


class Task:
    """A task of Airflow that is tried again and again; each try is a process with no memory."""

    def __init__(self, fake, order, folder) -> None:
        self.world = make_world(folder, "L1")
        self.fake, self.order = fake, order
        self.terms = replace(fake.terms(), poll_s=0.01, outage_s=5.0)
        self.log: list[str] = []

    def training(self) -> JobTraining:
        number = self.order.source.try_number + 1
        self.order = replace(self.order, source=replace(self.order.source, try_number=number))
        return JobTraining(
            self.order,
            self.world.gov,
            self.terms,
            open_jobs(self.terms),
            self.log.append,
            self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.world.clock.moment += timedelta(seconds=seconds)

    def start(self):
        return self.training().start()

    def wait(self, handle):
        watch = JobWatch(open_jobs(self.terms), handle, 0.01, self.terms.outage_s)
        while True:
            look = watch.look()
            if look.status is not None and look.status.state.ended:
                return look.status

    def finish(self, handle):
        return self.training().finish(handle, self.world.registry)

    def run(self):
        """Do all of it, as one try that nothing happens to."""
        handle = self.start()
        self.wait(handle)
        return self.finish(handle)

    def run_until_done(self, tries: int = 6):
        """Let Airflow retry what a retry may help; return what comes of it."""
        for _ in range(tries):
            try:
                return self.run()
            except MlgovError as error:
                if not error.retryable:
                    raise
        raise AssertionError(f"not done after {tries} tries")

    def kinds(self, kind: str):
        return self.world.gov.ledger.view().select(kind)


@pytest.fixture
def task(fake, order, tmp_path) -> Task:
    return Task(fake, order, tmp_path)


def test_what_is_trained_there_is_what_is_trained_here(task, fake, order, tmp_path) -> None:
    trained = task.run()
    assert (fake.started, fake.running) == (1, 0)
    (tmp_path / "home").mkdir()
    home = make_world(tmp_path / "home", "L1")
    here = train(order, home.gov, LocalPlatform(), home.registry, print)
    assert trained.manifest == here.manifest
    record = json.loads(task.world.gov.evidence.get(trained.evidence))
    assert record["platform"] == task.terms.name
    job = record["job"]
    assert job["kind"] == task.terms.kind
    assert job["billable_s"] >= 0
    assert job["image"] == task.terms.image
    assert job["region"] == task.terms.region
    assert job["console_url"].startswith("https://")
    assert record["environment"]["python"].startswith("3.")


def test_the_jobs_output_comes_into_the_tasks_log(task) -> None:
    handle = task.start()
    task.wait(handle)
    training = task.training()
    cursor = training.log_output(handle, None)
    assert training.log_output(handle, cursor) == cursor
    assert handle.console_url in "\n".join(task.log)


def test_the_request_is_the_same_for_every_try(task) -> None:
    training, again = task.training(), task.training()
    asked = training._asked()
    assert again._asked().digest == asked.digest
    spec = training._spec("mlgov-0123456789abcdef0123", asked)
    jobs = training.jobs
    assert jobs.render(spec) == again.jobs.render(spec)
    assert json.loads(json.dumps(jobs.render(spec))) == jobs.render(spec)


def test_a_script_that_fails_is_told_with_its_reason_and_where_to_look(task, order) -> None:
    order.script.write_text('raise SystemExit("no convergence")\n')
    handle = task.start()
    task.wait(handle)
    with pytest.raises(TrainingError) as caught:
        task.finish(handle)
    assert handle.native_id in str(caught.value)
    assert handle.console_url in str(caught.value)
    assert not caught.value.retryable
    (ended,) = task.kinds("job.ended")
    assert ended.body["native_id"] == handle.native_id


def test_a_job_that_the_vendor_lets_fail(task, fake) -> None:
    fake.reason = "CapacityError: no machine"
    fake.script("queued", "failed")
    handle = task.start()
    assert task.wait(handle).state is JobState.FAILED
    with pytest.raises(TrainingError, match="CapacityError: no machine"):
        task.finish(handle)
    assert fake.started == 1


def test_a_failed_job_is_started_anew_only_after_it_was_told_of(task, fake) -> None:
    fake.script("failed")
    task.wait(task.start())
    with pytest.raises(TrainingError):
        task.start()
    assert fake.started == 1
    fake.script("succeeded")
    task.run()
    assert fake.started == 2


@pytest.mark.parametrize("phase", [("queued",), ("running",), ("succeeded",)])
def test_a_retry_in_every_phase_finds_the_one_job(task, fake, phase) -> None:
    fake.script(*phase)
    first = task.start()
    second = task.start()
    assert (second.native_id, fake.started) == (first.native_id, 1)


def test_a_retry_after_all_is_on_record_adds_nothing(task, fake) -> None:
    task.run()
    before = len(task.kinds("model.trained"))
    task.run()
    assert (fake.started, len(task.kinds("model.trained"))) == (1, before)


@pytest.mark.parametrize("how", ["throttle", "500", "hang", "expired"])
def test_whichever_call_fails_there_is_one_job(task, fake, how) -> None:
    """Also for answers that are lost: "hang" does what was asked, and cuts the connection."""
    fake.hang_s = 0.05
    for good in range(0, 24, 3 if how == "hang" else 5):
        fake.fail(good, "")
        fake.fail(1, how)
        task.order = replace(
            task.order, source=replace(task.order.source, run_id=f"{how}-{good}", try_number=0)
        )
        started = fake.started
        fake.script("running", "succeeded")
        task.run_until_done()
        assert fake.started == started + 1, f"after {good} calls"
        assert fake.running == 0


def test_a_worker_killed_between_submitting_and_knowing_it(task, fake) -> None:
    training = task.training()
    asked = training._asked()
    key_of = {}
    submit = training.jobs.submit

    def killed(request):
        key_of["native"] = submit(request).native_id
        raise KeyboardInterrupt

    training.jobs.submit = killed
    with pytest.raises(KeyboardInterrupt):
        training.start()
    assert asked.digest == task.training()._asked().digest
    assert task.start().native_id == key_of["native"]
    assert fake.started == 1


def test_a_job_that_is_shown_late_is_waited_for(task, fake) -> None:
    fake.hide(4)
    first = task.start()
    fake.hide(3)
    assert task.start().native_id == first.native_id
    assert fake.started == 1


def test_two_workers_that_start_at_once_leave_one_job(task, fake) -> None:
    fake.script("running")
    trainings = [task.training() for _ in range(2)]
    together = threading.Barrier(2)
    for training in trainings:
        submit = training.jobs.submit

        def at_once(request, submit=submit):
            together.wait(20)
            return submit(request)

        training.jobs.submit = at_once
    found = []
    threads = [
        threading.Thread(target=lambda t=training: found.append(t._submit(*_first(t))))
        for training in trainings
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.native_id for handle in found}) == 1
    assert fake.running == 1


def _first(training):
    asked = training._asked()
    return "mlgov-0123456789abcdef0123", asked


def test_stopping_ends_the_job(task, fake) -> None:
    fake.script("running")
    handle = task.start()
    jobs = open_jobs(task.terms)
    jobs.cancel(handle)
    assert task.wait(handle).state is JobState.CANCELLED
    assert fake.running == 0
    jobs.cancel(handle)  # once more is fine


def test_clearing_a_running_task_cancels_its_job_and_starts_another(task, fake) -> None:
    fake.script("running")
    first = task.start()
    open_jobs(task.terms).cancel(first)
    fake.script("running", "succeeded")
    trained = task.run()
    assert (fake.started, fake.running) == (2, 0)
    assert trained.registered.version == "1"


def test_a_job_cancelled_behind_our_back(task, fake) -> None:
    fake.script("running")
    handle = task.start()
    fake.cancel_behind_our_back()
    assert task.wait(handle).state is JobState.CANCELLED
    with pytest.raises(TrainingError, match="was cancelled"):
        task.finish(handle)


@pytest.mark.parametrize("state", ["paused", "unknown"])
def test_a_doubtful_job_is_told_and_neither_success_nor_cancelled(
    task, fake, state, monkeypatch
) -> None:
    monkeypatch.setattr(job_watch, "DOUBT_S", 0.2)
    fake.script("running", state)
    handle = task.start()
    with pytest.raises(PlatformError) as caught:
        task.wait(handle)
    assert handle.native_id in str(caught.value)
    assert fake.running == 1
    fake.script("running")
    assert task.start().native_id == handle.native_id


def test_a_job_that_vanished(task, fake, monkeypatch) -> None:
    monkeypatch.setattr(job_watch, "DOUBT_S", 0.2)
    fake.script("running")
    handle = task.start()
    fake.vanish()
    with pytest.raises(PlatformError, match="is missing"):
        task.wait(handle)
    assert fake.started == 1


def test_somebody_elses_job_under_our_name(task, fake) -> None:
    from airflow_mlgov.service.job_platform import job_key

    source = replace(task.order.source)
    fake.taken(job_key(source, task.training()._asked().digest, 0))
    with pytest.raises(PlatformError, match="taken by somebody else"):
        task.start()
    assert fake.started == 0


@pytest.mark.parametrize("how", ["quota", "denied"])
def test_what_the_vendor_refuses_starts_nothing(task, fake, how) -> None:
    fake.fail(1, how)
    with pytest.raises(PlatformError) as caught:
        task.start()
    assert not isinstance(caught.value, PlatformUnavailableError)
    assert fake.started == 0
    task.run()
    assert fake.started == 1


def test_a_connection_that_is_missing(task, monkeypatch, fake) -> None:
    for name in fake.environment():
        if name.startswith("AIRFLOW_CONN_"):
            monkeypatch.delenv(name)
    with pytest.raises(MlgovError) as caught:
        task.start()
    assert task.terms.connection in str(caught.value)
    assert not caught.value.retryable


def test_a_region_that_the_pack_forbids(task, fake) -> None:
    gov = task.world.gov
    rules = PlatformRules(regions=("mars-north-1",), pinned_images=True, max_hours=1)
    packs = {name: replace(pack, platforms=rules) for name, pack in gov.packs.items()}
    task.world.gov = replace(gov, packs=packs)
    with pytest.raises(ControlsRefusedError, match=r"regions: .* is "):
        task.start()
    assert fake.started == 0
    (entry,) = task.kinds("job.examined")
    assert entry.body["passed"] is False


@pytest.mark.parametrize("how", ["truncate", "change"])
def test_an_artefact_that_is_not_what_the_container_wrote(task, fake, how) -> None:
    handle = task.start()
    task.wait(handle)
    fake.corrupt(how)
    with pytest.raises(ArtefactError) as caught:
        task.finish(handle)
    assert not caught.value.retryable
    assert task.kinds("model.trained") == []


def test_an_output_location_that_is_not_empty(task, fake) -> None:
    task.run()
    fake.vanish()
    with pytest.raises(PlatformError, match="is not empty"):
        task.start()
    assert fake.started == 1


def test_the_trigger_waits_for_it_and_cancels_when_somebody_clears(task, fake, monkeypatch) -> None:
    monkeypatch.setattr(trigger_module, "_opened", lambda name: open_jobs(task.terms))
    handle = task.start()
    trigger = JobTrigger(handle=handle.as_json(), poll_s=0.01, outage_s=5.0)

    async def woken() -> dict:
        return (await anext(aiter(trigger.run()))).payload

    assert asyncio.run(woken()) == {"problem": "", "retryable": False}
    task.finish(handle)
    fake.script("running")
    task.order = replace(task.order, seed=43)
    second = task.start()
    killed = JobTrigger(handle=second.as_json(), poll_s=0.01, outage_s=5.0)
    asyncio.run(killed.on_kill())
    assert task.wait(second).state is JobState.CANCELLED


def test_an_outage_of_the_status_fails_the_task_and_leaves_the_job(task, fake) -> None:
    fake.script("running", "running", "succeeded")
    handle = task.start()
    task.terms = replace(task.terms, outage_s=0.1)
    fake.fail(500, "500")
    with pytest.raises(PlatformUnavailableError) as caught:
        task.wait(handle)
    assert handle.native_id in str(caught.value)
    assert handle.console_url in str(caught.value)
    assert "not cancelled" in str(caught.value)
    assert fake.started == 1
