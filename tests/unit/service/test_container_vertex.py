"""The container of a batch prediction job of Vertex AI, against what it reaches on its machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import vertex_machines
import vertex_server

from airflow_mlgov.errors import (
    ArtefactError,
    DataError,
    PlatformError,
    PlatformUnavailableError,
    ScoringError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service import container_bootstrap
from airflow_mlgov.service.artefacts import fingerprint_file, hash_directory
from airflow_mlgov.service.container import entry_archive
from airflow_mlgov.service.container_gcs import CloudStorage
from airflow_mlgov.service.container_score import ContainerScorer
from airflow_mlgov.service.container_scoring import ScoringSpec, SpecData, scoring_document
from airflow_mlgov.service.container_script import ContainerScript
from airflow_mlgov.service.container_serve import Answer, serve
from airflow_mlgov.service.container_vertex import VertexPredictions, fetch_package

PACKAGE, OUTPUT = "gs://bank-mlgov/package", "gs://bank-mlgov/jobs/k"
KEY = vertex_server.KEY
SCRIPT = """\
import os, pathlib
model = pathlib.Path(os.environ["MLGOV_INPUT_MODEL"], "word.txt").read_text()
rows = pathlib.Path(os.environ["MLGOV_INPUT_DATA"]).read_text().splitlines()[1:]
out = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"], "scores.csv")
out.write_text("word\\n" + "".join(f"{model}{row}\\n" for row in rows))
"""
DATA = b"a\n1\n2\n"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[vertex_server.VertexFake]:
    with vertex_server.start() as running:
        for name, value in running.machines.variables.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def storage(fake, waits) -> CloudStorage:
    return CloudStorage(waits.append)


def put(fake, path: str, data: bytes) -> str:
    """Store an object past the container's eyes, and return its generation."""
    blob = fake.bucket().blob(path)
    blob.upload_from_string(data)
    return str(blob.generation)


def got(fake, path: str) -> bytes:
    data: bytes = fake.bucket().blob(path).download_as_bytes()
    return data


class Staged:
    """A package in the store, and a file that only the store knows."""

    def __init__(self, fake, folder: Path) -> None:
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "word.txt").write_text("pd")
        (folder / "score.py").write_text(SCRIPT)
        self.generation = put(fake, "in/loans.csv", DATA)
        spec = ScoringSpec(
            "score.py",
            {"score.py": Digest.of(SCRIPT.encode())},
            hash_directory(folder / "model").digest,
            {"loans.csv": SpecData(None, len(DATA), self.generation)},
            {},
        )
        document = scoring_document(spec)
        (folder / "spec.json").write_bytes(document)
        (folder / "mlgov-entry.pyz").write_bytes(entry_archive())
        self.folder, self.spec = folder, Digest.of(document)
        for file in folder.rglob("*"):
            if file.is_file():
                put(fake, f"package/{file.relative_to(folder)}", file.read_bytes())

    def container(self, entry: Digest | None = None) -> SimpleNamespace:
        """Return what Vertex AI would be told to run."""
        archive = entry or Digest.of(entry_archive())
        return SimpleNamespace(
            command=["python", "-c", Path(container_bootstrap.__file__).read_text()],
            args=[
                f"{PACKAGE}/mlgov-entry.pyz", archive.hex, "serve-vertex", "--package", PACKAGE,
                "--spec-sha256", self.spec.hex, "--output", OUTPUT, "--key", KEY,
                "--failure", f"{OUTPUT}.failure",
            ],
            env=[],
            health_route="/health",
            predict_route="/predict",
        )  # fmt: skip

    def predictions(self, storage: CloudStorage) -> VertexPredictions:
        script = ContainerScript("Scoring script", ScoringError)
        return VertexPredictions(
            ContainerScorer(self.folder, self.spec, script), storage, OUTPUT, KEY
        )


@pytest.fixture
def staged(fake, tmp_path: Path) -> Staged:
    return Staged(fake, tmp_path / "package")


INSTANCE = {"name": "loans.csv", "uri": "gs://bank-mlgov/in/loans.csv"}


