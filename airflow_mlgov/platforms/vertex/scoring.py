"""Batch prediction jobs of Vertex AI, which score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_mlgov.clouds.gcp.store import found, receive, receive_file, send
from airflow_mlgov.errors import ArtefactError, DataError
from airflow_mlgov.platforms.vertex import scoring_request as requests
from airflow_mlgov.platforms.vertex.jobs import VertexJobs, VertexKind
from airflow_mlgov.platforms.vertex.predictions import read_predictions
from airflow_mlgov.platforms.vertex.status import scoring_status
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.service.artefacts import fingerprint_file
from airflow_mlgov.service.container_scoring import scores_name
from airflow_mlgov.service.container_vertex import SCORES_FOLDER
from airflow_mlgov.service.job_platform import (
    SCORING,
    JobHandle,
    JobSpec,
    JobStatus,
    StoredFile,
)

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import BatchPredictionJob


class VertexScoring(VertexJobs):
    """Batch prediction jobs in one project and region; see `ScoringPlatform` for its methods."""

    native = VertexKind(
        "BatchPredictionJob", "batch_prediction_job", "batchPredictionJob", "batch-predictions",
        SCORING,
    )  # fmt: skip

    def stage_package(self, spec: JobSpec, files: Mapping[str, Path]) -> None:
        """Store a package, and beside the job's output the list of files that Vertex AI reads."""
        key = self._terms.keys.get("output")
        send(self._session, spec.code_uri, files, key)
        with TemporaryDirectory(prefix="mlgov-") as folder:
            file = Path(folder, requests.INSTANCES_FILE)
            file.write_bytes(requests.instances(spec))
            send(self._session, requests.instances_folder(spec), {file.name: file}, key)

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return the request of CreateBatchPredictionJob, in the names of its REST interface."""
        return requests.render(self._terms, self._session.location, spec)

    def stated(self, request: Mapping[str, Any]) -> Sequence[Stated]:
        """Return what a request says about the subjects of controls."""
        return requests.stated(request)

    def fetch_package(self, spec: JobSpec, into: Path) -> None:
        """Copy a package back, each file with its size and checksum compared.

        Raises:
            ArtefactError: There is nothing, or there are links or paths that leave the folder.
        """
        if not receive(self._session, spec.code_uri, into):
            raise ArtefactError(f"Nothing stands in {spec.code_uri}, where a package was staged.")

    def fetch_scores(self, handle: JobHandle, spec: JobSpec, into: Path) -> dict[str, str]:
        """Copy the scores of each file, and compare them with what the container said it wrote.

        Raises:
            ArtefactError: Vertex AI holds not one prediction for each file, or its scores are
                missing or are other bytes.
        """
        with self._session.talking(f"asking about {handle}"):
            job = self._called("get", name=handle.native_id)
        said = read_predictions(self._session, handle, job.output_info.gcs_output_directory)
        if said.keys() != spec.inputs.keys():
            raise ArtefactError(
                f"{handle} was to score {', '.join(sorted(spec.inputs))}, and there are "
                f"predictions for {', '.join(sorted(said)) or 'none'}.",
                remedy="Look at its log.",
            )
        uris = {}
        for name in sorted(said):
            scores = scores_name(name)
            uris[name] = f"{spec.output_uri}/{SCORES_FOLDER}/{scores}"
            receive_file(self._session, uris[name], into / scores)
            arrived = str(fingerprint_file(into / scores)[0])
            if arrived != said[name]:
                raise ArtefactError(
                    f"{uris[name]} of {handle} is {arrived}; the container wrote {said[name]}."
                )
        return uris

    def located(self, uri: str) -> Sequence[StoredFile]:
        """Return a file of Cloud Storage; of a URI that ends in ``/``, all beneath it.

        Raises:
            DataError: There is none, or it is no address in Cloud Storage.
        """
        bucket, _, path = uri.removeprefix("gs://").partition("/")
        if not uri.startswith("gs://") or not bucket or not path.strip("/"):
            raise DataError(
                f"{uri!r} is no address of a file that platform {self.name} can score.",
                remedy="Name a file in Cloud Storage, gs://bucket/path, or a folder, "
                "gs://bucket/path/.",
            )
        files = [
            StoredFile(f"gs://{bucket}/{blob.name}", int(blob.size), str(blob.generation))
            for blob in found(self._session, uri)
            if not blob.name.endswith("/")
        ]
        if not files:
            raise DataError(f"There is no {uri} that platform {self.name} can see.")
        return files

    def _output_asked(self, request: Mapping[str, Any]) -> str:
        output = request["batchPredictionJob"]["outputConfig"]["gcsDestination"]
        return str(output["outputUriPrefix"])

    def _output_of(self, job: BatchPredictionJob) -> str:
        return str(job.output_config.gcs_destination.output_uri_prefix)

    def _status_of(self, job: BatchPredictionJob) -> JobStatus:
        return scoring_status(job)
