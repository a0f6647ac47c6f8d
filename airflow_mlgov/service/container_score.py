"""Scores files inside a container, with a model whose bytes are the ones that were approved.

Standard library only, like everything that it imports. ``score`` scores the files that it is given
and ends; ``serve`` answers a platform that sends files or their addresses by HTTP. Either does
nothing before script, Python files and model are what the job's specification says, and scores no
file that the specification does not name.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_mlgov.errors import ArtefactError, ConfigurationError, DataError, ScoringError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import fingerprint_file, hash_directory
from airflow_mlgov.service.container import SPEC_FILE
from airflow_mlgov.service.container_scoring import (
    ACCOUNT_FILE,
    MODEL_FOLDER,
    SCORES_FILE,
    ScoringSpec,
    read_scoring_spec,
    scores_name,
)
from airflow_mlgov.service.container_script import ContainerScript, ended, read_code, say
from airflow_mlgov.service.container_serve import Answer, serve
from airflow_mlgov.service.contract import job_document, script_variables
from airflow_mlgov.service.durable_file import replace_file

VERBS = ("score", "serve")

_REMEDY = "See docs/reference/scoring-contract.md for what a scoring script must write."


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A file, and the scores of its rows.

    Attributes:
        data: Name of the file.
        data_sha256: Digest of its bytes, as they were scored.
        data_size: Length of it in bytes.
        scores: Name of the scores.
        scores_sha256: Digest of their bytes.
        scores_size: Length in bytes.
        rows: How many rows of scores there are.
    """

    data: str
    data_sha256: str
    data_size: int
    scores: str
    scores_sha256: str
    scores_size: int
    rows: int


class ContainerScorer:
    """A verified package, ready to score the files of its specification.

    Args:
        package: Folder of the package, as `airflow_mlgov.service.container_scoring` says.
        expected: Digest of its specification.
        script: Runs the scoring script.

    Attributes:
        spec: What the job is.

    Raises:
        ConfigurationError: The specification is not the one that was meant.
        ScoringError: Code, or the model's files, are not what the specification says.
    """

    def __init__(self, package: Path, expected: Digest, script: ContainerScript) -> None:
        try:
            document = (package / SPEC_FILE).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{SPEC_FILE} cannot be read: {error.strerror}.") from error
        self.spec: ScoringSpec = read_scoring_spec(document, expected)
        self._script = script
        self._model = package / MODEL_FOLDER
        self._code = {
            name: read_code(package / name, digest, ScoringError)
            for name, digest in self.spec.files.items()
        }
        self._refuse_other_model()
        say(f"The model's files are version {self.spec.version}.")

    def named(self, file: Path) -> str:
        """Return which of the job's files this is, by its bytes, or else by its length.

        Raises:
            DataError: None of them.
        """
        sha256, size_bytes = _fingerprint(file)
        for name, each in self.spec.data.items():
            if each.sha256 == sha256:
                return name
        for name, each in self.spec.data.items():
            if each.sha256 is None and each.size_bytes == size_bytes:
                return name
        raise DataError(
            f"What was sent is none of this job's files: it is {sha256} of {size_bytes} bytes."
        )

    def score(self, name: str, file: Path, into: Path) -> ScoredFile:
        """Score a file.

        Args:
            name: Of the file, as the specification has it.
            file: Its bytes.
            into: Existing folder that gets the scores, under the name of `scores_name`.

        Raises:
            DataError: It is not the file that the specification names.
            ScoringError: The script failed or broke its contract, the model changed meanwhile, or
                there are such scores already.
        """
        target = into / scores_name(name)
        if os.path.lexists(target):
            raise ScoringError(f"There is a {target} already.")
        with TemporaryDirectory(prefix="mlgov-") as private:
            folder = Path(private)
            for part in ("code", "work", "tmp", "out", "data"):
                (folder / part).mkdir()
            for each, content in self._code.items():
                (folder / "code" / each).write_bytes(content)
            data = folder / "data" / name
            shutil.copyfile(file, data)
            sha256, size_bytes = self._refuse_other_data(name, data)
            self._run(folder, data)
            self._refuse_other_model()
            found = folder / "out" / SCORES_FILE
            rows = check_scores(found)
            scores, scores_size = _copied(found, target)
        say(f"{name}: {rows} rows are scored.")
        return ScoredFile(
            name, str(sha256), size_bytes, target.name, str(scores), scores_size, rows
        )

    def _run(self, folder: Path, data: Path) -> None:
        paths = {"model": str(self._model.absolute()), "data": str(data)}
        output, job_file = str(folder / "out"), folder / "job.json"
        job_file.write_bytes(job_document(paths, self.spec.parameters, 0, output))
        variables = script_variables(str(job_file), paths, 0, output, str(folder / "tmp"))
        self._script.run(folder / "code" / self.spec.script, folder / "work", variables)

    def _refuse_other_data(self, name: str, file: Path) -> tuple[Digest, int]:
        said = self.spec.data.get(name)
        if said is None:
            raise DataError(f"{name!r} is none of this job's files.")
        sha256, size_bytes = _fingerprint(file)
        wanted = str(said.sha256 or f"{said.size_bytes} bytes")
        if wanted not in {str(sha256), f"{size_bytes} bytes"}:
            raise DataError(
                f"{name} is not what was meant: it is {sha256} of {size_bytes} bytes, not {wanted}."
            )
        return sha256, size_bytes

    def _refuse_other_model(self) -> None:
        try:
            found = hash_directory(self._model).digest
        except ArtefactError as error:
            raise ScoringError(f"The model's files cannot be used: {error}") from error
        if found != self.spec.version:
            raise ScoringError(
                f"The model's files are {found}, and {self.spec.version} was approved."
            )


