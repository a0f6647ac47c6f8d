"""Batch prediction jobs of Vertex AI: asked for, found, watched and fetched, against the fake."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vertex_server
from google.cloud import aiplatform_v1 as v1

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.vertex import VertexPlatform, VertexScoring
from airflow_mlgov.policy.platform_controls import PlatformRules, Verdict, examine
from airflow_mlgov.policy.platforms_file import Instance, Network
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import entry_archive
from airflow_mlgov.service.container_scoring import (
    ScoringSpec,
    SpecData,
    scores_name,
    scoring_document,
)
from airflow_mlgov.service.job_platform import SCORING, JobHandle, JobSpec, JobState

KEY = "mlgov-0123456789abcdef0123"
SPEC = Digest.of(b"spec")
SCRIPT = """\
import csv, json, os, pathlib
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
model = pathlib.Path(os.environ["MLGOV_INPUT_MODEL"])
rate = json.loads((model / "deep" / "scorecard.json").read_text())["rate"]
rows = pathlib.Path(os.environ["MLGOV_INPUT_DATA"]).read_text().splitlines()[1:]
if any(row == "bad" for row in rows):
    raise SystemExit("a row is bad")
with open(pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"], "scores.csv"), "w") as file:
    csv.writer(file).writerows([["pd"], *([int(row) * rate] for row in rows)])
print("scored", len(rows))
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[vertex_server.VertexFake]:
    with vertex_server.start() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def idle(fake) -> vertex_server.VertexFake:
    """Jobs whose container is not run: what they do is scripted."""
    fake.jobs.idle = True
    return fake


def platform(fake: vertex_server.VertexFake, **changes: Any) -> VertexScoring:
    return VertexScoring(fake.terms(**changes), sleep=lambda _: None)


def job_spec(jobs: VertexScoring, key: str = KEY, **changes: Any) -> JobSpec:
    said = {
        "key": key,
        "spec": SPEC,
        "code_uri": jobs.output_uri("staged/package"),
        "inputs": {"loans.csv": "gs://bank-mlgov/in/loans.csv", "cards.csv": "gs://b/c.csv"},
        "output_uri": jobs.output_uri(f"jobs/{key}"),
        "timeout_s": 3600,
        "labels": {"mlgov-model": "retail_pd"},
    }
    return JobSpec(**{**said, **changes})


def submitted(jobs: VertexScoring) -> JobHandle:
    return jobs.submit(jobs.render(job_spec(jobs)))


def test_a_request_says_all_that_the_entry_does(idle) -> None:
    jobs = platform(idle)
    request = jobs.render(job_spec(jobs))
    job = request["batchPredictionJob"]
    output = f"gs://bank-mlgov/mlgov/jobs/{KEY}"
    package = "gs://bank-mlgov/mlgov/staged/package"
    assert json.loads(json.dumps(request)) == request == jobs.render(job_spec(jobs))
    assert request["parent"] == "projects/bank-models/locations/europe-west3"
    assert job["displayName"] == KEY
    assert job["labels"].items() >= {"cost-centre": "risk", "mlgov-key": KEY}.items()
    assert job["encryptionSpec"] == {"kmsKeyName": vertex_server.KEY}
    assert job["serviceAccount"] == vertex_server.ACCOUNT
    assert job["inputConfig"] == {
        "instancesFormat": "jsonl",
        "gcsSource": {"uris": [f"{output}.job/instances.jsonl"]},
    }
    assert job["outputConfig"] == {
        "predictionsFormat": "jsonl",
        "gcsDestination": {"outputUriPrefix": output},
    }
    assert job["dedicatedResources"] == {
        "machineSpec": {"machineType": "n2-standard-4"},
        "startingReplicaCount": 1,
        "maxReplicaCount": 1,
    }
    assert job["manualBatchTuningParameters"] == {"batchSize": 1}
    model = job["unmanagedContainerModel"]
    assert model["artifactUri"] == package
    container = model["containerSpec"]
    assert container["imageUri"] == vertex_server.IMAGE
    assert container["command"][:2] == ["python", "-c"]
    assert container["args"] == [
        f"{package}/mlgov-entry.pyz", Digest.of(entry_archive()).hex,
        "serve-vertex", "--package", package, "--spec-sha256", SPEC.hex,
        "--output", output, "--failure", f"{output}.failure", "--key", vertex_server.KEY,
    ]  # fmt: skip
    jobs.submit(request)


def test_what_the_image_runs_first_is_python_of_any_age_without_variables(idle) -> None:
    jobs = platform(idle)
    container = jobs.render(job_spec(jobs))["batchPredictionJob"]["unmanagedContainerModel"]
    program = container["containerSpec"]["command"][2]
    assert "$" not in program
    assert "airflow_mlgov" not in program
    compile(program, "bootstrap", "exec")


ALL_RULES = PlatformRules(
    regions=("europe-west3",),
    customer_keys=("output", "volume", "model"),
    named_identity=True,
    max_instances=1,
    spot=False,
    required_tags=("cost-centre",),
    image_registries=("europe-west3-docker.pkg.dev/bank",),
    pinned_images=True,
)


def failed(jobs: VertexScoring, rules: PlatformRules = ALL_RULES) -> dict[str, str]:
    request = jobs.render(job_spec(jobs))
    results = examine(rules, [*jobs.stated(request), *jobs.preflight(request)])
    return {r.subject: r.verdict for r in results if r.verdict is not Verdict.PASSED}


def test_a_bank_s_own_entry_passes_what_a_batch_prediction_job_can(idle) -> None:
    assert failed(platform(idle)) == {}
    assert failed(platform(idle, instance=Instance("n2-standard-4", count=3, spot=True))) == {}


@pytest.mark.parametrize(
    ("rules", "verdicts"),
    [
        ({"private_network": True}, {"network.private": "failed"}),
        ({"max_hours": 24}, {"hours": "failed"}),
        ({"isolated": True}, {"network.isolated": "unchecked"}),
        ({"encrypted_traffic": True}, {"network.encrypted": "unchecked"}),
    ],
)
def test_what_it_cannot_say_refuses_it(idle, rules, verdicts) -> None:
    assert failed(platform(idle), PlatformRules(**rules)) == verdicts


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"keys": {"output": vertex_server.KEY}}, "key.volume"),
        ({"identity": ""}, "identity"),
        ({"tags": {}}, "tags"),
        ({"image": "europe-west3-docker.pkg.dev/bank/train:latest"}, "image"),
        ({"region": "us-central1"}, "region"),
    ],
)
def test_each_control_looks_at_the_field_that_breaks_it(idle, changes, subject) -> None:
    assert failed(platform(idle, **changes)) == {subject: "failed"}


