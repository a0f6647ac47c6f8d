"""Training a governed model."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow_mlgov.operators.job_operator import JobOperator
from airflow_mlgov.operators.run import source_of, trigger_user

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
    from airflow_mlgov.service.training_platform import Platform


class TrainModelOperator(JobOperator):
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

    def __init__(
        self,
        *,
        model: str,
        script: str,
        inputs: dict[str, str],
        parameters: dict[str, Any] | None = None,
        seed: int = 0,
        variant: str = "candidate",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.script = script
        self.inputs = inputs
        self.parameters = parameters or {}
        self.seed = seed
        self.variant = variant

    def work_here(self, context: Context, platform: Platform) -> dict[str, Any]:
        """Train in a process of this machine."""
        from airflow_mlgov.service.train import train
        from airflow_mlgov.wiring import open_governance, open_registry

        registry, gov = open_registry(self.registry), open_governance()
        trained = train(self._order(context), gov, platform, registry, self.log_line)
        return self._told(gov, trained)

    def work_elsewhere(self, context: Context, terms: PlatformTerms) -> JobTraining:
        """Return the training as a job."""
        from airflow_mlgov.service.jobs import JobTraining
        from airflow_mlgov.wiring import open_governance, open_jobs

        gov, jobs = open_governance(), open_jobs(terms)
        return JobTraining(self._order(context), gov, terms, jobs, self.log_line)

    def take(self, work: JobTraining, handle: JobHandle) -> dict[str, Any]:
        """Register what a job made."""
        from airflow_mlgov.wiring import open_registry

        return self._told(work.gov, work.finish(handle, open_registry(self.registry)))

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
