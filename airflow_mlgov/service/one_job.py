"""A job of a cloud: one for one task of one run, whoever dies in between.

The job's key is made of dag, run, task, map index, what is asked, and a generation, so each try
computes it anew; the generation counts jobs that ended without success and were told of. Nothing is
submitted before every control of the policy pack has passed on the request as it would be sent, and
that is on record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from airflow_mlgov.errors import MlgovError, PlatformError
from airflow_mlgov.policy.platforms_file import PlatformTerms
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.job_controls import JobOrder, examine_request, put_on_record
from airflow_mlgov.service.job_platform import (
    JobHandle,
    Jobs,
    JobSpec,
    JobState,
    JobStatus,
    job_key,
)
from airflow_mlgov.service.ledger import SealedEntry

VISIBLE_S = 60.0
"""How long a platform may take to show a job that it has taken."""

_GENERATIONS = 100
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a container.

    Attributes:
        digest: Of its ``spec.json``.
        spec: Makes a job of it, of a key.
        stage: Stores what that job needs.
    """

    digest: Digest
    spec: Callable[[str], JobSpec]
    stage: Callable[[JobSpec], None]


@dataclass(frozen=True)
class OneJob:
    """The one job of a task.

    Attributes:
        order: Which model and task.
        gov: Ledger, inventory and packs.
        terms: The platform's entry.
        jobs: The platform.
        log: Told what is worth a line.
        sleep: Waits a number of seconds.
        failure: What is raised about a job that has failed.
    """

    order: JobOrder
    gov: Governance
    terms: PlatformTerms
    jobs: Jobs
    log: Callable[[str], None]
    sleep: Callable[[float], None]
    failure: type[MlgovError]

    def start(self, asked: Asked) -> JobHandle:
        """Return the one job of this task: the one there is, or one that is submitted now.

        Raises:
            ControlsRefusedError: The pack forbids this job, or a control could not be checked;
                nothing was started, and a retry does not help.
            MlgovError: `failure`: the job of an earlier try has failed; a retry does not help,
                clearing the task starts another one.
            PlatformError: The platform refused, the name is taken by somebody else's job, or the
                output location is not empty; a retry does not help.
            PlatformUnavailableError: It cannot be reached; a retry may help, and starts no second
                job.
            LedgerUnavailableError: The ledger cannot be reached; a retry may help.
        """
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

    def was_cancelled(self, handle: JobHandle) -> bool:
        """Return whether a job of an earlier try was cancelled.

        Who clears a waiting task has its job cancelled by the triggerer, and by then the next try
        may have gone on with it.

        Raises:
            PlatformError: As `start`.
        """
        if not self._examined_earlier(handle.key):
            return False
        if self._settled(handle).state is not JobState.CANCELLED:
            return False
        self.log(f"The {handle} was cancelled after this try had gone on with it.")
        return True

    def succeeded(self, handle: JobHandle) -> JobStatus:
        """Return how a job stands that has succeeded.

        Raises:
            MlgovError: `failure`: it failed or was stopped, which is on record; a retry does not
                help.
            PlatformError: It has not ended, or the platform refused; a retry does not help.
            PlatformUnavailableError: It cannot be reached; a retry may help.
        """
        status = self.jobs.poll(handle)
        if status.state is not JobState.SUCCEEDED:
            raise self._not_finished(handle, status)
        return status

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

    def _found(self, key: str, asked: Asked) -> JobHandle | None:
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

    def _not_finished(self, handle: JobHandle, status: JobStatus) -> MlgovError:
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
        return self.failure(
            f"The {handle} {verb} ({status.native_state}): {reason}",
            remedy="Its output is in the log above and there. Clear this task to start another.",
        )

    def _submit(self, key: str, asked: Asked) -> JobHandle:
        spec = asked.spec(key)
        request = self.jobs.render(spec)
        self._cancel_other(key)
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
        asked.stage(spec)
        handle = _ours(self.jobs.submit(request), key, asked)
        self.log(f"Submitted {handle}.")
        return handle

    def _cancel_other(self, key: str) -> None:
        """Cancel what an earlier try has started that asked for something else.

        Its script, data or model has changed since, or another version is in use now: nobody waits
        for that job.
        """
        for other in {entry.body["job"] for entry in self._examined()} - {key}:
            handle = self.jobs.find(other)
            if handle is not None and not self.jobs.poll(handle).state.ended:
                self.log(f"Cancelling the {handle}: this try asks for something else.")
                self.jobs.cancel(handle)

    def _examined(self) -> list[SealedEntry]:
        """Return what earlier tries of this task were about to submit on this platform."""
        return [
            entry
            for entry in self.gov.ledger.view().select("job.examined", model=self.order.model)
            if entry.source.task == self.order.source.task
            and entry.source.try_number != self.order.source.try_number
            and entry.body["platform"] == self.terms.name
        ]

    def _examined_earlier(self, key: str) -> list[SealedEntry]:
        return [entry for entry in self._examined() if entry.body["job"] == key]

    def _late(self, key: str, asked: Asked) -> JobHandle | None:
        """Wait for a job that an earlier try may have submitted, and the platform not shown yet."""
        until = max((entry.at for entry in self._examined_earlier(key)), default=None)
        if until is None:
            return None
        while True:
            handle = self._found(key, asked)
            left_s = (until + timedelta(seconds=VISIBLE_S) - self.gov.clock.now()).total_seconds()
            if handle is not None or left_s <= 0:
                return handle
            self.log(f"An earlier try may have submitted {key}: looking for {left_s:.0f} s more.")
            self.sleep(min(_PAUSE_S, left_s))


def _ours(handle: JobHandle, key: str, asked: Asked) -> JobHandle:
    """Return a job under our name if it is ours."""
    if handle.spec != asked.digest:
        raise PlatformError(
            f"The name {key} is taken by somebody else's {handle}.",
            remedy="Look who started it. A new run of the DAG takes another name.",
        )
    return handle