def test_the_preflight_reads_the_bucket_of_the_output(idle) -> None:
    vertex_server.change_bucket(idle, location="US")
    assert failed(platform(idle)) == {"region.data": "failed"}


def test_jobs_of_both_kinds_are_found_apart_by_one_key(idle) -> None:
    jobs = platform(idle)
    assert jobs.find(KEY) is None
    handle = submitted(jobs)
    assert (handle.spec, handle.key, handle.platform) == (SPEC, KEY, "gcp")
    assert handle.purpose == SCORING
    assert handle.native_id.endswith("/batchPredictionJobs/1000")
    assert "/batch-predictions/1000?project=bank-models" in handle.console_url
    assert JobHandle.from_json(handle.as_json()) == handle
    assert platform(idle).find(KEY) == handle == submitted(jobs)
    assert VertexPlatform(idle.terms()).find(KEY) is None
    assert idle.started == 1


def test_somebody_else_s_job_under_our_key_carries_no_digest(idle) -> None:
    idle.taken(KEY)
    handle = platform(idle).find(KEY)
    assert handle is not None
    assert handle.spec is None
    assert submitted(platform(idle)) == handle
    assert idle.started == 0


def test_a_job_that_is_shown_late_is_waited_for(idle) -> None:
    waits: list[float] = []
    jobs = VertexScoring(idle.terms(), sleep=waits.append)
    idle.hide(3)
    handle = submitted(jobs)
    assert len(waits) == 3
    assert jobs.find(KEY) == handle


def test_of_two_that_start_at_once_the_older_remains(idle) -> None:
    barrier = threading.Barrier(2)
    handles: list[JobHandle] = []

    def start() -> None:
        jobs = VertexScoring(idle.terms())
        created = jobs._created
        jobs._created = lambda request: (barrier.wait(10), created(request))[1]
        handles.append(submitted(jobs))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (idle.started, idle.running) == (2, 1)
    assert {handle.native_id.rpartition("/")[2] for handle in handles} == {"1000"}


