"""What is SageMaker's own; what all platforms do is in tests/integration."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import aws_models
import pytest
import sagemaker_jobs
import sagemaker_server
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from airflow_mlgov.clouds.aws import Aws, console_of, partition_of, split_uri
from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.sagemaker import SageMakerPlatform
from airflow_mlgov.platforms.sagemaker.status import status_of
from airflow_mlgov.policy.platform_controls import SUBJECTS
from airflow_mlgov.policy.platforms_file import Instance, Network, read_platforms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.registries.sagemaker import SageMakerRegistry
from airflow_mlgov.service.job_platform import JobSpec, JobState

KEY = "mlgov-0123456789abcdef0123"
OUTPUT = f"s3://{sagemaker_server.BUCKET}/mlgov/jobs/{KEY}"


@pytest.fixture(scope="module")
def running():
    with sagemaker_server.start() as fake:
        yield fake


@pytest.fixture
def fake(running, monkeypatch):
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    running.jobs.clear()
    running.script("running")
    return running


@pytest.fixture
def jobs(fake) -> SageMakerPlatform:
    return SageMakerPlatform(fake.terms())


def spec(**changes) -> JobSpec:
    said = {
        "key": KEY,
        "spec": Digest.of(b"spec"),
        "code_uri": "s3://bank-mlgov/mlgov/staged/code",
        "inputs": {"development": "s3://bank-mlgov/mlgov/staged/data/dev.csv"},
        "output_uri": OUTPUT,
        "timeout_s": 7200,
        "labels": {"mlgov-model": "retail_pd"},
    }
    return JobSpec(**{**said, **changes})


def said_of(statements) -> dict:
    found: dict = {}
    for each in statements:
        found.setdefault(each.subject, []).append(each.value)
    return {subject: values[0] if len(values) == 1 else values for subject, values in found.items()}


def test_a_request_is_one_that_aws_knows_and_states_every_subject(fake, jobs) -> None:
    request = jobs.render(spec())
    shape = aws_models.operation("sagemaker", "CreateTrainingJob").input_shape
    assert aws_models.problems(shape, request) == []
    assert json.loads(json.dumps(request)) == request
    does = request["AlgorithmSpecification"]
    assert does["ContainerEntrypoint"][1] == "/opt/ml/input/data/mlgov-code/mlgov-entry.pyz"
    assert "development=/opt/ml/input/data/development" in does["ContainerArguments"]
    code, data = (c["DataSource"]["S3DataSource"]["S3Uri"] for c in request["InputDataConfig"])
    assert (code[-1], data[-4:]) == ("/", ".csv"), "code2 is not beneath code/"
    said = said_of(jobs.stated(request))
    assert set(said) == set(SUBJECTS) - {"region.data"}
    tags = {
        "cost-centre": "risk", "mlgov-key": KEY, "mlgov-model": "retail_pd",
        "mlgov-spec": str(Digest.of(b"spec")),
    }  # fmt: skip
    assert said == {
        "region": "eu-central-1", "key.output": fake.key, "key.model": fake.key,
        "key.volume": fake.key, "network.private": True, "network.public": False,
        "network.isolated": True, "network.encrypted": True, "identity": sagemaker_server.ROLE,
        "hours": 2.0, "instances": 1, "spot": False, "tags": tags,
        "image": sagemaker_server.IMAGE,
    }  # fmt: skip


def test_what_an_entry_leaves_out_is_not_set(fake) -> None:
    bare = fake.terms(keys={"output": "alias/aws/s3"}, network=Network(), tags={})
    bare = replace(bare, instance=Instance("ml.m5.large", spot=True))
    jobs = SageMakerPlatform(bare)
    request = jobs.render(spec())
    assert "VpcConfig" not in request
    assert request["StoppingCondition"]["MaxWaitTimeInSeconds"] == 7200
    said = said_of(jobs.stated(request))
    assert (said["key.output"], said["key.volume"]) == (None, None), "AWS's own key is not ours"
    assert (said["network.private"], said["network.public"], said["spot"]) == (False, True, True)
    assert said["hours"] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {f"i{n}": "s3://b/k" for n in range(20)}}, "takes 19 inputs"),
        ({"inputs": {"x" * 65: "s3://b/k"}}, "64 characters"),
        ({"inputs": {"x" * 120: "s3://b/k"}}, "256 characters"),
    ],
)
def test_more_than_sagemaker_takes_is_refused(jobs, changes, words) -> None:
    with pytest.raises(ConfigurationError, match=words):
        jobs.render(spec(**changes))


def test_a_job_without_a_role_or_on_several_machines_is_refused(fake) -> None:
    several = Instance("ml.m5.large", count=2)
    for changes, words in (({"identity": ""}, "needs the role"), ({"instance": several}, "on one")):
        with pytest.raises(ConfigurationError, match=words):
            SageMakerPlatform(fake.terms(**changes)).render(spec())


def test_the_platform_file_of_the_how_to_is_one(tmp_path) -> None:
    text = (Path(__file__).parents[3] / "docs/how-to/train-on-aws.md").read_text()
    (tmp_path / "platforms.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    read = read_platforms(tmp_path / "platforms.yaml")
    request = SageMakerPlatform(read.platforms["frankfurt"]).render(spec())
    shape = aws_models.operation("sagemaker", "CreateTrainingJob").input_shape
    assert aws_models.problems(shape, request) == []
    assert read.registries["frankfurt_models"].kind == "sagemaker"


def test_the_policy_of_the_how_to_allows_what_is_asked(fake, jobs, monkeypatch) -> None:
    text = (Path(__file__).parents[3] / "docs/how-to/train-on-aws.md").read_text()
    policy = json.loads(text.split("```json\n")[1].split("```")[0])
    allowed = {action for each in policy["Statement"] for action in each["Action"]}
    asked: set[str] = set()

    def ask(aws, needed):
        asked.update(action for actions in needed.values() for action in actions)
        return []

    monkeypatch.setattr(Aws, "missing_permissions", ask)
    jobs.missing_permissions()
    SageMakerRegistry(fake.registry_terms()).missing_permissions()
    assert asked == allowed - {"iam:GetRole", "iam:SimulatePrincipalPolicy"}


@pytest.mark.parametrize(
    ("status", "secondary", "spot", "state"),
    [
        ("InProgress", "Pending", False, JobState.QUEUED),
        ("InProgress", "Starting", False, JobState.QUEUED),
        ("InProgress", "Uploading", False, JobState.RUNNING),
        ("InProgress", "Interrupted", True, JobState.QUEUED),
        ("InProgress", "Interrupted", False, JobState.PAUSED),
        ("InProgress", "Brooding", False, JobState.UNKNOWN),
        ("Stopping", "Stopping", False, JobState.CANCELLING),
        ("Completed", "Completed", False, JobState.SUCCEEDED),
        ("Completed", "MaxRuntimeExceeded", False, JobState.FAILED),
        ("Stopped", "MaxRuntimeExceeded", False, JobState.FAILED),
        ("Stopped", "MaxWaitTimeExceeded", True, JobState.FAILED),
        ("Stopped", "Stopped", False, JobState.CANCELLED),
        ("Failed", "Failed", False, JobState.FAILED),
        ("Deleting", "Completed", False, JobState.UNKNOWN),
        ("Splendid", "Completed", False, JobState.UNKNOWN),
    ],
)
def test_what_sagemaker_says_in_common_words(status, secondary, spot, state) -> None:
    said = {"TrainingJobStatus": status, "SecondaryStatus": secondary}
    found = status_of({**said, "EnableManagedSpotTraining": spot}, "eu-central-1")
    assert (found.state, found.native_state) == (state, f"{status}/{secondary}")
    assert bool(found.reason) == (secondary in {"MaxRuntimeExceeded", "MaxWaitTimeExceeded"})


def test_every_status_of_the_model_has_a_meaning() -> None:
    shape = aws_models.operation("sagemaker", "DescribeTrainingJob").output_shape
    for secondary in shape.members["SecondaryStatus"].enum:
        said = {"TrainingJobStatus": "InProgress", "SecondaryStatus": secondary}
        ends = {"Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"}
        known = status_of(said, "eu-central-1").state is not JobState.UNKNOWN
        assert known == (secondary not in ends)


def test_a_name_that_is_taken_and_not_shown_starts_nothing(fake, jobs, monkeypatch) -> None:
    monkeypatch.setattr("airflow_mlgov.platforms.sagemaker.jobs._LATE_PAUSE_S", 0)
    first = jobs.submit(jobs.render(spec()))
    assert jobs.submit(jobs.render(spec())) == first
    fake.jobs[KEY].hidden = 99
    with pytest.raises(PlatformUnavailableError, match="does not show it yet"):
        jobs.submit(jobs.render(spec()))
    assert fake.started == 1


def test_a_stop_that_is_refused_for_a_running_job_is_told(fake, jobs, monkeypatch) -> None:
    handle = jobs.submit(jobs.render(spec()))
    refusal = sagemaker_jobs.RefusedError(400, "ValidationException", "no")

    def refuse(body):
        raise refusal

    monkeypatch.setattr(fake, "_StopTrainingJob", refuse, raising=False)
    with pytest.raises(PlatformError, match="ValidationException: no"):
        jobs.cancel(handle)


def test_lines_come_once_each_whatever_their_time(fake, jobs) -> None:
    handle = jobs.submit(jobs.render(spec()))
    assert jobs.log_lines(handle, None) == ([], None)
    written = fake.jobs[KEY].lines
    written += ["one", "two", "three"]
    lines, cursor = jobs.log_lines(handle, None)
    assert lines == ["one", "two", "three"]
    written += ["four", "five"]
    lines, cursor = jobs.log_lines(handle, cursor)
    assert lines == ["four", "five"], "three and four have the same time"
    assert jobs.log_lines(handle, cursor) == ([], cursor)
    written += [f"line {number}" for number in range(1500)]
    first, cursor = jobs.log_lines(handle, cursor)
    rest, _ = jobs.log_lines(handle, cursor)
    assert (len(first), len(rest)) == (1000, 500)
    assert first + rest == written[5:]


def test_the_account_says_what_a_request_cannot(fake, jobs) -> None:
    said = jobs.preflight(jobs.render(spec()))
    assert [each.unknown for each in said] == [""] * 6
    assert said_of(said) == {
        "region.data": "eu-central-1", "network.public": False, "key.output": [fake.key] * 2,
        "key.model": fake.key, "key.volume": fake.key,
    }  # fmt: skip


class _Together:
    """An account that answers only once everything was asked, and each thing once."""

    def __init__(self) -> None:
        self.asked = threading.Barrier(4)

    def __getattr__(self, name):
        def answer(**asked):
            self.asked.wait(timeout=10)
            raise PlatformError(name)

        return answer


def test_the_account_is_asked_everything_at_once(fake, jobs, monkeypatch) -> None:
    account = _Together()
    monkeypatch.setattr(Aws, "client", lambda self, service: account)
    said = jobs.preflight(jobs.render(spec()))
    assert [(each.subject, each.unknown) for each in said] == [
        ("region.data", "get_bucket_location"),
        ("key.output", "get_bucket_encryption"),
        ("network.public", "get_public_access_block"),
        ("key.output", "describe_key"),
        ("key.model", "describe_key"),
        ("key.volume", "describe_key"),
    ]


def test_two_keys_are_told_apart(fake) -> None:
    second = fake.client("kms").create_key()["KeyMetadata"]
    fake.client("kms").disable_key(KeyId=second["KeyId"])
    jobs = SageMakerPlatform(fake.terms(keys={"output": fake.key, "volume": second["Arn"]}))
    said = said_of(jobs.preflight(jobs.render(spec())))
    assert (said["key.model"], said["key.volume"]) == (fake.key, None)


def test_an_account_that_is_not_as_it_should_be(fake) -> None:
    s3, kms = fake.client("s3", "eu-west-1"), fake.client("kms")
    s3.create_bucket(
        Bucket="open-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    other = kms.create_key()["KeyMetadata"]["Arn"]
    by = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": other}
    rules = {"Rules": [{"ApplyServerSideEncryptionByDefault": by}]}
    s3.put_bucket_encryption(Bucket="open-bucket", ServerSideEncryptionConfiguration=rules)
    doomed = kms.create_key()["KeyMetadata"]
    kms.schedule_key_deletion(KeyId=doomed["KeyId"])
    keys = {"output": doomed["Arn"], "volume": doomed["Arn"]}
    jobs = SageMakerPlatform(fake.terms(output="s3://open-bucket/x", keys=keys))
    at = {"code_uri": "s3://open-bucket/c", "output_uri": "s3://open-bucket/o"}
    said = said_of(jobs.preflight(jobs.render(spec(inputs={}, **at))))
    assert said == {
        "region.data": "eu-west-1", "network.public": True, "key.output": [None, None],
        "key.model": None, "key.volume": None,
    }  # fmt: skip


def test_what_could_not_be_asked_is_unknown_and_raises_nothing(fake) -> None:
    gone = {"code_uri": "s3://no-such-bucket/c", "output_uri": "s3://no-such-bucket/o"}
    jobs = SageMakerPlatform(fake.terms(keys={"output": "no-such-key"}))
    for each in jobs.preflight(jobs.render(spec(inputs={}, **gone))):
        assert "NoSuchBucket" in each.unknown or "NotFoundException" in each.unknown


def test_what_is_staged_is_encrypted_and_not_sent_twice(fake, jobs, tmp_path) -> None:
    (tmp_path / "a.py").write_text("print()")
    uri = jobs.stage("staged/abc", {"a.py": tmp_path / "a.py"})
    s3 = fake.client("s3")
    stored = s3.head_object(Bucket="bank-mlgov", Key="mlgov/staged/abc/a.py")
    assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", fake.key)
    assert jobs.stage("staged/abc", {"a.py": tmp_path / "a.py"}) == uri
    again = s3.head_object(Bucket="bank-mlgov", Key="mlgov/staged/abc/a.py")
    assert again["LastModified"] == stored["LastModified"]
    assert jobs.first_object(uri) == f"{uri}/a.py"
    assert jobs.first_object(jobs.output_uri("staged/ab")) is None


def test_output_that_is_not_there(jobs, tmp_path) -> None:
    handle = jobs.submit(jobs.render(spec()))
    with pytest.raises(ArtefactError, match=f"{KEY}.*cut short"):
        jobs.fetch(handle, OUTPUT, tmp_path / "out")


def test_another_account_is_refused_before_anything_is_sent(fake, tmp_path) -> None:
    (tmp_path / "a").write_text("secret")
    jobs = SageMakerPlatform(fake.terms(account="999999999999"))
    with pytest.raises(PlatformError, match=r"123456789012.*999999999999"):
        jobs.stage("other/account", {"a": tmp_path / "a"})
    listed = fake.client("s3").list_objects_v2(Bucket="bank-mlgov", Prefix="mlgov/other")
    assert listed["KeyCount"] == 0


def test_check_says_who_asks_and_writes(fake, jobs) -> None:
    assert sagemaker_server.ACCOUNT in jobs.check()
    fake.client("s3").head_object(Bucket="bank-mlgov", Key="mlgov/mlgov-check")


def test_an_expired_token_is_renewed_by_the_next_call(fake, jobs, monkeypatch) -> None:
    assert jobs.find(KEY) is None
    old = jobs._aws._clients["sagemaker"]
    fake.fail(1, "expired")
    with pytest.raises(PlatformUnavailableError, match="expired"):
        jobs.find(KEY)
    assert jobs.find(KEY) is None
    assert jobs._aws._clients["sagemaker"] is not old


def test_all_clients_are_of_one_session_until_its_token_expires(fake, jobs, monkeypatch) -> None:
    opened, open_session = [], AwsBaseHook.get_session
    monkeypatch.setattr(
        AwsBaseHook, "get_session", lambda *a, **k: opened.append(a) or open_session(*a, **k)
    )
    jobs.find(KEY)
    jobs.preflight(jobs.render(spec()))
    assert len(opened) == 1
    fake.fail(1, "expired")
    with pytest.raises(PlatformUnavailableError, match="expired"):
        jobs.find(KEY)
    jobs.find(KEY)
    assert len(opened) == 2


def test_a_clock_that_is_wrong_is_told(fake, jobs) -> None:
    fake.fail(1, "skew")
    with pytest.raises(PlatformError, match="clock"):
        jobs.find(KEY)


def test_a_connection_of_another_type(fake, jobs, monkeypatch) -> None:
    for name in fake.environment():
        monkeypatch.setenv(name, json.dumps({"conn_type": "http"}))
    with pytest.raises(PlatformError, match="type 'http'"):
        jobs.find(KEY)


class _Iam:
    """Answers as IAM documents it: moto cannot simulate policies."""

    def get_role(self, RoleName):  # noqa: N803
        assert RoleName == "worker"
        return {"Role": {"Arn": "arn:aws:iam::123456789012:role/path/worker"}}

    def get_paginator(self, name):
        assert name == "simulate_principal_policy"
        return self

    def paginate(self, PolicySourceArn, ActionNames, ResourceArns):  # noqa: N803
        assert PolicySourceArn.endswith("role/path/worker")
        yield {
            "EvaluationResults": [
                {
                    "EvalActionName": each,
                    "EvalDecision": "implicitDeny" if "Stop" in each else "allowed",
                }
                for each in ActionNames
            ]
        }


def test_missing_permissions_are_named(jobs, monkeypatch) -> None:
    who = "arn:aws:sts::123456789012:assumed-role/worker/session"
    monkeypatch.setattr(type(jobs._aws), "identity", lambda self: who)
    monkeypatch.setitem(jobs._aws._clients, "sts", object())
    monkeypatch.setitem(jobs._aws._clients, "iam", _Iam())
    place = "arn:aws:sagemaker:eu-central-1:123456789012"
    assert jobs.missing_permissions() == [
        f"sagemaker:StopTrainingJob on {place}:training-job/mlgov-*",
        f"sagemaker:StopTransformJob on {place}:transform-job/mlgov-*",
    ]


def test_addresses() -> None:
    assert split_uri("s3://b/a b/c#d?e") == ("b", "a b/c#d?e")
    assert (partition_of("cn-north-1"), partition_of("us-gov-west-1")) == ("aws-cn", "aws-us-gov")
    assert console_of("eu-west-1") == "https://eu-west-1.console.aws.amazon.com"
    assert console_of("cn-north-1") == "https://cn-north-1.console.amazonaws.cn"


def test_the_models_bounds_are_checked() -> None:
    shape = aws_models.operation("sagemaker", "CreateTrainingJob").input_shape
    whole = {**sagemaker_jobs.THEIR_TRAINING, "TrainingJobName": "x"}
    for name, value in (("TrainingJobName", "a_b"), ("RoleArn", "no role"), ("Odd", 1)):
        assert aws_models.problems(shape, {**whole, name: value})
    assert aws_models.problems(shape, whole) == []