def asked(predictions: VertexPredictions, folder: Path, *instances: Any) -> list[dict[str, Any]]:
    """Send a request as the server would."""
    folder.mkdir(exist_ok=True)
    body = folder / "body"
    body.write_text(json.dumps({"instances": instances or [INSTANCE]}))
    said: list[dict[str, Any]] = json.loads(predictions.predict(body).body)["predictions"]
    return said


def test_an_image_that_holds_nothing_of_ours_scores(fake, staged) -> None:
    played = vertex_machines.play(fake.machines, staged.container(), [INSTANCE])
    ((_, prediction),) = played.predictions
    scores = got(fake, "jobs/k/scores/loans.scores.csv")
    assert scores == b"word\npd1\npd2\n"
    assert prediction == {
        "data": "loans.csv",
        "data_sha256": str(Digest.of(DATA)),
        "data_size": len(DATA),
        "scores": "loans.scores.csv",
        "scores_sha256": str(Digest.of(scores)),
        "scores_size": len(scores),
        "rows": 2,
        "uri": f"{OUTPUT}/scores/loans.scores.csv",
    }
    assert fake.machines.keys["jobs/k/scores/loans.scores.csv"] == KEY


def test_another_entry_point_is_not_run(fake, staged) -> None:
    put(fake, "package/mlgov-entry.pyz", b"print('mine')")
    played = vertex_machines.play(fake.machines, staged.container(), [INSTANCE])
    assert played.problem.endswith("exit_code: 1")
    (said,) = played.log
    assert str(Digest.of(b"print('mine')")) in said
    assert f"and {Digest.of(entry_archive())} was staged" in said


def test_the_bootstrap_waits_for_what_may_pass_and_says_what_stays(fake, staged) -> None:
    fake.machines.failures = [503]
    assert vertex_machines.play(fake.machines, staged.container(), [INSTANCE]).predictions
    fake.machines.failures = [403]
    played = vertex_machines.play(fake.machines, staged.container(), [INSTANCE])
    assert "mlgov-entry.pyz?alt=media cannot be read: HTTP Error 403" in played.log[0]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("package/model/word.txt", "was approved"),
        ("package/model/more.txt", "was approved"),
        ("package/score.py", "is not what was staged"),
        ("package/spec.json", "is not what was staged"),
    ],
)
def test_an_altered_package_never_answers_for_its_health(fake, staged, path, said) -> None:
    put(fake, path, b"other")
    played = vertex_machines.play(fake.machines, staged.container(), [INSTANCE])
    assert (played.predictions, played.errors) == ([], [])
    assert played.problem.endswith("exit_code: 1")
    assert said in played.log[-1]
    assert said in got(fake, "jobs/k.failure").decode()
    assert not list(fake.bucket().list_blobs(prefix="jobs/k/"))


