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

    @property
    def home(self) -> str:
        """What waits, and every governed model."""
        return f"{self.root}{MOUNT}/"

    def request(self, digest: Digest) -> str:
        """Return the evidence page of a request."""
        return f"{self.home}requests/{digest}"

    def model(self, model: str) -> str:
        """Return the page of a model.

        Args:
            model: Inventory id.
        """
        return f"{self.home}models/{_quoted(model)}"

    def act(self, model: str, *parts: str) -> str:
        """Return where the forms of a model's pages are sent.

        Args:
            model: Inventory id.
            parts: What is done, and to which finding or request.
        """
        return "/".join((self.model(model), *map(_quoted, parts)))

    def gate(self, request: ApprovalRequest) -> str:
        """Return where Airflow lets people answer a request."""
        dag, run, task = (
            _quoted(part) for part in (request.dag_id, request.run_id, request.task_id)
        )
        mapped = f"/mapped/{request.map_index}" if request.map_index >= 0 else ""
        return f"{self.root}/dags/{dag}/runs/{run}/tasks/{task}{mapped}/required_actions"

    def sign_in(self, then: str) -> str:
        """Return where Airflow lets people sign in.

        Args:
            then: Where to go on.
        """
        return f"{self.root}/api/v2/auth/login?next={_quoted(then)}"


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")
