"""A platform of scoring jobs in memory; its store is a folder, its container the real one.

It cannot prove anything about a vendor, as `memory_jobs` cannot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_mlgov.errors import ArtefactError, DataError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.container_scoring import ACCOUNT_FILE, score_command, scores_name
from airflow_mlgov.service.job_platform import SCORING, JobHandle, JobSpec, JobState, StoredFile
from tests.unit.service.conftest import load_fake

memory = load_fake("memory_jobs")


@dataclass
class MemoryScoring(memory.MemoryJobs):
    """Scoring jobs by name; `container` is started with the command that a vendor would start."""

    def stage_package(self, spec: JobSpec, files: Mapping[str, Path]) -> None:
        self.stage(spec.code_uri.removeprefix("memory://"), files)

    def fetch_package(self, spec: JobSpec, into: Path) -> None:
        self._talk()
        shutil.copytree(self._path(spec.code_uri), into, dirs_exist_ok=True)

    def fetch_scores(self, handle: JobHandle, spec: JobSpec, into: Path) -> Mapping[str, str]:
        self._talk()
        account = json.loads((self._path(spec.output_uri) / ACCOUNT_FILE).read_bytes())
        uris = {}
        for said in account:
            stored = self._path(spec.output_uri) / said["scores"]
            if not stored.exists() or str(Digest.of(stored.read_bytes())) != said["scores_sha256"]:
                raise ArtefactError(f"The scores of {said['data']} are not what was written.")
            shutil.copyfile(stored, into / scores_name(said["data"]))
            uris[said["data"]] = f"{spec.output_uri}/{said['scores']}"
        return uris

    def located(self, uri: str) -> Sequence[StoredFile]:
        self._talk()
        path = self._path(uri)
        files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
        if not files:
            raise DataError(f"There is nothing at {uri}.")
        return [
            StoredFile(
                f"memory://{file.relative_to(self.store)}",
                file.stat().st_size,
                Digest.of(file.read_bytes()).short,
            )
            for file in files
        ]

    def _handle(self, key: str) -> JobHandle:
        return replace(super()._handle(key), purpose=SCORING)

    def _run(self, job) -> None:
        request = job.request
        command = score_command(
            python=sys.executable,
            package=str(self._path(request["Code"])),
            spec_sha256=Digest.parse(request["Spec"]),
            data={name: str(self._path(uri)) for name, uri in request["Inputs"].items()},
            output=str(self._path(request["Output"])),
            failure=None,
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.says += done.stdout.splitlines()
        if done.returncode != 0:
            job.states, job.reason = [JobState.FAILED], done.stderr.strip()[-900:]
