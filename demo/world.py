"""What the demo stands on: an Airflow, an MLflow store, the model's inventory, policy and data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from demo.client import AirflowClient, GateWatch
from demo.deployment import ROOT, Deployment, free_port
from demo.processes import Component, DeploymentError, stop_components, write_references

if TYPE_CHECKING:
    from airflow_mlgov.service.governance import Governance

MODEL = "retail_pd"
DAG = "retail_pd"
SCORING_DAG = "retail_pd_scoring"
ALIAS = "champion"
ENGINEER, OWNER, VALIDATOR = "erin", "olivia", "victor"


@dataclass
class World:
    """The running demo.

    Attributes:
        deployment: Its Airflow.
        say: Told what happens, in plain words.
    """

    deployment: Deployment
    say: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return self.deployment.folder

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking store."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def start(self) -> None:
        """Start everything from a clean folder and wait until the DAGs can be triggered.

        Raises:
            DeploymentError: Something did not start.
        """
        self.deployment.prepare()
        store = self._mlflow_store()
        store.start()
        try:
            self.deployment.start()
        finally:
            self._wait_for_store(store)
        self.say("Airflow is healthy; waiting for it to read the DAG files ...")
        self.client(ENGINEER).wait_for_dags([DAG, SCORING_DAG])

    def _mlflow_store(self) -> Component:
        # MLflow creates its tables on first use, which takes longer than any task of the demo.
        make = (
            "import mlflow, sys;"
            "mlflow.MlflowClient(sys.argv[1]).search_registered_models(max_results=1)"
        )
        return Component(
            name="mlflow-store",
            command=[str(self.deployment.python), "-c", make, self.mlflow_uri],
            env=self.deployment.env,
            log_path=self.deployment.logs / "mlflow-store.log",
            cwd=self.folder,
        )

    def _wait_for_store(self, store: Component, timeout_s: float = 180) -> None:
        if store.process is None:
            return
        if store.process.wait(timeout=timeout_s):
            raise DeploymentError(f"MLflow's store was not created.\n{store.tail()}")

    def start_mlflow_server(self, timeout_s: float = 180) -> str:
        """Start MLflow's own server over the demo's store, for people to look at.

        Returns:
            Its address.

        Raises:
            DeploymentError: It does not answer.
        """
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        server = Component(
            name="mlflow-server",
            command=[
                *(str(self.deployment.python), "-m", "mlflow", "server"),
                *("--backend-store-uri", self.mlflow_uri),
                *("--default-artifact-root", str(self.folder / "mlflow-artifacts")),
                *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            ],
            env=self.deployment.env,
            log_path=self.deployment.logs / "mlflow-server.log",
            cwd=self.folder,
        )
        server.start()
        self.deployment.components["mlflow-server"] = server
        write_references(self.deployment.process_file, self.deployment.components.values())
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            server.check()
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    return url
            except httpx.HTTPError:
                time.sleep(0.5)
        stop_components([server])
        raise DeploymentError(f"MLflow's server does not answer.\n{server.tail()}")

    def client(self, user: str) -> AirflowClient:
        """Sign somebody in."""
        return AirflowClient(self.deployment.url, user, self.deployment.passwords[user])

    def gate_watch(self, user: str = ENGINEER) -> GateWatch:
        """Somebody who can tell when a gate may be answered."""
        return GateWatch(self.client(user), self.deployment.logs / "scheduler.log")

    def governance(self) -> Governance:
        """Open the ledger and all around it in this process, as the command line does."""
        os.environ.update(self.deployment.env)
        from airflow_mlgov.wiring import open_governance

        return open_governance()


def open_world(folder: Path, say: Callable[[str], None]) -> World:
    """Describe the demo under a folder; nothing starts yet.

    Args:
        folder: ``.demo`` or ``.up``; wiped when the demo starts.
        say: Told what happens.
    """
    deployment = Deployment(
        folder=folder,
        dags=ROOT / "dags",
        say=say,
        lineage_namespace="airflow-mlgov-demo",
        mlgov={
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "evidence_url": f"file://{folder / 'evidence'}",
            "inventory_path": str(ROOT / "dags" / "inventory"),
            "policy_path": str(ROOT / "dags" / "policy"),
            "keys_dir": str(folder / "keys"),
            "seen_dir": str(folder / "seen"),
        },
        connections={
            "mlflow_default": {
                "conn_type": "mlflow",
                "extra": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
            }
        },
        extra_env={"AIRFLOW_VAR_RETAIL_PD_DIR": str(folder / "data")},
    )
    return World(deployment, say)
