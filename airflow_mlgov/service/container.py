"""What a container is given to train a model: a program, what to do, and how it is started.

The image needs Python 3.11 and the libraries of the training script, and nothing of ours. A
platform stages a folder ``code`` (`entry_archive` and `spec_document` beside the script and the
Python files that it imports) and the inputs, and starts `entry_command`. What then runs is
`airflow_mlgov.service.container_run`; described in ``docs/reference/training-contract.md``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from airflow_mlgov.errors import ArtefactError, ConfigurationError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.contract import check_request, passed_on
from airflow_mlgov.service.zip_application import zip_application

_T = TypeVar("_T")

ENTRY_FILE = "mlgov-entry.pyz"
SPEC_FILE = "spec.json"
SPEC_VERSION = 1
OUTPUTS = ("model", "metrics.json", "signature.json", "environment.json", "manifest.json")
"""What a container leaves behind, in the order of writing: with the last, all of it is there."""

_MODULES = (
    "__init__", "errors",
    "records/__init__", "records/canonical", "records/digest", "records/manifest",
    "service/__init__", "service/artefacts", "service/container", "service/container_bootstrap",
    "service/container_gcs", "service/container_run",
    "service/container_score", "service/container_scoring", "service/container_script",
    "service/container_serve", "service/container_vertex",
    "service/contract", "service/durable_file", "service/pickles", "service/provenance",
    "service/script_output", "service/zip_application",
)  # fmt: skip
_MAIN = b"""\
import sys

if sys.version_info < (3, 11):
    sys.stderr.write("mlgov-entry.pyz needs Python 3.11 or newer in the image.\\n")
    raise SystemExit(1)

from airflow_mlgov.service.container_run import main

raise SystemExit(main(sys.argv[1:]))
"""
_ASK = """\
import json, sys
sys.path.insert(0, sys.argv[1])
from airflow_mlgov.service.provenance import describe_environment
print(json.dumps(describe_environment()))
"""
_ASK_S = 60


@dataclass(frozen=True, slots=True)
class SpecInput:
    """An input as it was staged.

    Attributes:
        file: Its file name, wherever a platform puts it.
        sha256: Digest of its bytes.
        size_bytes: Length.
    """

    file: str
    sha256: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Spec:
    """What a container is to do.

    Attributes:
        script: File name of the training script.
        files: Digests of the script and of the Python files beside it, by file name.
        inputs: By the name that the script knows them by.
        parameters: JSON values.
        seed: 0 to 2^32-1.
    """

    script: str
    files: Mapping[str, Digest]
    inputs: Mapping[str, SpecInput]
    parameters: Mapping[str, Any]
    seed: int


def entry_archive() -> bytes:
    """Return ``mlgov-entry.pyz``: this package's own files, the same bytes every time."""
    package = Path(__file__).resolve().parents[1]
    files = {
        f"{package.name}/{module}.py": (package / f"{module}.py").read_bytes()
        for module in _MODULES
    }
    return zip_application({**files, "__main__.py": _MAIN})


def entry_command(
    *,
    python: str = "python",
    code: str,
    spec_sha256: Digest,
    inputs: Mapping[str, str],
    output: str,
    failure: str | None,
) -> list[str]:
    """Return the command of a container; all paths as the container sees them.

    Args:
        python: Interpreter.
        code: Folder of the staged code.
        spec_sha256: Digest of `spec_document`.
        inputs: Path of each input by name: of the file, or of a folder that holds it.
        output: Folder for what the job leaves behind.
        failure: File that says why it failed, where a platform reads one.
    """
    folder = code.rstrip("/")
    command = [python, f"{folder}/{ENTRY_FILE}", "--spec", f"{folder}/{SPEC_FILE}"]
    command += ["--spec-sha256", spec_sha256.hex]
    for name in sorted(inputs):
        command += ["--input", f"{name}={inputs[name]}"]
    command += ["--output", output]
    return [*command, "--failure", failure] if failure else command