@pytest.mark.parametrize(
    ("native", "state"),
    [
        ("queued", JobState.QUEUED),
        ("JOB_STATE_QUEUED", JobState.QUEUED),
        ("running", JobState.RUNNING),
        ("JOB_STATE_UPDATING", JobState.RUNNING),
        ("succeeded", JobState.SUCCEEDED),
        ("failed", JobState.FAILED),
        ("JOB_STATE_EXPIRED", JobState.FAILED),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", JobState.FAILED),
        ("JOB_STATE_CANCELLING", JobState.CANCELLING),
        ("JOB_STATE_CANCELLED", JobState.CANCELLED),
        ("paused", JobState.PAUSED),
        ("JOB_STATE_UNSPECIFIED", JobState.UNKNOWN),
        ("unknown", JobState.UNKNOWN),
    ],
)
def test_every_state_has_a_word_of_ours(idle, native, state) -> None:
    idle.script(native)
    jobs = platform(idle)
    status = jobs.poll(submitted(jobs))
    assert status.state is state
    assert bool(status.reason) == (state is JobState.FAILED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"partial_failures": [{"code": 5, "message": "loans.csv: gone"}]},
            "loans.csv: gone",
        ),
        ({"completion_stats": v1.CompletionStats(failed_count=2)}, "2 files were not scored"),
        ({"completion_stats": v1.CompletionStats(incomplete_count=1)}, "1 files were not scored"),
    ],
)
@pytest.mark.parametrize("native", ["succeeded", "JOB_STATE_PARTIALLY_SUCCEEDED"])
def test_a_success_in_part_is_a_failure_that_says_why(idle, native, changes, said) -> None:
    idle.script(native)
    jobs = platform(idle)
    handle = submitted(jobs)
    for name, value in changes.items():
        setattr(idle.jobs.all[0].job, name, value)
    status = jobs.poll(handle)
    assert status.state is JobState.FAILED
    assert said in status.reason


def test_an_unknown_count_of_files_is_no_failure(idle) -> None:
    idle.script("succeeded")
    jobs = platform(idle)
    handle = submitted(jobs)
    idle.jobs.all[0].job.completion_stats = v1.CompletionStats(incomplete_count=-1)
    assert jobs.poll(handle).state is JobState.SUCCEEDED


def test_a_status_says_what_was_used_and_for_how_long(idle) -> None:
    jobs = platform(idle)
    handle = submitted(jobs)
    assert jobs.poll(handle).billable_s is None
    status = jobs.poll(handle)
    assert status.billable_s == 90.0
    facts = dict(status.facts)
    assert facts.pop("ended_at") > facts.pop("started_at")
    assert facts == {  # and no image: Vertex AI takes the container, and does not tell it
        "region": "europe-west3",
        "key": vertex_server.KEY,
        "identity": vertex_server.ACCOUNT,
        "instance": "n2-standard-4",
        "billable_by": "replica hours",
    }


def test_a_job_that_is_gone_is_missing_and_one_that_has_ended_is_fine(idle) -> None:
    idle.script("running")
    jobs = platform(idle)
    handle = submitted(jobs)
    jobs.cancel(handle)
    assert idle.running == 0
    assert [jobs.poll(handle).state for _ in range(2)] == ["cancelling", "cancelled"]
    jobs.cancel(handle)
    idle.vanish()
    assert jobs.poll(handle).state is JobState.MISSING
    jobs.cancel(handle)


@pytest.mark.parametrize("how", ["throttle", "500", "hang", "expired"])
def test_a_call_that_fails_names_the_job_and_the_next_one_works(idle, how) -> None:
    idle.script("running")
    jobs = platform(idle)
    handle = submitted(jobs)
    idle.hang_s = 0.01
    idle.fail(1, how)
    with pytest.raises(PlatformUnavailableError, match="batchPredictionJobs/1000"):
        jobs.poll(handle)
    assert jobs.poll(handle).state is JobState.RUNNING


@pytest.mark.parametrize("how", ["quota", "denied"])
def test_a_submit_that_is_refused_starts_nothing(idle, how) -> None:
    idle.fail(1, how)
    with pytest.raises(PlatformError, match=KEY) as caught:
        submitted(platform(idle))
    assert not caught.value.retryable
    assert idle.started == 0


