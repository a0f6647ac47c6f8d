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
from functools import cache
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ArtefactError,
    ControlsRefusedError,
    DataError,
    GuardRefusedError,
    MlgovError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.records.source import Source
from airflow_mlgov.service import job_watch
from airflow_mlgov.service.job_platform import JobState
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.train import train
from airflow_mlgov.triggers import job as trigger_module
from airflow_mlgov.triggers.job import JobTrigger
from tests.integration.platform_tasks import TASKS, Task
from tests.unit.service.conftest import make_world

VENDORS = {"sagemaker": "sagemaker_server", "vertex": "vertex_server", "azureml": "azureml_server"}


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


@pytest.fixture(params=sorted(TASKS))
def task(request, fake, tmp_path) -> Task:
    return TASKS[request.param](fake, tmp_path)


@pytest.fixture
def training(fake, tmp_path) -> Task:
    return TASKS["training"](fake, tmp_path)


@pytest.fixture
def scoring(fake, tmp_path) -> Task:
    return TASKS["scoring"](fake, tmp_path)


def test_what_is_trained_there_is_what_is_trained_here(training, fake, tmp_path) -> None:
    task = training
    trained = task.run()
    assert (fake.started, fake.running) == (1, 0)
    (tmp_path / "home").mkdir()
    home = make_world(tmp_path / "home", "L1")
    here = train(task.order, home.gov, LocalPlatform(), home.registry, print)
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
    work = task.work()
    cursor = work.log_output(handle, None)
    assert work.log_output(handle, cursor) == cursor
    assert handle.console_url in "\n".join(task.log)


def test_the_request_is_the_same_for_every_try(task) -> None:
    work, again = task.work(), task.work()
    asked = task.asked(work)
    assert task.asked(again).digest == asked.digest
    spec = asked.spec("mlgov-0123456789abcdef0123")
    jobs = work.jobs
    assert jobs.render(spec) == again.jobs.render(spec)
    assert json.loads(json.dumps(jobs.render(spec))) == jobs.render(spec)


def test_a_script_that_fails_is_told_with_its_reason_and_where_to_look(task) -> None:
    task.order.script.write_text('raise SystemExit("no convergence")\n')
    handle = task.start()
    task.wait(handle)
    with pytest.raises(task.failure) as caught:
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
    with pytest.raises(task.failure, match="CapacityError: no machine"):
        task.finish(handle)
    assert fake.started == 1


def test_a_failed_job_is_started_anew_only_after_it_was_told_of(task, fake) -> None:
    fake.script("failed")
    task.wait(task.start())
    with pytest.raises(task.failure):
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
    task.run()
    assert fake.started == 1


@pytest.mark.parametrize(
    ("task", "how", "calls"),
    [
        ("training", "throttle", range(0, 24, 7)),
        ("training", "500", range(2, 24, 7)),
        ("training", "expired", range(4, 24, 7)),
        ("training", "hang", range(0, 24, 3)),
        ("scoring", "500", range(1, 28, 9)),
        ("scoring", "hang", range(0, 28, 4)),
    ],
    indirect=["task"],
)
def test_whichever_call_fails_there_is_one_job(task, fake, how, calls) -> None:
    """Also for answers that are lost: "hang" does what was asked, and cuts the connection."""
    fake.hang_s = 0.05
    for good in calls:
        fake.fail(good, "")
        fake.fail(1, how)
        task.new_run(f"{how}-{good}")
        started = fake.started
        fake.script("running", "succeeded")
        task.run_until_done()
        assert fake.started == started + 1, f"after {good} calls"
        assert fake.running == 0


def test_a_worker_killed_between_submitting_and_knowing_it(task, fake) -> None:
    work = task.work()
    asked = task.asked(work)
    key_of = {}
    submit = work.jobs.submit

    def killed(request):
        key_of["native"] = submit(request).native_id
        raise KeyboardInterrupt

    work.jobs.submit = killed
    with pytest.raises(KeyboardInterrupt):
        work.start()
    assert asked.digest == task.asked(task.work()).digest
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
    tries = [task.work() for _ in range(2)]
    together = threading.Barrier(2)
    for work in tries:
        submit = work.jobs.submit

        def at_once(request, submit=submit):
            together.wait(20)
            return submit(request)

        work.jobs.submit = at_once
    found, key = [], "mlgov-0123456789abcdef0123"
    threads = [
        threading.Thread(target=lambda w=work: found.append(w._job._submit(key, task.asked(w))))
        for work in tries
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.native_id for handle in found}) == 1
    assert fake.running == 1


def test_stopping_ends_the_job(task, fake) -> None:
    fake.script("running")
    handle = task.start()
    jobs = task.platform()
    jobs.cancel(handle)
    assert task.wait(handle).state is JobState.CANCELLED
    assert fake.running == 0
    jobs.cancel(handle)  # once more is fine


