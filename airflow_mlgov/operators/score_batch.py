"""Scoring files with a governed model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlgov.operators.job_operator import JobOperator
from airflow_mlgov.operators.run import source_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.datasets import DataRef
    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.policy.platforms_file import PlatformTerms
    from airflow_mlgov.service.conditions import Rows
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.job_platform import JobHandle
    from airflow_mlgov.service.job_scoring import JobScoring
    from airflow_mlgov.service.scored import ScoredBatch
    from airflow_mlgov.service.scoring_order import ScoredData, ScoringOrder
    from airflow_mlgov.service.training_platform import Platform


class ScoreBatchOperator(JobOperator):
    """Let a script score files with the version in use, if its approval verifies now.

    The approval is verified before anything runs, as by ``@task.governed``, and the script gets the
    very files that were verified. What it is given and what it must write stands in
    ``docs/reference/scoring-contract.md``, the same on every platform. Afterwards the model's files
    are hashed again: scores that other files made are not handed on, nor those of a model that was
    stopped meanwhile.

    On a local platform the script runs in a process of its own beside the task. Elsewhere it runs
    as a job where the data are (SageMaker batch transform, Vertex AI batch prediction, a job of
    Azure ML), once for each file: a retry, a killed worker and a restarted triggerer go on with the
    same job, and failing or clearing the task by hand cancels it. Nothing is submitted that the
    policy pack's ``platforms`` section forbids.

    Args:
        model: Id in the inventory. Templated.
        script: Path of the scoring script. Templated.
        data: Path of a file, or several; on a cloud's platform also URIs in its own store, and one
            that ends in ``/`` stands for all files beneath it. Their names differ. Templated.
        output_dir: Folder that gets the scores; a local platform needs one, others leave the scores
            in their store without. What stands there under the same names is replaced. Templated.
        parameters: JSON values for the script. Templated.
        target: Environment that the version is approved for. Templated.
        alias: Alias of the registry that names the version in use. Templated.
        platform: Entry of the platform file; ``local`` is always there. Templated.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``.
        timeout_s: Wall-clock limit in seconds, on a local platform for each file; None for the
            platform's own.
        memory_mb: Memory limit in MiB, on local platforms; None for no limit.
        deferrable: Whether to leave the worker while a job runs elsewhere.

    Returns:
        XCom ``{"model", "version": "sha256:…", "scores": [{"data", "uri", "rows", "sha256"}]}``;
        the version is empty if the inventory's mode let an unverified model pass.

    Raises:
        AirflowFailException: A check failed, the script failed or broke its contract, a file is
            missing, or the policy pack forbids the job.
        AirflowException: Ledger, registry or platform cannot be reached; a retry may help.
    """

    template_fields: Collection[str] = (
        "model",
        "script",
        "data",
        "output_dir",
        "parameters",
        "target",
        "alias",
        "platform",
    )

    # Inherited, so that a subclass is known for a guarded task (see service/airflow_records).
    custom_operator_name = "ScoreBatchOperator"

    def __init__(
        self,
        *,
        model: str,
        script: str,
        data: str | Sequence[str],
        output_dir: str | None = None,
        parameters: dict[str, Any] | None = None,
        target: str = "production",
        alias: str = "champion",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.script = script
        self.data = data
        self.output_dir = output_dir
        self.parameters = parameters or {}
        self.target = target
        self.alias = alias

    def work_here(self, context: Context, platform: Platform) -> dict[str, Any]:
        """Score in processes of this machine."""
        from airflow_mlgov.service.score_batch import LocalBatch
        from airflow_mlgov.wiring import open_governance, open_registry

        gov, registry = open_governance(), open_registry(self.registry)
        batch = LocalBatch(self._order(context), gov, platform, _shown, self.log_line)
        return self._told(gov, batch.score(registry))

    def work_elsewhere(self, context: Context, terms: PlatformTerms) -> JobScoring:
        """Return the scoring as a job."""
        from airflow_mlgov.service.job_scoring import JobScoring
        from airflow_mlgov.wiring import open_governance, open_registry, open_scoring

        gov, registry, jobs = open_governance(), open_registry(self.registry), open_scoring(terms)
        order = self._order(context)
        return JobScoring(order, gov, registry, terms, jobs, _shown, self.log_line)

    def take(self, work: JobScoring, handle: JobHandle) -> dict[str, Any]:
        """Take the scores of a job."""
        return self._told(work.gov, work.finish(handle))

    def _order(self, context: Context) -> ScoringOrder:
        from pathlib import Path

        from airflow_mlgov.service.approvals import Use
        from airflow_mlgov.service.scoring_order import ScoringOrder

        return ScoringOrder(
            use=Use(self.model, self.target, source_of(context), self.alias),
            script=Path(self.script),
            data=self._places(),
            output=Path(self.output_dir) if self.output_dir else None,
            parameters=self.parameters,
            timeout_s=self.timeout_s,
            memory_mb=self.memory_mb,
        )

    def _places(self) -> list[str]:
        return [self.data] if isinstance(self.data, str) else list(self.data)

    def _told(self, gov: Governance, batch: ScoredBatch) -> dict[str, Any]:
        self.keep_lineage(lambda: self._lineage_of(gov, batch))
        rows = sum(each.rows for each in batch.scores)
        self.log.info(
            "Model %s: %d rows of %d files are scored by version %s.",
            self.model,
            rows,
            len(batch.data),
            batch.version if batch.used else f"{batch.version}, which is UNVERIFIED",
        )
        return batch.as_json()

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return what will be read, the version that the alias was last promoted to included."""
        del context
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import approval_in_use
        from airflow_mlgov.wiring import open_governance

        gov = open_governance()
        read = [self.data_before(place) for place in self._places() if not place.endswith("/")]
        asked = approval_in_use(
            gov, gov.ledger.view(), model=self.model, target=self.target, alias=self.alias
        )
        return events.prepare(read) if asked is None else events.score(asked, read)

    def _lineage_of(self, gov: Governance, batch: ScoredBatch) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.lineage.datasets import DataRef
        from airflow_mlgov.operators.lineage_records import (
            checkpoint_facet,
            governed_facet,
            used_under,
        )

        read = [self.placed(_as_read(each)) for each in batch.data]
        written = [
            DataRef(each.uri, each.sha256, size_bytes=each.size_bytes, rows=each.rows)
            for each in batch.scores
        ]
        if batch.used is None:
            step, version = events.prepare(read, written), None
        else:
            asked = used_under(gov, gov.ledger.view(), batch.used)
            step, version = events.score(asked, read, written), batch.version
        return step.stating(
            mlgov_governed=governed_facet(gov.model(self.model), "use", version),
            mlgov_checkpoint=checkpoint_facet(gov, "batch.scored", batch.receipt),
        )


def _as_read(data: ScoredData) -> DataRef:
    from airflow_mlgov.lineage.datasets import DataRef

    return DataRef(data.uri, data.sha256, size_bytes=data.size_bytes)


def _shown(data: ScoredData, columns: Sequence[str]) -> Rows:
    """Look at the rows of a local file that is about to be scored."""
    from airflow_mlgov.errors import DataError
    from airflow_mlgov.operators.admitted_rows import shown_rows
    from airflow_mlgov.operators.scoring import read_table

    table = read_table(str(data.path))
    if table.sha256 != data.sha256:
        raise DataError(f"{data.path} changed while it was looked at.")
    return shown_rows(table.frame, columns)
