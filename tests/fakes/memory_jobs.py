"""A platform of jobs in memory, its store a folder, whose container is the real entry point.

It cannot prove anything about a vendor: not its requests, not its errors, not how long it hides a
new job. The contract suite does that on the vendors' own fakes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airflow_mlgov.errors import ArtefactError, PlatformUnavailableError
from airflow_mlgov.policy.platform_controls import Stated
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container import entry_command
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobState, JobStatus


@dataclass
class Job:
    request: dict
    states: list[JobState]
    reason: str = ""
    ran: bool = False


@dataclass
class MemoryJobs:
    """Jobs by name; `course` is what the next one goes through, a state a poll."""

    store: Path
    name: str = "frankfurt"
    kind: str = "memory"
    course: list[JobState] = field(default_factory=lambda: [JobState.SUCCEEDED])
    reason: str = ""
    failures: int = 0
    hidden: int = 0
    account: list[Stated] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    started: int = 0
    staged: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)

    @property
    def terms(self) -> PlatformTerms:
        return PlatformTerms(
            self.name, "sagemaker", region="eu-central-1", outage_s=60.0, poll_s=1.0, hours=2.0,
            file="platforms.yaml", line=3,
        )  # fmt: skip

    def stage(self, folder: str, files: Mapping[str, Path]) -> str:
        self._talk()
        for name, path in files.items():
            target = self.store / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            self.staged.append(f"{folder}/{name}")
        return self.output_uri(folder)

    def output_uri(self, folder: str) -> str:
        return f"memory://{folder}"

    def first_object(self, uri: str) -> str | None:
        found = sorted(self._path(uri).rglob("*"))
        return f"memory://{found[0].relative_to(self.store)}" if found else None

    def render(self, spec: JobSpec) -> dict:
        return {
            "Name": spec.key,
            "Spec": str(spec.spec),
            "Code": spec.code_uri,
            "Inputs": dict(spec.inputs),
            "Output": spec.output_uri,
            "Seconds": spec.timeout_s,
            "Labels": dict(spec.labels),
            "Region": "eu-central-1",
        }

    def stated(self, request):
        hours = request["Seconds"] / 3600
        return [Stated("region", "Region", request["Region"]), Stated("hours", "Seconds", hours)]

    def preflight(self, request):
        return self.account

    def find(self, key: str) -> JobHandle | None:
        self._talk()
        if key not in self.jobs or self._hides():
            return None
        return self._handle(key)

    def submit(self, request) -> JobHandle:
        self._talk()
        key = request["Name"]
        if key not in self.jobs:
            self.started += 1
            self.jobs[key] = Job(dict(request), list(self.course), self.reason)
        return self._handle(key)

    def poll(self, handle: JobHandle) -> JobStatus:
        self._talk()
        if handle.key not in self.jobs:
            return JobStatus(JobState.MISSING, "NotThere")
        job = self.jobs[handle.key]
        state = job.states.pop(0) if len(job.states) > 1 else job.states[0]
        if state is JobState.SUCCEEDED and not job.ran:
            job.ran = True
            self._run(job)
            state = job.states[0]
        facts = {"image": "train@sha256:1", "region": "eu-central-1"}
        return JobStatus(state, f"Native{state.title()}", job.reason, 90.0, facts)

    def cancel(self, handle: JobHandle) -> None:
        self._talk()
        self.cancelled.append(handle.key)
        if handle.key in self.jobs:
            self.jobs[handle.key].states = [JobState.CANCELLED]

    def log_lines(self, handle: JobHandle, cursor: str | None):
        self._talk()
        start = int(cursor or 0)
        lines = self.says[start : start + 1000]
        return lines, str(start + len(lines))

    def fetch(self, handle: JobHandle, output_uri: str, into: Path) -> None:
        self._talk()
        source = self._path(output_uri)
        if not source.exists():
            raise ArtefactError(f"There is nothing at {output_uri}.")
        shutil.copytree(source, into, dirs_exist_ok=True)

    def _handle(self, key: str) -> JobHandle:
        said = self.jobs[key].request.get("Spec")
        spec = Digest.parse(said) if said else None
        return JobHandle(self.name, key, f"native/{key}", f"https://console/{key}", spec)

    def _run(self, job: Job) -> None:
        """Play the container: the real entry point, with paths as a mount would show them."""
        request = job.request
        code = self._path(request["Code"])
        command = entry_command(
            python=sys.executable,
            code=str(code),
            spec_sha256=Digest.parse(request["Spec"]),
            inputs={name: str(self._path(uri)) for name, uri in request["Inputs"].items()},
            output=str(self._path(request["Output"])),
            failure=None,
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.says += done.stdout.splitlines()
        if done.returncode != 0:
            job.states, job.reason = [JobState.FAILED], done.stderr.strip()[-900:]

    def _path(self, uri: str) -> Path:
        return self.store / uri.removeprefix("memory://")

    def _hides(self) -> bool:
        self.hidden -= 1
        return self.hidden >= 0

    def _talk(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise PlatformUnavailableError("Too many requests.")
