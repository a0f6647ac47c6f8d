"""The services of docker-compose.yml as processes of this machine, without containers.

Commands, entry points, environments, secrets, volumes, health checks and the order of starting are
those that Compose makes of the file. What is changed in them: host names and ports, and the paths
of mounts, which become folders. So a service finds only the secrets that it is given, and others'
files only where both mount them.

What it cannot prove: that the images start so and hold these programs, that users and networks are
as apart as the file says, that a volume belongs to whom it should, that a read-only mount is one.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from demo.processes import Component, DeploymentError, stop_components

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SECRETS = ROOT / "deploy" / "secrets"
OWN = ("/run/secrets", "/opt/airflow")
"""Folders that every container has, mounted or not."""


def composed(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Let Compose check the file and show what it makes of it."""
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [program, "--profile", "setup", "-f", str(COMPOSE), "config"],
        cwd=COMPOSE.parent,
        env=known | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def read_config(program: str, **variables: str) -> dict[str, Any]:
    """Return the file as Compose understands it."""
    done = composed(program, **variables)
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout.replace("$$", "$")))


def secrets_of(service: Mapping[str, Any]) -> list[str]:
    """Names of the secrets that a service is given."""
    return [
        each if isinstance(each, str) else each["source"] for each in service.get("secrets", ())
    ]


