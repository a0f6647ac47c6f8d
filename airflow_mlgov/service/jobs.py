"""Training as a job of a cloud: `start` finds the job or submits it, `finish` takes what it made.

Between the two nobody has to be there. That there is one job is seen to by
`airflow_mlgov.service.one_job`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import ArtefactError, TrainingError
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import spec_document
from airflow_mlgov.service.contract import read_outputs
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.job_platform import JobHandle, JobPlatform, JobSpec, JobStatus
from airflow_mlgov.service.one_job import Asked, OneJob
from airflow_mlgov.service.ports import Registry
from airflow_mlgov.service.provenance import TrainingInput
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
from airflow_mlgov.service.trained import Trained, TrainedModel, conclude
from airflow_mlgov.service.training_order import TrainingOrder, read_order

_MANIFEST = "manifest.json"
_ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class JobTraining:
    """An order, on a platform whose jobs outlive the task.

    Attributes:
        order: What to train.
        gov: Ledger, evidence, inventory and packs.
        terms: The platform's entry.
        jobs: The platform.
        log: Told what is worth a line.
        sleep: Waits a number of seconds.
    """

    order: TrainingOrder
    gov: Governance
    terms: PlatformTerms
    jobs: JobPlatform
    log: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep

    def start(self) -> JobHandle:
        """Return the one job of this task: the one there is, or one that is submitted now.

        Nothing is submitted before every control of the policy pack has passed on the request as it
        would be sent, and that is on record.

        Raises:
            ConfigurationError: The order asks for what cannot be; a retry does not help.
            DataError: An input is missing; a retry does not help.
            ControlsRefusedError: The pack forbids this job, or a control could not be checked;
                nothing was started, and a retry does not help.
            TrainingError: The job of an earlier try has failed; a retry does not help, clearing the
                task starts another one.
            PlatformError: The platform refused, the name is taken by somebody else's job, or the
                output location is not empty; a retry does not help.
            PlatformUnavailableError: It cannot be reached; a retry may help, and starts no second
                job.
            LedgerUnavailableError: The ledger cannot be reached; a retry may help.
        """
        return self._job.start(self._asked(read_order(self.order)))

    def start_again(self, handle: JobHandle) -> JobHandle | None:
        """Return another job if this one is of an earlier try and was cancelled; else None.

        Who clears a waiting task has its job cancelled by the triggerer, and by then the next try
        may have gone on with it.

        Raises:
            MlgovError: As `start`.
        """
        return self.start() if self._job.was_cancelled(handle) else None

    def finish(self, handle: JobHandle, registry: Registry) -> TrainedModel:
        """Fetch what a job made, check it, register it as a candidate, and put it on record.

        Raises:
            TrainingError: The job failed or was stopped, its script broke the contract, or the
                order is no longer the one that was submitted; a retry does not help.
            ArtefactError: What was fetched is not what the container wrote; a retry does not help.
            PlatformError: The job has not ended, or the platform refused; a retry does not help.
            PlatformUnavailableError: It cannot be reached; a retry may help.
            RegistryUnavailableError: The registry cannot be reached; a retry may help.
            LedgerUnavailableError: The ledger cannot be reached; a retry may help.
        """
        inputs = read_order(self.order)
        try:
            with TemporaryDirectory(prefix="mlgov-fetch-") as folder:
                trained = self._taken(handle, inputs, Path(folder))
                return conclude(self.order, self.gov, registry, inputs, trained)
        except OSError as error:
            raise TrainingError(f"What {handle} made cannot be kept: {error}.") from error

    def fetch(self, handle: JobHandle, folder: Path) -> Trained:
        """Fetch what a job made into an empty folder, and check it; nothing is registered.

        Raises:
            MlgovError: As `finish`, registry and ledger aside.
        """
        return self._taken(handle, read_order(self.order), folder)

    def log_output(self, handle: JobHandle, cursor: str | None) -> str | None:
        """Hand on what a job has written since a cursor; return the next one."""
        return self._job.log_output(handle, cursor)

    @property
    def _job(self) -> OneJob:
        return OneJob(
            self.order, self.gov, self.terms, self.jobs, self.log, self.sleep, TrainingError
        )

    def _asked(self, inputs: tuple[TrainingInput, ...]) -> Asked:
        order = self.order
        refuse_memory(self.terms, order.memory_mb)
        code = Code.of(order.script)
        document = spec_document(
            script=order.script.name,
            files=code.digests,
            inputs={item.name: (item.path.name, item.sha256, item.size_bytes) for item in inputs},
            parameters=order.parameters,
            seed=order.seed,
        )
        digest = Digest.of(document)

        def stage(spec: JobSpec) -> None:
            with staged_files(document, code) as files:
                self.jobs.stage(staged_folder(spec.spec), files)
            for item in inputs:
                self.jobs.stage(staged_folder(item.sha256), {item.path.name: item.path})

        return Asked(digest, partial(self._spec, digest, inputs), stage)

    def _spec(self, digest: Digest, inputs: tuple[TrainingInput, ...], key: str) -> JobSpec:
        at = self.jobs.output_uri
        return JobSpec(
            key=key,
            spec=digest,
            code_uri=at(staged_folder(digest)),
            inputs={
                item.name: f"{at(staged_folder(item.sha256))}/{item.path.name}" for item in inputs
            },
            output_uri=at(output_folder(key)),
            timeout_s=limit_s(self.terms, self.order.timeout_s),
            labels={
                "mlgov-model": label(self.order.model),
                "mlgov-variant": label(self.order.variant),
            },
        )

    def _taken(self, handle: JobHandle, inputs: tuple[TrainingInput, ...], folder: Path) -> Trained:
        if self._asked(inputs).digest != handle.spec:
            raise TrainingError(
                f"The script, an input or a parameter changed while {handle} ran.",
                remedy="Give each run files of its own, and start a new one.",
            )
        return self._fetched(handle, self._job.succeeded(handle), inputs, folder)

    def _fetched(
        self,
        handle: JobHandle,
        status: JobStatus,
        inputs: tuple[TrainingInput, ...],
        folder: Path,
    ) -> Trained:
        output_uri = self.jobs.output_uri(output_folder(handle.key))
        self.jobs.fetch(handle, output_uri, folder)
        outputs = read_outputs(folder)
        manifest = hash_directory(outputs.model_dir, self.log)
        written = _document(folder / _MANIFEST, handle).get("digest")
        if written != str(manifest.digest):
            raise ArtefactError(
                f"What was fetched of {handle} has the manifest {manifest.digest}, and the "
                f"container wrote {written}: it was cut short or changed in the store.",
                remedy=f"Look who can write to {output_uri}; then start a new run.",
            )
        return Trained.of(
            self.order,
            inputs,
            outputs,
            manifest,
            platform=self.terms.name,
            environment=_document(folder / _ENVIRONMENT, handle),
            job=job_facts(self.jobs, self.terms, handle, status, output_uri),
        )


def _document(path: Path, handle: JobHandle) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"What was fetched of {handle} has no {path.name} that can be read: {error}.",
            remedy="It was cut short or changed in the store; start a new run.",
        ) from error
    if not isinstance(value, dict):
        raise ArtefactError(f"What was fetched of {handle} has a {path.name} that is no object.")
    return value