def test_clearing_a_running_task_cancels_its_job_and_starts_another(task, fake) -> None:
    fake.script("running")
    first = task.start()
    task.platform().cancel(first)
    fake.script("running", "succeeded")
    task.run()
    assert (fake.started, fake.running) == (2, 0)
    assert len(task.kinds(task.done)) == 1


def test_a_job_cancelled_behind_our_back(task, fake) -> None:
    fake.script("running")
    handle = task.start()
    fake.cancel_behind_our_back()
    assert task.wait(handle).state is JobState.CANCELLED
    with pytest.raises(task.failure, match="was cancelled"):
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

    work = task.work()
    fake.taken(job_key(work.order.source, task.asked(work).digest, 0))
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
def test_an_artefact_that_is_not_what_the_container_wrote(training, fake, how) -> None:
    task = training
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
    monkeypatch.setattr(trigger_module, "_opened", lambda name, purpose: task.platform())
    handle = task.start()
    trigger = JobTrigger(handle=handle.as_json(), poll_s=0.01, outage_s=5.0)

    async def woken() -> dict:
        return (await anext(aiter(trigger.run()))).payload

    assert asyncio.run(woken()) == {"problem": "", "retryable": False}
    task.finish(handle)
    fake.script("running")
    task.new_run("run-8")
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


def test_what_is_scored_there_is_what_is_scored_here(scoring, fake, tmp_path) -> None:
    task = scoring
    scored = task.run()
    assert (fake.started, fake.running) == (1, 0)
    assert (tmp_path / "scores" / "june.scores.csv").read_text() == "id,pd\na,2\nb,4\n"
    assert (tmp_path / "scores" / "july.scores.csv").read_text() == "id,pd\nc,6\n"
    (entry,) = task.kinds("batch.scored")
    assert entry.version == scored.version == task.world.version
    record = json.loads(task.world.gov.evidence.get(scored.evidence))
    job = record["job"]
    assert job["kind"] == task.terms.kind
    assert job["billable_s"] >= 0
    assert job["image"] == task.terms.image
    assert job["region"] == task.terms.region


def test_scores_may_stay_where_they_are(scoring) -> None:
    scoring.output = None
    scored = scoring.run()
    held = scoring.platform().located
    for each in scored.scores:
        (stored,) = held(each.uri)
        assert stored.size_bytes == each.size_bytes


def test_what_lies_in_the_cloud_is_scored_where_it_is(scoring, fake) -> None:
    jobs = scoring.platform()
    folder = jobs.stage("applications", {file.name: file for file in scoring.data})
    scoring.data = [f"{folder}/"]
    scored = scoring.run()
    assert [(each.data, each.rows) for each in scored.scores] == [("july.csv", 1), ("june.csv", 2)]
    assert all(each.version for each in scored.data)
    assert fake.started == 1


def test_data_that_change_in_the_cloud_meanwhile(scoring, tmp_path) -> None:
    jobs = scoring.platform()
    folder = jobs.stage("applications", {file.name: file for file in scoring.data})
    scoring.data = [f"{folder}/"]
    handle = scoring.start()
    scoring.wait(handle)
    other = tmp_path / "other.csv"
    other.write_text("id,PAY_0\nc,3\nd,4\n")
    jobs.stage("applications", {"july.csv": other})
    with pytest.raises(DataError, match="changed while"):
        scoring.finish(handle)
    assert scoring.kinds("batch.scored") == []


def test_an_address_that_is_not_of_the_cloud(scoring, fake) -> None:
    scoring.data = ["ftp://elsewhere/june.csv"]
    with pytest.raises(DataError, match="ftp://elsewhere"):
        scoring.start()
    assert fake.started == 0


def test_a_model_that_is_swapped_in_the_store_is_refused_and_its_scores_too(scoring, fake) -> None:
    handle = scoring.start()
    scoring.wait(handle)
    fake.corrupt_package()
    with pytest.raises(GuardRefusedError) as caught:
        scoring.finish(handle)
    assert caught.value.check == "digest"
    assert scoring.kinds("batch.scored") == []
    assert not scoring.output.exists()


def test_scores_that_are_gone(scoring, fake) -> None:
    handle = scoring.start()
    scoring.wait(handle)
    fake.drop_scores()
    with pytest.raises(ArtefactError) as caught:
        scoring.finish(handle)
    assert not caught.value.retryable
    assert not scoring.output.exists()


def test_another_version_in_use_cancels_the_job_of_the_one_before(scoring, fake) -> None:
    fake.script("running")
    first = scoring.start()
    world = scoring.world
    world.train('{"points": [7]}', run_id="run-2")
    world.validate_model(note="second")
    world.approve(world.ask(source=Source("retail_pd", "run-2", "gate", -1, 1)))
    promote(world.gov, world.registry, world.use(run_id="run-2"))
    fake.script("running", "succeeded")
    assert scoring.run().version == world.version
    assert (fake.started, fake.running) == (2, 0)
    assert scoring.wait(first).state is JobState.CANCELLED
