from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azureml_account import ACCOUNT, CONTAINER
from azureml_blobs import Blob

from airflow_mlgov.errors import ArtefactError, ConfigurationError, DataError
from airflow_mlgov.platforms.azureml import AzureMlScoring
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import ENTRY_FILE, SPEC_FILE, entry_archive
from airflow_mlgov.service.container_scoring import ScoringSpec, SpecData, scoring_document
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState

if TYPE_CHECKING:
    from azureml_server import FakeAzure

KEY = "mlgov-0123456789abcdef0123"
SCRIPT = """\
import json, os, pathlib
paths = json.load(open(os.environ["MLGOV_JOB_FILE"]))["inputs"]
weight = json.loads((pathlib.Path(paths["model"]) / "card.json").read_text())["weight"]
rows = pathlib.Path(paths["data"]).read_text().splitlines()[1:]
scores = ["pd", *(str(float(row) * weight) for row in rows)]
(pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"]) / "scores.csv").write_text("\\n".join(scores) + "\\n")
"""
DATA = {"b.parquet.csv": "x\n1\n2\n", "a-2026_09.csv": "x\n3\n"}


def container(command: list[str], root: Path) -> int:
    """Play the vendor's machine: run what it was told to run, with this interpreter."""
    assert command[0] == "python"
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=root, check=False, capture_output=True
    )
    return done.returncode


@pytest.fixture
def scoring(azure: FakeAzure) -> AzureMlScoring:
    azure.container = container
    azure.script("succeeded")
    return AzureMlScoring(azure.terms())


@pytest.fixture
def held(azure: FakeAzure) -> dict[str, Blob]:
    """The blobs of the entry's container; what is scored lies in it, beside the entry's folder."""
    blobs = azure.blobs.of(ACCOUNT, CONTAINER)
    blobs.update({f"landing/loans/{name}": Blob(text.encode()) for name, text in DATA.items()})
    return blobs


@pytest.fixture
def package(tmp_path: Path) -> dict[str, Path]:
    """Local files of a package, by relative path."""
    folder = tmp_path / "package"
    (folder / "model").mkdir(parents=True)
    (folder / "model/card.json").write_text('{"weight": 2}')
    (folder / "score.py").write_text(SCRIPT)
    (folder / ENTRY_FILE).write_bytes(entry_archive())
    document = ScoringSpec(
        script="score.py",
        files={"score.py": Digest.of(SCRIPT.encode())},
        version=hash_directory(folder / "model").digest,
        data={name: SpecData(None, len(text), "v") for name, text in DATA.items()},
        parameters={},
    )
    (folder / SPEC_FILE).write_bytes(scoring_document(document))
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def spec(
    azure: FakeAzure, scoring: AzureMlScoring, held: dict[str, Blob], package: dict[str, Path]
) -> JobSpec:
    """A job whose package is staged."""
    assert held
    found = scoring.located(f"{azure.url}/{ACCOUNT}/{CONTAINER}/landing/loans/")
    assert [each.size_bytes for each in found] == [len(DATA[name]) for name in sorted(DATA)]
    spec = JobSpec(
        key=KEY,
        spec=Digest.of(package[SPEC_FILE].read_bytes()),
        code_uri=scoring.output_uri("staged/0123"),
        inputs={each.uri.rpartition("/")[2]: each.uri for each in found},
        output_uri=scoring.output_uri(f"jobs/{KEY}"),
        timeout_s=7200,
        labels={"mlgov-model": "retail_pd"},
        sizes={each.uri.rpartition("/")[2]: each.size_bytes for each in found},
    )
    scoring.stage_package(spec, package)
    return spec


@pytest.fixture
def handle(scoring: AzureMlScoring, spec: JobSpec) -> JobHandle:
    return scoring.submit(scoring.render(spec))


