"""Rehearsing an exit, as a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class RehearseExitOperator(BaseOperator):
    """Train a version's specification on another platform, and hold its scores against the first.

    The newest candidate that was trained on `from_platform` is made again on `to_platform`, from
    the very script, data, parameters and seed in its training record. Report and outcome go on
    record, the version that was made is dropped. See ``docs/how-to/leave-a-cloud.md``.

    Args:
        model: Id in the inventory. Templated.
        from_platform: Entry of the platform file, where the version was trained. Templated.
        to_platform: Entry of the platform file, where it is trained again. Templated.
        script: Path of the training script, as it was then. Templated.
        sample: CSV or Parquet file that both versions score, row by row. Templated.
        target: Column with the outcome; the scorer does not get it. Templated.
        scorer: ``module:function`` or a function, called as ``scorer(model_dir: Path, frame)``; it
            returns one probability for each row, in order.
        inputs: Where the data are now, by the name of the input; default: the addresses in the
            training record. Templated.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``, that
            has the version in use.

    Returns:
        XCom ``{"model", "version", "rehearsed_version", "same_bytes", "evidence", "results"}``.

    Raises:
        AirflowFailException: The scores are too far apart, which is on record; or it could not be
            rehearsed, which is not. A retry does not help.
        AirflowException: Platform, registry or ledger cannot be reached; a retry may help, and goes
            on with the same job.
    """

    template_fields: Collection[str] = (
        "model", "from_platform", "to_platform", "script", "sample", "target", "inputs",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        from_platform: str,
        to_platform: str,
        script: str,
        sample: str,
        target: str,
        scorer: str | Callable[[Path, Any], Sequence[float]],
        inputs: dict[str, str] | None = None,
        registry: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.from_platform = from_platform
        self.to_platform = to_platform
        self.script = script
        self.sample = sample
        self.target = target
        self.scorer = scorer
        self.inputs = inputs or {}
        self.registry = registry
        self._cancel: Callable[[], None] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Rehearse, and fail if the scores are too far apart."""
        from airflow_mlgov.operators.rehearsing import Stage, rehearse
        from airflow_mlgov.service.exit_plan import ExitQuestion
        from airflow_mlgov.service.exit_rehearsal import describe_result

        question = ExitQuestion(
            self.model,
            self.from_platform,
            self.to_platform,
            Path(self.script),
            self.inputs,
            source=source_of(context),
        )
        stage = Stage(self.sample, self.target, self.scorer, self.registry)
        with governed_run():
            done = rehearse(question, stage, self._log_line, self._started)
        for result in done.results:
            (self.log.info if result.passed else self.log.error)("%s", describe_result(result))
        if not done.passed:
            raise AirflowFailException(
                f"Model {self.model} does not score alike on {self.to_platform}: see report "
                f"{done.evidence}."
            )
        told = ("model", "version", "rehearsed_version", "same_bytes", "results")
        return {**{name: done.document[name] for name in told}, "evidence": str(done.evidence)}

    def on_kill(self) -> None:
        """End the script and everything that it started, or cancel the job."""
        if self._cancel is not None:
            self._cancel()

    def _started(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def _log_line(self, line: str) -> None:
        self.log.info("%s", line)
