"""A real Airflow on this machine: api-server, scheduler, DAG processor and triggerer.

Each is its own process. Nothing is shared with any other Airflow: it has its own home, metadata
database, ports and secrets.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from demo.processes import (
    Component,
    DeploymentError,
    clean_environment,
    stop_components,
    stop_referenced,
    write_references,
)

ROOT = Path(__file__).resolve().parent.parent
# Two api-servers, one for people and one for tasks: on SQLite a single one locks itself out. Its
# audit log commits on the event loop, and waits there for the write lock of a request that needs
# the event loop to end, until SQLite's patience is over and somebody gets HTTP 500.
COMPONENTS = ("api-server", "task-api-server", "scheduler", "dag-processor", "triggerer")
OUTBOX = "airflow_mlgov.listeners.outbox_transport.OutboxTransport"
USERS = {"erin": "user", "olivia": "user", "victor": "user", "admin": "admin"}
SECRETS = ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY")


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Deployment:
    """One Airflow under one folder.

    Attributes:
        folder: Everything it writes goes here; wiped by `prepare`.
        dags: Folder of DAG files.
        mlgov: Options of Airflow's `[mlgov]` section, by name.
        connections: Airflow connections as JSON-ready dicts, by id.
        extra_env: Further variables for every process.
        lineage_namespace: What lineage calls this Airflow; its events go into the outbox. None:
            lineage is off.
        users: Role by user name.
        parallelism: Task slots.
        say: Told what happens, in plain words.
    """

    folder: Path
    dags: Path
    mlgov: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    extra_env: Mapping[str, str] = field(default_factory=dict)
    lineage_namespace: str | None = None
    users: Mapping[str, str] = field(default_factory=lambda: dict(USERS))
    parallelism: int = 4
    say: Callable[[str], None] = lambda _message: None
    components: dict[str, Component] = field(default_factory=dict, init=False)
    passwords: dict[str, str] = field(default_factory=dict, init=False)
    env: dict[str, str] = field(default_factory=dict, init=False)
    url: str = field(default="", init=False)
    task_url: str = field(default="", init=False)
    detached: bool = field(default=False, init=False)

    @property
    def home(self) -> Path:
        """``AIRFLOW_HOME``."""
        return self.folder / "airflow"

    @property
    def logs(self) -> Path:
        """Logs of the components."""
        return self.folder / "logs"

    @property
    def process_file(self) -> Path:
        """What `stop_referenced` needs to stop this deployment from elsewhere."""
        return self.folder / "processes.json"

    @property
    def python(self) -> Path:
        """The interpreter that everything runs in."""
        return Path(sys.executable)

    def prepare(self) -> None:
        """Stop what an earlier run left behind, wipe the folder, write settings and passwords."""
        if stop_referenced(self.process_file):
            self.say("Stopped what an earlier run had left running.")
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in (self.home, self.logs):
            path.mkdir(parents=True)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.task_url = f"http://127.0.0.1:{free_port()}"
        self.passwords = {user: secrets.token_urlsafe(12) for user in self.users}
        password_file = self.folder / "passwords.json"
        password_file.touch(mode=0o600)
        password_file.write_text(json.dumps(self.passwords) + "\n", "utf-8")
        settings = self._settings() | dict(self.extra_env)
        self.env = clean_environment() | settings
        self._write_env_file(settings)

    def _settings(self) -> dict[str, str]:
        settings = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                # On a busy machine SQLite's own 5 s of patience end in HTTP 500.
                f"sqlite:///{self.home / 'airflow.db'}?timeout=30"
            ),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(self.parallelism),
            "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "64",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.task_url}/execution/",
            "AIRFLOW__CORE__AUTH_MANAGER": (
                "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
                f"{user}:{role}" for user, role in self.users.items()
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(
                self.folder / "passwords.json"
            ),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.url.rpartition(":")[2],
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_MODEL_CATALOG_URI": "",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "DO_NOT_TRACK": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        }
        settings |= {f"AIRFLOW__MLGOV__{name.upper()}": value for name, value in self.mlgov.items()}
        settings |= {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps(value)
            for name, value in self.connections.items()
        }
        return settings | self._lineage_settings()

    def _lineage_settings(self) -> dict[str, str]:
        if self.lineage_namespace is None:
            return {"AIRFLOW__OPENLINEAGE__DISABLED": "True"}
        return {
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": OUTBOX}),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": self.lineage_namespace,
            "AIRFLOW__MLGOV__LINEAGE_SPOOL_DIR": str(self.folder / "lineage-spool"),
        }

    def export_lineage(self) -> Path:
        """Write the events of the outbox to ``lineage.jsonl``, in the order of their arrival.

        Raises:
            DeploymentError: They could not be written.
        """
        file = self.folder / "lineage.jsonl"
        done = self.airflow("mlgov", "lineage", "export", "--file", str(file))
        if done.returncode:
            raise DeploymentError(f"Lineage could not be exported: {done.stderr[-2000:]}")
        return file

    def _write_env_file(self, settings: Mapping[str, str]) -> None:
        # The secrets of the running processes stay out: commands on the results need none of them.
        path = self.folder / "env"
        path.touch(mode=0o600)
        public = {name: value for name, value in settings.items() if name not in SECRETS}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(public.items())]
        path.write_text("\n".join(lines) + "\n", "utf-8")

    def airflow(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run an `airflow` command in this deployment's environment and return its output."""
        return subprocess.run(
            [str(self.python), "-m", "airflow", *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, timeout_s: float = 240) -> None:
        """Create the metadata database, start every component and wait until all are healthy.

        Args:
            timeout_s: Longest wait, in seconds, for the database and again for health.

        Raises:
            DeploymentError: Something did not start; the message holds the end of its log.
        """
        atexit.register(self.stop)
        self.say("Creating Airflow's metadata database ...")
        migrated = self.airflow("db", "migrate", timeout_s=timeout_s)
        (self.logs / "db-migrate.log").write_text(migrated.stdout + migrated.stderr, "utf-8")
        if migrated.returncode:
            tail = "\n".join((migrated.stdout + migrated.stderr).splitlines()[-25:])
            raise DeploymentError(f"`airflow db migrate` failed.\n{tail}")
        self.say("Starting api-servers, scheduler, DAG processor and triggerer ...")
        for name in COMPONENTS:
            self._start_component(name)
        write_references(self.process_file, self.components.values())
        self.wait_healthy(timeout_s)

    def _start_component(self, name: str) -> None:
        component = Component(
            name=name,
            command=[
                *(str(self.python), str(ROOT / "demo" / "keeper.py")),
                *(str(self.python), "-m", "airflow", *self._arguments(name)),
            ],
            env=self.env,
            log_path=self.logs / f"{name}.log",
            cwd=self.folder,
        )
        component.start()
        self.components[name] = component

    def _arguments(self, name: str) -> list[str]:
        if name == "task-api-server":
            return ["api-server", "--port", self.task_url.rpartition(":")[2]]
        return [name, "--skip-serve-logs"] if name in ("scheduler", "triggerer") else [name]

    def wait_healthy(self, timeout_s: float = 240) -> None:
        """Wait until Airflow itself reports each of its parts healthy.

        Raises:
            DeploymentError: A part died, or the time is up.
        """
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        end = time.monotonic() + timeout_s
        health: dict[str, dict[str, str]] = {}
        while time.monotonic() < end:
            for component in self.components.values():
                component.check()
            health = self._health() if self._health(self.task_url) else {}
            if all(health.get(part, {}).get("status") == "healthy" for part in parts):
                return
            time.sleep(0.25)
        tails = "\n".join(component.tail() for component in self.components.values())
        raise DeploymentError(f"Airflow is not healthy after {timeout_s:.0f} s: {health}.\n{tails}")

    def _health(self, url: str = "") -> dict[str, dict[str, str]]:
        try:
            answer = httpx.get(f"{url or self.url}/api/v2/monitor/health", timeout=10)
            return dict(answer.json()) if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return {}

    def restart(self, name: str, grace_s: float = 10, timeout_s: float = 120) -> None:
        """Stop one component with all it started, start it again, wait until it reports healthy.

        Args:
            name: One of `COMPONENTS`.
            grace_s: Seconds it gets to end by itself; 0 kills it at once.
            timeout_s: Longest wait for the new process to report healthy.
        """
        self.stop_component(name, grace_s)
        before = self._heartbeat(name)
        self._start_component(name)
        write_references(self.process_file, self.components.values())
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.components[name].check()
            if name.endswith("api-server"):
                if self._health(self.url if name == "api-server" else self.task_url):
                    return
            elif self._heartbeat(name) not in ("", before):
                return
            time.sleep(0.25)
        raise DeploymentError(f"{name} did not come back.\n{self.components[name].tail()}")

    def stop_component(self, name: str, grace_s: float = 10) -> None:
        """Stop one component with all it started."""
        stop_components([self.components[name]], grace_s)

    def _heartbeat(self, name: str) -> str:
        part = name.replace("-", "_")
        return str(self._health().get(part, {}).get(f"latest_{part}_heartbeat") or "")

    def detach(self) -> None:
        """Leave everything running when this process ends; `make down` ends it."""
        self.detached = True

    def stop(self) -> None:
        """Stop everything that was started, grandchildren included. Safe to call twice."""
        if self.detached:
            return
        stop_components(self.components.values(), grace_s=5)
        self.process_file.unlink(missing_ok=True)

    def tails(self) -> str:
        """The last lines of every component's log."""
        return "\n".join(component.tail() for component in self.components.values())

    def __enter__(self) -> Self:
        self.prepare()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