@pytest.fixture
def scored(scoring: AzureMlScoring, handle: JobHandle) -> JobHandle:
    """A job that has succeeded."""
    assert scoring.poll(handle).state is JobState.SUCCEEDED
    return handle


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def fetch(
    scoring: AzureMlScoring, scored: JobHandle, spec: JobSpec, into: Path
) -> Callable[[], Mapping[str, str]]:
    """Fetches the scores of a job that has succeeded."""
    return lambda: scoring.fetch_scores(scored, spec, into)


def test_files_of_the_container_are_scored_where_they_lie(
    azure: FakeAzure, scoring: AzureMlScoring, scored: JobHandle, spec: JobSpec, into: Path
) -> None:
    assert (scored.purpose, scored.key, scored.spec) == ("scoring", KEY, spec.spec)
    assert JobHandle.from_json(scored.as_json()) == scored == scoring.find(KEY)
    assert scoring.fetch_scores(scored, spec, into) == {
        "a-2026_09.csv": f"{spec.output_uri}/a-2026_09.scores.csv",
        "b.parquet.csv": f"{spec.output_uri}/b.parquet.scores.csv",
    }
    found = {str(path.relative_to(into)): path.read_text() for path in into.rglob("*")}
    assert found == {
        "a-2026_09.scores.csv": "pd\n6.0\n", "b.parquet.scores.csv": "pd\n2.0\n4.0\n"
    }  # fmt: skip
    assert scoring.poll(scored).facts["image"] == azure.terms().image
    assert azure.started == 1


def test_a_request_names_its_inputs_as_azure_may(scoring: AzureMlScoring, spec: JobSpec) -> None:
    job = scoring.render(spec)["job"]["body"]["properties"]
    assert {name: each["uri"].rpartition("/paths/")[2] for name, each in job["inputs"].items()} == {
        "data_0": "landing/loans/a-2026_09.csv", "data_1": "landing/loans/b.parquet.csv",
        "mlgov_code": "training/staged/0123",
    }  # fmt: skip
    assert '"--data" "a-2026_09.csv=${{inputs.data_0}}"' in job["command"]
    assert '"--data" "b.parquet.csv=${{inputs.data_1}}"' in job["command"]
    turned = dict(reversed(spec.inputs.items()))
    assert scoring.render(replace(spec, inputs=turned)) == scoring.render(spec)


def test_a_request_for_a_file_elsewhere_is_refused(scoring: AzureMlScoring, spec: JobSpec) -> None:
    elsewhere = {"a.csv": "https://bank.blob.core.windows.net/mlgov/a.csv"}
    with pytest.raises(ConfigurationError, match="is not beneath"):
        scoring.render(replace(spec, inputs=elsewhere))
    with pytest.raises(DataError, match="Platform azure read no other container"):
        scoring.located(elsewhere["a.csv"])


def test_a_package_comes_back_as_it_was_staged(
    scoring: AzureMlScoring, spec: JobSpec, package: dict[str, Path], into: Path
) -> None:
    scoring.fetch_package(spec, into)
    found = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    assert found == {path: file.read_bytes() for path, file in package.items()}


def test_a_package_that_is_gone_is_told(
    scoring: AzureMlScoring, spec: JobSpec, held: dict[str, Blob], into: Path
) -> None:
    held.clear()
    with pytest.raises(ArtefactError, match=f"package of job {KEY} was staged"):
        scoring.fetch_package(spec, into)


def test_a_package_is_not_sent_twice(
    azure: FakeAzure, scoring: AzureMlScoring, spec: JobSpec, package: dict[str, Path], into: Path
) -> None:
    azure.corrupt_package()
    scoring.stage_package(spec, package)  # of the same size: the job itself finds it
    scoring.fetch_package(spec, into)
    assert (into / "model/card.json").read_bytes() != package["model/card.json"].read_bytes()


def test_no_other_model_scores(
    azure: FakeAzure, scoring: AzureMlScoring, handle: JobHandle, spec: JobSpec
) -> None:
    azure.corrupt_package()
    status = scoring.poll(handle)
    assert status.state is JobState.FAILED
    assert "was approved" in status.reason
    assert scoring.first_object(spec.output_uri) is None