def test_without_vertex_s_variables_nothing_is_served(fake, staged, tmp_path) -> None:
    archive = tmp_path / "mlgov-entry.pyz"
    archive.write_bytes(entry_archive())
    done = subprocess.run(
        [sys.executable, archive, *staged.container().args[2:]],
        env=fake.machines.variables, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE" in done.stderr


def test_what_is_refused_is_said_to_vertex_and_beside_the_output(fake, staged) -> None:
    put(fake, "in/loans.csv", DATA)
    played = vertex_machines.play(fake.machines, staged.container(), [INSTANCE])
    ((_, status, said),) = played.errors
    assert status == 400
    assert f"There is no {INSTANCE['uri']} of generation {staged.generation}" in said
    assert got(fake, "jobs/k.failure").decode() == said


def test_what_may_pass_is_told_so_that_vertex_may_ask_again() -> None:
    """The status decides: 503 for what did not pass, 400 for what is refused."""
    script = ContainerScript("Scoring script", ScoringError)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def route(body: Path) -> Answer:
        raise PlatformUnavailableError("away") if body.stat().st_size else DataError("none")

    routes = {"GET /health": lambda _: Answer(), "POST /predict": route}
    thread = threading.Thread(target=serve, args=(port, routes, script))
    thread.start()
    url = f"http://127.0.0.1:{port}"
    try:
        while not vertex_machines._is_healthy(f"{url}/health"):
            thread.join(0.05)
        statuses = [
            requests.post(f"{url}/predict", data=data, timeout=10).status_code for data in ("x", "")
        ]
    finally:
        script.stop()
        thread.join(10)
    assert statuses == [503, 400]


def test_a_request_that_is_sent_twice_is_scored_once(fake, staged, storage, tmp_path) -> None:
    predictions = staged.predictions(storage)
    first = asked(predictions, tmp_path / "1")
    put(fake, "in/loans.csv", b"a\n9\n9\n")  # it is not read again
    assert asked(predictions, tmp_path / "2") == first


def test_a_container_that_was_started_anew_finds_its_own_scores(
    fake, staged, storage, tmp_path
) -> None:
    first = asked(staged.predictions(storage), tmp_path / "1")
    made = fake.bucket().get_blob("jobs/k/scores/loans.scores.csv").generation
    assert asked(staged.predictions(storage), tmp_path / "2") == first
    assert fake.bucket().get_blob("jobs/k/scores/loans.scores.csv").generation == made


def test_other_scores_that_are_there_stay_and_are_refused(fake, staged, storage, tmp_path) -> None:
    put(fake, "jobs/k/scores/loans.scores.csv", b"word\nmine\n")
    with pytest.raises(ScoringError, match=r"There is a gs://.*loans\.scores\.csv already"):
        asked(staged.predictions(storage), tmp_path / "1")
    assert got(fake, "jobs/k/scores/loans.scores.csv") == b"word\nmine\n"


def test_an_answer_to_an_upload_that_is_lost_changes_nothing(
    fake, staged, storage, waits, tmp_path
) -> None:
    fake.machines.lost = 1
    (said,) = asked(staged.predictions(storage), tmp_path / "1")
    assert waits == [1.0]
    assert Digest.of(got(fake, "jobs/k/scores/loans.scores.csv")) == Digest.parse(
        said["scores_sha256"]
    )


def test_another_generation_is_not_scored(fake, staged, storage, waits, tmp_path) -> None:
    put(fake, "in/loans.csv", DATA)  # the same bytes, and not those that were meant
    with pytest.raises(DataError, match=f"of generation {staged.generation}") as caught:
        asked(staged.predictions(storage), tmp_path / "1")
    assert not caught.value.retryable
    assert waits == []


def test_another_object_that_is_sent_in_its_place_is_not_scored(
    fake, staged, storage, tmp_path
) -> None:
    put(fake, "in/other.csv", DATA)
    with pytest.raises(DataError, match=r"There is no gs://bank-mlgov/in/other\.csv"):
        asked(
            staged.predictions(storage),
            tmp_path / "1",
            {**INSTANCE, "uri": "gs://bank-mlgov/in/other.csv"},
        )


def test_a_store_that_answers_with_another_generation_is_not_believed(
    fake, staged, storage, tmp_path, monkeypatch
) -> None:
    read = vertex_machines.Machines.read
    monkeypatch.setattr(vertex_machines.Machines, "read", lambda *said: (*read(*said)[:2], "12345"))
    with pytest.raises(DataError, match=f"of generation 12345, and {staged.generation} was meant"):
        storage.download(INSTANCE["uri"], staged.generation, tmp_path / "f")


@pytest.mark.parametrize(
    "instances",
    [
        [{"name": "loans.csv"}], ["loans.csv"], [None], {"name": "x"},
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_refused(staged, storage, tmp_path, instances) -> None:
    body = tmp_path / "body"
    body.write_text(json.dumps({"instances": instances}))
    with pytest.raises(DataError, match="no instances with name and uri"):
        staged.predictions(storage).predict(body)


def test_a_file_of_no_name_of_the_job_is_not_even_fetched(fake, staged, storage, tmp_path) -> None:
    with pytest.raises(DataError, match=r"'cards\.csv' is none of this job's files"):
        asked(staged.predictions(storage), tmp_path / "1", {**INSTANCE, "name": "cards.csv"})
    assert fake.machines.given == 0


def test_a_token_is_used_until_it_ends(fake, storage, tmp_path) -> None:
    put(fake, "in/a", b"1")
    for _ in range(3):
        storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert fake.machines.given == 1
    fake.machines.tokens.clear()  # revoked, or the machine slept
    storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert fake.machines.given == 2


def test_a_token_that_is_about_to_end_is_not_used(fake, storage, tmp_path) -> None:
    put(fake, "in/a", b"1")
    fake.machines.token_s = 59
    for _ in range(3):
        storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert fake.machines.given == 3


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_for_again(fake, storage, waits, tmp_path, status) -> None:
    put(fake, "in/a", b"1")
    fake.machines.failures = [status, status]
    storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert waits == [1.0, 2.0]


def test_what_does_not_pass_is_given_up_after_a_minute(fake, storage, waits, tmp_path) -> None:
    put(fake, "in/a", b"1")
    fake.machines.failures = [503] * 99
    with pytest.raises(PlatformUnavailableError, match=r"503 .*Not now"):
        storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert sum(waits) == 63


def test_a_download_that_is_cut_short_is_done_again(fake, storage, waits, tmp_path) -> None:
    put(fake, "in/a", b"12345")
    fake.machines.cut = 2
    storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"12345"
    assert len(waits) == 2


def test_a_right_that_is_missing_is_said_at_once(fake, storage, waits, tmp_path) -> None:
    fake.machines.failures = [403]
    with pytest.raises(PlatformError, match="roles of the job's service account") as caught:
        storage.download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert not caught.value.retryable
    assert waits == []


def test_a_machine_without_metadata_is_waited_for(fake, waits, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    with pytest.raises(PlatformUnavailableError, match="refused"):
        CloudStorage(waits.append).download("gs://bank-mlgov/in/a", "", tmp_path / "a")
    assert len(waits) == 6


def test_a_package_of_many_pages_comes_whole(fake, storage, tmp_path) -> None:
    fake.machines.page_most = 2
    names = [f"package/model/{n} ü&#?.txt" for n in range(5)]
    for name in names:
        put(fake, name, name.encode())
    put(fake, "package/model/", b"")
    put(fake, "package2/other", b"")
    into = tmp_path / "into"
    into.mkdir()
    fetch_package(storage, PACKAGE, into, ContainerScript("Scoring script", ScoringError))
    found = {str(file.relative_to(tmp_path)) for file in into.rglob("*") if file.is_file()}
    assert found == {name.replace("package", "into") for name in names}
    assert (into / "model/3 ü&#?.txt").read_bytes() == names[3].encode()


@pytest.mark.parametrize("name", ["../out", "model/../../out", "model//x", "./x"])
def test_a_name_that_leaves_the_package_is_refused(fake, storage, tmp_path, name) -> None:
    from airflow_mlgov.service.container_gcs import StoredObject

    storage.beneath = lambda uri: iter([StoredObject(f"{uri}/{name}", "1")])
    (tmp_path / "into").mkdir()
    with pytest.raises(ArtefactError, match="leaves its folder"):
        fetch_package(
            storage, PACKAGE, tmp_path / "into", ContainerScript("Scoring script", ScoringError)
        )


def test_a_file_goes_and_comes_back_the_same(fake, storage, tmp_path) -> None:
    file, back = tmp_path / "f", tmp_path / "back"
    file.write_bytes(bytes(range(256)) * 10_000)
    assert storage.upload(file, f"{OUTPUT}/a b/ü.bin", KEY) is True
    assert storage.upload(file, f"{OUTPUT}/a b/ü.bin", KEY) is False
    storage.download(f"{OUTPUT}/a b/ü.bin", "", back)
    assert fingerprint_file(back) == fingerprint_file(file)
    file.write_bytes(b"new")
    assert storage.upload(file, f"{OUTPUT}/a b/ü.bin", "", replace=True) is True
    assert got(fake, "jobs/k/a b/ü.bin") == b"new"


@pytest.mark.parametrize("uri", ["s3://b/a", "gs://b", "gs:///a", "a"])
def test_what_is_no_address_is_not_asked_for(storage, tmp_path, uri) -> None:
    with pytest.raises(DataError, match="no address in Cloud Storage"):
        storage.download(uri, "", tmp_path / "a")