def mounts_of(service: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Source, target and whether it is read-only, of every mount."""
    found = []
    for each in service.get("volumes", ()):
        if isinstance(each, str):
            source, target, *mode = each.split(":")
            found.append((source, target, mode == ["ro"]))
        else:
            found.append((each["source"], each["target"], each.get("read_only", False)))
    return found


def dependencies_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What must have started, be healthy or have ended before."""
    before = service.get("depends_on", {})
    if isinstance(before, list):
        return dict.fromkeys(before, "service_started")
    return {name: each["condition"] for name, each in before.items()}


class Composed:
    """The services, started here.

    Args:
        folder: Everything goes here.
        config: What Compose makes of the file.
        secrets: Stands for deploy/secrets.
        ports: Port in the container by service, for those that others or health checks ask.
        elsewhere: Where services listen that are not started here, as HOST:PORT.
        path: Folders of programs, put before those of this environment.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        secrets: Path,
        ports: Mapping[str, int],
        elsewhere: Mapping[str, str],
        path: Iterable[Path] = (),
    ) -> None:
        self.folder, self.config, self.secrets, self.ports = folder, config, secrets, ports
        self.places = {name: f"127.0.0.1:{_free_port()}" for name in ports} | dict(elsewhere)
        self.running: dict[str, Component] = {}
        self.done = set(elsewhere)
        self._path = [*map(str, path), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._roots = {name: self._mount(name) for name in config["services"]}

    def environment(self, name: str) -> dict[str, str]:
        """What the service finds in its environment, as a container's has nothing of the host's."""
        given = self.config["services"][name].get("environment", {})
        said = {key: self._here(name, str(value)) for key, value in given.items()}
        home = self.folder / name / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": ":".join(self._path),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_HOME": self._roots[name]["/opt/airflow"],
        } | said

    def up(self, *names: str, timeout_s: float = 300) -> None:
        """Start services and what they depend on, each once, in the order that the file asks for.

        Raises:
            DeploymentError: One failed, or is not healthy in time; with the end of its log.
        """
        for name in names:
            service = self.config["services"][name]
            if name in self.done:
                continue
            self.done.add(name)
            for other, condition in dependencies_of(service).items():
                self._meet(other, condition, timeout_s)
            self._component(name).start()

    def wait_healthy(self, name: str, timeout_s: float = 300) -> None:
        """Wait until a service's own health check passes.

        Raises:
            DeploymentError: It ended, or the time is up.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.running[name].check()
            said = self.check(name)
            if said.returncode == 0:
                return
            time.sleep(0.5)
        raise DeploymentError(
            f"{name} is not healthy: {said.stdout} {said.stderr}\n{self.running[name].tail(60)}"
        )

    def check(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a service's health check once."""
        kind, *rest = self.config["services"][name]["healthcheck"]["test"]
        command = ["sh", "-c", *rest] if kind == "CMD-SHELL" else rest
        return self.execute(name, *command)

    def execute(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's environment, as ``docker compose exec`` does."""
        return subprocess.run(
            [self._here(name, each) for each in command],
            env=self.environment(name),
            cwd=self.folder / name,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def run(self, name: str, timeout_s: float = 300) -> None:
        """Run a service that ends, with all that it depends on.

        Raises:
            DeploymentError: It failed.
        """
        self.up(name)
        component = self.running[name]
        assert component.process is not None
        if component.process.wait(timeout=timeout_s):
            raise DeploymentError(f"{name} failed.\n{component.tail(60)}")

    def stop(self) -> None:
        """End all that was started."""
        stop_components(self.running.values(), grace_s=5)

    def _meet(self, name: str, condition: str, timeout_s: float) -> None:
        if name in self.places and name not in self.ports:
            return  # elsewhere
        if condition == "service_completed_successfully":
            self.run(name, timeout_s)
            return
        self.up(name)
        if condition == "service_healthy":
            self.wait_healthy(name, timeout_s)

    def _component(self, name: str) -> Component:
        service = self.config["services"][name]
        words = [*_words(service.get("entrypoint")), *_words(service.get("command"))]
        command = [self._here(name, word) for word in words]
        log = self.folder / "logs" / f"{name}.log"
        component = Component(name, command, self.environment(name), log, self.folder / name)
        self.running[name] = component
        return component

    def _mount(self, name: str) -> dict[str, str]:
        """Make the folders that a service sees; where each is, by its path in the container."""
        service, own = self.config["services"][name], self.folder / name
        roots = {target: str(own / target.replace("/", "_")) for target in OWN}
        for target in [*OWN, *service.get("tmpfs", ())]:
            roots[target] = str(own / target.replace("/", "_"))
            Path(roots[target]).mkdir(parents=True)
        for secret in secrets_of(service):
            kept = Path(self.config["secrets"][secret]["file"]).relative_to(SECRETS)
            (Path(roots["/run/secrets"]) / secret).symlink_to(self.secrets / kept)
        for source, target, _ in mounts_of(service):
            roots[target] = str(self._source(own, source, target))
        return roots

    def _source(self, own: Path, source: str, target: str) -> Path:
        place = Path(source)
        if not place.is_absolute():
            volume = self.folder / "volumes" / source
            volume.mkdir(parents=True, exist_ok=True)
            return volume
        if place.is_relative_to(SECRETS):
            return self.secrets / place.relative_to(SECRETS)
        if not place.is_relative_to(ROOT / "deploy") or place.is_file():
            return place
        copy = own / target.replace("/", "_")  # of settings, which name hosts
        shutil.copytree(place, copy)
        for file in copy.iterdir():
            file.write_text(self._hosts(file.read_text()))
        return copy

    def _here(self, name: str, text: str) -> str:
        roots = self._roots[name]
        paths = "|".join(map(re.escape, sorted(roots, key=len, reverse=True)))
        text = re.sub(rf"(?<![\w.-])({paths})(?![\w.-])", lambda found: roots[found[1]], text)
        text = self._hosts(text)
        if name in self.ports:
            port = self.places[name].rpartition(":")[2]
            text = re.sub(rf"(?<![\w.]){self.ports[name]}(?![\w.])", port, text)
        return text

    def _hosts(self, text: str) -> str:
        for host, place in self.places.items():
            text = re.sub(rf"(?<![\w.-]){host}:\d+(?!\d)", place, text)
        return text


def _words(command: str | list[str] | None) -> list[str]:
    assert not isinstance(command, str), f"write it as a list: {command}"
    return list(command or ())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
