"""What operators do whose work runs beside the task, or as a job that outlives it."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.operators.job_link import JobLink
from airflow_mlgov.operators.lineage import LineageMixin, quietly
from airflow_mlgov.operators.run import governed_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.facets import Facets
    from airflow_mlgov.policy.platforms_file import PlatformTerms
    from airflow_mlgov.service.job_platform import JobHandle, Jobs
    from airflow_mlgov.service.training_platform import Platform


class JobWork(Protocol):
    """Work that runs as a job: `JobTraining` or `JobScoring`."""

    @property
    def terms(self) -> PlatformTerms:
        """The platform's entry."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The platform."""
        ...

    def start(self) -> JobHandle:
        """Return the one job of this task."""
        ...

    def start_again(self, handle: JobHandle) -> JobHandle | None:
        """Return another job if this one was cancelled after this try went on with it."""
        ...

    def log_output(self, handle: JobHandle, cursor: str | None) -> str | None:
        """Hand on what a job has written since a cursor; return the next one."""
        ...


class JobOperator(LineageMixin, BaseOperator):
    """Works here on a local platform, and elsewhere by one job, whoever dies in between.

    A subclass says what the work is. On a local platform it ends with the task. Elsewhere a retry,
    a killed worker and a restarted triggerer go on with the same job, and failing or clearing the
    task by hand cancels it.

    Args:
        platform: Entry of the platform file; ``local`` is always there.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``.
        timeout_s: Wall-clock limit in seconds; None for the platform's own.
        memory_mb: Memory limit in MiB, on local platforms; None for no limit.
        deferrable: Whether to leave the worker while a job runs elsewhere.
    """

    operator_extra_links = (JobLink(),)

    def __init__(
        self,
        *,
        platform: str = "local",
        registry: str = "mlflow_default",
        timeout_s: float | None = None,
        memory_mb: int | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.platform = platform
        self.registry = registry
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.deferrable = deferrable
        self.job_url = ""
        self._cancel: Callable[[], None] | None = None

    @abstractmethod
    def work_here(self, context: Context, platform: Platform) -> dict[str, Any]:
        """Do the work in a process of this machine, and return what the task hands on."""

    @abstractmethod
    def work_elsewhere(self, context: Context, terms: PlatformTerms) -> JobWork:
        """Return the work as a job; nothing is asked of anybody yet."""

    @abstractmethod
    def take(self, work: Any, handle: JobHandle) -> dict[str, Any]:
        """Take what a job made, once it has ended, and return what the task hands on."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Do the work here, or see to it that the one job of this task is there."""
        from airflow_mlgov.wiring import open_platform, platform_terms, runs_here

        with governed_run():
            terms = platform_terms(self.platform)
            if runs_here(terms):
                platform = open_platform(terms)
                self._cancel = platform.cancel
                return self.work_here(context, platform)
            work = self.work_elsewhere(context, terms)
            handle = work.start()
        self._cancel = partial(work.jobs.cancel, handle)
        if self.deferrable:
            self._defer(context, terms, handle)
        with governed_run():
            while True:
                self._show(context, handle)
                self._keep_job(context, handle)
                cursor = self._wait(work, handle)
                again = work.start_again(handle)
                if again is None:
                    return self._take(work, handle, cursor)
                handle = again
                self._cancel = partial(work.jobs.cancel, handle)

    def resume(self, context: Context, event: dict[str, Any], handle: dict[str, Any]) -> Any:
        """Take what a job made, once it has ended; the event is only what woke this task."""
        from airflow_mlgov.service.job_platform import JobHandle
        from airflow_mlgov.wiring import platform_terms

        job = JobHandle.from_json(handle)
        self._keep_job(context, job)
        if event["problem"]:
            failure = AirflowException if event["retryable"] else AirflowFailException
            raise failure(event["problem"])
        self.job_url = job.console_url
        with governed_run():
            work = self.work_elsewhere(context, platform_terms(job.platform))
            again = work.start_again(job)
            if again is None:
                return self._take(work, job, None)
        return self._defer(context, work.terms, again)

    def on_kill(self) -> None:
        """End the script and everything that it started, or cancel the job."""
        if self._cancel is None:
            return
        try:
            self._cancel()
        except MlgovError as error:
            self.log.error("The job was not cancelled, and goes on: %s", error)  # noqa: TRY400

    def log_line(self, line: str) -> None:
        """Write a line of the task's log."""
        self.log.info("%s", line)

    def _show(self, context: Context, handle: JobHandle) -> None:
        self.job_url = handle.console_url
        JobLink.show(context["ti"], handle.console_url)

    def _keep_job(self, context: Context, handle: JobHandle) -> None:
        """Note for lineage which job the run waits for: of one that fails, nothing else is kept."""
        from airflow_mlgov.lineage.events import StepLineage

        def build() -> StepLineage:
            before = self.lineage_before(context) or StepLineage()
            return before.at_start().stating(**_job_facets(handle))

        self.keep_lineage(build)

    def _defer(self, context: Context, terms: PlatformTerms, handle: JobHandle) -> NoReturn:
        from airflow_mlgov.triggers.job import JobTrigger

        self._show(context, handle)
        job = handle.as_json()
        self.defer(
            trigger=JobTrigger(handle=job, poll_s=terms.poll_s, outage_s=terms.outage_s),
            method_name="resume",
            kwargs={"handle": job},
        )

    def _wait(self, work: JobWork, handle: JobHandle) -> str | None:
        """Wait in the worker, with the job's output as it comes; return how far that was read."""
        from airflow_mlgov.service.job_watch import JobWatch

        terms, cursor = work.terms, None
        watch = JobWatch(work.jobs, handle, terms.poll_s, terms.outage_s)
        while True:
            look = watch.look()
            if look.note:
                self.log_line(look.note)
            if look.status is not None:
                cursor = work.log_output(handle, cursor)
                if look.status.state.ended:
                    return cursor
            time.sleep(look.wait_s)

    def _take(self, work: JobWork, handle: JobHandle, cursor: str | None) -> dict[str, Any]:
        taken = self.take(work, handle)
        if (made := self._lineage) is not None:
            self._lineage = quietly(lambda: made.stating(**_job_facets(handle))) or made
        work.log_output(handle, cursor)
        return taken


def _job_facets(handle: JobHandle) -> Facets:
    from airflow_mlgov.lineage.events import Job
    from airflow_mlgov.wiring import platform_terms

    kind = platform_terms(handle.platform).kind
    return Job(kind, handle.key, handle.native_id, handle.console_url).facets