def test_a_request_that_vertex_does_not_have_is_refused_here(idle) -> None:
    jobs = platform(idle)
    asked = jobs.render(job_spec(jobs))
    asked["batchPredictionJob"]["network"] = vertex_server.NETWORK
    with pytest.raises(PlatformError, match="network"):
        jobs.submit(asked)
    assert idle.started == 0


def test_the_fake_refuses_what_vertex_would(idle) -> None:
    jobs = platform(idle)
    asked = jobs.render(job_spec(jobs))
    job = asked["batchPredictionJob"]
    model = job["unmanagedContainerModel"]
    expanded = {**model["containerSpec"], "args": ["$(AIP_STORAGE_URI)"]}
    for change, said in (
        ({"model": "projects/p/locations/l/models/m"}, "Exactly one of model"),
        ({"unmanagedContainerModel": {**model, "containerSpec": expanded}}, "variable"),
        ({"inputConfig": {**job["inputConfig"], "instancesFormat": "file-list"}}, "jsonl"),
        ({"dedicatedResources": {"maxReplicaCount": 1}}, "machine type"),
        ({"encryptionSpec": {"kmsKeyName": "mine"}}, "kms_key_name"),
    ):
        with pytest.raises(PlatformError, match=said):
            jobs.submit({**asked, "batchPredictionJob": {**job, **change}})


def test_what_vertex_cannot_be_told_is_refused_at_once(fake) -> None:
    with pytest.raises(ConfigurationError, match=r"platforms\.yaml:3.*network\.isolated"):
        platform(fake, network=Network(isolated=True))


def test_files_are_located_with_their_generations(fake) -> None:
    for name in ("in/loans.csv", "in/more/cards.csv", "in/more/", "instead.csv"):
        fake.bucket().blob(name).upload_from_string(b"a\n1\n"[: 0 if name.endswith("/") else 9])
    jobs = platform(fake)
    (one,) = jobs.located("gs://bank-mlgov/in/loans.csv")
    generation = fake.bucket().get_blob("in/loans.csv").generation
    assert (one.uri, one.size_bytes, one.version) == (
        "gs://bank-mlgov/in/loans.csv", 4, str(generation),
    )  # fmt: skip
    assert [each.uri for each in jobs.located("gs://bank-mlgov/in/")] == [
        "gs://bank-mlgov/in/loans.csv", "gs://bank-mlgov/in/more/cards.csv",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "uri",
    [
        "gs://bank-mlgov/none.csv", "gs://bank-mlgov/none/", "gs://bank-none/a.csv",
        "gs://bank-none/a/", "gs://bank-mlgov", "gs://bank-mlgov/", "s3://b/a.csv", "/a.csv", "",
    ],
)  # fmt: skip
def test_what_is_not_there_or_no_address_of_ours_is_not_located(fake, uri) -> None:
    with pytest.raises(DataError) as caught:
        platform(fake).located(uri)
    assert repr(uri)[1:-1] in str(caught.value)
    assert not caught.value.retryable


class Package:
    """A package with a model, and the files that it scores: one of ours, one of the store's."""

    def __init__(self, fake, folder: Path, script: str = SCRIPT) -> None:
        self.jobs = platform(fake)
        (folder / "model" / "deep").mkdir(parents=True)
        (folder / "model" / "deep" / "scorecard.json").write_text('{"rate": 2}')
        (folder / "score.py").write_text(script)
        (folder / "mlgov-entry.pyz").write_bytes(entry_archive())
        loans = b"a\n1\n2\n"
        uri = f"{self.jobs.output_uri('staged/data')}/loans.csv"
        fake.bucket().blob("mlgov/staged/data/loans.csv").upload_from_string(loans)
        fake.bucket().blob("in/cards.csv").upload_from_string(b"a\n3\n")
        (stored,) = self.jobs.located("gs://bank-mlgov/in/cards.csv")
        spec = ScoringSpec(
            "score.py",
            {"score.py": Digest.of(script.encode())},
            hash_directory(folder / "model").digest,
            {
                "loans.csv": SpecData(Digest.of(loans), len(loans)),
                "cards.csv": SpecData(None, stored.size_bytes, stored.version),
            },
            {},
        )
        (folder / "spec.json").write_bytes(scoring_document(spec))
        self.files = {
            str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()
        }
        self.spec = job_spec(
            self.jobs,
            spec=Digest.of((folder / "spec.json").read_bytes()),
            inputs={"loans.csv": uri, "cards.csv": stored.uri},
        )

    def submitted(self) -> JobHandle:
        self.jobs.stage_package(self.spec, self.files)
        return self.jobs.submit(self.jobs.render(self.spec))

    def ended(self) -> JobHandle:
        handle = self.submitted()
        for _ in range(2):
            self.status = self.jobs.poll(handle)
        return handle


