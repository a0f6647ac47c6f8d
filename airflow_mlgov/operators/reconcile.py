"""Comparing Airflow and the registry with the ledger, as a task."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov.operators.run import governed_run, source_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReconcileOperator(BaseOperator):
    """Look for what the ledger cannot prove of itself: that nothing was left out.

    Runs, tasks and audit log of Airflow, read through its REST API, the registry's aliases and the
    jobs of clouds are compared with the ledger. What is said differently becomes a finding. See
    ``docs/how-to/reconcile.md``.

    Args:
        model: Id in the inventory; default: all models. Templated.
        repair_alias: Whether an alias that was moved by hand is put back to the last promotion on
            record, if its approval is still in force.
        airflow_conn_id: Airflow connection of type ``mlgov_airflow``; a user who may read.
        registry: Registry of the platform file, or an Airflow connection of type ``mlflow``; or
            several.

    Returns:
        XCom ``{"since", "until", "counts", "findings"}``.

    Raises:
        AirflowFailException: New findings were opened; a retry finds no new ones.
        AirflowException: Something could not be compared, which is not to say that it is right; the
            next comparison begins where the last complete one ended. A retry may help.
    """

    template_fields: Collection[str] = ("model",)

    def __init__(
        self,
        *,
        model: str | None = None,
        repair_alias: bool = False,
        airflow_conn_id: str = "mlgov_airflow",
        registry: str | Sequence[str] = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.repair_alias = repair_alias
        self.airflow_conn_id = airflow_conn_id
        self.registry = registry

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, and say what is said differently."""
        from airflow_mlgov.hooks.airflow_server import AirflowServerHook
        from airflow_mlgov.hooks.lineage_outbox import open_lineage_records
        from airflow_mlgov.records.clock import to_text
        from airflow_mlgov.service.reconcile import Scope, reconcile
        from airflow_mlgov.wiring import open_either, open_governance, open_registries

        with governed_run():
            airflow = AirflowServerHook(self.airflow_conn_id).get_conn()
            registries = open_registries(self.registry)
            scope = Scope(self.model, repair=self.repair_alias, source=source_of(context))
            gov, lineage = open_governance(), open_lineage_records()
            compared = reconcile(gov, airflow, registries, scope, lineage, open_jobs=open_either)
        for found in compared.found:
            self.log.warning(
                "%s (%s): %s %s",
                found.finding,
                "new" if found.is_new else "known",
                found.discrepancy.summary,
                found.repair,
            )
        self.log.info("Compared: %s.", compared.counts)
        if lineage is None:
            self.log.info("Lineage was not compared: its events do not go into the outbox.")
        new = [found.finding for found in compared.found if found.is_new]
        if new:
            raise AirflowFailException(f"Findings were opened: {', '.join(new)}.")
        if compared.unchecked:
            raise AirflowException(f"Could not be compared: {' '.join(compared.unchecked)}")
        return {
            "since": to_text(compared.since),
            "until": to_text(compared.until),
            "counts": compared.counts,
            "findings": [found.finding for found in compared.found],
        }
