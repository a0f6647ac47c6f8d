"""Scores files for a batch prediction job of Vertex AI; standard library only.

Vertex AI mounts no bucket for such a job. So the package is fetched here, verified, and only then
does the container answer for its health. Each request names files by their addresses: they are
fetched, scored, and their scores are stored; the answer is what was scored and how its bytes are.
A request that is sent twice is scored once.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    DataError,
    MlgovError,
    ScoringError,
)
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import fingerprint_file
from airflow_mlgov.service.container_gcs import CloudStorage
from airflow_mlgov.service.container_score import ContainerScorer, ScoredFile
from airflow_mlgov.service.container_script import ContainerScript, ended, say
from airflow_mlgov.service.container_serve import Answer, serve

VERB = "serve-vertex"
SCORES_FOLDER = "scores"
"""Where scores stand in the folder that a job writes to."""

_VARIABLES = ("AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE")


def score_for_vertex(arguments: Sequence[str]) -> int:
    """Serve until Vertex AI ends the container; return the exit status.

    Why it failed is said on standard error and in the object for it.
    """
    said = _parser().parse_args(arguments)
    script = ContainerScript("Scoring script", ScoringError)
    storage = CloudStorage()
    with TemporaryDirectory(prefix="mlgov-vertex-") as private:
        failure = Path(private, "failure")
        status = ended(lambda: _serve(said, script, storage, Path(private)), script, failure)
        if failure.exists():
            _tell(storage, failure, said.failure)
    return status


def fetch_package(storage: CloudStorage, uri: str, into: Path, script: ContainerScript) -> None:
    """Copy a package from Cloud Storage to an empty private folder.

    Raises:
        ArtefactError: It holds paths that leave the folder.
        MlgovError: As `CloudStorage`, or since the platform stopped the job.
    """
    for each in storage.beneath(uri):
        name = each.uri.removeprefix(f"{uri.rstrip('/')}/")
        if name.endswith("/"):
            continue  # how a folder is shown that was made by hand
        if {"", ".", ".."} & set(name.split("/")) or "\0" in name:
            raise ArtefactError(f"{each.uri} has a name that leaves its folder, or is none.")
        script.refuse_stopped()
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        storage.download(each.uri, each.generation, into / name)


class VertexPredictions:
    """Answers Vertex AI's requests for predictions.

    Args:
        scorer: Scores the files.
        storage: Where they are, and where their scores go.
        output: ``gs://`` address of the folder that the job writes to.
        key: Customer's key that encrypts the scores; empty for the bucket's own.
    """

    def __init__(
        self, scorer: ContainerScorer, storage: CloudStorage, output: str, key: str
    ) -> None:
        self._scorer = scorer
        self._storage = storage
        self._folder = f"{output}/{SCORES_FOLDER}"
        self._key = key
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}

    def predict(self, body: Path) -> Answer:
        """Return the predictions for a request's instances.

        Args:
            body: File with the request, in a private folder.

        Raises:
            MlgovError: The request is none, or a file cannot be scored or its scores not stored.
        """
        try:
            instances = [
                (str(each["name"]), str(each["uri"]))
                for each in json.loads(body.read_bytes())["instances"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"The request holds no instances with name and uri: {error!r}."
            ) from error
        predictions = [self._prediction(*each, body.parent) for each in instances]
        return Answer(json.dumps({"predictions": predictions}).encode(), "application/json")

    def _prediction(self, name: str, uri: str, private: Path) -> dict[str, Any]:
        if (name, uri) in self._answers:
            say(f"{name}: was scored already.")
            return self._answers[name, uri]
        meant = self._scorer.spec.data.get(name)
        if meant is None:
            raise DataError(f"{name!r} is none of this job's files.")
        with TemporaryDirectory(dir=private) as folder:
            data, into = Path(folder, "data"), Path(folder, "scores")
            into.mkdir()
            self._storage.download(uri, meant.version, data)
            scored = self._scorer.score(name, data, into)
            target = f"{self._folder}/{scored.scores}"
            if not self._storage.upload(into / scored.scores, target, self._key):
                self._refuse_other(target, scored, Path(folder, "there"))
        self._answers[name, uri] = {**asdict(scored), "uri": target}
        return self._answers[name, uri]

    def _refuse_other(self, target: str, scored: ScoredFile, file: Path) -> None:
        """Let stand what a container before this one has stored, if it has the same bytes."""
        self._storage.download(target, "", file)
        there = str(fingerprint_file(file)[0])
        if there != scored.scores_sha256:
            raise ScoringError(
                f"There is a {target} already, and it is {there}, not {scored.scores_sha256}.",
                remedy="Write a script that gives the same scores for the same file.",
            )


def _serve(
    said: argparse.Namespace, script: ContainerScript, storage: CloudStorage, private: Path
) -> str:
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise ConfigurationError(f"Vertex AI sets {', '.join(missing)}, and it is not set here.")
    port, health, predict = (os.environ[name] for name in _VARIABLES)
    package = private / "package"
    package.mkdir()
    fetch_package(storage, said.package, package, script)
    scorer = ContainerScorer(package, Digest.parse(said.spec_sha256), script)
    predictions = VertexPredictions(scorer, storage, said.output, said.key)

    def answer(body: Path) -> Answer:
        try:
            return predictions.predict(body)
        except MlgovError as error:
            if not error.retryable:
                failure = body.parent / "failure"
                failure.write_text(str(error), encoding="utf-8")
                _tell(storage, failure, said.failure)
            raise

    routes = {f"GET {health}": lambda _: Answer(), f"POST {predict}": answer}
    serve(int(port), routes, script)
    return "Vertex AI ended the container."


def _tell(storage: CloudStorage, failure: Path, uri: str) -> None:
    """Store why it failed, where whoever asks about the job looks."""
    try:
        storage.upload(failure, uri, "", replace=True)
    except MlgovError as error:
        say(f"Why it failed cannot be stored: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"mlgov-entry.pyz {VERB}", allow_abbrev=False)
    parser.add_argument("--package", required=True)
    parser.add_argument("--spec-sha256", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--failure", required=True)
    return parser