@pytest.fixture
def package(fake, tmp_path: Path) -> Package:
    (tmp_path / "package").mkdir()
    return Package(fake, tmp_path / "package")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir(mode=0o700)
    return tmp_path / "into"


def test_the_real_entry_point_scores_on_vertex_s_machines(fake, package, into) -> None:
    fake.machines.twice = True
    fake.machines.page_most = 2
    handle = package.ended()
    assert package.status.state is JobState.SUCCEEDED
    uris = package.jobs.fetch_scores(handle, package.spec, into)
    output = f"gs://bank-mlgov/mlgov/jobs/{KEY}/scores"
    assert uris == {
        "cards.csv": f"{output}/cards.scores.csv", "loans.csv": f"{output}/loans.scores.csv",
    }  # fmt: skip
    assert (into / scores_name("loans.csv")).read_text().split() == ["pd", "2", "4"]
    assert (into / scores_name("cards.csv")).read_text().split() == ["pd", "6"]
    stored = f"mlgov/jobs/{KEY}/scores/loans.scores.csv"
    assert fake.machines.keys[stored] == vertex_server.KEY
    lines, _ = package.jobs.log_lines(handle, None)
    said = [line.partition(" ")[2] for line in lines]
    assert said.count("scored 2") == 1  # asked twice, scored once
    assert "loans.csv: was scored already." in said


def test_a_package_is_staged_once_and_comes_back(fake, package, into) -> None:
    package.submitted()
    made = {blob.name: blob.generation for blob in fake.bucket().list_blobs()}
    package.jobs.stage_package(package.spec, package.files)
    assert {blob.name: blob.generation for blob in fake.bucket().list_blobs()} == made
    package.jobs.fetch_package(package.spec, into)
    came = {str(file.relative_to(into)) for file in into.rglob("*") if file.is_file()}
    assert came == set(package.files) == {
        "mlgov-entry.pyz", "score.py", "spec.json", "model/deep/scorecard.json",
    }  # fmt: skip
    assert (into / "spec.json").read_bytes() == package.files["spec.json"].read_bytes()
    assert package.jobs.first_object(package.spec.output_uri) is None


def test_the_list_of_files_stands_beside_the_output(fake, package) -> None:
    package.submitted()
    text = fake.bucket().blob(f"mlgov/jobs/{KEY}.job/instances.jsonl").download_as_text()
    assert [json.loads(line) for line in text.splitlines()] == [
        {"name": name, "uri": package.spec.inputs[name]} for name in ("cards.csv", "loans.csv")
    ]


def test_a_package_that_is_gone_is_not_fetched(package, into) -> None:
    with pytest.raises(ArtefactError, match="Nothing stands in gs://bank-mlgov/mlgov/staged"):
        package.jobs.fetch_package(package.spec, into)


def test_a_model_that_was_altered_after_staging_fails_the_job(fake, package) -> None:
    handle = package.submitted()
    fake.corrupt_package()
    package.jobs.poll(handle)
    status = package.jobs.poll(handle)
    assert status.state is JobState.FAILED
    assert "exit_code: 1" in status.reason
    assert "was approved" in status.reason
    assert package.jobs.first_object(package.spec.output_uri) is None


def test_a_package_altered_after_the_job_is_seen_when_it_comes_back(fake, package, into) -> None:
    package.ended()
    fake.corrupt_package()
    package.jobs.fetch_package(package.spec, into)
    assert (
        hash_directory(into / "model").digest
        != hash_directory(package.files["score.py"].parent / "model").digest
    )


def test_a_file_that_was_replaced_meanwhile_is_not_scored(fake, package) -> None:
    handle = package.submitted()
    fake.bucket().blob("in/cards.csv").upload_from_string(b"a\n4\n")  # as long as before
    package.jobs.poll(handle)
    status = package.jobs.poll(handle)
    assert (status.state, status.native_state) == (JobState.FAILED, "JOB_STATE_SUCCEEDED")
    assert "1 files were not scored" in status.reason
    assert "There is no gs://bank-mlgov/in/cards.csv of generation" in status.reason