def test_data_that_changed_after_it_was_located_is_not_scored(
    scoring: AzureMlScoring, handle: JobHandle, held: dict[str, Blob]
) -> None:
    held["landing/loans/a-2026_09.csv"].data = b"x\n3\n4\n"
    status = scoring.poll(handle)
    assert status.state is JobState.FAILED
    assert "a-2026_09.csv is not what was meant" in status.reason


def _rewrite(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[dict[str, Blob]], None]:
    def rewrite(held: dict[str, Blob]) -> None:
        blob = held[f"training/jobs/{KEY}/scores.json"]
        blob.data = json.dumps(change(json.loads(blob.data))).encode()

    return rewrite


def _replace(name: str, data: bytes | None) -> Callable[[dict[str, Blob]], None]:
    def write(held: dict[str, Blob]) -> None:
        held.pop(f"training/jobs/{KEY}/{name}", None)
        if data is not None:
            held[f"training/jobs/{KEY}/{name}"] = Blob(data)

    return write


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (lambda held: held.clear(), f"Nothing stands at .*jobs/{KEY}, where job {KEY}"),
        (_replace("scores.json", None), "has not said what it wrote"),
        (_replace("scores.json", b"[{"), "scores.json is no JSON"),
        (_replace("scores.json", b"\xff"), "scores.json is no JSON"),
        (_replace("scores.json", b'{"data": "a"}'), "no list of files"),
        (_replace("scores.json", b"[1]"), "no list of files"),
        (_rewrite(lambda account: account[:1]), "not about a-2026_09.csv, b.parquet.csv, each"),
        (_rewrite(lambda account: account * 2), "each once"),
        (_rewrite(lambda account: [{**account[0], "data": 1}, account[1]]), "each once"),
        (_rewrite(lambda account: [{**account[0], "scores": "x"}, account[1]]), "not what the c"),
        (
            _rewrite(lambda account: [{"data": each["data"]} for each in account]),
            "not what the c",
        ),
        (_replace("a-2026_09.scores.csv", None), "lacks 'a-2026_09.scores.csv'"),
        (_replace("a-2026_09.scores.csv", b"pd\n6.5\n"), "and not what the container says"),
        (_replace("a-2026_09.scores.csv", b"pd\n6.0\n" * 2), "and not what the container says"),
        (_replace("c.scores.csv", b"pd\n6.0\n"), "also holds 'c.scores.csv'"),
        (_replace("deep/er", b""), "also holds 'deep/er'"),
    ],
)
def test_scores_that_are_not_what_the_container_wrote_are_refused(
    happens: Callable[[dict[str, Blob]], None],
    says: str,
    fetch: Callable[[], Mapping[str, str]],
    held: dict[str, Blob],
) -> None:
    happens(held)
    with pytest.raises(ArtefactError, match=says) as caught:
        fetch()
    assert not caught.value.retryable
    assert KEY in str(caught.value)


@pytest.mark.parametrize("what", ["truncate", "flip", "drop"])
def test_the_fakes_own_tampering_is_found(
    what: str, azure: FakeAzure, fetch: Callable[[], Mapping[str, str]]
) -> None:
    if what == "drop":
        azure.drop_scores()
    else:
        azure.corrupt(what)
    with pytest.raises(ArtefactError, match=r"a-2026_09\.scores\.csv"):
        fetch()


def test_a_scoring_job_is_cancelled_and_its_log_is_read(
    azure: FakeAzure, scoring: AzureMlScoring, spec: JobSpec
) -> None:
    azure.script("running")
    handle = scoring.submit(scoring.render(spec))
    azure.write_log("scored 1 of 2\n")
    assert scoring.log_lines(handle, None)[0] == ["scored 1 of 2"]
    scoring.cancel(handle)
    assert [scoring.poll(handle).state for _ in range(2)] == ["cancelling", "cancelled"]
