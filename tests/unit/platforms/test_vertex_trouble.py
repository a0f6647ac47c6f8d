"""Vertex AI in trouble: what fails, what fails late, and never a second job that is paid."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import vertex_server
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage import exceptions as moves

from airflow_mlgov.clouds.gcp import session as gcp_session
from airflow_mlgov.errors import PlatformError, PlatformUnavailableError
from airflow_mlgov.platforms.vertex import VertexPlatform
from airflow_mlgov.platforms.vertex import jobs as module
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState

KEY = "mlgov-0123456789abcdef0123"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[vertex_server.VertexFake]:
    with vertex_server.start() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def jobs(fake) -> VertexPlatform:
    return VertexPlatform(fake.terms(), sleep=lambda _: None)


def request(jobs: VertexPlatform, key: str = KEY):
    output = jobs.output_uri(f"jobs/{key}")
    spec = JobSpec(key, Digest.of(b"spec"), jobs.output_uri("staged/c"), {}, output, 60, {})
    return jobs.render(spec)


def submitted(jobs: VertexPlatform) -> JobHandle:
    return jobs.submit(request(jobs))


class _Response:
    status_code = 503


class _Aborted(_Response):
    text = '{"error": {"code": 409, "status": "ABORTED"}}'


class _Denied(_Response):
    status_code = 403


RATE = "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute per region'."
QUOTA = "The following quota metrics exceed quota limits: custom_model_training_cpus"
NO_TOKEN = "Getting metadata from plugin failed with error: "
PASSING = [
    api.ServiceUnavailable(f"{NO_TOKEN}connection reset"),
    api.TooManyRequests(RATE),
    api.ResourceExhausted("out of capacity"),
    api.InternalServerError("x"),
    api.ServiceUnavailable("x"),
    api.DeadlineExceeded("x"),
    api.GatewayTimeout("x"),
    api.Unknown("x"),
    api.Aborted("x"),
    api.Conflict("x", response=_Aborted()),
    api.Cancelled("x"),
    api.RetryError("x", cause=None),
    api.Unauthenticated("x"),
    auth.InvalidOperation("x"),
    auth.TransportError("x"),
    auth.TimeoutError("x"),
    auth.RefreshError("x", retryable=True),
    requests.ConnectionError("x"),
    requests.ReadTimeout("x"),
    requests.exceptions.ChunkedEncodingError("x"),
    ConnectionResetError("x"),
    TimeoutError("x"),
    moves.InvalidResponse(_Response(), "x"),
    moves.DataCorruption(_Response(), "x"),
]
LASTING = [
    (api.ServiceUnavailable(f"{NO_TOKEN}invalid_grant: no account"), "Look at the credentials"),
    (
        api.ServiceUnavailable(f"{NO_TOKEN}invalid_grant: not in a reasonable timeframe"),
        "Set this machine's clock",
    ),
    (api.PermissionDenied("x"), "Give who Airflow connection 'mlgov_vertex_fake'"),
    (api.Forbidden("x"), "Give who"),
    (api.NotFound("x"), "Look at the project"),
    (api.InvalidArgument("x"), ""),
    (api.FailedPrecondition("x"), ""),
    (api.AlreadyExists("x"), ""),
    (api.PreconditionFailed("x"), ""),
    (api.MethodNotImplemented("x"), ""),
    (api.ResourceExhausted(QUOTA), "Ask Google for more of this quota"),
    (auth.RefreshError("invalid_grant: Account not found"), "Look at the credentials"),
    (auth.RefreshError("Token must be in a reasonable timeframe."), "Set this machine's clock"),
    (auth.DefaultCredentialsError("x"), "Look at the credentials"),
    (auth.MalformedError("x"), "Look at the credentials"),
    (moves.InvalidResponse(_Denied(), "x"), ""),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda e: f"{type(e).__name__}-{e}"[:40])
def test_what_may_pass_may_be_tried_again(fake, jobs, error) -> None:
    with (
        pytest.raises(PlatformUnavailableError, match="asking about job 7") as caught,
        jobs._session.talking("asking about job 7"),
    ):
        raise error
    assert "gcp: bank-models, europe-west3" in str(caught.value)


@pytest.mark.parametrize(("error", "remedy"), LASTING, ids=lambda e: str(e)[:40])
def test_what_stays_is_refused_with_what_to_do(fake, jobs, error, remedy) -> None:
    with (
        pytest.raises(PlatformError, match="asking about job 7") as caught,
        jobs._session.talking("asking about job 7"),
    ):
        raise error
    assert not caught.value.retryable
    assert caught.value.remedy.startswith(remedy)


def test_a_mistake_of_ours_is_not_laid_at_google_s_door(jobs) -> None:
    with pytest.raises(KeyError), jobs._session.talking("asking"):
        raise KeyError("x")


@pytest.mark.parametrize("how", ["throttle", "500", "hang", "expired"])
def test_a_call_that_fails_names_the_job_and_the_next_one_works(fake, jobs, how) -> None:
    fake.script("running")
    handle = submitted(jobs)
    fake.hang_s = 0.01
    fake.fail(1, how)
    with pytest.raises(PlatformUnavailableError, match="customJobs/1000"):
        jobs.poll(handle)
    assert jobs.poll(handle).state is JobState.RUNNING


def test_no_call_is_repeated_behind_our_back(fake, jobs) -> None:
    handle = submitted(jobs)
    before = len(fake.requests)
    fake.fail(1, "500")
    with pytest.raises(PlatformUnavailableError):
        jobs.poll(handle)
    assert len(fake.requests) == before + 1


def test_a_call_that_is_not_answered_ends(fake, jobs, monkeypatch) -> None:
    monkeypatch.setattr(module, "CALL_S", 0.2)
    handle = submitted(jobs)
    fake.hang_s = 3.0
    fake.fail(1, "hang")
    with pytest.raises(PlatformUnavailableError, match="timed out"):
        jobs.poll(handle)


@pytest.mark.parametrize(
    ("how", "said"), [("quota", "quota metrics"), ("denied", "customJobs.create")]
)
def test_a_submit_that_is_refused_starts_nothing(fake, jobs, how, said) -> None:
    fake.fail(1, how)
    with pytest.raises(PlatformError, match=said) as caught:
        submitted(jobs)
    assert not caught.value.retryable
    assert (KEY in str(caught.value), fake.started) == (True, 0)


def test_a_submit_without_an_answer_is_found_by_the_next_try(fake, jobs) -> None:
    jobs.find(KEY)
    fake.hang_s = 0.01
    fake._submit_failures.clear()
    original = jobs._session.jobs().create_custom_job

    def cut_off(**said):
        original(**said)
        raise requests.ConnectionError("cut off")

    jobs._session.jobs().create_custom_job = cut_off
    with pytest.raises(PlatformUnavailableError):
        submitted(jobs)
    again = VertexPlatform(fake.terms(), sleep=lambda _: None)
    assert submitted(again).native_id.endswith("/1000")
    assert fake.started == 1


def test_a_job_that_is_shown_late_is_returned_all_the_same(fake) -> None:
    waits: list[float] = []
    jobs = VertexPlatform(fake.terms(), sleep=waits.append)
    fake.hide(3)
    assert submitted(jobs).native_id.endswith("/1000")
    assert len(waits) == 3
    assert jobs.find(KEY) is not None
    fake.hide(100)
    late = jobs.submit(request(jobs, "mlgov-late"))
    assert late.native_id.endswith("/1001")
    assert sum(waits) < 30


def test_a_listing_that_fails_after_the_job_was_made_does_not_lose_it(fake, jobs) -> None:
    made = fake.jobs.create

    def then_fail(kind, body):
        fake.fail(1, "500")
        return made(kind, body)

    fake.jobs.create = then_fail
    assert submitted(jobs).native_id.endswith("/1000")


def test_of_two_that_start_at_once_the_older_remains(fake) -> None:
    """Both look, none sees a job, both make one."""
    barrier = threading.Barrier(2)
    handles: list[JobHandle] = []

    def start() -> None:
        jobs = VertexPlatform(fake.terms())
        found = jobs._with_key
        jobs._with_key = lambda key: (
            found(key),
            barrier.wait(10),
            setattr(jobs, "_with_key", found),
        )[0]
        handles.append(submitted(jobs))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert fake.started == 2
    assert {handle.native_id.rpartition("/")[2] for handle in handles} == {"1000"}
    assert fake.running == 1
    assert [each.state for each in fake.jobs.all] == ["JOB_STATE_PENDING", "JOB_STATE_CANCELLING"]


def test_a_younger_duplicate_is_cancelled_by_the_next_submit_too(fake, jobs) -> None:
    submitted(jobs)
    asked = request(jobs)
    jobs._created(asked)  # by a task that saw no other, and was killed
    fake.taken(KEY)  # somebody else's is left alone
    assert fake.running == 2
    assert jobs.submit(asked).native_id.endswith("/1000")
    assert fake.running == 1
    assert fake.jobs.all[-1].state == "JOB_STATE_PENDING"


def test_a_request_that_vertex_does_not_have_is_refused_here(fake, jobs) -> None:
    asked = request(jobs)
    asked["customJob"]["jobSpec"]["vpc"] = "mine"
    with pytest.raises(PlatformError, match="vpc"):
        jobs.submit(asked)
    assert fake.started == 0


def test_the_fake_refuses_what_vertex_would(fake, jobs) -> None:
    asked = request(jobs)
    for change, said in (
        ({"labels": {"Key": "x"}}, "Label Key=x"),
        ({"displayName": "x" * 129}, "display_name"),
        ({"encryptionSpec": {"kmsKeyName": "mine"}}, "kms_key_name"),
    ):
        with pytest.raises(PlatformError, match=said):
            jobs.submit({**asked, "customJob": {**asked["customJob"], **change}})


def test_a_connection_that_is_missing_or_broken_is_named(fake, monkeypatch) -> None:
    with pytest.raises(PlatformError, match=r"no Airflow connection 'none'.*platforms\.yaml:3"):
        VertexPlatform(fake.terms(connection="none")).find(KEY)
    extra = {"keyfile_dict": "{not json, with a secret"}
    monkeypatch.setenv(
        "AIRFLOW_CONN_BROKEN",
        json.dumps({"conn_type": "google_cloud_platform", "extra": extra}),
    )
    with pytest.raises(PlatformError, match="no usable credentials") as caught:
        VertexPlatform(fake.terms(connection="broken")).find(KEY)
    assert "secret" not in str(caught.value)


def test_credentials_that_are_nowhere_are_said_by_every_call(fake, tmp_path, monkeypatch) -> None:
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

    handle = submitted(VertexPlatform(fake.terms()))

    def nowhere(_self):
        raise auth.DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr(GoogleBaseHook, "get_credentials", nowhere)
    jobs, asked = VertexPlatform(fake.terms()), request(VertexPlatform(fake.terms()))
    for call in (
        lambda: jobs.stage("staged/c", {"f": tmp_path / "f"}),
        lambda: jobs.first_object(jobs.output_uri("x")),
        lambda: jobs.find(KEY),
        lambda: jobs.submit(asked),
        lambda: jobs.poll(handle),
        lambda: jobs.cancel(handle),
        lambda: jobs.log_lines(handle, None),
        lambda: jobs.fetch(handle, jobs.output_uri("x"), tmp_path),
        jobs.check,
        jobs.missing_permissions,
    ):
        with pytest.raises(PlatformError, match="default credentials were not found") as caught:
            call()
        assert not caught.value.retryable
    assert {s.unknown != "" for s in jobs.preflight(asked)} == {True}


@pytest.fixture
def by_key(fake, monkeypatch) -> VertexPlatform:
    """A platform whose connection holds the key of a service account, as a real one would."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "bank-models",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": vertex_server.ACCOUNT,
        "token_uri": f"{fake.url}/token",
    }
    extra = {"keyfile_dict": json.dumps(account)}
    monkeypatch.setenv(
        "AIRFLOW_CONN_BY_KEY",
        json.dumps({"conn_type": "google_cloud_platform", "extra": extra}),
    )
    return VertexPlatform(fake.terms(connection="by_key"), sleep=lambda _: None)


