"""Runs a training script inside a container; ``python mlgov-entry.pyz`` begins here.

Standard library only, like everything that it imports. The script runs in a private local folder;
what it leaves is checked there and copied to the platform's output folder at the end, because that
is often a bucket that only looks like a file system.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    TrainingError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.manifest import Manifest
from airflow_mlgov.service.artefacts import copy_directory, fingerprint_file, hash_directory
from airflow_mlgov.service.container import OUTPUTS, Spec, SpecInput, read_spec
from airflow_mlgov.service.container_score import VERBS, score_or_serve
from airflow_mlgov.service.container_script import ContainerScript, ended, read_code, say
from airflow_mlgov.service.container_vertex import VERB, score_for_vertex
from airflow_mlgov.service.contract import (
    Outputs,
    job_document,
    read_outputs,
    script_variables,
)
from airflow_mlgov.service.durable_file import replace_file
from airflow_mlgov.service.provenance import describe_environment


def main(arguments: Sequence[str]) -> int:
    """Do what a container was started for; return the exit status.

    What it is stands in its first argument: ``score``, ``serve`` or ``serve-vertex``; without one
    it trains, as `airflow_mlgov.service.container.entry_command` asks. A failure is said in at most
    1,000 bytes on standard error and in the file for it, and leaves nothing in the output folder.
    """
    if arguments and arguments[0] in VERBS:
        return score_or_serve(arguments)
    if arguments and arguments[0] == VERB:
        return score_for_vertex(arguments[1:])
    said = _parser().parse_args(arguments)
    script = ContainerScript("Training script", TrainingError)

    def work() -> str:
        manifest = _train(said, script)
        return f"Model version {manifest.digest} is complete in {said.output}."

    return ended(work, script, said.failure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlgov-entry.pyz", allow_abbrev=False)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--spec-sha256", required=True)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--failure", type=Path)
    return parser


def _train(said: argparse.Namespace, script: ContainerScript) -> Manifest:
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
            (folder / "code" / name).write_bytes(
                read_code(said.spec.parent / name, digest, TrainingError)
            )
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
        manifest = hash_directory(outputs.model_dir, say)
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


def _hand_over(outputs: Outputs, manifest: Manifest, output: Path, script: ContainerScript) -> None:
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