def spec_document(
    script: str,
    files: Mapping[str, Digest],
    inputs: Mapping[str, tuple[str, Digest, int]],
    parameters: Mapping[str, Any],
    seed: int,
) -> bytes:
    """Return ``spec.json``, version 1, as UTF-8 JSON; the same bytes for the same request.

    Args:
        script: File name of the training script, one of `files`.
        files: Digests of all that is staged beside it, by file name.
        inputs: File name, digest and length in bytes of what it learns from, by the name that the
            script knows it by.
        parameters: JSON values.
        seed: 0 to 2^32-1.

    Raises:
        ConfigurationError: It asks for what cannot be; a retry does not help.
    """
    document = {
        "v": SPEC_VERSION,
        "script": script,
        "files": {name: str(digest) for name, digest in files.items()},
        "inputs": {
            name: {"file": file, "sha256": str(sha256), "size": size_bytes}
            for name, (file, sha256, size_bytes) in inputs.items()
        },
        "parameters": dict(parameters),
        "seed": seed,
    }
    _checked(document)
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def read_spec(data: bytes, expected: Digest) -> Spec:
    """Return what `spec_document` wrote.

    Args:
        data: Its bytes.
        expected: Their digest.

    Raises:
        ConfigurationError: Other bytes, another version or a malformed document.
    """
    return read_staged(data, expected, _checked)


def read_staged(data: bytes, expected: Digest, read: Callable[[Mapping[str, Any]], _T]) -> _T:
    """Return what a ``spec.json`` of this version says.

    Args:
        data: Its bytes.
        expected: Their digest.
        read: Returns it from the document, which may be malformed.

    Raises:
        ConfigurationError: Other bytes, another version or a malformed document.
    """
    if Digest.of(data) != expected:
        raise ConfigurationError(
            f"{SPEC_FILE} is not what was staged: it is {Digest.of(data)}, not {expected}."
        )
    try:
        document = json.loads(data)
        if document["v"] != SPEC_VERSION:
            raise ConfigurationError(
                f"{SPEC_FILE} is of version {document['v']!r}; this entry point reads "
                f"{SPEC_VERSION}."
            )
        return read(document)
    except ArtefactError as error:
        raise ConfigurationError(f"{SPEC_FILE} is malformed: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"{SPEC_FILE} is malformed: {error!r}.") from error


def refuse_paths(*names: Any) -> None:
    """Refuse what is no plain file name.

    Raises:
        ConfigurationError: One is none; a retry does not help.
    """
    for name in names:
        if not isinstance(name, str) or name in {"", ".", ".."} or name != PurePosixPath(name).name:
            raise ConfigurationError(f"{name!r} is no plain file name; a container takes no paths.")


def environment_of(python: str) -> dict[str, Any]:
    """Return interpreter, system and packages as `describe_environment` says in another Python.

    Args:
        python: An interpreter, 3.11 or newer.

    Raises:
        ConfigurationError: It cannot be run; a retry does not help.
    """
    with TemporaryDirectory(prefix="mlgov-ask-") as folder:
        archive = Path(folder, ENTRY_FILE)
        archive.write_bytes(entry_archive())
        try:
            done = subprocess.run(  # noqa: S603 - the interpreter that the platform file names
                [python, "-c", _ASK, str(archive)],
                cwd=folder,
                env=passed_on(),
                capture_output=True,
                timeout=_ASK_S,
                check=True,
            )
            said: dict[str, Any] = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise ConfigurationError(
                f"The interpreter {python} cannot be asked what is installed: {error}.",
                remedy="Correct 'python' in the platform file; it needs Python 3.11.",
            ) from error
        return said


def _checked(document: Mapping[str, Any]) -> Spec:
    try:
        spec = Spec(
            document["script"],
            {name: Digest.parse(digest) for name, digest in document["files"].items()},
            {
                name: SpecInput(said["file"], Digest.parse(said["sha256"]), int(said["size"]))
                for name, said in document["inputs"].items()
            },
            document["parameters"],
            document["seed"],
        )
    except ArtefactError as error:
        raise ConfigurationError(f"{SPEC_FILE} is malformed: {error}") from error
    check_request(
        {name: each.file for name, each in spec.inputs.items()}, spec.parameters, spec.seed
    )
    refuse_paths(*spec.files, *(each.file for each in spec.inputs.values()))
    if spec.script not in spec.files:
        raise ConfigurationError(f"Training script {spec.script!r} is not among the staged files.")
    return spec
