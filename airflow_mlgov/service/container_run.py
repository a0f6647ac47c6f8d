"""Runs a training script inside a container; ``python mlgov-entry.pyz`` begins here.

Standard library only, like everything that it imports. The script runs in a private local folder;
what it leaves is checked there and copied to the platform's output folder at the end, because that
is often a bucket that only looks like a file system.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    MlgovError,
    TrainingError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.artefacts import copy_directory, fingerprint_file, hash_directory
from airflow_mlgov.service.container import OUTPUTS, Spec, SpecInput, read_spec
from airflow_mlgov.service.contract import (
    GRACE_S,
    Outputs,
    job_document,
    read_outputs,
    script_variables,
)
from airflow_mlgov.service.durable_file import replace_file
from airflow_mlgov.service.provenance import describe_environment
from airflow_mlgov.service.script_output import OutputLines, signal_name

MAX_FAILURE_BYTES = 1000

_HEAD_BYTES = 300
_LINGER_S = 1.0
_LOOK_S = 0.1


class _Script:
    """The training script as a process, and all that it starts in its process group."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped_at: float | None = None

    def stop(self, *_: object) -> None:
        """Pass on the platform's SIGTERM; the handler of it."""
        self._stopped_at = self._stopped_at or time.monotonic()
        self._signal(signal.SIGTERM)

    def refuse_stopped(self) -> None:
        """Do nothing unless the platform wants the job to end."""
        if self._stopped_at is not None:
            raise TrainingError("The platform stopped the job.")

    def run(self, script: Path, work: Path, variables: Mapping[str, str]) -> None:
        """Run a script to its end, its output going to ours line by line."""
        self.refuse_stopped()
        lines = OutputLines()
        with subprocess.Popen(  # noqa: S603 - the script that was staged is what shall run
            [sys.executable, str(script)],
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            self._process = process
            try:
                if self._stopped_at is not None:  # between the look and the start
                    self._signal(signal.SIGTERM)
                self._follow(process, lines)
            finally:
                self._signal(signal.SIGKILL)
                self._process = None
        self.refuse_stopped()
        status = process.returncode
        if status != 0:
            how = f"exited with status {status}"
            how = how if status > 0 else f"was ended by signal {signal_name(-status)}"
            raise TrainingError(f"Training script {script.name} {how}. {lines.said_last()}")

    def _follow(self, process: subprocess.Popen[bytes], lines: OutputLines) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        is_open, ended_at = True, None
        while is_open or ended_at is None:
            if is_open:
                is_open = _pass_on(process.stdout.fileno(), lines)
            else:
                time.sleep(_LOOK_S)
            if process.poll() is None:
                self._end_if_late()
            elif ended_at is None:
                ended_at = time.monotonic()
            elif time.monotonic() - ended_at > _LINGER_S:
                break  # what it left behind holds the pipe
        for line in lines.end():
            _say(line)

    def _end_if_late(self) -> None:
        if self._stopped_at is not None and time.monotonic() - self._stopped_at > GRACE_S:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def main(arguments: Sequence[str]) -> int:
    """Do what `airflow_mlgov.service.container.entry_command` asks; return the exit status.

    A failure is said in at most 1,000 bytes on standard error and in the file for it, and leaves
    nothing in the output folder.
    """
    said = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # a script may say what the container's locale cannot
        sys.stdout.reconfigure(errors="backslashreplace")
    script = _Script()
    signal.signal(signal.SIGTERM, script.stop)
    try:
        manifest = _train(said, script)
    except MlgovError as error:
        return _fail(str(error), said.failure)
    except OSError as error:
        return _fail(f"The container's files cannot be used: {error}.", said.failure)
    except Exception as error:  # noqa: BLE001 - the text is all that leaves the container
        traceback.print_exc()
        return _fail(f"The entry point failed: {error!r}.", said.failure)
    _say(f"Model version {manifest.digest} is complete in {said.output}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlgov-entry.pyz", allow_abbrev=False)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--spec-sha256", required=True)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--failure", type=Path)
    return parser