def test_a_token_that_expired_is_renewed(fake, by_key) -> None:
    handle = submitted(by_key)
    before = by_key._session.jobs()
    fake.fail(1, "expired")
    assert by_key.poll(handle).state is JobState.RUNNING  # Google's library renews it
    fake.fail(5, "expired")
    with pytest.raises(PlatformUnavailableError, match="does not take the token"):
        by_key.poll(handle)
    fake._failures.clear()
    assert by_key.poll(handle).state is JobState.SUCCEEDED
    assert by_key._session.jobs() is not before


def test_a_log_is_read_with_a_token_of_the_account(fake, by_key) -> None:
    handle = submitted(by_key)
    fake.jobs.say("hello")
    assert by_key.log_lines(handle, None)[0][0].endswith("hello")
    assert fake.tokens == 1


def test_a_wrong_clock_is_said(fake, by_key) -> None:
    handle = submitted(by_key)
    fake.clock_wrong = True
    with pytest.raises(PlatformError, match="Set this machine's clock") as caught:
        by_key.log_lines(handle, None)
    assert not caught.value.retryable


def test_a_file_that_does_not_arrive_whole_is_fetched_again(
    fake, jobs, tmp_path, monkeypatch
) -> None:
    from google.cloud.storage import Blob

    fake.bucket().blob("mlgov/jobs/k/metrics.json").upload_from_string(b'{"auc": 0.7}')
    handle = submitted(jobs)
    monkeypatch.setattr(Blob, "download_to_file", lambda self, file, **_: file.write(b"{"))
    with pytest.raises(
        PlatformUnavailableError, match="did not arrive as it was listed: 1 of 12 bytes"
    ):
        jobs.fetch(handle, jobs.output_uri("jobs/k"), tmp_path)


