"""Jobs of Azure ML that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_mlgov.errors import PlatformError
from airflow_mlgov.platforms.azureml.jobs import AzureMlJobs
from airflow_mlgov.platforms.azureml.preflight import place
from airflow_mlgov.platforms.azureml.request import training_work
from airflow_mlgov.platforms.azureml.rights import missing_of_jobs
from airflow_mlgov.service.job_platform import TRAINING, JobHandle, JobSpec


class AzureMlPlatform(AzureMlJobs):
    """Training jobs of an Azure ML workspace; see `AzureMlJobs`."""

    purpose = TRAINING

    def render(self, spec: JobSpec) -> dict[str, Any]:
        """Return Azure's own requests; see the port."""
        return self._rendered(spec, training_work(spec))

    def fetch(self, handle: JobHandle, output_uri: str, into: Path) -> None:
        """Copy what a job wrote to an empty private folder; see the port."""
        self._receive(output_uri, into, f"{handle} was to write")

    def check(self) -> str:
        """Return a line for ``airflow mlgov doctor``: the workspace answers, the store is writable.

        Raises:
            PlatformError: Something of it is not so; a retry does not help.
            PlatformUnavailableError: Azure cannot be reached; a retry may help.
        """
        workspace = self._arm.get(self._terms.account)
        if workspace is None:
            raise PlatformError(
                f"Platform {self.name}: there is no workspace {self._terms.account}.",
                remedy="Correct 'account' in the platform file, or the rights of the connection.",
            )
        region = place(workspace.get("location"))
        if region != self._terms.region:
            raise PlatformError(
                f"Platform {self.name}: the workspace is in {region}, and the platform file says "
                f"{self._terms.region}.",
                remedy="Correct 'region' or 'account' in the platform file.",
            )
        self._store.probe("mlgov-check")
        return f"Azure ML workspace {workspace.get('name')} in {region} answers; store is writable."

    def missing_permissions(self) -> list[str]:
        """Return what the connection's identity may not do and has to; empty for nothing.

        Raises:
            PlatformError: It cannot be asked.
        """
        return missing_of_jobs(self._arm, self._terms, self._store)
