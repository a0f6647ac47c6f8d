"""Where the pages stand, and the gate that a request waits at."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import ApprovalRequest

MOUNT = "/mlgov"
"""Under which path Airflow's api-server has our pages."""


@dataclass(frozen=True, slots=True)
class Site:
    """An Airflow's addresses.

    Attributes:
        root: Airflow's own address, or just its path; without a slash at the end.
    """

    root: str

    def request(self, digest: Digest) -> str:
        """Return the evidence page of a request."""
        return f"{self.root}{MOUNT}/requests/{digest}"

    def gate(self, request: ApprovalRequest) -> str:
        """Return where Airflow lets people answer a request."""
        dag, run, task = (
            quote(part, safe="") for part in (request.dag_id, request.run_id, request.task_id)
        )
        mapped = f"/mapped/{request.map_index}" if request.map_index >= 0 else ""
        return f"{self.root}/dags/{dag}/runs/{run}/tasks/{task}{mapped}/required_actions"