def _train(said: argparse.Namespace, script: _Script) -> Manifest:
    try:
        data = said.spec.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{said.spec} cannot be read: {error.strerror}.") from error
    spec = read_spec(data, Digest.parse(said.spec_sha256))
    _refuse_used(said.output)
    inputs = _find_inputs(spec, dict(each.partition("=")[::2] for each in said.input))
    with TemporaryDirectory(prefix="mlgov-") as private:
        folder = Path(private)
        for name in ("code", "work", "tmp", "out"):
            (folder / name).mkdir()
        for name, digest in spec.files.items():
            (folder / "code" / name).write_bytes(_code(said.spec.parent / name, digest))
        paths = {name: str(path) for name, path in inputs.items()}
        output_dir, job_file = str(folder / "out"), folder / "job.json"
        job_file.write_bytes(job_document(paths, spec.parameters, spec.seed, output_dir))
        variables = script_variables(
            str(job_file), paths, spec.seed, output_dir, str(folder / "tmp")
        )
        script.run(folder / "code" / spec.script, folder / "work", variables)
        for name, path in inputs.items():
            _check_input(name, path, spec.inputs[name], "changed while the script learnt from it")
        outputs = read_outputs(folder / "out")
        manifest = hash_directory(outputs.model_dir, _say)
        _hand_over(outputs, manifest, said.output, script)
        return manifest


def _refuse_used(output: Path) -> None:
    held = [name for name in OUTPUTS if os.path.lexists(output / name)]
    if held:
        raise TrainingError(
            f"The output folder {output} holds {', '.join(held)} already.",
            remedy="Give each job a folder of its own.",
        )


def _find_inputs(spec: Spec, given: Mapping[str, str]) -> dict[str, Path]:
    """Return the absolute path of each input's file, once its bytes are what was staged."""
    if given.keys() != spec.inputs.keys():
        raise ConfigurationError(
            f"The job's inputs are {', '.join(sorted(spec.inputs)) or 'none'}; the container was "
            f"given {', '.join(sorted(given)) or 'none'}."
        )
    found = {}
    for name, path in given.items():
        place = Path(path).absolute()
        found[name] = place / spec.inputs[name].file if place.is_dir() else place
        _check_input(name, found[name], spec.inputs[name], "is not what was staged")
    return found


def _check_input(name: str, path: Path, staged: SpecInput, problem: str) -> None:
    try:
        sha256, size_bytes = fingerprint_file(path)
    except OSError as error:
        raise DataError(f"Input {name!r} cannot be read from {path}: {error.strerror}.") from error
    if sha256 != staged.sha256:
        raise DataError(
            f"Input {name!r} ({path}) {problem}: it is {sha256} of {size_bytes} bytes, "
            f"not {staged.sha256} of {staged.size_bytes} bytes."
        )


def _code(path: Path, staged: Digest) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"Code file {path} cannot be read: {error.strerror}.") from error
    if Digest.of(data) != staged:
        raise TrainingError(
            f"Code file {path} is not what was staged: it is {Digest.of(data)}, not {staged}."
        )
    return data


def _hand_over(outputs: Outputs, manifest: Manifest, output: Path, script: _Script) -> None:
    """Copy all of it, the manifest last; nothing stays if that fails or the job is stopped."""
    said = {
        "metrics.json": outputs.metrics,
        "signature.json": outputs.signature,
        "environment.json": describe_environment(),
        "manifest.json": {**manifest.as_json(), "digest": str(manifest.digest)},
    }
    _refuse_used(output)  # another job may have come meanwhile, whose files must stay
    try:
        output.mkdir(parents=True, exist_ok=True)
        _refuse_other(copy_directory(outputs.model_dir, output / "model"), manifest)
        for name, value in said.items():
            script.refuse_stopped()
            replace_file(output / name, _document(value), 0o644)
    except BaseException:
        for name in OUTPUTS:
            _remove(output / name)
        raise


def _refuse_other(copied: Manifest, manifest: Manifest) -> None:
    if copied != manifest:
        raise ArtefactError("The model changed while it was copied to the output folder.")


def _document(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _fail(problem: str, file: Path | None) -> int:
    text = _shortened(problem)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            sys.stderr.write(f"{file} cannot be written: {error.strerror}\n")
    sys.stderr.write(f"{text}\n")
    return 1


def _shortened(text: str) -> str:
    """Return its first and last part if it is too long: the reason, and how the output ends."""
    data = text.encode("utf-8", errors="replace")
    if len(data) > MAX_FAILURE_BYTES:
        gap = b"\n[...]\n"
        data = data[:_HEAD_BYTES] + gap + data[_HEAD_BYTES + len(gap) - MAX_FAILURE_BYTES :]
    return data.decode("utf-8", errors="ignore")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _pass_on(output: int, lines: OutputLines) -> bool:
    """Hand on what was said, waiting a moment for it; return whether more may come."""
    ready, _, _ = select.select([output], [], [], _LOOK_S)
    if not ready:
        return True
    data = os.read(output, 65536)
    for line in lines.feed(data):
        _say(line)
    return bool(data)
