"""``@task.governed``: a Python task that needs a model version whose approval verifies now."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import task_decorator_factory

from airflow_mlgov.decorators.file_task import FileTaskOperator
from airflow_mlgov.operators.lineage import is_listening, quietly
from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_mlgov.lineage.datasets import DataRef
    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.service.score import ModelInUse

ARGUMENT = "governed_model"


@dataclass(frozen=True, slots=True)
class GovernedModel:
    """The model that a governed function may use.

    Attributes:
        path: Private folder with the verified files; gone when the task ends.
        version: Manifest digest ``sha256:…`` of exactly those files; empty if the inventory's mode
            let an unverified model pass (``observe``, ``warn``).
        registry_version: The registry's own number.
        uri: For logs and lineage.
    """

    path: Path
    version: str
    registry_version: str
    uri: str


class GovernedTaskOperator(FileTaskOperator):
    """What ``@task.governed`` makes of a function; see `governed_task`."""

    template_fields: Sequence[str] = (*FileTaskOperator.template_fields, "model", "target", "alias")
    custom_operator_name = "@task.governed"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_kwargs: Mapping[str, Any] | None = None,
        model: str,
        target: str = "production",
        alias: str = "champion",
        registry_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        op_kwargs = dict(op_kwargs or {})
        if ARGUMENT in inspect.signature(python_callable).parameters:
            op_kwargs.setdefault(ARGUMENT, None)
        super().__init__(python_callable=python_callable, op_kwargs=op_kwargs, **kwargs)
        self.model = model
        self.target = target
        self.alias = alias
        self.registry_conn_id = registry_conn_id

    def execute(self, context: Context) -> Any:
        """Verify, note the use, run the function with the verified files; or refuse."""
        from airflow_mlgov.service.approvals import Use
        from airflow_mlgov.service.score import model_in_use
        from airflow_mlgov.wiring import open_governance, open_registry

        use = Use(self.model, self.target, source_of(context), self.alias)
        with governed_run():
            registry = open_registry(self.registry_conn_id)
            with model_in_use(open_governance(), registry, use) as model:
                self.log.info(
                    "Using %s, files %s.", model.registered.uri, model.version or "UNVERIFIED"
                )
                if ARGUMENT in self.op_kwargs:
                    version = str(model.version or "")
                    governed = GovernedModel(
                        model.path, version, model.registered.version, model.registered.uri
                    )
                    self.op_kwargs = {**self.op_kwargs, ARGUMENT: governed}
                read = quietly(self.files_read) if is_listening() else None
                result = super().execute(context)
                self.keep_lineage(lambda: self._lineage_of(model, read or []))
                return result

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return what will be read, the version that the alias was last promoted to included."""
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import approval_in_use
        from airflow_mlgov.wiring import open_governance

        gov = open_governance()
        asked = approval_in_use(
            gov, gov.ledger.view(), model=self.model, target=self.target, alias=self.alias
        )
        if asked is None:
            return super().lineage_before(context)
        return events.score(asked, self.files_read())

    def _lineage_of(self, model: ModelInUse, read: Sequence[DataRef]) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import cleared_by, version_of
        from airflow_mlgov.wiring import open_governance

        if model.clearance is None or model.version is None:
            return events.prepare(read, self.files_written())
        entry = open_governance().model(self.model)
        version = version_of(entry, model.version, model.registered)
        asked = cleared_by(model.clearance, version)
        return events.score(asked, read, self.files_written())


def governed_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Wrap a function into a task that runs only with a model whose approval verifies now.

    A parameter of the function named ``governed_model`` is handed a `GovernedModel`, whose files
    are the very bytes that were verified.

    Args:
        python_callable: Function to decorate.
        **kwargs: ``model`` (id in the inventory), ``target`` (``production``), ``alias``
            (``champion``), ``registry_conn_id`` (``mlflow_default``), ``inputs`` and ``outputs``
            (lists of paths or URIs that the function reads and writes, templated, for lineage),
            and whatever ``@task`` takes.

    Raises:
        AirflowFailException: When the task runs: a check failed; which one, and the remedy, are in
            its log.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=GovernedTaskOperator, **kwargs
    )
