"""Training a governed model."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlgov.operators.lineage import LineageMixin
from airflow_mlgov.operators.run import governed_run, source_of, trigger_user

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.events import StepLineage, Training
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.train import TrainedModel
    from airflow_mlgov.service.training_platform import Platform


class TrainModelOperator(LineageMixin, BaseOperator):
    """Run a training script, register what it makes, and put its origin on record.

    The script is started as ``python script.py`` in a process, working directory and environment of
    its own; what it is given and what it must write stands in
    ``docs/reference/training-contract.md``, the same on every platform. Its output comes into the
    task's log line by line. It ends with the task: marked failed, cleared, timed out or killed.

    Args:
        model: Id in the inventory. Templated.
        script: Path of the script. Templated.
        inputs: Paths of files, by the name that the script knows them by. Templated.
        parameters: JSON values for the script. Templated.
        seed: 0 to 2^32-1, for every random generator of the script.
        variant: ``candidate``, or ``challenger`` for what the candidate is compared with.
            Templated.
        platform: Where it runs (``local``). Templated.
        registry_conn_id: Airflow connection of the registry.
        timeout_s: Wall-clock limit in seconds; None for no limit.
        memory_mb: Memory limit in MiB; None for no limit.

    Returns:
        XCom ``{"model", "version": "sha256:…", "registry_version", "uri", "variant", "metrics"}``.

    Raises:
        AirflowFailException: The script failed or broke its contract, an input is missing, or the
            model directory holds what may not be there.
        AirflowException: Ledger or registry cannot be reached; a retry may help.
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
        platform: str = "local",
        registry_conn_id: str = "mlflow_default",
        timeout_s: float | None = None,
        memory_mb: int | None = None,
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
        self.registry_conn_id = registry_conn_id
        self.timeout_s = timeout_s
        self.memory_mb = memory_mb
        self._running: Platform | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Train, register and record."""
        from pathlib import Path

        from airflow_mlgov.service.train import TrainingOrder, train
        from airflow_mlgov.wiring import open_governance, open_platform, open_registry

        order = TrainingOrder(
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
        with governed_run():
            self._running = open_platform(self.platform)
            registry, gov = open_registry(self.registry_conn_id), open_governance()
            trained = train(order, gov, self._running, registry, self._log_line)
        self.keep_lineage(lambda: self._lineage_of(gov, trained))
        self.log.info(
            "Model %s: version %s is registered as %s (%s).",
            self.model,
            trained.manifest.digest,
            trained.registered.uri,
            self.variant,
        )
        return trained.as_json()

    def on_kill(self) -> None:
        """End the script and everything that it started."""
        if self._running is not None:
            self._running.cancel()

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
