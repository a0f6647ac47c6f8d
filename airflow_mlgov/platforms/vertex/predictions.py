"""What a batch prediction job has written about the files that it scored.

Its folder holds ``prediction.results-00000-of-00001`` and so on, and ``prediction.errors_stats-*``;
the reference also calls them ``predictions_0001.jsonl`` and ``errors_0001.jsonl``. A line is an
object with ``instance``, as it was asked, and ``prediction``, as the container answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from airflow_mlgov.clouds.gcp.session import GcpSession
from airflow_mlgov.clouds.gcp.store import found, read_blob
from airflow_mlgov.errors import ArtefactError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container_scoring import scores_name
from airflow_mlgov.service.job_platform import JobHandle

_RESULTS = re.compile(r"prediction\.results-.*|predictions_.*")
_ERRORS = re.compile(r"prediction\.errors.*|errors_.*")
_SAID = 500


def read_predictions(session: GcpSession, handle: JobHandle, folder: str) -> dict[str, str]:
    """Return the digest of each file's scores, by the file's name, as the container said it.

    Args:
        session: Who asks.
        handle: The job, for errors.
        folder: Where Vertex AI says that it has written; empty if it says nothing.

    Raises:
        ArtefactError: There is no such folder, an error stands in it, or a line is malformed or
            there twice; a retry does not help.
        MlgovError: As `GcpSession.talking`.
    """
    if not folder:
        raise ArtefactError(f"{handle} has written nothing, as Vertex AI says.")
    for error in _lines(session, folder, _ERRORS):
        raise ArtefactError(f"{handle} could not score all files: {error[:_SAID]}")
    said: dict[str, str] = {}
    for line in _lines(session, folder, _RESULTS):
        name, sha256 = _parsed(handle, line)
        if name in said:
            raise ArtefactError(f"{handle} has written two predictions for {name}.")
        said[name] = sha256
    return said


def _lines(session: GcpSession, folder: str, wanted: re.Pattern[str]) -> Iterator[str]:
    for blob in found(session, f"{folder.rstrip('/')}/"):
        if wanted.fullmatch(blob.name.rpartition("/")[2]):
            text = read_blob(session, blob).decode("utf-8", "replace")
            yield from filter(None, (line.strip() for line in text.splitlines()))


def _parsed(handle: JobHandle, line: str) -> tuple[str, str]:
    """Return a file's name, and the digest of its scores."""
    problem = ""
    try:
        said = json.loads(line)
        name, prediction = said["instance"]["name"], said["prediction"]
        if (prediction["data"], prediction["scores"]) == (name, scores_name(name)):
            return name, str(Digest.parse(prediction["scores_sha256"]))
    except (KeyError, TypeError, ValueError, AttributeError, ArtefactError) as error:
        problem = f": {error!r}"
    raise ArtefactError(f"{handle} has written no prediction of ours, but {line[:_SAID]}{problem}.")