def test_a_file_that_is_replaced_meanwhile_is_not_mixed(fake, jobs, tmp_path, monkeypatch) -> None:
    from airflow_mlgov.clouds.gcp import store

    fake.bucket().blob("mlgov/jobs/k/metrics.json").upload_from_string(b'{"auc": 0.7}')
    handle = submitted(jobs)
    receive_one = store._receive_one

    def replaced(session, blob, target):
        fake.bucket().blob(blob.name).upload_from_string(b'{"auc": 0.9}')
        return receive_one(session, blob, target)

    monkeypatch.setattr(store, "_receive_one", replaced)
    # The emulator gives the new one, whichever was asked for; Google says 404 or 412.
    with pytest.raises(PlatformUnavailableError, match="did not arrive as it was listed"):
        jobs.fetch(handle, jobs.output_uri("jobs/k"), tmp_path)


def test_without_an_endpoint_google_s_own_addresses_are_asked(fake) -> None:
    """Nothing is sent: only how the clients are made is looked at."""
    jobs = VertexPlatform(fake.terms(endpoint=""))
    session = jobs._session
    client = session.jobs()
    assert client.transport.kind == "grpc"
    assert client.api_endpoint == "europe-west3-aiplatform.googleapis.com"
    assert session.vertex_url == "https://europe-west3-aiplatform.googleapis.com"
    assert session._beside(gcp_session._LOGS) == "https://logging.googleapis.com"
    private = VertexPlatform(fake.terms(endpoint="https://vertex.bank.example"))._session
    assert private.jobs().transport.kind == "rest"
    assert private._beside(gcp_session._LOGS) == "https://logging.googleapis.com"


def test_nothing_of_google_is_imported_before_it_is_used(fake) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from airflow_mlgov.platforms.vertex import VertexPlatform; "
        "from airflow_mlgov.registries.vertex import VertexRegistry; "
        "print([m for m in sys.modules if m.startswith(('google', 'airflow.', 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # What a .pth file of Google's makes in every process that has its packages.
    assert done.stdout.strip() in {"[]", "['google', 'google.cloud']"}


def test_paths_of_a_long_name_are_kept(fake, jobs, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    name = "deep/" * 5 + "file with space & ü.json"
    uri = jobs.stage("staged/odd", {name: file})
    into = tmp_path / "into"
    into.mkdir()
    jobs.fetch(submitted(jobs), uri, into)
    assert (into / name).read_bytes() == b"x"
