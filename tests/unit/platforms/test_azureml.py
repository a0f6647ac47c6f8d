from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azureml_account import WORKSPACE

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    PlatformError,
    PlatformUnavailableError,
)
from airflow_mlgov.platforms.azureml import AzureMlPlatform
from airflow_mlgov.platforms.azureml.request import command_line
from airflow_mlgov.policy.platforms_file import Instance, Network
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState

if TYPE_CHECKING:
    from azureml_server import FakeAzure

KEY = "mlgov-0123456789abcdef0123"
SPEC = Digest.of(b"spec")


def staged(platform: AzureMlPlatform, tmp_path: Path) -> JobSpec:
    """Stage what a job needs and return its specification."""
    files = {}
    for name in ("mlgov-entry.pyz", "spec.json", "train.py", "loans 2026.csv"):
        files[name] = tmp_path / name
        files[name].write_text(f"this is {name}")
    data = {"loans 2026.csv": files.pop("loans 2026.csv")}
    return JobSpec(
        key=KEY,
        spec=SPEC,
        code_uri=platform.stage(f"staged/{SPEC.hex}", files),
        inputs={"development": f"{platform.stage('staged/ab', data)}/loans 2026.csv"},
        output_uri=platform.output_uri(f"jobs/{KEY}"),
        timeout_s=7200,
        labels={"mlgov-model": "retail_pd", "mlgov-variant": "candidate"},
    )


def writes(command: list[str], root: Path) -> int:
    """A container that leaves a model behind, if it was given what it needs."""
    said = dict(zip(command[2::2], command[3::2], strict=True))
    assert command[0] == "python"
    assert Path(command[1]).read_text() == "this is mlgov-entry.pyz"
    assert Path(said["--spec"]).read_text() == "this is spec.json"
    assert said["--spec-sha256"] == SPEC.hex
    name, path = said["--input"].split("=", 1)
    assert (name, Path(path).read_text()) == ("development", "this is loans 2026.csv")
    output = Path(said["--output"])
    (output / "model").mkdir()
    (output / "model" / "card.json").write_text("{}")
    (output / "metrics.json").write_text('{"auc": 0.7}')
    (output / "manifest.json").write_text("{}")
    assert root in output.parents
    return 0


@pytest.fixture
def platform(azure: FakeAzure) -> AzureMlPlatform:
    return AzureMlPlatform(azure.terms())


@pytest.fixture
def job(platform: AzureMlPlatform, tmp_path: Path) -> JobHandle:
    return platform.submit(platform.render(staged(platform, tmp_path)))


