"""Scoring as a job of a cloud: `start` verifies and submits, `finish` verifies and takes scores.

Before a job is submitted the approval is verified, and the model's verified bytes are staged under
their digest. When it has ended, what was staged is fetched again and hashed: scores of other bytes
are not handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_mlgov.errors import ArtefactError, DataError, MlgovError, ScoringError
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import SPEC_FILE
from airflow_mlgov.service.container_scoring import (
    MODEL_FOLDER,
    ScoringSpec,
    read_scoring_spec,
    scores_name,
    scoring_document,
)
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.job_platform import JobHandle, JobSpec, JobStatus, ScoringPlatform
from airflow_mlgov.service.one_job import Asked, OneJob
from airflow_mlgov.service.ports import Registry
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.score_batch import refuse_other_files
from airflow_mlgov.service.scored import (
    ScoredBatch,
    Scores,
    Shown,
    admitted_files,
    conclude_batch,
    place_scores,
)
from airflow_mlgov.service.scoring_order import ScoredData, ScoringOrder, read_data
from airflow_mlgov.service.staging import (
    Code,
    job_facts,
    label,
    limit_s,
    output_folder,
    refuse_memory,
    staged_files,
    staged_folder,
)
from airflow_mlgov.service.verify_use import refusals_on_record, refuse_stopped


@dataclass(frozen=True)
class JobScoring:
    """An order, on a platform whose jobs outlive the task.

    Attributes:
        order: What to score.
        gov: Ledger, evidence, inventory and packs.
        registry: Where the version in use lives.
        terms: The platform's entry.
        jobs: The platform.
        shown: Looks at rows for an approval that is bound to them.
        log: Told what is worth a line.
        sleep: Waits a number of seconds.
    """

    order: ScoringOrder
    gov: Governance
    registry: Registry
    terms: PlatformTerms
    jobs: ScoringPlatform
    shown: Shown
    log: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep

    def start(self) -> JobHandle:
        """Verify the approval, and return the one job of this task: there, or submitted now.

        Raises:
            GuardRefusedError: A check failed in mode ``enforce``, or the model was stopped; on
                record. A retry does not help.
            MlgovError: As `OneJob.start`.
        """
        refuse_memory(self.terms, self.order.memory_mb)
        data = read_data(self.order, self.jobs.located)
        with model_in_use(self.gov, self.registry, self.order.use) as model:
            files = admitted_files(self.gov, model, data, self.shown)
            version = model.version or hash_directory(files).digest
            return self._job.start(self._asked(version, data, files))

    def start_again(self, handle: JobHandle) -> JobHandle | None:
        """Return another job if this one is of an earlier try and was cancelled; else None.

        Raises:
            MlgovError: As `start`.
        """
        return self.start() if self._job.was_cancelled(handle) else None

    def finish(self, handle: JobHandle) -> ScoredBatch:
        """Fetch the scores of a job, if they were made by the bytes that were verified; or refuse.

        Raises:
            ScoringError: The job failed or was stopped, its script broke the contract, or the order
                is no longer the one that was submitted; a retry does not help.
            DataError: A file that was scored has changed meanwhile; a retry does not help.
            GuardRefusedError: The model was stopped meanwhile, its staged files have changed, or in
                mode ``enforce`` no check of it is on record; on record. A retry does not help.
            ArtefactError: Scores are missing, or not what the container wrote; a retry does not
                help.
            PlatformError: The job has not ended, or the platform refused; a retry does not help.
            PlatformUnavailableError: It cannot be reached; a retry may help.
            LedgerUnavailableError: The ledger cannot be reached; a retry may help.
        """
        status = self._job.succeeded(handle)
        try:
            with TemporaryDirectory(prefix="mlgov-fetch-") as folder:
                return self._taken(handle, status, Path(folder))
        except OSError as error:
            raise ScoringError(f"What {handle} made cannot be kept: {error}.") from error

    def log_output(self, handle: JobHandle, cursor: str | None) -> str | None:
        """Hand on what a job has written since a cursor; return the next one."""
        return self._job.log_output(handle, cursor)

    @property
    def _job(self) -> OneJob:
        return OneJob(
            self.order, self.gov, self.terms, self.jobs, self.log, self.sleep, ScoringError
        )

    def _asked(self, version: Digest, data: tuple[ScoredData, ...], files: Path | None) -> Asked:
        code = Code.of(self.order.script)
        document = scoring_document(
            ScoringSpec(
                script=self.order.script.name,
                files=code.digests,
                version=version,
                data={each.name: each.as_spec() for each in data},
                parameters=self.order.parameters,
            )
        )

        def stage(spec: JobSpec) -> None:
            for each in data:
                if each.path is not None and each.sha256 is not None:
                    self.jobs.stage(staged_folder(each.sha256), {each.name: each.path})
            with staged_files(document, code) as package:
                self.jobs.stage_package(spec, {**package, **_model_files(files)})

        digest = Digest.of(document)
        return Asked(digest, partial(self._spec, digest, data), stage)

    def _spec(self, digest: Digest, data: tuple[ScoredData, ...], key: str) -> JobSpec:
        return JobSpec(
            key=key,
            spec=digest,
            code_uri=self.jobs.output_uri(staged_folder(digest)),
            inputs={each.name: self._uri(each) for each in data},
            output_uri=self.jobs.output_uri(output_folder(key)),
            timeout_s=limit_s(self.terms, self.order.timeout_s),
            labels={"mlgov-model": label(self.order.model), "mlgov-target": self._target},
            sizes={each.name: each.size_bytes for each in data},
        )

    @property
    def _target(self) -> str:
        return label(self.order.use.target)

    def _uri(self, data: ScoredData) -> str:
        if data.sha256 is None:
            return data.uri
        return f"{self.jobs.output_uri(staged_folder(data.sha256))}/{data.name}"

    def _taken(self, handle: JobHandle, status: JobStatus, folder: Path) -> ScoredBatch:
        package, fetched = folder / "package", folder / "scores"
        package.mkdir()
        fetched.mkdir()
        data = read_data(self.order, self.jobs.located)
        version, spec = self._packed(handle, data, package)
        with refusals_on_record(self.gov, self.order.use, version):
            refuse_stopped(self.gov.ledger.view(), self.order.model)
            refuse_other_files(package / MODEL_FOLDER, version)
        uris = self.jobs.fetch_scores(handle, spec, fetched)
        scores = [
            Scores.read(each.name, fetched / scores_name(each.name), uris[each.name])
            for each in data
        ]
        with refusals_on_record(self.gov, self.order.use, version):
            return conclude_batch(
                self.order,
                self.gov,
                version,
                data,
                place_scores(scores, fetched, self.order.output),
                platform=self.terms.name,
                job=job_facts(self.jobs, self.terms, handle, status, spec.output_uri),
            )

    def _packed(
        self, handle: JobHandle, data: tuple[ScoredData, ...], package: Path
    ) -> tuple[Digest, JobSpec]:
        """Fetch what a job was given, and return which version that is, and what the job was."""
        if handle.spec is None:
            raise ScoringError(f"The {handle} is not ours.")
        self.jobs.fetch_package(self._spec(handle.spec, data, handle.key), package)
        try:
            document = (package / SPEC_FILE).read_bytes()
            said = read_scoring_spec(document, handle.spec)
        except (OSError, MlgovError) as error:
            raise ArtefactError(
                f"What the {handle} was given is no longer there, or was changed: {error}",
                remedy="Look who can write to the output location; then clear this task.",
            ) from error
        if said.data != {each.name: each.as_spec() for each in data}:
            raise DataError(
                f"What is to be scored changed while the {handle} ran.",
                remedy="Give each run files of its own, and start a new one.",
            )
        asked = self._asked(said.version, data, None)
        if asked.digest != handle.spec:
            raise ScoringError(
                f"The script or a parameter changed while the {handle} ran.",
                remedy="Start a new run.",
            )
        return said.version, asked.spec(handle.key)


def _model_files(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    return {
        f"{MODEL_FOLDER}/{path.relative_to(folder).as_posix()}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
