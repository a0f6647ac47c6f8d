"""``@task.governed``: a Python task that needs a model version whose approval verifies now."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.bases.decorator import task_decorator_factory

from airflow_mlgov.decorators.file_task import FileTaskOperator
from airflow_mlgov.hooks.listening import is_listening
from airflow_mlgov.operators.admitted_rows import shown_rows
from airflow_mlgov.operators.lineage import quietly
from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_mlgov.lineage.datasets import DataRef
    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.score import Admission, ModelInUse

ARGUMENT = "governed_model"
_Rows = TypeVar("_Rows")


@dataclass(frozen=True, slots=True)
class GovernedModel:
    """The model that a governed function may use.

    Attributes:
        version: Manifest digest ``sha256:…`` of exactly its files; empty if the inventory's mode
            let an unverified model pass (``observe``, ``warn``).
        registry_version: The registry's own number.
        uri: For logs and lineage.
        conditions: What the approval is bound to, each in words.
    """

    version: str
    registry_version: str
    uri: str
    conditions: tuple[str, ...]
    _admission: Admission

    @property
    def path(self) -> Path:
        """Private folder with the verified files; gone when the task ends.

        Raises:
            GuardRefusedError: The approval has conditions about rows, and `admit` was not called; a
                retry does not help.
        """
        return self._admission.files()

    def admit(self, rows: _Rows) -> _Rows:
        """Return rows unchanged, if the approval's conditions let them be scored.

        Call it with everything that is to be scored, before `path`. Each call of a DAG run adds to
        its number of rows; a task that is tried again begins anew. Without conditions about rows it
        does nothing.

        Args:
            rows: A pandas DataFrame, or a list of mappings.

        Raises:
            GuardRefusedError: A row is outside the segments, or the run would score too many; on
                record. A retry does not help.
            LedgerUnavailableError: The ledger cannot be read or written; a retry may help.
            DataError: It is neither; a retry does not help.
        """
        columns = [column for column, _ in self._admission.conditions.segments]
        self._admission.admit(shown_rows(rows, columns))
        return rows


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
        registry: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        op_kwargs = dict(op_kwargs or {})
        if ARGUMENT in inspect.signature(python_callable).parameters:
            op_kwargs.setdefault(ARGUMENT, None)
        super().__init__(python_callable=python_callable, op_kwargs=op_kwargs, **kwargs)
        self.model = model
        self.target = target
        self.alias = alias
        self.registry = registry

    def execute(self, context: Context) -> Any:
        """Verify, note the use, run the function with the verified files; or refuse."""
        from airflow_mlgov.service.approvals import Use
        from airflow_mlgov.service.score import Admission, model_in_use
        from airflow_mlgov.wiring import open_governance, open_registry

        use = Use(self.model, self.target, source_of(context), self.alias)
        with governed_run():
            gov, registry = open_governance(), open_registry(self.registry)
            with model_in_use(gov, registry, use) as model:
                self.log.info(
                    "Using %s, files %s.", model.registered.uri, model.version or "UNVERIFIED"
                )
                admission = Admission(gov, model)
                if ARGUMENT in self.op_kwargs:
                    governed = _handed_out(model, admission)
                    self.op_kwargs = {**self.op_kwargs, ARGUMENT: governed}
                else:
                    admission.files()
                read = quietly(self.files_read) if is_listening() else None
                result = super().execute(context)
                self.keep_lineage(lambda: self._lineage_of(gov, model, read or []))
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

    def _lineage_of(
        self, gov: Governance, model: ModelInUse, read: Sequence[DataRef]
    ) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import (
            checkpoint_facet,
            cleared_by,
            governed_facet,
            version_of,
        )

        entry = gov.model(self.model)
        governed = governed_facet(entry, "use", model.version)
        if model.clearance is None or model.version is None or model.receipt is None:
            step = events.prepare(read, self.files_written())
            return step.stating(mlgov_governed=governed)
        version = version_of(entry, model.version, model.registered)
        asked = cleared_by(model.clearance, version)
        return events.score(asked, read, self.files_written()).stating(
            mlgov_governed=governed,
            mlgov_checkpoint=checkpoint_facet(gov, "model.scored", model.receipt),
        )


def _handed_out(model: ModelInUse, admission: Admission) -> GovernedModel:
    return GovernedModel(
        version=str(model.version or ""),
        registry_version=model.registered.version,
        uri=model.registered.uri,
        conditions=tuple(admission.conditions.words()),
        _admission=admission,
    )


def governed_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Any
) -> TaskDecorator:
    """Wrap a function into a task that runs only with a model whose approval verifies now.

    A parameter of the function named ``governed_model`` is handed a `GovernedModel`, whose files
    are the very bytes that were verified. If approvers can bind an approval to rows, let it call
    `GovernedModel.admit` before it scores.

    Args:
        python_callable: Function to decorate.
        **kwargs: ``model`` (id in the inventory), ``target`` (``production``), ``alias``
            (``champion``), ``registry`` (``mlflow_default``), ``inputs`` and ``outputs``
            (lists of paths or URIs that the function reads and writes, templated, for lineage),
            and whatever ``@task`` takes.

    Raises:
        AirflowFailException: When the task runs: a check failed; which one, and the remedy, are in
            its log.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=GovernedTaskOperator, **kwargs
    )