def test_a_job_runs_and_what_it_wrote_is_fetched(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    azure.container = writes
    spec = staged(platform, tmp_path)
    assert platform.first_object(spec.output_uri) is None
    handle = platform.submit(platform.render(spec))
    assert (handle.key, handle.spec) == (KEY, SPEC)
    assert handle.console_url == f"https://ml.azure.com/runs/{KEY}?wsid={WORKSPACE}"
    states = [platform.poll(handle) for _ in range(3)]
    assert [each.state for each in states] == ["queued", "running", "succeeded"]
    assert states[-1].billable_s == 225.0
    assert states[-1].facts == {
        "image": azure.terms().image,
        "region": "westeurope",
        "key": "https://bank.vault.azure.net/keys/models",
        "identity": azure.terms().identity,
        "instance": "Standard_DS3_v2",
        "started_at": "2026-11-26T18:14:56+00:00",
        "ended_at": "2026-11-26T18:18:41+00:00",
    }
    into = tmp_path / "fetched"
    into.mkdir(mode=0o700)
    platform.fetch(handle, spec.output_uri, into)
    found = sorted(str(file.relative_to(into)) for file in into.rglob("*") if file.is_file())
    assert found == ["manifest.json", "metrics.json", "model/card.json"]
    assert platform.first_object(spec.output_uri) == f"{spec.output_uri}/manifest.json"
    assert (azure.started, azure.running) == (1, 0)


def test_a_job_is_submitted_once(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    spec = staged(platform, tmp_path)
    assert platform.find(KEY) is None
    first = platform.submit(platform.render(spec))
    assert platform.submit(platform.render(spec)) == first == platform.find(KEY)
    assert AzureMlPlatform(azure.terms()).submit(platform.render(spec)) == first
    assert azure.started == 1
    assert JobHandle.from_json(first.as_json()) == first


def test_two_that_start_at_once_have_one_job(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    request = platform.render(staged(platform, tmp_path))
    both = threading.Barrier(2)

    def submit(_: int) -> JobHandle:
        mine = AzureMlPlatform(azure.terms())
        both.wait()
        return mine.submit(request)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(submit, range(2))
    assert first == second
    assert azure.started == 1


def test_a_job_that_is_shown_late_is_not_started_again(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    request = platform.render(staged(platform, tmp_path))
    azure.hide(2)
    first = platform.submit(request)
    assert platform.find(KEY) is None
    assert platform.submit(request) == first  # not shown: PUT again, which Azure answers with 200
    assert (platform.find(KEY), azure.started) == (first, 1)


def test_a_name_of_somebody_else_is_told_apart(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    azure.taken(KEY)
    found = platform.submit(platform.render(staged(platform, tmp_path)))
    assert found.spec is None
    assert azure.started == 0
    assert azure.jobs[KEY].properties["tags"] == {"owner": "else"}


@pytest.mark.parametrize(
    ("native", "state"),
    [
        ("NotStarted", JobState.QUEUED), ("Queued", JobState.QUEUED),
        ("Provisioning", JobState.QUEUED), ("Starting", JobState.QUEUED),
        ("Preparing", JobState.QUEUED), ("Running", JobState.RUNNING),
        ("Finalizing", JobState.RUNNING), ("NotResponding", JobState.RUNNING),
        ("CancelRequested", JobState.CANCELLING), ("Completed", JobState.SUCCEEDED),
        ("Failed", JobState.FAILED), ("Canceled", JobState.CANCELLED),
        ("Paused", JobState.PAUSED), ("Unknown", JobState.UNKNOWN),
        ("HalfCompleted", JobState.UNKNOWN),
    ],
)  # fmt: skip
def test_every_status_has_a_meaning(
    native: str, state: JobState, azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    azure.script(native)
    handle = platform.submit(platform.render(staged(platform, tmp_path)))
    status = platform.poll(handle)
    assert (status.state, status.native_state) == (state, native)
    assert bool(status.reason) == (native in {"NotResponding", "Failed"})


def test_a_failed_job_says_why(azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path) -> None:
    azure.script("running", "failed")
    azure.reason = "input development changed after it was staged"
    spec = staged(platform, tmp_path)
    handle = platform.submit(platform.render(spec))
    platform.poll(handle)
    assert platform.poll(handle).reason == azure.reason
    assert platform.first_object(spec.output_uri) is None


def test_a_container_that_fails_fails_the_job(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    def fails(command: list[str], root: Path) -> int:
        Path(command[-1]).write_text("the script has no model\n")
        return 1

    azure.script("succeeded")
    azure.container = fails
    status = platform.poll(platform.submit(platform.render(staged(platform, tmp_path))))
    assert (status.state, status.reason) == (JobState.FAILED, "the script has no model")


def test_a_job_is_cancelled_and_again(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    platform.cancel(job)
    assert azure.running == 0
    assert [platform.poll(job).state for _ in range(2)] == ["cancelling", "cancelled"]
    platform.cancel(job)
    azure.vanish()
    platform.cancel(job)


def test_a_refused_cancel_is_told(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    azure.denied.append("/cancel")
    with pytest.raises(PlatformError, match=f"{KEY}.*AuthorizationFailed") as caught:
        platform.cancel(job)
    assert not caught.value.retryable
    assert azure.running == 1


def test_a_job_that_is_gone_or_cancelled_by_others(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    azure.cancel_behind_our_back()
    assert platform.poll(job).state == JobState.CANCELLED
    azure.vanish()
    assert platform.poll(job).state == JobState.MISSING


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("throttle", "HTTP 429"), ("500", "HTTP 500"), ("hang", "reaches Azure"),
        ("expired", "expired"),
    ],
)  # fmt: skip
def test_what_passes_may_be_retried(
    how: str, says: str, azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    azure.hang_s = 0.1
    azure.fail(1, how)
    with pytest.raises(PlatformUnavailableError, match=says) as caught:
        platform.poll(job)
    assert KEY in str(caught.value)
    assert platform.poll(job).state in {JobState.QUEUED, JobState.RUNNING}  # a hung call has looked


def test_an_expired_token_is_renewed_by_the_next_call(
    azure: FakeAzure,
    platform: AzureMlPlatform,
    job: JobHandle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    azure.token = "token-2"
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PlatformUnavailableError, match="token") as caught:
        platform.poll(job)
    assert "token-1" not in str(caught.value)
    assert platform.poll(job).state == JobState.QUEUED


def test_a_hanging_answer_is_not_waited_for(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlgov.clouds.azure.arm.READ_S", 0.2)
    azure.hang_s = 3.0
    azure.fail(1, "hang")
    with pytest.raises(PlatformUnavailableError, match="timed out"):
        AzureMlPlatform(azure.terms()).poll(job)


@pytest.mark.parametrize(
    ("how", "says"), [("quota", "quota is exceeded"), ("denied", "train-on-azure")]
)
def test_what_does_not_pass_is_not_retried(
    how: str, says: str, azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    azure.fail(1, how)
    with pytest.raises(PlatformError, match=says) as caught:
        platform.submit(platform.render(staged(platform, tmp_path)))
    assert not caught.value.retryable
    assert KEY in str(caught.value)
    assert azure.started == 0


def test_an_environment_that_somebody_changed_is_refused(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    request = platform.render(staged(platform, tmp_path))
    platform.submit(request)
    environment = request["job"]["body"]["properties"]["environmentId"]
    azure.resources[environment]["properties"]["image"] = "docker.io/evil"
    azure.jobs.clear()
    with pytest.raises(PlatformError, match="evil', and not"):
        platform.submit(request)
    azure.resources.pop(environment)
    assert platform.submit(request).key == KEY


def test_a_request_says_what_was_asked(platform: AzureMlPlatform, tmp_path: Path) -> None:
    request = platform.render(staged(platform, tmp_path))
    job = request["job"]["body"]["properties"]
    assert job["limits"] == {"jobLimitsType": "Command", "timeout": "PT7200S"}
    assert job["tags"] == {
        "cost-centre": "4711", "mlgov-model": "retail_pd", "mlgov-variant": "candidate"
    }  # fmt: skip
    assert "environmentVariables" not in json.dumps(request)
    assert json.loads(json.dumps(request)) == request


def test_a_request_for_a_cluster(azure: FakeAzure, tmp_path: Path) -> None:
    platform = AzureMlPlatform(azure.terms(instance=Instance("any", 2, compute="cluster")))
    request = platform.render(staged(platform, tmp_path))
    job = request["job"]["body"]["properties"]
    assert job["computeId"] == f"{WORKSPACE}/computes/cluster"
    assert job["resources"] == {"instanceCount": 2}
    assert "queueSettings" not in job
    assert platform.submit(request).key == KEY


def test_every_argument_of_the_command_is_quoted() -> None:
    assert command_line(["a", "x=${{inputs.b}}/c"]) == '"a" "x=${{inputs.b}}/c"'
    for evil in ('a"b', "$(rm)", "a`b`", "${{secrets.x}}", "a\nb", "a b", "\\"):
        with pytest.raises(ConfigurationError, match="cannot be an argument"):
            command_line([evil])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"account": WORKSPACE.replace("workspaces", "registries")}, "no workspace"),
        ({"identity": "train@bank"}, "no client id"),
        ({"network": Network(isolated=True)}, "cannot be told 'network'"),
        ({"keys": {"output": "k"}}, "cannot be told 'keys'"),
        ({"output": "https://bank.blob.core.windows.net"}, "no folder of a blob container"),
        ({"output": "https://bank.example/c/p"}, "no folder of a blob container"),
        ({"output": "http://bank.blob.core.windows.net/c"}, "without encryption"),
        ({"endpoint": "http://management.bank.example"}, "without encryption"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(
    changes: dict[str, Any], says: str, azure: FakeAzure
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        AzureMlPlatform(azure.terms(**changes))


@pytest.mark.parametrize(
    ("connection", "says"),
    [(None, "no Airflow connection 'azure_test'"), ('{"conn_type": "http"}', "of type 'http'")],
)
def test_a_connection_that_is_missing_or_another(
    connection: str | None,
    says: str,
    platform: AzureMlPlatform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if connection is None:
        monkeypatch.delenv("AIRFLOW_CONN_AZURE_TEST")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_AZURE_TEST", connection)
    with pytest.raises(PlatformError, match=says) as caught:
        platform.find(KEY)
    assert not caught.value.retryable


def test_nothing_that_is_staged_is_sent_twice(
    azure: FakeAzure, platform: AzureMlPlatform, tmp_path: Path
) -> None:
    staged(platform, tmp_path)
    held = azure.blobs.of("devstoreaccount1", "mlgov")
    name = next(name for name in held if name.endswith("train.py"))
    held[name].data = b"another.py of 16"
    staged(platform, tmp_path)
    assert held[name].data == b"another.py of 16"  # same size: Azure keeps what it has
    held[name].data = b"cut"
    staged(platform, tmp_path)
    assert held[name].data == b"this is train.py"


def test_output_that_is_gone_is_told(
    platform: AzureMlPlatform, job: JobHandle, tmp_path: Path
) -> None:
    into = tmp_path / "fetched"
    into.mkdir()
    with pytest.raises(ArtefactError, match="Nothing stands at"):
        platform.fetch(job, platform.output_uri(f"jobs/{KEY}"), into)


def test_the_log_is_read_as_it_grows(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    assert platform.log_lines(job, None) == ([], "0")
    azure.write_log("first\nsecond\nhal")
    lines, cursor = platform.log_lines(job, "0")
    assert lines == ["first", "second"]
    azure.write_log("f\n" + "x\n" * 1500)
    lines, cursor = platform.log_lines(job, cursor)
    assert (lines[0], len(lines)) == ("half", 1000)
    lines, cursor = platform.log_lines(job, cursor)
    assert len(lines) == 501
    assert platform.log_lines(job, cursor) == ([], cursor)


def test_a_line_without_end_is_cut(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    azure.write_log("y" * 5000)
    lines, cursor = platform.log_lines(job, None)
    assert (lines, cursor) == (["y" * 4000], "5000")


def test_a_log_that_may_not_be_read_is_linked_once(
    azure: FakeAzure, platform: AzureMlPlatform, job: JobHandle
) -> None:
    azure.denied.append("workspaceartifactstore")
    lines, cursor = platform.log_lines(job, None)
    assert len(lines) == 1
    assert job.console_url in lines[0]
    assert platform.log_lines(job, cursor) == ([], cursor)


def test_doctor_sees_workspace_and_store(azure: FakeAzure, platform: AzureMlPlatform) -> None:
    assert platform.check().startswith("Azure ML workspace bank-ml in westeurope answers")
    assert not azure.blobs.of("devstoreaccount1", "mlgov")
    with pytest.raises(PlatformError, match="in westeurope, and the platform file says northeur"):
        AzureMlPlatform(azure.terms(region="northeurope")).check()
    gone = WORKSPACE.replace("bank-ml", "nowhere")
    with pytest.raises(PlatformError, match=r"no workspace /subscriptions.*nowhere"):
        AzureMlPlatform(azure.terms(account=gone)).check()


def test_missing_permissions_are_named(azure: FakeAzure, platform: AzureMlPlatform) -> None:
    assert platform.missing_permissions() == []
    azure.permissions[WORKSPACE] = [
        {
            "actions": ["Microsoft.MachineLearningServices/workspaces/*"],
            "notActions": ["microsoft.machinelearningservices/workspaces/jobs/*/ACTION"],
        },
    ]
    missing = platform.missing_permissions()
    job_cancel = "Microsoft.MachineLearningServices/workspaces/jobs/cancel/action"
    assert missing == [f"{job_cancel} on {WORKSPACE}"]
    azure.denied.append("Authorization")
    with pytest.raises(PlatformError):
        platform.missing_permissions()