def check_scores(file: Path) -> int:
    """Return how many rows of scores a file holds.

    Args:
        file: CSV with a header, UTF-8.

    Raises:
        ScoringError: There is none, it has no row, or a row has not as many fields as the header.
    """
    if file.is_symlink() or not file.is_file():
        raise ScoringError(f"The scoring script wrote no file {file.name!r}.", remedy=_REMEDY)
    rows, fields = -1, 0
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            for row in csv.reader(opened, strict=True):
                fields = fields or len(row)
                if not row or len(row) != fields:
                    raise ScoringError(
                        f"{file.name!r}: row {rows + 1} has {len(row)} fields, not {fields}.",
                        remedy=_REMEDY,
                    )
                rows += 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise ScoringError(f"{file.name!r} is no CSV in UTF-8: {error}.", remedy=_REMEDY) from error
    if rows < 1:
        raise ScoringError(f"{file.name!r} has no rows.", remedy=_REMEDY)
    return rows


def score_or_serve(arguments: Sequence[str]) -> int:
    """Do what a container was started for, scoring or serving; return the exit status."""
    said = _parser().parse_args(arguments)
    script = ContainerScript("Scoring script", ScoringError)
    if said.verb == "serve":
        return ended(lambda: _serve(said, script), script, None)
    return ended(lambda: _score(said, script), script, said.failure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlgov-entry.pyz", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    score = verbs.add_parser("score", allow_abbrev=False)
    score.add_argument("--package", type=Path, required=True)
    score.add_argument("--spec-sha256", required=True)
    score.add_argument("--data", action="append", default=[], metavar="NAME=PATH")
    score.add_argument("--output", type=Path, required=True)
    score.add_argument("--failure", type=Path)
    server = verbs.add_parser("serve", allow_abbrev=False)
    server.add_argument("--package", type=Path, required=True)
    server.add_argument("--spec-sha256", required=True)
    server.add_argument("--port", type=int, default=8080)
    return parser


def _score(said: argparse.Namespace, script: ContainerScript) -> str:
    scorer = ContainerScorer(said.package, Digest.parse(said.spec_sha256), script)
    given = dict(each.partition("=")[::2] for each in said.data)
    if given.keys() != scorer.spec.data.keys():
        raise ConfigurationError(
            f"The job's files are {', '.join(sorted(scorer.spec.data))}; the container was given "
            f"{', '.join(sorted(given)) or 'none'}."
        )
    said.output.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(said.output / ACCOUNT_FILE):
        raise ScoringError(f"The output folder {said.output} holds {ACCOUNT_FILE} already.")
    scored: list[ScoredFile] = []
    try:
        for name, path in sorted(given.items()):
            place = Path(path)
            file = place / name if place.is_dir() else place
            scored.append(scorer.score(name, file, said.output))
        script.refuse_stopped()
        account = json.dumps([asdict(each) for each in scored], sort_keys=True)
        replace_file(said.output / ACCOUNT_FILE, account.encode(), 0o644)
    except BaseException:
        for each in scored:
            (said.output / each.scores).unlink(missing_ok=True)
        raise
    return f"The scores of {len(scored)} files are complete in {said.output}."


def _serve(said: argparse.Namespace, script: ContainerScript) -> str:
    """Take files as SageMaker sends them, and answer with their scores."""
    scorer = ContainerScorer(said.package, Digest.parse(said.spec_sha256), script)

    def invocations(body: Path) -> Answer:
        scored = scorer.score(scorer.named(body), body, body.parent)
        return Answer((body.parent / scored.scores).read_bytes(), "text/csv; charset=utf-8")

    serve(said.port, {"GET /ping": lambda _: Answer(), "POST /invocations": invocations}, script)
    return "The platform ended the container."


def _copied(scores: Path, target: Path) -> tuple[Digest, int]:
    """Copy scores, or leave none where they cannot be copied whole."""
    try:
        shutil.copyfile(scores, target)
        return fingerprint_file(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _fingerprint(file: Path) -> tuple[Digest, int]:
    try:
        return fingerprint_file(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
