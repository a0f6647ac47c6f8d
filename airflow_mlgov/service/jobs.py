"""Training as a job of a cloud: one job for one task of one run, whoever dies in between.

`start` finds the job or submits it, `finish` takes what it made. Between the two nobody has to be
there. The job's key is made of dag, run, task, map index, what is asked, and a generation, so each
try computes it anew; the generation counts jobs that ended without success and were told of.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    PlatformError,
    TrainingError,
)
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.container import entry_archive, spec_document
from airflow_mlgov.service.contract import read_outputs
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.job_controls import examine_request, put_on_record
from airflow_mlgov.service.job_platform import (
    JobHandle,
    JobPlatform,
    JobSpec,
    JobState,
    JobStatus,
    job_key,
)
from airflow_mlgov.service.ports import Registry
from airflow_mlgov.service.provenance import TrainingInput, describe_code, hash_script
from airflow_mlgov.service.trained import Trained, TrainedModel, conclude
from airflow_mlgov.service.training_order import TrainingOrder, read_order

VISIBLE_S = 60.0
"""How long a platform may take to show a job that it has taken."""

_GENERATIONS = 100
_PAUSE_S = 5.0
_MANIFEST = "manifest.json"
_ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class _Asked:
    """What an order asks of a container.

    Attributes:
        document: Bytes of ``spec.json``.
        digest: Of these.
        inputs: Read and hashed.
        files: Script and what stands beside it, by name.
    """

    document: bytes
    digest: Digest
    inputs: tuple[TrainingInput, ...]
    files: dict[str, Path]


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
        asked = self._asked()
        key = ""
        for generation in range(_GENERATIONS):
            key = job_key(self.order.source, asked.digest, generation)
            handle = self._found(key, asked)
            if handle is None:
                return self._submit(key, asked)
            status = self._settled(handle)
            if status.state not in {JobState.FAILED, JobState.CANCELLED}:
                self.log(f"Going on with {handle}, which is {status.state}.")
                return handle
            self._refuse_untold(handle, status)
            self.log(f"Not going on with {handle}, which is {status.state}.")
        raise PlatformError(
            f"{_GENERATIONS} jobs of this task have ended without success, {key} the last.",
            remedy="Start a new run of the DAG.",
        )

    def start_again(self, handle: JobHandle) -> JobHandle | None:
        """Return another job if this one is of an earlier try and was cancelled; else None.

        Who clears a waiting task has its job cancelled by the triggerer, and by then the next try
        may have gone on with it.

        Raises:
            MlgovError: As `start`.
        """
        if not self._examined_earlier(handle.key):
            return None
        if self._settled(handle).state is not JobState.CANCELLED:
            return None
        self.log(f"The {handle} was cancelled after this try had gone on with it.")
        return self.start()

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
        asked = self._asked()
        try:
            with TemporaryDirectory(prefix="mlgov-fetch-") as folder:
                trained = self._taken(handle, asked, Path(folder))
                return conclude(self.order, self.gov, registry, asked.inputs, trained)
        except OSError as error:
            raise TrainingError(f"What {handle} made cannot be kept: {error}.") from error

    def fetch(self, handle: JobHandle, folder: Path) -> Trained:
        """Fetch what a job made into an empty folder, and check it; nothing is registered.

        Raises:
            MlgovError: As `finish`, registry and ledger aside.
        """
        return self._taken(handle, self._asked(), folder)

    def log_output(self, handle: JobHandle, cursor: str | None) -> str | None:
        """Hand on what a job has written since a cursor; return the next one.

        What a job says is no part of what it made: a platform that cannot show it stops nothing.
        """
        try:
            while True:
                lines, after = self.jobs.log_lines(handle, cursor)
                for line in lines:
                    self.log(line)
                if not lines or after == cursor:
                    return after
                cursor = after
        except PlatformError as error:
            self.log(f"The output of {handle} cannot be shown: {error.problem}")
            return cursor

    def _asked(self) -> _Asked:
        order = self.order
        if order.memory_mb is not None:
            raise ConfigurationError(
                f"Training limit memory_mb is for local platforms, and {self.terms.name} is none.",
                remedy="Choose the machine by 'instance' of the platform's entry.",
            )
        inputs = read_order(order)
        digest = hash_script(order.script)
        beside = describe_code(order.script)["code_files"]
        hashes = {**beside, order.script.name: str(digest)}
        document = spec_document(
            script=order.script.name,
            files={name: Digest.parse(sha256) for name, sha256 in hashes.items()},
            inputs={item.name: (item.path.name, item.sha256, item.size_bytes) for item in inputs},
            parameters=order.parameters,
            seed=order.seed,
        )
        folder = order.script.resolve().parent
        files = {name: folder / name for name in beside} | {order.script.name: order.script}
        return _Asked(document, Digest.of(document), inputs, files)

    def _found(self, key: str, asked: _Asked) -> JobHandle | None:
        handle = self.jobs.find(key)
        return None if handle is None else _ours(handle, key, asked)

    def _settled(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands, once it is not about to be cancelled."""
        deadline = time.monotonic() + self.terms.outage_s
        while True:
            status = self.jobs.poll(handle)
            if status.state is not JobState.CANCELLING or time.monotonic() >= deadline:
                return status
            self.sleep(_PAUSE_S)

    def _refuse_untold(self, handle: JobHandle, status: JobStatus) -> None:
        """Raise about a failed job whose failure was told to nobody yet: that try died before."""
        if status.state is not JobState.FAILED:
            return
        for entry in self.gov.ledger.view().select("job.ended", model=self.order.model):
            if entry.body["job"] == handle.key:
                return
        raise self._not_finished(handle, status)

    def _not_finished(self, handle: JobHandle, status: JobStatus) -> PlatformError | TrainingError:
        """Return the error about a job without success; if it has ended, put that on record."""
        if not status.state.ended:
            return PlatformError(f"The {handle} has not ended: it is {status.native_state}.")
        reason = status.reason or "the platform gives no reason"
        body = {
            "job": handle.key,
            "platform": handle.platform,
            "native_id": handle.native_id,
            "reason": reason[:1000],
        }
        put_on_record(self.order, self.gov, "job.ended", body, handle.key)
        self.log_output(handle, None)
        verb = "failed" if status.state is JobState.FAILED else "was cancelled"
        return TrainingError(
            f"The {handle} {verb} ({status.native_state}): {reason}",
            remedy="Its output is in the log above and there. Clear this task to start another.",
        )

    def _submit(self, key: str, asked: _Asked) -> JobHandle:
        spec = self._spec(key, asked)
        request = self.jobs.render(spec)
        examine_request(self.order, self.gov, self.terms, self.jobs, key, request)
        handle = self._late(key, asked)
        if handle is not None:
            return handle
        stands = self.jobs.first_object(spec.output_uri)
        if stands is not None:
            raise PlatformError(
                f"The output location of job {key} is not empty: there is {stands}.",
                remedy="Move it away, or start a new run of the DAG, which writes elsewhere.",
            )
        self._stage(asked)
        handle = _ours(self.jobs.submit(request), key, asked)
        self.log(f"Submitted {handle}.")
        return handle

    def _spec(self, key: str, asked: _Asked) -> JobSpec:
        order, limit = self.order, self.terms.hours * 3600
        return JobSpec(
            key=key,
            spec=asked.digest,
            code_uri=self.jobs.output_uri(_code_folder(asked)),
            inputs={
                item.name: f"{self.jobs.output_uri(_input_folder(item))}/{item.path.name}"
                for item in asked.inputs
            },
            output_uri=self.jobs.output_uri(f"jobs/{key}"),
            timeout_s=int(limit if order.timeout_s is None else min(limit, order.timeout_s)),
            labels={"mlgov-model": _label(order.model), "mlgov-variant": _label(order.variant)},
        )

    def _stage(self, asked: _Asked) -> None:
        with TemporaryDirectory(prefix="mlgov-stage-") as folder:
            archive, spec = Path(folder, "mlgov-entry.pyz"), Path(folder, "spec.json")
            archive.write_bytes(entry_archive())
            spec.write_bytes(asked.document)
            files = {**asked.files, archive.name: archive, spec.name: spec}
            self.jobs.stage(_code_folder(asked), files)
        for item in asked.inputs:
            self.jobs.stage(_input_folder(item), {item.path.name: item.path})

    def _examined_earlier(self, key: str) -> list[datetime]:
        """Return when earlier tries were about to submit a job."""
        return [
            entry.at
            for entry in self.gov.ledger.view().select("job.examined", model=self.order.model)
            if entry.body["job"] == key and entry.source.try_number != self.order.source.try_number
        ]

    def _late(self, key: str, asked: _Asked) -> JobHandle | None:
        """Wait for a job that an earlier try may have submitted, and the platform not shown yet."""
        until = max(self._examined_earlier(key), default=None)
        if until is None:
            return None
        while True:
            handle = self._found(key, asked)
            left_s = (until + timedelta(seconds=VISIBLE_S) - self.gov.clock.now()).total_seconds()
            if handle is not None or left_s <= 0:
                return handle
            self.log(f"An earlier try may have submitted {key}: looking for {left_s:.0f} s more.")
            self.sleep(min(_PAUSE_S, left_s))

    def _taken(self, handle: JobHandle, asked: _Asked, folder: Path) -> Trained:
        if asked.digest != handle.spec:
            raise TrainingError(
                f"The script, an input or a parameter changed while {handle} ran.",
                remedy="Give each run files of its own, and start a new one.",
            )
        status = self.jobs.poll(handle)
        if status.state is not JobState.SUCCEEDED:
            raise self._not_finished(handle, status)
        return self._fetched(handle, status, asked, folder)

    def _fetched(
        self, handle: JobHandle, status: JobStatus, asked: _Asked, folder: Path
    ) -> Trained:
        output_uri = self.jobs.output_uri(f"jobs/{handle.key}")
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
        job = {
            "key": handle.key,
            "native_id": handle.native_id,
            "console_url": handle.console_url,
            "kind": self.jobs.kind,
            "billable_s": status.billable_s,
            "output_uri": output_uri,
            **status.facts,
        }
        return Trained.of(
            self.order,
            asked.inputs,
            outputs,
            manifest,
            platform=self.terms.name,
            environment=_document(folder / _ENVIRONMENT, handle),
            job=job,
        )


def _ours(handle: JobHandle, key: str, asked: _Asked) -> JobHandle:
    """Return a job under our name if it is ours."""
    if handle.spec != asked.digest:
        raise PlatformError(
            f"The name {key} is taken by somebody else's {handle}.",
            remedy="Look who started it. A new run of the DAG takes another name.",
        )
    return handle


def _code_folder(asked: _Asked) -> str:
    return f"staged/{asked.digest.hex}"


def _input_folder(item: TrainingInput) -> str:
    return f"staged/{item.sha256.hex}"


def _label(text: str) -> str:
    allowed = (char if char.isascii() and char.isalnum() else "-" for char in text.lower())
    return "".join(allowed)[:63]


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
