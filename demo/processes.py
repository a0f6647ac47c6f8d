"""Long-running processes of a deployment, with everything that they start in turn.

Airflow's task supervisors put each task into a process group of its own, so a signal to the
component's group does not reach them: descendants are collected before anything is stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil


class DeploymentError(RuntimeError):
    """A part of the deployment did not start, died, or did not answer in time."""


@dataclass
class Component:
    """One process and its log file.

    Attributes:
        name: For messages and for the name of the log file.
        command: Program and arguments.
        env: Its whole environment.
        log_path: Where its output goes; a restart appends.
        cwd: Working directory.
    """

    name: str
    command: list[str]
    env: Mapping[str, str]
    log_path: Path
    cwd: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it in its own session: an interrupt at the terminal goes to the parent only."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.env),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Look whether it still lives.

        Raises:
            DeploymentError: It ended; the message holds the end of its log.
        """
        if self.process is not None and self.process.poll() is not None:
            raise DeploymentError(
                f"{self.name} ended with exit code {self.process.returncode}.\n{self.tail()}"
            )

    def tail(self, lines: int = 25) -> str:
        """The last lines of its log."""
        if not self.log_path.exists():
            return f"(no log at {self.log_path})"
        text = self.log_path.read_text("utf-8", errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- last lines of {self.log_path}", *text])


@dataclass(frozen=True)
class ProcessRef:
    """A process that a later command can find again: its id alone may be another's by then."""

    name: str
    pid: int
    started_at: float

    def find(self) -> psutil.Process | None:
        """The process, if it is still this one."""
        try:
            process = psutil.Process(self.pid)
            return process if abs(process.create_time() - self.started_at) < 1 else None
        except psutil.NoSuchProcess:
            return None


def references(components: Iterable[Component]) -> list[ProcessRef]:
    """What is needed to stop these from another process."""
    refs = []
    for component in components:
        if component.process is None:
            continue
        try:
            started_at = psutil.Process(component.process.pid).create_time()
        except psutil.NoSuchProcess:
            continue
        refs.append(ProcessRef(component.name, component.process.pid, started_at))
    return refs


def write_references(path: Path, components: Iterable[Component]) -> None:
    """Keep the references of running processes in a file, for `stop_referenced`."""
    path.write_text(json.dumps([vars(ref) for ref in references(components)], indent=1), "utf-8")


def stop_referenced(path: Path, grace_s: float = 10) -> int:
    """Stop what an earlier command left running.

    Args:
        path: File written by `write_references`; may be missing.
        grace_s: Seconds between asking and killing.

    Returns:
        How many processes were found running.
    """
    if not path.exists():
        return 0
    refs = [ProcessRef(**item) for item in json.loads(path.read_text("utf-8"))]
    found = [process for process in (ref.find() for ref in refs) if process is not None]
    stopped = stop_trees(found, grace_s)
    path.unlink()
    return stopped


def stop_trees(roots: Iterable[psutil.Process], grace_s: float = 10) -> int:
    """Stop processes and all their descendants; returns once none is left.

    Args:
        roots: Processes to end.
        grace_s: Seconds between asking and killing.

    Returns:
        How many processes were ended.
    """
    tree: dict[int, psutil.Process] = {}
    for root in roots:
        try:
            for process in [root, *root.children(recursive=True)]:
                tree[process.pid] = process
        except psutil.NoSuchProcess:
            continue
    for process in tree.values():
        _signal(process, kill=False)
    _, alive = _wait(list(tree.values()), grace_s)
    for process in alive:
        for child in _children(process):
            tree.setdefault(child.pid, child)
            _signal(child, kill=True)
        _signal(process, kill=True)
    _wait(list(tree.values()), 5)
    return len(tree)


def stop_components(components: Iterable[Component], grace_s: float = 10) -> None:
    """Stop components of this process and reap them."""
    live = [c for c in components if c.process is not None and c.process.poll() is None]
    roots = []
    for component in live:
        try:
            roots.append(psutil.Process(component.process.pid))  # type: ignore[union-attr]
        except psutil.NoSuchProcess:
            continue
    stop_trees(roots, grace_s)
    for component in live:
        if component.process is not None:
            component.process.wait(timeout=10)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.NoSuchProcess:
        return


def _wait(
    processes: list[psutil.Process], timeout_s: float
) -> tuple[list[psutil.Process], list[psutil.Process]]:
    # A zombie whose parent (this process) has not reaped it yet counts as gone.
    end = time.monotonic() + timeout_s
    alive = processes
    while True:
        alive = [process for process in alive if _runs(process)]
        if not alive or time.monotonic() > end:
            return [p for p in processes if p not in alive], alive
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what would reconfigure Airflow or MLflow.

    Compiled modules may be written: an installed package has them, and so should this one.
    """
    foreign = ("AIRFLOW_", "MLFLOW_", "OPENLINEAGE_", "_AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
