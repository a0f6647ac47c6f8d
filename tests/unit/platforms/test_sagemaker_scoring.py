"""What is SageMaker's own of scoring; what all platforms do is in tests/integration."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aws_models
import pytest
import sagemaker_jobs
import sagemaker_server
from sagemaker_transform import SERVE
from scoring_package import Package, make_package

from airflow_mlgov.clouds.aws import Aws
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.sagemaker import SageMakerScoring
from airflow_mlgov.platforms.sagemaker.status import transform_status_of
from airflow_mlgov.policy.platform_controls import SUBJECTS
from airflow_mlgov.policy.platforms_file import Instance, Network
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.job_platform import SCORING, JobHandle, JobSpec, JobState

KEY = "mlgov-0123456789abcdef0123"
HOME = f"s3://{sagemaker_server.BUCKET}/mlgov"
GOLDEN = Path(__file__).parents[2] / "assets/platforms/sagemaker_transform.json"


@pytest.fixture(scope="module")
def running():
    with sagemaker_server.start() as fake:
        yield fake


@pytest.fixture
def fake(running, monkeypatch):
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    running.jobs.clear()
    running.models.clear()
    running.script("running")
    monkeypatch.setattr("airflow_mlgov.platforms.sagemaker.jobs._LATE_PAUSE_S", 0)
    for uri in running.listed(f"{HOME}/"):
        running.client("s3").delete_object(
            Bucket=sagemaker_server.BUCKET, Key=uri.partition("s3://bank-mlgov/")[2]
        )
    return running


@pytest.fixture
def jobs(fake) -> SageMakerScoring:
    return SageMakerScoring(fake.terms())


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make_package(tmp_path / "package")


def spec(package: Package | None = None, **changes) -> JobSpec:
    data = package.data if package else {"loans.csv": b"x" * 7, "cards.csv": b"x" * 4}
    said = {
        "key": KEY,
        "spec": package.digest if package else Digest.of(b"spec"),
        "code_uri": f"{HOME}/staged/code",
        "inputs": {name: f"{HOME}/staged/{Digest.of(data[name]).short}/{name}" for name in data},
        "output_uri": f"{HOME}/jobs/{KEY}",
        "timeout_s": 7200,
        "labels": {"mlgov-model": "retail_pd"},
        "sizes": {name: len(each) for name, each in data.items()},
    }
    return JobSpec(**{**said, **changes})


def scored(fake, jobs, package: Package) -> tuple[JobHandle, JobSpec]:
    """Stage all of a job, let it run to its end, and return it."""
    asked = spec(package)
    for name, uri in asked.inputs.items():
        fake.store(uri, package.data[name])
    jobs.stage_package(asked, package.files)
    fake.script("running", "succeeded")
    handle = jobs.submit(jobs.render(asked))
    jobs.poll(handle)
    return handle, asked


def said_of(statements) -> dict:
    found: dict = {}
    for each in statements:
        found.setdefault(each.subject, []).append(each.value)
    return {subject: values[0] if len(values) == 1 else values for subject, values in found.items()}


def test_a_request_is_the_one_of_the_golden_file_and_aws_knows_it(fake, jobs) -> None:
    request = jobs.render(spec())
    for name, part in request.items():
        shape = aws_models.operation("sagemaker", name).input_shape
        assert aws_models.problems(shape, part) == []
    text = json.dumps(request, indent=2, sort_keys=True).replace(fake.key, "arn:key") + "\n"
    assert text == GOLDEN.read_text()
    names = {request["CreateModel"]["ModelName"], request["CreateTransformJob"]["ModelName"]}
    assert names == {request["CreateTransformJob"]["TransformJobName"]} == {KEY}


def test_a_request_states_every_subject(fake, jobs) -> None:
    said = said_of(jobs.stated(jobs.render(spec())))
    assert set(said) == set(SUBJECTS) - {"region.data"}
    tags = {
        "cost-centre": "risk", "mlgov-key": KEY, "mlgov-model": "retail_pd",
        "mlgov-spec": str(Digest.of(b"spec")),
    }  # fmt: skip
    assert said == {
        "region": "eu-central-1", "key.output": fake.key, "key.model": fake.key,
        "key.volume": fake.key, "network.private": True, "network.public": False,
        "network.isolated": True, "network.encrypted": True, "identity": sagemaker_server.ROLE,
        "hours": 2.0, "instances": 1, "spot": False, "tags": [tags, tags],
        "image": sagemaker_server.IMAGE,
    }  # fmt: skip


def test_what_an_entry_leaves_out_is_not_set(fake) -> None:
    bare = fake.terms(keys={"output": "alias/aws/s3"}, network=Network(), tags={})
    jobs = SageMakerScoring(replace(bare, instance=Instance("ml.m5.large", spot=True)))
    request = jobs.render(spec())
    assert "VpcConfig" not in request["CreateModel"]
    assert "VolumeKmsKeyId" not in request["CreateTransformJob"]["TransformResources"]
    said = said_of(jobs.stated(request))
    assert (said["key.output"], said["key.volume"]) == (None, None), "AWS's own key is not ours"
    assert (said["network.private"], said["network.public"]) == (False, True)
    assert said["spot"] is False, "a transform job has no spot machines, whatever the entry says"


@pytest.mark.parametrize(
    ("files", "timeout_s", "per_file_s", "hours"),
    [
        (1, 7200, 3600, 1.0),
        (2, 7200, 3600, 2.0),
        (4, 7200, 1800, 2.0),
        (7, 7200, 1028, 7196 / 3600),
        (3, 2, 1, 3 / 3600),
    ],
)
def test_the_time_of_all_files_is_what_the_job_may_take(
    jobs, files, timeout_s, per_file_s, hours
) -> None:
    inputs = {f"d{n}.csv": f"{HOME}/d{n}.csv" for n in range(files)}
    request = jobs.render(spec(inputs=inputs, sizes=dict.fromkeys(inputs, 1), timeout_s=timeout_s))
    config = request["CreateTransformJob"]["ModelClientConfig"]
    assert config["InvocationsTimeoutInSeconds"] == per_file_s
    (stated,) = [each for each in jobs.stated(request) if each.subject == "hours"]
    assert stated.value == hours
    assert f"for each of {files} files" in stated.field


@pytest.mark.parametrize(
    ("size", "most_mb"),
    [(0, 1), (1_000_000, 1), (1_000_001, 2), (100_000_000, 100), (100_000_001, 0)],
)
def test_a_file_that_is_too_long_for_one_piece_is_sent_in_chunks(jobs, size, most_mb) -> None:
    sizes = {"loans.csv": 5, "cards.csv": size}
    assert jobs.render(spec(sizes=sizes))["CreateTransformJob"]["MaxPayloadInMB"] == most_mb


def test_files_are_listed_by_the_folder_that_they_share(fake, jobs, package) -> None:
    uris = {
        "b.csv": "s3://bank-mlgov/mlgov/in/x/b.csv",
        "a.csv": "s3://bank-mlgov/mlgov/in/xy/a.csv",
        "c d.csv": "s3://bank-mlgov/mlgov/in/x/deep/c d.csv",
    }
    asked = spec(inputs=uris, sizes=dict.fromkeys(uris, 1))
    jobs.stage_package(asked, package.files)
    request = jobs.render(asked)["CreateTransformJob"]
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    listed = ["x/b.csv", "x/deep/c d.csv", "xy/a.csv"]
    assert json.loads(fake.stored(source["S3Uri"])) == [
        {"prefix": "s3://bank-mlgov/mlgov/in/"},
        *listed,
    ]
    other = spec(inputs={"b.csv": "s3://bank-mlgov/b.csv"}, sizes={"b.csv": 1})
    jobs.stage_package(other, package.files)
    (extra,) = {each for each in fake.listed(asked.code_uri) if "inputs-" in each} - {
        source["S3Uri"]
    }
    assert json.loads(fake.stored(extra)) == [{"prefix": "s3://bank-mlgov/"}, "b.csv"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {"loans.csv": "s3://a/l", "cards.csv": "s3://b/c"}}, "these are in a, b"),
        ({"inputs": {"loans.csv": "s3://a/x/d", "cards.csv": "s3://a/y/d"}}, "are called d"),
        ({"inputs": {"loans.csv": "gs://a/x", "cards.csv": "gs://a/y"}}, "gs://a/x is no file"),
        ({"inputs": {"loans.csv": "s3://a/x/", "cards.csv": "s3://a/y"}}, "s3://a/x/ is no file"),
        ({"inputs": {}, "sizes": {}}, "nothing to score"),
        ({"sizes": {"loans.csv": 1}}, "not every file has a size"),
        ({"key": "k" * 64}, "63 characters"),
        ({"output_uri": "s3://b/" + "x" * 1024}, "1024 characters"),
    ],
)
def test_more_than_sagemaker_takes_is_refused(jobs, changes, words) -> None:
    with pytest.raises(ConfigurationError, match=words):
        jobs.render(spec(**changes))


def test_an_entry_that_cannot_score_is_refused(fake) -> None:
    several = Instance("ml.m5.large", count=2)
    for changes, words in (
        ({"identity": ""}, "needs the role"),
        ({"instance": several}, "on one machine"),
        ({"image": "i" * 256}, "255 characters"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            SageMakerScoring(fake.terms(**changes)).render(spec())


def test_files_are_scored_and_the_scores_fetched(fake, jobs, package, tmp_path) -> None:
    handle, asked = scored(fake, jobs, package)
    status = jobs.poll(handle)
    assert (status.state, status.native_state) == (JobState.SUCCEEDED, "Completed")
    assert {name: status.facts[name] for name in ("image", "identity", "key", "region")} == {
        "image": sagemaker_server.IMAGE, "identity": sagemaker_server.ROLE, "key": fake.key,
        "region": "eu-central-1",
    }  # fmt: skip
    assert status.billable_s is not None
    (tmp_path / "scores").mkdir()
    uris = jobs.fetch_scores(handle, asked, tmp_path / "scores")
    assert {path.name: path.read_text() for path in (tmp_path / "scores").iterdir()} == {
        "loans.scores.csv": "row,score\n0,5.25\n1,10.25\n",
        "cards.scores.csv": "row,score\n0,15.25\n",
    }
    for name, uri in uris.items():
        assert uri.startswith(f"{asked.output_uri}/")
        assert uri.endswith(f"/{name}.out")
    lines, _ = jobs.log_lines(handle, None)
    assert "loans.csv: 2 rows are scored." in lines
    assert lines[-1] == "The platform ended the container."
    assert (handle.purpose, handle.spec) == (SCORING, package.digest)
    assert handle.console_url.endswith(f"#/transform-jobs/{KEY}")
    assert jobs.find(KEY) == handle


def test_the_image_has_what_sagemaker_starts() -> None:
    root = SERVE.parents[2]
    name = SERVE.relative_to(root).as_posix()
    assert os.access(SERVE, os.X_OK), "COPY keeps rights"
    assert f"COPY {name} /usr/local/bin/serve\n" in (SERVE.parent / "Dockerfile").read_text()
    assert f"!{name}\n" in (root / ".dockerignore").read_text()


def test_files_in_chunks_are_scored_too(fake, jobs, tmp_path) -> None:
    rows = b"x\n" + b"1\n" * 3000
    package = make_package(tmp_path / "package", data={"long.csv": rows})
    asked = replace(spec(package), sizes={"long.csv": 100_000_001})
    fake.store(asked.inputs["long.csv"], rows)
    jobs.stage_package(asked, package.files)
    fake.script("succeeded")
    handle = jobs.submit(jobs.render(asked))
    assert jobs.poll(handle).state is JobState.SUCCEEDED
    jobs.fetch_scores(handle, asked, tmp_path)
    assert len((tmp_path / "long.scores.csv").read_text().splitlines()) == 3001


def test_a_package_is_stored_once_encrypted_and_comes_back(fake, jobs, package, tmp_path) -> None:
    asked = spec(package)
    jobs.stage_package(asked, package.files)
    uri = f"{asked.code_uri}/model.tar.gz"
    s3, at = fake.client("s3"), {"Bucket": "bank-mlgov", "Key": "mlgov/staged/code/model.tar.gz"}
    first = s3.head_object(**at)
    assert (first["ServerSideEncryption"], first["SSEKMSKeyId"]) == ("aws:kms", fake.key)
    bytes_ = fake.stored(uri)
    time.sleep(1.1)  # what S3 says of times are whole seconds
    jobs.stage_package(asked, package.files)
    assert s3.head_object(**at)["LastModified"] == first["LastModified"]
    fake.store(uri, b"cut")
    jobs.stage_package(asked, package.files)
    assert fake.stored(uri) == bytes_, "the same files are the same bytes"
    jobs.fetch_package(asked, tmp_path / "back")
    assert hash_directory(tmp_path / "back") == hash_directory(package.folder)


@pytest.mark.parametrize("how", ["gone", "cut", "larger than the machine"])
def test_a_package_that_cannot_be_fetched(fake, package, tmp_path, how) -> None:
    jobs, asked = SageMakerScoring(fake.terms()), spec(package)
    uri = f"{asked.code_uri}/model.tar.gz"
    if how != "gone":
        jobs.stage_package(asked, package.files)
    if how == "cut":
        fake.store(uri, fake.stored(uri)[:-20])
    if how.startswith("larger"):
        jobs = SageMakerScoring(fake.terms(instance=Instance("ml.m5.large", disk_gb=0)))
    with pytest.raises(ArtefactError, match=f"job {KEY} cannot be used: {uri}") as caught:
        jobs.fetch_package(asked, tmp_path / "back")
    assert not caught.value.retryable


def test_a_package_that_was_changed_does_not_score(fake, jobs, package) -> None:
    asked = spec(package)
    for name, uri in asked.inputs.items():
        fake.store(uri, package.data[name])
    jobs.stage_package(asked, package.files)
    fake.script("running", "succeeded")
    handle = jobs.submit(jobs.render(asked))
    fake.corrupt_package()
    status = jobs.poll(handle)
    assert status.state is JobState.FAILED
    assert "failed to respond to ping" in status.reason
    assert jobs.first_object(asked.output_uri) is None
    lines, _ = jobs.log_lines(handle, None)
    assert f"and {package.spec.version} was approved." in lines[-1]


def test_a_script_that_fails_is_told_in_the_log(fake, jobs, tmp_path) -> None:
    package = make_package(tmp_path / "package", "raise SystemExit('no such column')")
    handle, _ = scored(fake, jobs, package)
    status = jobs.poll(handle)
    assert (status.state, status.reason[:11]) == (JobState.FAILED, "ClientError")
    lines, _ = jobs.log_lines(handle, None)
    assert any("exited with status 1" in line for line in lines)
    assert any(line.endswith("no such column") for line in lines)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("drop", "there is no loans.csv.out under"),
        ("extra", "other.csv.out, which is of no file of the job"),
        ("twice", "are of the same file"),
        ("long", "longer than 0 bytes"),
    ],
)
def test_scores_that_cannot_be_used(fake, jobs, package, tmp_path, change, words) -> None:
    handle, asked = scored(fake, jobs, package)
    jobs.poll(handle)
    if change == "drop":
        fake.drop_scores()
    elif change == "extra":
        fake.store(f"{asked.output_uri}/other.csv.out", b"row\n1\n")
    elif change == "twice":
        fake.store(f"{asked.output_uri}/elsewhere/loans.csv.out", b"row\n1\n")
    else:
        jobs = SageMakerScoring(fake.terms(instance=Instance("ml.m5.large", disk_gb=0)))
    (tmp_path / "scores").mkdir()
    with pytest.raises(ArtefactError, match=words) as caught:
        jobs.fetch_scores(handle, asked, tmp_path / "scores")
    assert handle.native_id in str(caught.value)
    assert list((tmp_path / "scores").iterdir()) == []


def test_what_else_stands_there_is_no_scores(fake, jobs, package, tmp_path) -> None:
    handle, asked = scored(fake, jobs, package)
    fake.store(f"{asked.output_uri}/note.txt", b"looked at by me")
    assert len(jobs.fetch_scores(handle, asked, tmp_path)) == 2


def test_scores_that_change_while_they_are_fetched(
    fake, jobs, package, tmp_path, monkeypatch
) -> None:
    handle, asked = scored(fake, jobs, package)
    download = Aws.download

    def longer(self, uri, file):
        fake.store(uri, b"row,score\n1,1\n" * 9)
        return download(self, uri, file)

    monkeypatch.setattr(Aws, "download", longer)
    with pytest.raises(ArtefactError, match="changed or went while"):
        jobs.fetch_scores(handle, asked, tmp_path)


@pytest.mark.parametrize(
    ("native", "state"),
    [
        ("InProgress", JobState.RUNNING),
        ("Completed", JobState.SUCCEEDED),
        ("Failed", JobState.FAILED),
        ("Stopping", JobState.CANCELLING),
        ("Stopped", JobState.CANCELLED),
        ("Splendid", JobState.UNKNOWN),
    ],
)
def test_what_sagemaker_says_in_common_words(native, state) -> None:
    at = datetime(2026, 11, 27, 12, tzinfo=UTC)
    said = {"TransformJobStatus": native, "TransformStartTime": at, "FailureReason": "so"}
    status = transform_status_of(said, "eu-central-1", {})
    assert (status.state, status.native_state, status.reason) == (state, native, "so")
    assert status.billable_s is None
    ended = {**said, "TransformEndTime": at + timedelta(seconds=90)}
    status = transform_status_of(ended, "eu-central-1", {})
    assert status.billable_s == 90.0
    assert status.facts == {
        "region": "eu-central-1",
        "started_at": "2026-11-27T12:00:00+00:00",
        "ended_at": "2026-11-27T12:01:30+00:00",
    }


def test_a_job_that_never_got_a_machine_is_not_billed() -> None:
    said = {"TransformJobStatus": "Failed", "TransformEndTime": datetime.now(UTC)}
    assert transform_status_of(said, "eu-central-1", {}).billable_s is None


def test_every_status_of_the_model_has_a_meaning() -> None:
    shape = aws_models.operation("sagemaker", "DescribeTransformJob").output_shape
    for native in shape.members["TransformJobStatus"].enum:
        status = transform_status_of({"TransformJobStatus": native}, "eu-central-1", {})
        assert status.state is not JobState.UNKNOWN


def test_a_model_that_was_deleted_is_not_in_the_facts(fake, jobs, package) -> None:
    handle, _ = scored(fake, jobs, package)
    fake.models.clear()
    status = jobs.poll(handle)
    assert status.state is JobState.SUCCEEDED
    assert "image" not in status.facts


def test_a_model_of_an_earlier_try_is_used(fake, jobs) -> None:
    request = jobs.render(spec())
    fake.fail(1, "quota")
    with pytest.raises(PlatformError, match="quota"):
        jobs.submit(request)
    assert (fake.started, list(fake.models)) == (0, [KEY])
    first = jobs.submit(request)
    assert jobs.submit(request) == first
    assert fake.started == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda model: model["PrimaryContainer"]["Environment"].clear(), "PrimaryContainer"),
        (lambda model: model["PrimaryContainer"].update(Image="evil"), "PrimaryContainer"),
        (
            lambda model: model.update(ExecutionRoleArn=model["ExecutionRoleArn"] + "2"),
            "ExecutionR",
        ),
        (lambda model: model.update(EnableNetworkIsolation=False), "EnableNetworkIsolation"),
        (lambda model: model.pop("VpcConfig"), "VpcConfig"),
    ],
)
def test_somebody_elses_model_under_our_name(fake, jobs, change, field) -> None:
    request = jobs.render(spec())
    theirs = json.loads(json.dumps(request["CreateModel"]))
    change(theirs)
    fake._CreateModel(theirs)
    with pytest.raises(
        PlatformError, match=rf"somebody else's model arn.*{field}.* differ"
    ) as caught:
        jobs.submit(request)
    assert not caught.value.retryable
    assert fake.started == 0


def test_a_model_whose_subnets_are_shown_in_another_order_is_ours(fake) -> None:
    jobs = SageMakerScoring(fake.terms(network=Network(("subnet-1", "subnet-2"), ("sg-1",))))
    request = jobs.render(spec())
    theirs = json.loads(json.dumps(request["CreateModel"]))
    theirs["VpcConfig"]["Subnets"].reverse()
    theirs.pop("EnableNetworkIsolation")
    fake._CreateModel(theirs)
    jobs.submit(request)
    assert fake.started == 1


def test_a_model_that_is_refused_is_told(fake, jobs, monkeypatch) -> None:
    def refuse(body):
        raise sagemaker_jobs.RefusedError(400, "ValidationException", "no such role")

    monkeypatch.setattr(fake, "_CreateModel", refuse, raising=False)
    with pytest.raises(PlatformError, match="no such role"):
        jobs.submit(jobs.render(spec()))


def test_names_that_are_taken_and_not_shown_start_nothing(fake, jobs, monkeypatch) -> None:
    request = jobs.render(spec())
    jobs.submit(request)
    fake.jobs[sagemaker_jobs.place("Transform", KEY)].hidden = 99
    with pytest.raises(PlatformUnavailableError, match=f"job {KEY}: .*does not show it yet"):
        jobs.submit(request)

    def hide(body):
        raise sagemaker_jobs.RefusedError(400, "ValidationException", "Could not find model")

    monkeypatch.setattr(fake, "_DescribeModel", hide, raising=False)
    with pytest.raises(PlatformUnavailableError, match=f"model {KEY}: .*does not show it yet"):
        jobs.submit(request)
    assert fake.started == 1


@pytest.mark.parametrize("how", ["throttle", "500", "expired", "hang"])
def test_whichever_call_fails_there_is_one_job(fake, jobs, how) -> None:
    """Also for answers that are lost: "hang" does what was asked, and cuts the connection."""
    fake.hang_s = 0.05
    for good in range(5):
        asked = spec(key=f"mlgov-{how}-{good}")
        started = fake.started
        fake.fail(good, "")
        fake.fail(1, how)
        for _ in range(3):
            try:
                handle = jobs.find(asked.key) or jobs.submit(jobs.render(asked))
                assert jobs.poll(handle).state is JobState.RUNNING
                break
            except PlatformUnavailableError:
                continue
        assert fake.started == started + 1, f"after {good} calls"
        fake._failures.clear()


def test_a_job_can_be_stopped_and_vanish(fake, jobs) -> None:
    handle = jobs.submit(jobs.render(spec()))
    jobs.cancel(handle)
    assert (jobs.poll(handle).state, fake.running) == (JobState.CANCELLED, 0)
    jobs.cancel(handle)  # once more is fine
    fake.vanish()
    assert jobs.poll(handle).state is JobState.MISSING
    jobs.cancel(handle)


def test_names_of_training_and_of_scoring_are_apart(fake, jobs) -> None:
    jobs.submit(jobs.render(spec()))
    from airflow_mlgov.platforms.sagemaker import SageMakerPlatform

    assert SageMakerPlatform(fake.terms()).find(KEY) is None


def test_somebody_elses_job_carries_no_spec(fake, jobs) -> None:
    fake.taken(KEY)
    handle = jobs.find(KEY)
    assert handle is not None
    assert handle.spec is None


@pytest.mark.parametrize("state", ["running", "cancelled", "stopping"])
def test_a_stop_that_is_refused_is_told_only_of_a_running_job(
    fake, jobs, monkeypatch, state
) -> None:
    handle = jobs.submit(jobs.render(spec()))
    if state == "cancelled":
        fake.cancel_behind_our_back()
    if state == "stopping":
        describe = fake._DescribeTransformJob
        monkeypatch.setattr(
            fake, "_DescribeTransformJob",
            lambda body: {**describe(body), "TransformJobStatus": "Stopping"}, raising=False,
        )  # fmt: skip

    def refuse(body):
        raise sagemaker_jobs.RefusedError(400, "ValidationException", "no")

    monkeypatch.setattr(fake, "_StopTransformJob", refuse, raising=False)
    if state == "running":
        with pytest.raises(PlatformError, match="ValidationException: no"):
            jobs.cancel(handle)
    else:
        jobs.cancel(handle)


def test_the_account_says_what_a_request_cannot(fake, jobs) -> None:
    said = jobs.preflight(jobs.render(spec()))
    assert [each.unknown for each in said] == [""] * 6
    assert said_of(said) == {
        "region.data": "eu-central-1", "network.public": False, "key.output": [fake.key] * 2,
        "key.model": fake.key, "key.volume": fake.key,
    }  # fmt: skip


def test_the_bucket_of_the_data_is_looked_at_too(fake, jobs) -> None:
    fake.client("s3", "eu-west-1").create_bucket(
        Bucket="bank-data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    inputs = {"loans.csv": "s3://bank-data/in/loans.csv"}
    said = said_of(jobs.preflight(jobs.render(spec(inputs=inputs, sizes={"loans.csv": 5}))))
    assert said["region.data"] == ["eu-west-1", "eu-central-1"]
    assert said["network.public"] == [True, False]
    assert said["key.output"] == [fake.key] * 2, "what is read is not written with our key"


def test_files_that_are_there_already_are_located(fake, jobs) -> None:
    fake.store(f"{HOME}/in/b.csv", b"bb")
    fake.store(f"{HOME}/in/deep/a.csv", b"a")
    fake.store(f"{HOME}/in/", b"")  # a folder, for the console
    fake.store(f"{HOME}/inner.csv", b"no")
    found = jobs.located(f"{HOME}/in/")
    assert [(each.uri, each.size_bytes) for each in found] == [
        (f"{HOME}/in/b.csv", 2),
        (f"{HOME}/in/deep/a.csv", 1),
    ]
    assert found[0].version == hashlib.md5(b"bb").hexdigest()
    assert jobs.located(f"{HOME}/in/b.csv") == found[:1]


def test_the_version_is_the_one_of_a_bucket_that_keeps_them(fake, jobs) -> None:
    s3 = fake.client("s3")
    s3.create_bucket(
        Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="kept", Key="a", Body=b"1")["VersionId"]
    assert jobs.located("s3://kept/a")[0].version == version
    assert jobs.located("s3://kept/")[0].version == version


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("s3://bank-mlgov/mlgov/nothing.csv", "nothing at"),
        ("s3://bank-mlgov/mlgov/nothing/", "nothing at"),
        ("s3://no-such-bucket-here/", "nothing at"),
        ("s3://no-such-bucket-here/x", "nothing at"),
        ("gs://bank/x", "no address in S3"),
        ("/tmp/x", "no address in S3"),
    ],
)
def test_what_is_not_there_is_not_located(jobs, uri, words) -> None:
    with pytest.raises(DataError, match=words) as caught:
        jobs.located(uri)
    assert uri in str(caught.value)
    assert not caught.value.retryable
