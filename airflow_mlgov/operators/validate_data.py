"""The task that validates data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.operators.lineage import LineageMixin
from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.validate_data import CheckableData, ValidatedData


class ValidateDataOperator(LineageMixin, BaseOperator):
    """Hold data against a Great Expectations suite, keep the result, and fail if it does not pass.

    The data is fingerprinted, the suite runs, the result becomes an evidence document and a
    ``data.validated`` entry of the ledger under a signed checkpoint; only then does a failed
    expectation fail the task, without retries. Kept are counts and statistics, never a row's value.

    Args:
        model: Inventory id of the model that the data is for.
        data: Path of a CSV (UTF-8) or Parquet file, or a function without arguments that returns a
            pandas DataFrame; it is called when the task runs, never when the DAG is parsed.
        sql_conn_id: In place of `data`: Airflow connection of a SQL database.
        table: With `sql_conn_id`: ``table`` or ``schema.table``. The database itself computes the
            expectations; its rows are read twice for the fingerprint, before and after.
        suite: Path of the suite: JSON or YAML with ``name`` and ``expectations``.
        dataset: What to call the data in ledger and lineage; default the file's or table's name.

    Returns:
        As XCom: ``dataset``, ``uri``, ``sha256``, ``rows``, ``columns``, ``passed``, ``evidence``.
        Nothing is ever decided from it.

    Raises:
        ConfigurationError: When the DAG is parsed, unless exactly one of `data` and
            (`sql_conn_id`, `table`) is given.
    """

    template_fields = ("model", "data", "sql_conn_id", "table", "suite", "dataset")
    ui_color = "#e3eefb"

    def __init__(
        self,
        *,
        model: str,
        suite: str,
        data: str | os.PathLike[str] | Callable[[], Any] | None = None,
        sql_conn_id: str | None = None,
        table: str | None = None,
        dataset: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_one_source(data, sql_conn_id, table)
        self.model = model
        self.suite = suite
        # Airflow calls whatever function stands in a templated field, with arguments of its own.
        self.load = data if callable(data) else None
        self.data = os.fspath(data) if isinstance(data, os.PathLike) else data
        if self.load is not None:
            self.data = None
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.dataset = dataset

    def execute(self, context: Context) -> dict[str, Any]:
        """Validate the data; raise once the evidence is kept if it did not pass."""
        from airflow_mlgov.service.suite_file import read_suite
        from airflow_mlgov.service.validate_data import DataValidation, validate_data
        from airflow_mlgov.wiring import open_governance

        with governed_run():
            validation = DataValidation(
                model=self.model,
                dataset=self.dataset,
                suite=read_suite(self.suite),
                source=source_of(context),
            )
            gov = open_governance()
            result = validate_data(gov, validation, self._source())
            self.keep_lineage(lambda: self._lineage_of(gov, result))
            result.refuse_failed()
        return result.as_json()

    def _source(self) -> CheckableData:
        from airflow_mlgov.operators.data_sources import FileData, FrameData, TableData

        if self.load is not None:
            return FrameData(self.load)
        if self.sql_conn_id and self.table:
            return TableData(self.sql_conn_id, self.table)
        return FileData(str(self.data))

    def lineage_before(self, context: Context | None) -> StepLineage | None:
        """Return the file that will be read; what other data is, only reading it shows."""
        del context
        if not self.data:
            return None
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.data_sources import FileData

        source = FileData(str(self.data))
        data = self.data_before(source.uri)
        return events.validate_data(data, dataset=self.dataset or source.name)

    def _lineage_of(self, gov: Governance, result: ValidatedData) -> StepLineage:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.lineage.datasets import DataRef
        from airflow_mlgov.lineage.facets import Check
        from airflow_mlgov.operators.lineage_records import checkpoint_facet

        data = DataRef(
            result.uri,
            result.fingerprint.sha256,
            rows=result.fingerprint.rows,
            fields=tuple((column.name, column.type) for column in result.fingerprint.columns),
        )
        checks = [
            Check(
                name=outcome.expectation.type,
                passed=outcome.success,
                column=outcome.column,
                title=outcome.demand,
                actual=outcome.finding,
            )
            for outcome in result.outcomes
        ]
        step = events.validate_data(
            self.placed(data), dataset=result.dataset, evidence=result.evidence, checks=checks
        )
        checkpoint = checkpoint_facet(gov, "data.validated", result.receipt)
        return step.stating(mlgov_checkpoint=checkpoint)


def _check_one_source(data: Any, sql_conn_id: str | None, table: str | None) -> None:
    has_table = sql_conn_id is not None or table is not None
    if (data is None) != has_table:
        raise ConfigurationError(
            "ValidateDataOperator needs exactly one source of data, and was given "
            f"{'two' if has_table else 'none'}.",
            remedy="Give either data='/path/file.csv' (or a function), or sql_conn_id and table.",
        )
    if has_table and (sql_conn_id is None or table is None):
        raise ConfigurationError(
            "ValidateDataOperator needs sql_conn_id and table together.",
            remedy=f"Add {'table' if table is None else 'sql_conn_id'}.",
        )
