from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.registries.mlflow import MANIFEST_TAG, MlflowRegistry
from airflow_mlgov.service.artefacts import hash_directory

TAGS = {"mlgov.model": "retail_pd", "mlgov.variant": "candidate"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server; it takes most of a minute to start."""
    folder = tmp_path_factory.mktemp("server")
    port = _free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=quiet, cwd=folder, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError("MLflow's server did not start")


@pytest.fixture(params=["sqlite", "server"])
def registry(request: pytest.FixtureRequest, database: Path) -> MlflowRegistry:
    if request.param == "sqlite":
        return MlflowRegistry(f"sqlite:///{database}")
    return MlflowRegistry(request.getfixturevalue("server"))


@pytest.fixture
def local(database: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{database}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model unlike that of any other test."""
    path = tmp_path / "model"
    (path / "nested").mkdir(parents=True)
    (path / "scorecard.json").write_text(json.dumps({"made_in": str(tmp_path)}))
    (path / "nested" / "bins.json").write_text("[]")
    (path / ".note").write_text("dot-files count")
    return path


def test_a_model_goes_in_and_comes_out_unchanged(
    registry: MlflowRegistry, model: Path, tmp_path: Path
) -> None:
    manifest = hash_directory(model)
    version = registry.register("credit-pd", model, manifest, TAGS)
    assert (version.registry, version.name, version.manifest) == (
        "mlflow", "credit-pd", manifest.digest,
    )  # fmt: skip
    assert version.uri == f"{version.namespace}/credit-pd/{version.version}"
    assert registry.find("credit-pd", manifest.digest) == version
    assert registry.get("credit-pd", version.version) == version

    fetched = registry.fetch(version, tmp_path / "private")
    assert hash_directory(fetched).digest == manifest.digest
    assert list((tmp_path / "private").iterdir()) == [fetched], "MLflow's own files stay there"
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def test_the_same_manifest_again_is_the_same_version(registry: MlflowRegistry, model: Path) -> None:
    manifest = hash_directory(model)
    first = registry.register("again", model, manifest, TAGS)
    assert registry.register("again", model, manifest, TAGS) == first
    (model / "scorecard.json").write_text("another")
    other = registry.register("again", model, hash_directory(model), TAGS)
    assert other.version != first.version


def test_an_alias_moves(registry: MlflowRegistry, model: Path) -> None:
    first = registry.register("alias", model, hash_directory(model), TAGS)
    (model / "scorecard.json").write_text("second")
    second = registry.register("alias", model, hash_directory(model), TAGS)
    for version in (first, first, second):
        registry.set_alias(version, "champion")
        assert registry.by_alias("alias", "champion") == version


def test_what_is_not_there_is_not_found(registry: MlflowRegistry, model: Path) -> None:
    version = registry.register("missing", model, hash_directory(model), TAGS)
    calls = (
        lambda: registry.find("missing", Digest.of(b"other")),
        lambda: registry.find("never-registered", Digest.of(b"other")),
        lambda: registry.get("missing", "99"),
        lambda: registry.get("missing", "latest"),
        lambda: registry.get("never-registered", "1"),
        lambda: registry.by_alias("missing", "nobody"),
        lambda: registry.by_alias("never-registered", "champion"),
        lambda: registry.set_alias(dataclasses.replace(version, version="99"), "champion"),
    )
    for call in calls:
        with pytest.raises(VersionNotFoundError):
            call()


def test_a_retry_after_a_kill_between_run_and_version_uses_the_run(
    registry: MlflowRegistry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    manifest = hash_directory(model)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_model_version", die)
        with pytest.raises(KeyboardInterrupt):
            registry.register("killed", model, manifest, TAGS)
    with registry._session.talking() as client:
        experiment = client.get_experiment_by_name("airflow-mlgov").experiment_id
        query = f"tags.`{MANIFEST_TAG}` = '{manifest.digest}'"
        before = [run.info.run_id for run in client.search_runs([experiment], query)]
        version = registry.register("killed", model, manifest, TAGS)
        assert [run.info.run_id for run in client.search_runs([experiment], query)] == before
        assert client.get_model_version("killed", version.version).run_id == before[0]


def test_a_half_written_upload_is_never_registered(
    local: MlflowRegistry, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    def fill_up(self: MlflowClient, run_id: str, local_dir: str, artifact_path: str) -> None:
        self.log_text(run_id, "half", f"{artifact_path}/scorecard.json")
        raise OSError(28, "No space left on device")

    manifest = hash_directory(model)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", fill_up)
        with pytest.raises(RegistryUnavailableError, match="No space left"):
            local.register("half", model, manifest, TAGS)
    with pytest.raises(VersionNotFoundError):
        local.find("half", manifest.digest)
    version = local.register("half", model, manifest, TAGS)
    assert hash_directory(local.fetch(version, tmp_path / "x")).digest == manifest.digest


def _stored(local: MlflowRegistry, name: str, version: str) -> Path:
    with local._session.talking() as client:
        run = client.get_run(client.get_model_version(name, version).run_id)
    return Path(run.info.artifact_uri.removeprefix("file://")) / "package" / "model"


def test_changed_bytes_come_back_as_they_are_and_links_do_not(
    local: MlflowRegistry, model: Path, tmp_path: Path
) -> None:
    manifest = hash_directory(model)
    version = local.register("tampered", model, manifest, TAGS)
    stored = _stored(local, "tampered", version.version)
    (stored / "scorecard.json").write_text("changed")
    assert hash_directory(local.fetch(version, tmp_path / "a")).digest != manifest.digest
    (stored / "scorecard.json").unlink()
    (stored / "scorecard.json").symlink_to("/etc/hostname")
    with pytest.raises(ArtefactError, match="symbolic link"):
        local.fetch(version, tmp_path / "b")


@pytest.mark.parametrize(
    "path", ["package/model/../../../etc/passwd", "/etc/passwd", "package/model/..", "package/x"]
)
def test_a_server_that_lists_paths_outside_is_refused(
    path: str, local: MlflowRegistry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo

    from airflow_mlgov.registries.mlflow import registry as module

    version = local.register("outside", model, hash_directory(model), TAGS)
    monkeypatch.setattr(module, "_local_path", lambda _uri: None)
    monkeypatch.setattr(
        MlflowClient, "list_artifacts", lambda *_args: [FileInfo(path, is_dir=False, file_size=1)]
    )
    with pytest.raises(ArtefactError, match="outside of"):
        local.fetch(version, tmp_path / "private")


def test_a_version_registered_by_others_has_no_manifest_and_is_not_fetched(
    local: MlflowRegistry, tmp_path: Path
) -> None:
    with local._session.talking() as client:
        client.create_registered_model("theirs")
        client.create_model_version("theirs", str(tmp_path), tags={MANIFEST_TAG: "nonsense"})
    version = local.get("theirs", "1")
    assert version.manifest is None
    with pytest.raises(RegistryError, match="not registered by airflow-mlgov"):
        local.fetch(version, tmp_path / "private")


def test_two_tasks_may_begin_a_new_database_at_once(tmp_path: Path, model: Path) -> None:
    source = f"""
from pathlib import Path
from airflow_mlgov.registries.mlflow import MlflowRegistry
from airflow_mlgov.service.artefacts import hash_directory
model = Path({str(model)!r})
registry = MlflowRegistry("sqlite:///{tmp_path}/new/mlflow.db")
print(registry.register("both", model, hash_directory(model), {{}}).version)
"""
    both = [
        subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=240)[0].strip() for process in both]
    assert answers[0] == answers[1] != ""


def test_an_unreachable_server_is_found_out_in_seconds(model: Path) -> None:
    started = time.monotonic()
    registry = MlflowRegistry(f"http://127.0.0.1:{_free_port()}", user="u", password="hidden-word")
    with pytest.raises(RegistryUnavailableError, match=r"127\.0\.0\.1") as caught:
        registry.register("any", model, hash_directory(model), TAGS)
    assert caught.value.retryable
    assert "hidden-word" not in caught.value.diagnostics()
    assert time.monotonic() - started < 10


def test_a_server_that_never_answers_is_given_up(model: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        started = time.monotonic()
        with pytest.raises(RegistryUnavailableError):
            MlflowRegistry(f"http://127.0.0.1:{listener.getsockname()[1]}").find(
                "x", Digest.of(b"")
            )
        assert time.monotonic() - started < 12


class _Refusing:
    """Answers every request with one status; cannot prove what a real MLflow then says."""

    def __init__(self, status: int, body: bytes) -> None:
        import http.server

        seen: list[str | None] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization"))
                self.send_response(200 if self.path == "/health" else status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                return

        self.seen = seen
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def test_a_wrong_login_is_said_to_be_one_and_stays_out_of_the_environment() -> None:
    fake = _Refusing(401, b'{"error_code": "UNAUTHENTICATED", "message": "no"}')
    registry = MlflowRegistry(fake.url, user="engineer", password="hidden-word")
    with pytest.raises(RegistryError, match="Check login and password") as caught:
        registry.find("x", Digest.of(b""))
    assert not caught.value.retryable
    assert fake.seen[-1] is not None, "the login was sent"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert "hidden-word" not in caught.value.diagnostics()


def test_a_server_that_is_not_mlflow_is_one_clear_error() -> None:
    fake = _Refusing(200, b"<html>hello</html>")
    with pytest.raises(RegistryError, match=r"MLflow at mlflow://127\.0\.0\.1"):
        MlflowRegistry(fake.url).find("x", Digest.of(b""))


def test_a_database_that_cannot_be_opened_is_one_clear_error() -> None:
    with pytest.raises(RegistryUnavailableError):
        MlflowRegistry("sqlite:////proc/none/mlflow.db").find("x", Digest.of(b""))


@pytest.mark.parametrize(
    ("uri", "namespace"),
    [
        ("http://mlflow:5000", "mlflow://mlflow:5000"),
        ("http://user:word@mlflow/base", "mlflow://mlflow:80"),
        ("https://mlflow.bank.example", "mlflow://mlflow.bank.example:443"),
        ("sqlite:////var/lib/mlflow.db", "mlflow://local"),
    ],
)
def test_namespaces_hold_no_credentials_and_parse(uri: str, namespace: str) -> None:
    assert MlflowRegistry(uri).namespace == namespace


def test_nonsense_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ConfigurationError, match="scheme 'ftp'"):
        MlflowRegistry("ftp://x")
    with pytest.raises(ConfigurationError, match="Registered model name"):
        MlflowRegistry("sqlite:////tmp/never.db").find("it's", Digest.of(b""))


def test_no_telemetry_leaves_the_house(tmp_path: Path) -> None:
    # In a process of its own: here another test may have imported MLflow without us.
    code = f"""
from airflow_mlgov.registries.mlflow import MlflowRegistry
MlflowRegistry("sqlite:///{tmp_path}/mlflow.db").check()
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
"""
    names = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
