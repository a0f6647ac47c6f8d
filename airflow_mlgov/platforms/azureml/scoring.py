"""Jobs of Azure ML that score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlgov.platforms.azureml.jobs import AzureMlJobs
from airflow_mlgov.platforms.azureml.request import scoring_work
from airflow_mlgov.platforms.azureml.scores import check_scores
from airflow_mlgov.service.container_scoring import scores_name
from airflow_mlgov.service.job_platform import SCORING, JobHandle, JobSpec, StoredFile


class AzureMlScoring(AzureMlJobs):
    """Scoring jobs of an Azure ML workspace; see `AzureMlJobs`.

    They are command jobs, as training jobs are: a batch endpoint would be a resource that stays and
    that people can call past us.
    """

    purpose = SCORING

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return Azure's own requests; see the port."""
        return self._rendered(spec, scoring_work(spec))

    def stage_package(self, spec: JobSpec, files: Mapping[str, Path]) -> None:
        """Store what a job needs under its ``code_uri``; see the port."""
        self._store.send(spec.code_uri, files)

    def fetch_package(self, spec: JobSpec, into: Path) -> None:
        """Copy back what stands under ``code_uri``; see the port."""
        self._receive(spec.code_uri, into, f"the package of job {spec.key} was staged")

    def fetch_scores(self, handle: JobHandle, spec: JobSpec, into: Path) -> Mapping[str, str]:
        """Copy the scores of each input to a folder and return their addresses; see the port."""
        self._receive(spec.output_uri, into, f"{handle} was to write")
        check_scores(into, spec.inputs, spec.output_uri)
        return {name: f"{spec.output_uri}/{scores_name(name)}" for name in spec.inputs}

    def located(self, uri: str) -> list[StoredFile]:
        """Return the file at an address, or all beneath it; see the port.

        A job reads the container of the entry's output location, and no other.
        """
        return self._store.located(uri)