def test_a_script_that_fails_fails_the_job_with_its_words(fake, tmp_path) -> None:
    (tmp_path / "p").mkdir()
    package = Package(fake, tmp_path / "p", "raise SystemExit('no convergence')\n")
    package.ended()
    assert (package.status.state, package.status.native_state) == (
        JobState.FAILED, "JOB_STATE_FAILED",
    )  # fmt: skip
    assert "no convergence" in package.status.reason


@pytest.mark.parametrize("how", ["truncate", "change"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_scores_that_were_altered_are_not_taken(fake, package, into, how, when) -> None:
    handle = package.submitted()
    if when == "before":
        fake.corrupt(how)
    for _ in range(2):
        package.jobs.poll(handle)
    if when == "after":
        fake.corrupt(how)
    with pytest.raises(ArtefactError, match="the container wrote sha256:") as caught:
        package.jobs.fetch_scores(handle, package.spec, into)
    assert handle.native_id in str(caught.value)
    assert not caught.value.retryable


def test_scores_that_are_gone_are_missed(fake, package, into) -> None:
    handle = package.ended()
    fake.drop_scores()
    with pytest.raises(ArtefactError, match=r"There is no gs://.*/scores/cards\.scores\.csv"):
        package.jobs.fetch_scores(handle, package.spec, into)


def results(fake) -> Any:
    """Return the object with the predictions of the last job."""
    (found,) = [b for b in fake.bucket().list_blobs() if "/prediction.results-" in b.name]
    return found


def test_there_is_one_prediction_for_each_file(fake, package, into) -> None:
    handle = package.ended()
    whole = results(fake).download_as_text()
    first, second = whole.splitlines()
    stranger = json.loads(first)
    stranger["instance"]["name"] = "others.csv"
    other = json.dumps(stranger)
    stranger["prediction"].update(data="others.csv", scores="others.scores.csv")
    for text, said in (
        (first, "there are predictions for cards.csv"),
        ("", "there are predictions for none"),
        (whole + second, "two predictions for loans.csv"),
        (whole + json.dumps(stranger), "predictions for cards.csv, loans.csv, others.csv"),
        (whole + other, "no prediction of ours"),
        (whole + "{", "no prediction of ours"),
        (whole + "[]", "no prediction of ours"),
        (whole + '{"instance": {"name": "a.csv"}, "prediction": "0.5"}', "no prediction of ours"),
    ):
        results(fake).upload_from_string(text)
        with pytest.raises(ArtefactError, match=said) as caught:
            package.jobs.fetch_scores(handle, package.spec, into)
        assert handle.native_id in str(caught.value)
    assert list(into.iterdir()) == []


def test_errors_that_vertex_wrote_are_told(fake, package, into) -> None:
    handle = package.ended()
    errors = results(fake).name.replace("results", "errors_stats")
    assert fake.bucket().get_blob(errors).size == 0
    fake.bucket().blob(errors).upload_from_string('{"error": {"message": "400: too large"}}\n')
    with pytest.raises(ArtefactError, match=r"could not score all files.*400: too large"):
        package.jobs.fetch_scores(handle, package.spec, into)


def test_predictions_by_the_reference_s_names_are_read_too(fake, package, into) -> None:
    handle = package.ended()
    blob = results(fake)
    folder = blob.name.rpartition("/")[0]
    for number, line in enumerate(blob.download_as_text().splitlines()):
        fake.bucket().blob(f"{folder}/predictions_{number:04}.jsonl").upload_from_string(line)
    blob.delete()
    assert (
        package.jobs.fetch_scores(handle, package.spec, into).keys() == package.spec.inputs.keys()
    )


def test_a_job_that_wrote_nothing_has_no_scores(idle, into) -> None:
    jobs = platform(idle)
    with pytest.raises(ArtefactError, match=r"batchPredictionJobs/1000.* has written nothing"):
        jobs.fetch_scores(submitted(jobs), job_spec(jobs), into)


def test_nothing_of_google_is_imported_before_it_is_used() -> None:
    import sys

    code = (
        "import sys; from airflow_mlgov.platforms.vertex import VertexScoring; "
        "print([m for m in sys.modules if m.startswith(('google', 'airflow.', 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"[]", "['google', 'google.cloud']"}
