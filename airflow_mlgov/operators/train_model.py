"""Training a governed model."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov.errors import MlgovError
from airflow_mlgov.operators.job_link import JobLink
from airflow_mlgov.operators.lineage import LineageMixin
from airflow_mlgov.operators.run import governed_run, source_of, trigger_user

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.events import StepLineage, Training
    from airflow_mlgov.policy.platforms_file import PlatformTerms
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.job_platform import JobHandle
    from airflow_mlgov.service.jobs import JobTraining
    from airflow_mlgov.service.trained import TrainedModel
    from airflow_mlgov.service.training_order import TrainingOrder


class TrainModelOperator(LineageMixin, BaseOperator):
    """Run a training script, register what it makes, and put its origin on record.

    The script is started as ``python script.py``; what it is given and what it must write stands in
    ``docs/reference/training-contract.md``, the same on every platform.

    On a local platform it runs in a process of its own beside the task, its output comes into the
    task's log line by line, and it ends with the task. Elsewhere it runs as a job that outlives the
    task: a retry, a killed worker and a restarted triggerer go on with the same job, and failing or
    clearing the task by hand cancels it. Nothing is submitted that the policy pack's ``platforms``
    section forbids. A job that failed is started anew only by clearing the task.

    Args:
        model: Id in the inventory. Templated.
        script: Path of the script. Templated.
        inputs: Paths of files, by the name that the script knows them by. Templated.
        parameters: JSON values for the script. Templated.
        seed: 0 to 2^32-1, for every random generator of the script.
        variant: ``candidate``, or ``challenger`` for what the candidate is compared with.
            Templated.
        platform: Entry of the platform file; ``local`` is always there. Templated.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``.
        timeout_s: Wall-clock limit in seconds; None for the platform's own.
        memory_mb: Memory limit in MiB, on local platforms; None for no limit.
        deferrable: Whether to leave the worker while a job runs elsewhere.

    Returns:
        XCom ``{"model", "version": "sha256:…", "registry_version", "uri", "variant", "metrics"}``.

    Raises:
        AirflowFailException: The script failed or broke its contract, an input is missing, the
            policy pack forbids the job, or the model directory holds what may not be there.
        AirflowException: Ledger, registry or platform cannot be reached; a retry may help.
    """

    template_fields: Collection[str] = (
        "model",
        "script",
        "inputs",
        "parameters",
        "variant",
        "platform",
    )

    # Inherited, so that a subclass is known for a training (see service/airflow_records).
    custom_operator_name = "TrainModelOperator"
    operator_extra_links = (JobLink(),)

    def __init__(
        self,
        *,
        model: str,
        script: str,
        inputs: dict[str, str],
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        variant: str = "candidate",
        platform: str = "local",
        registry: str = "mlflow_default",
        timeout_s: float | None = None,
        memory_mb: int | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.script = script
        self.inputs = inputs
        self.parameters = parameters or {}
        self.seed = seed
        self.variant = variant
        self.platform = platform
        self.registry = registry
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self.deferrable = deferrable
        self.job_url = ""
        self._cancel: Callable[[], None] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Train here, or see to it that the one job of this task is there."""
        from airflow_mlgov.wiring import platform_terms, runs_here

        with governed_run():
            terms = platform_terms(self.platform)
            if runs_here(terms):
                return self._train_here(context, terms)
            training = self._job_training(context, terms)
            handle = training.start()
        self._cancel = partial(training.jobs.cancel, handle)
        if self.deferrable:
            self._defer(context, terms, handle)
        with governed_run():
            while True:
                self._cancel = partial(training.jobs.cancel, handle)
                self._show(context, handle)
                cursor = self._wait(training, handle)
                again = training.start_again(handle)
                if again is None:
                    return self._finish(training, handle, cursor)
                handle = again

    def resume(self, context: Context, event: dict[str, Any], handle: dict[str, Any]) -> Any:
        """Take what a job made, once it has ended; the event is only what woke this task."""
        from airflow_mlgov.service.job_platform import JobHandle
        from airflow_mlgov.wiring import platform_terms

        if event["problem"]:
            failure = AirflowException if event["retryable"] else AirflowFailException
            raise failure(event["problem"])
        job = JobHandle.from_json(handle)
        self.job_url = job.console_url
        with governed_run():
            training = self._job_training(context, platform_terms(job.platform))
            again = training.start_again(job)
            if again is None:
                return self._finish(training, job, None)
        return self._defer(context, training.terms, again)

    def on_kill(self) -> None:
        """End the script and everything that it started, or cancel the job."""
        if self._cancel is None:
            return
        try:
            self._cancel()
        except MlgovError as error:
            self.log.error("The job was not cancelled, and goes on: %s", error)  # noqa: TRY400

    def _train_here(self, context: Context, terms: PlatformTerms) -> dict[str, Any]:
        from airflow_mlgov.service.train import train
        from airflow_mlgov.wiring import open_governance, open_platform, open_registry

        platform = open_platform(terms)
        self._cancel = platform.cancel
        registry, gov = open_registry(self.registry), open_governance()
        trained = train(self._order(context), gov, platform, registry, self._log_line)
        return self._told(gov, trained)

    def _job_training(self, context: Context, terms: PlatformTerms) -> JobTraining:
        from airflow_mlgov.service.jobs import JobTraining
        from airflow_mlgov.wiring import open_governance, open_jobs

        gov, jobs = open_governance(), open_jobs(terms)
        return JobTraining(self._order(context), gov, terms, jobs, self._log_line)

    def _show(self, context: Context, handle: JobHandle) -> None:
        self.job_url = handle.console_url
        JobLink.show(context["ti"], handle.console_url)

    def _defer(self, context: Context, terms: PlatformTerms, handle: JobHandle) -> NoReturn:
        from airflow_mlgov.triggers.job import JobTrigger

        self._show(context, handle)
        job = handle.as_json()
        self.defer(
            trigger=JobTrigger(handle=job, poll_s=terms.poll_s, outage_s=terms.outage_s),
            method_name="resume",
            kwargs={"handle": job},
        )

    def _wait(self, training: JobTraining, handle: JobHandle) -> str | None:
        """Wait in the worker, with the job's output as it comes; return how far that was read."""
        from airflow_mlgov.service.job_watch import JobWatch

        terms, cursor = training.terms, None
        watch = JobWatch(training.jobs, handle, terms.poll_s, terms.outage_s)
        while True:
            look = watch.look()
            if look.note:
                self.log.info("%s", look.note)
            if look.status is not None:
                cursor = training.log_output(handle, cursor)
                if look.status.state.ended:
                    return cursor
            time.sleep(look.wait_s)

    def _finish(
        self, training: JobTraining, handle: JobHandle, cursor: str | None
    ) -> dict[str, Any]:
        from airflow_mlgov.wiring import open_registry

        trained = training.finish(handle, open_registry(self.registry))
        training.log_output(handle, cursor)
        return self._told(training.gov, trained)

    def _order(self, context: Context) -> TrainingOrder:
        from pathlib import Path

        from airflow_mlgov.service.training_order import TrainingOrder

        return TrainingOrder(
            model=self.model,
            script=Path(self.script),
            inputs=self.inputs,
            parameters=self.parameters,
            seed=self.seed,
            variant=self.variant,
            timeout_s=self.timeout_s,
            memory_mb=self.memory_mb,
            source=source_of(context),
            developer=trigger_user(context),
        )

    def _told(self, gov: Governance, trained: TrainedModel) -> dict[str, Any]:
        self.keep_lineage(lambda: self._lineage_of(gov, trained))
        self.log.info(
            "Model %s: version %s is registered as %s (%s).",
            self.model,
            trained.manifest.digest,
            trained.registered.uri,
            self.variant,
        )
        return trained.as_json()

    def _log_line(self, line: str) -> None:
        self.log.info("%s", line)

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return the files that the script will be given."""
        del context
        from pathlib import Path

        from airflow_mlgov.lineage import events
        from airflow_mlgov.service.provenance import hash_script

        inputs = [self.data_before(path) for path in self.inputs.values()]
        return events.train(inputs, self._training(hash_script(Path(self.script))))

    def _training(self, code: Digest) -> Training:
        from airflow_mlgov.lineage.events import Training

        return Training(self.script, code, self.parameters, self.seed, self.platform)

    def _lineage_of(self, gov: Governance, trained: TrainedModel) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import (
            checkpoint_facet,
            trained_version,
            training_data,
        )

        inputs = [self.placed(data) for data in training_data(gov, trained)]
        step = events.train(inputs, self._training(trained.code), trained_version(gov, trained))
        checkpoint = checkpoint_facet(gov, "model.registered", trained.receipt)
        return step.stating(mlgov_checkpoint=checkpoint)
