"""The demo's scripts through the container entry point, laid out as each platform does.

Paths and variables are those of the platforms; that a platform really mounts them so is not shown.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import fingerprint_file, hash_directory
from airflow_mlgov.service.container import entry_archive, entry_command, spec_document
from airflow_mlgov.service.container_scoring import (
    ScoringSpec,
    SpecData,
    score_command,
    scoring_document,
)
from airflow_mlgov.service.contract import read_outputs
from airflow_mlgov.service.provenance import describe_code
from airflow_mlgov.service.training_platform import ScriptJob

DAGS = Path(__file__).parents[2] / "dags"
CODE = DAGS / "retail_pd_model"
SEED = 42


@dataclass(frozen=True)
class Layout:
    """Where a platform puts things, beneath the container's root.

    Attributes:
        code: Folder of the staged code.
        inputs: Folder of the input.
        given: What the command says of the input; a folder or the file.
        output: Where results go; made before the start if `made`.
        failure: File for the reason of a failure.
        variables: Some of what the platform sets.
    """

    code: str
    inputs: str
    given: str
    output: str
    failure: str | None
    made: bool
    variables: dict[str, str]


LAYOUTS = {
    "sagemaker": Layout(
        code="opt/ml/input/data/code",
        inputs="opt/ml/input/data/development",
        given="opt/ml/input/data/development",
        output="opt/ml/model",
        failure="opt/ml/output/failure",
        made=True,
        variables={
            "SM_MODEL_DIR": "/opt/ml/model",
            "TRAINING_JOB_NAME": "mlgov-1",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/credentials",
            "OMP_NUM_THREADS": "8",
        },
    ),
    "vertex": Layout(
        code="gcs/bank-training/staged/1f",
        inputs="gcs/bank-training/staged/2e",
        given="gcs/bank-training/staged/2e/development.csv",
        output="gcs/bank-training/jobs/mlgov-1",
        failure=None,
        made=False,
        variables={"AIP_MODEL_DIR": "gs://bank-training/x/model", "CLOUD_ML_JOB_ID": "1"},
    ),
    "azureml": Layout(
        code="mnt/azureml/cr/j/1f/cap/data-capability/wd/INPUT_code",
        inputs="mnt/azureml/cr/j/1f/cap/data-capability/wd/INPUT_development",
        given="mnt/azureml/cr/j/1f/cap/data-capability/wd/INPUT_development",
        output="mnt/azureml/cr/j/1f/cap/data-capability/wd/results",
        failure=None,
        made=True,
        variables={
            "AZUREML_RUN_ID": "mlgov-1",
            "MLFLOW_TRACKING_TOKEN": "t",
            "PYTHONHASHSEED": "9",
        },
    ),
}


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = list(sys.path)
    sys.path[:0] = [str(DAGS), str(CODE)]
    folder = tmp_path_factory.mktemp("samples")
    sampling = importlib.import_module("retail_pd_model.sampling")
    data = DAGS / "data" / "taiwan_credit.csv"
    sampling.split_file(data, folder / "development.csv", folder / "validation.csv")
    sys.path[:] = before
    for name in [n for n in sys.modules if n.startswith("retail_pd_model")]:
        del sys.modules[name]
    return folder / "development.csv"


@pytest.fixture(scope="module", params=["train_scorecard", "train_boosting"])
def at_home(request, development: Path, tmp_path_factory) -> tuple[str, Path]:
    """Return a script's name and what it leaves on a worker."""
    inputs = {"development": str(development)}
    script = CODE / f"{request.param}.py"
    return script.name, _run(script, inputs, tmp_path_factory.mktemp(request.param))


def _run(script: Path, inputs: dict[str, str], output: Path) -> Path:
    LocalPlatform().run(ScriptJob(script, inputs, {}, SEED, output, 300.0, None), print)
    return output


def _stage(root: Path, layout: Layout, script: str, data: Path) -> Digest:
    """Put there what a platform mounts; return the digest of the specification."""
    code, inputs, output = (root / place for place in (layout.code, layout.inputs, layout.output))
    for folder in (code, inputs, *([output] if layout.made else [output.parents[1]])):
        folder.mkdir(parents=True, exist_ok=True)
    files = describe_code(CODE / script)["code_files"]
    assert {"features.py", "scoring.py", script} <= files.keys()
    for name in files:
        (code / name).write_bytes((CODE / name).read_bytes())
    (inputs / data.name).write_bytes(data.read_bytes())
    spec = spec_document(
        script=script,
        files={name: Digest.parse(sha256) for name, sha256 in files.items()},
        inputs={"development": (data.name, *fingerprint_file(data))},
        parameters={},
        seed=SEED,
    )
    (code / "spec.json").write_bytes(spec)
    (code / "mlgov-entry.pyz").write_bytes(entry_archive())
    return Digest.of(spec)


