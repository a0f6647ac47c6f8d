"""What a container is given to score a model: a package, what to do, and how it is started.

A package is a folder: ``mlgov-entry.pyz``, ``spec.json``, the scoring script with the Python files
beside it, and the model's files under ``model/``. What runs is
`airflow_mlgov.service.container_score`; described in ``docs/reference/scoring-contract.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container import (
    ENTRY_FILE,
    SPEC_FILE,
    SPEC_VERSION,
    read_staged,
    refuse_paths,
)
from airflow_mlgov.service.contract import check_request

MODEL_FOLDER = "model"
SCORES_FILE = "scores.csv"
"""What a scoring script writes."""
ACCOUNT_FILE = "scores.json"
"""What a container says about all scores that it wrote; the last file of a job."""

_DATA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class SpecData:
    """A file that is to be scored.

    Attributes:
        sha256: Digest of its bytes; None if only the platform's store knows it.
        size_bytes: Length.
        version: What the store calls these very bytes; empty if it was staged by us.
    """

    sha256: Digest | None
    size_bytes: int
    version: str = ""


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """What a container is to do.

    Attributes:
        script: File name of the scoring script.
        files: Digests of the script and of the Python files beside it, by file name.
        version: Manifest digest that the files under ``model/`` must have.
        data: What is scored, by file name.
        parameters: JSON values.
    """

    script: str
    files: Mapping[str, Digest]
    version: Digest
    data: Mapping[str, SpecData]
    parameters: Mapping[str, Any]


def scores_name(data: str) -> str:
    """Return the name of the scores of a file: of ``loans.parquet`` it is ``loans.scores.csv``."""
    return f"{PurePosixPath(data).stem}.{SCORES_FILE}"


def refuse_same_scores(data: Collection[str]) -> None:
    """Refuse files whose scores would have one name, and no files at all.

    Args:
        data: Names of the files.

    Raises:
        ConfigurationError: There are such, or none; a retry does not help.
    """
    names = [scores_name(name) for name in data]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ConfigurationError(
            f"The scores of two files would be called {twice[0]}."
            if twice
            else "No data to score.",
            remedy="Give the files in 'data' different names.",
        )


def scoring_document(spec: ScoringSpec) -> bytes:
    """Return ``spec.json`` as UTF-8 JSON; the same bytes for the same request.

    Raises:
        ConfigurationError: It asks for what cannot be; a retry does not help.
    """
    document = {
        "v": SPEC_VERSION,
        "task": "score",
        "script": spec.script,
        "files": {name: str(digest) for name, digest in spec.files.items()},
        "version": str(spec.version),
        "data": {
            name: {
                "sha256": str(each.sha256) if each.sha256 else None,
                "size": each.size_bytes,
                "version": each.version,
            }
            for name, each in spec.data.items()
        },
        "parameters": dict(spec.parameters),
    }
    _check(spec)
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def read_scoring_spec(data: bytes, expected: Digest) -> ScoringSpec:
    """Return what `scoring_document` wrote.

    Args:
        data: Its bytes.
        expected: Their digest.

    Raises:
        ConfigurationError: Other bytes, another version or a malformed document.
    """
    return read_staged(data, expected, _read)


def score_command(
    *,
    python: str = "python",
    package: str,
    spec_sha256: Digest,
    data: Mapping[str, str],
    output: str,
    failure: str | None,
) -> list[str]:
    """Return the command of a container that scores files; all paths as the container sees them.

    Args:
        python: Interpreter.
        package: Folder of the package.
        spec_sha256: Digest of `scoring_document`.
        data: Path of each file by its name: of the file, or of a folder that holds it.
        output: Folder for the scores.
        failure: File that says why it failed, where a platform reads one.
    """
    folder = package.rstrip("/")
    command = [python, f"{folder}/{ENTRY_FILE}", "score", "--package", folder]
    command += ["--spec-sha256", spec_sha256.hex]
    for name in sorted(data):
        command += ["--data", f"{name}={data[name]}"]
    command += ["--output", output]
    return [*command, "--failure", failure] if failure else command


def _read(said: Mapping[str, Any]) -> ScoringSpec:
    if said["task"] != "score":
        raise ConfigurationError(f"{SPEC_FILE} is of task {said['task']!r}, not of scoring.")
    spec = ScoringSpec(
        said["script"],
        {name: Digest.parse(digest) for name, digest in said["files"].items()},
        Digest.parse(said["version"]),
        {
            name: SpecData(
                Digest.parse(each["sha256"]) if each["sha256"] else None,
                int(each["size"]),
                each["version"],
            )
            for name, each in said["data"].items()
        },
        said["parameters"],
    )
    _check(spec)
    return spec


def _check(spec: ScoringSpec) -> None:
    check_request({}, spec.parameters, 0)
    for name in spec.data:
        if not _DATA_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot be the name of a file that is scored elsewhere.",
                remedy="Use at most 128 letters, digits, '_', '.' and '-'.",
            )
    refuse_paths(*spec.files)
    if spec.script not in spec.files:
        raise ConfigurationError(f"Scoring script {spec.script!r} is not among the staged files.")
    refuse_same_scores(spec.data)