@pytest.mark.parametrize("platform", LAYOUTS)
def test_a_script_makes_the_same_version_in_every_container(
    at_home, development: Path, platform: str, tmp_path: Path
) -> None:
    (script, expected), layout = at_home, LAYOUTS[platform]
    digest = _stage(tmp_path, layout, script, development)
    command = entry_command(
        python=sys.executable,
        code=str(tmp_path / layout.code),
        spec_sha256=digest,
        inputs={"development": str(tmp_path / layout.given)},
        output=str(tmp_path / layout.output),
        failure=layout.failure and str(tmp_path / layout.failure),
    )
    environment = {"PATH": os.environ["PATH"], **layout.variables}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made, output = read_outputs(tmp_path / layout.output), tmp_path / layout.output
    assert hash_directory(made.model_dir).digest == hash_directory(expected / "model").digest
    assert made.metrics == read_outputs(expected).metrics
    assert f"{hash_directory(expected / 'model').digest}" in (output / "manifest.json").read_text()
    assert "statsmodels==" in (output / "environment.json").read_text()


@pytest.fixture(scope="module")
def scored_at_home(development: Path, tmp_path_factory) -> tuple[Path, bytes]:
    """Return a model's folder and the scores that the example's script gives on a worker."""
    script, folder = CODE / "train_scorecard.py", tmp_path_factory.mktemp("card")
    model = _run(script, {"development": str(development)}, folder) / "model"
    inputs = {"model": str(model), "data": str(development)}
    scores = _run(CODE / "score_clients.py", inputs, tmp_path_factory.mktemp("scores"))
    return model, (scores / "scores.csv").read_bytes()


@pytest.fixture
def package(scored_at_home, development: Path, tmp_path: Path) -> tuple[Path, Digest]:
    """Put there what a platform stages of a scoring job."""
    folder = tmp_path / "opt" / "ml" / "model"
    shutil.copytree(scored_at_home[0], folder / "model")
    files = describe_code(CODE / "score_clients.py")["code_files"]
    for name in files:
        shutil.copyfile(CODE / name, folder / name)
    spec = scoring_document(
        ScoringSpec(
            script="score_clients.py",
            files={name: Digest.parse(sha256) for name, sha256 in files.items()},
            version=hash_directory(folder / "model").digest,
            data={development.name: SpecData(*fingerprint_file(development))},
            parameters={},
        )
    )
    (folder / "spec.json").write_bytes(spec)
    (folder / "mlgov-entry.pyz").write_bytes(entry_archive())
    return folder, Digest.of(spec)


def test_the_scoring_script_gives_the_same_scores_in_a_job(
    package, scored_at_home, development: Path, tmp_path: Path
) -> None:
    folder, digest = package
    command = score_command(
        python=sys.executable,
        package=str(folder),
        spec_sha256=digest,
        data={development.name: str(development)},
        output=str(tmp_path / "scores"),
        failure=None,
    )
    environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "8"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "scores" / "development.scores.csv").read_bytes() == scored_at_home[1]


def test_the_scoring_script_gives_the_same_scores_to_who_sends_files(
    package, scored_at_home, development: Path, free_tcp_port: int
) -> None:
    folder, digest = package
    command = [sys.executable, str(folder / "mlgov-entry.pyz"), "serve", "--package", str(folder)]
    command += ["--spec-sha256", str(digest), "--port", str(free_tcp_port)]
    address = f"http://127.0.0.1:{free_tcp_port}"
    with subprocess.Popen(command, env={"PATH": os.environ["PATH"]}) as server:
        try:
            wait_until(lambda: httpx.get(f"{address}/ping").status_code == 200)
            sent = development.read_bytes()
            answer = httpx.post(f"{address}/invocations", content=sent, timeout=120)
        finally:
            server.terminate()
    assert answer.content == scored_at_home[1]


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while True:
        with suppress(httpx.TransportError):
            if holds():
                return
        assert time.monotonic() < end, "the container does not answer"
        time.sleep(0.1)


def test_the_reference_image_is_pinned_and_has_what_the_scripts_import() -> None:
    """It was not built here: there is no Docker."""
    dockerfile = (DAGS.parent / "deploy" / "training" / "Dockerfile").read_text()
    pins = (DAGS.parent / "constraints" / "py311.txt").read_text()
    libraries = re.search(r'^ARG LIBRARIES="(.*)"$', dockerfile, re.MULTILINE)[1].split()
    assert all(re.search(rf"^{name}==", pins, re.MULTILINE) for name in libraries)
    beside = {CODE.name, *(path.stem for path in CODE.glob("*.py"))}
    needed = set()
    for script in (path for path in CODE.glob("*.py") if path.stem != "sampling"):
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.Import):
                needed |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                needed.add(node.module.partition(".")[0])
    assert needed - beside - sys.stdlib_module_names == set(libraries)
    assert re.search(
        r"^ARG PYTHON_DIGEST\nFROM python:3\.11-slim@\$\{PYTHON_DIGEST\}$", dockerfile, re.MULTILINE
    )
    assert "ENTRYPOINT" not in dockerfile
    assert dockerfile.index("USER ${RUN_AS}") > dockerfile.index("RUN apt-get")
