"""The button on a gate that leads to what is decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from airflow_mlgov.operators.approval_gate import ApprovalGateOperator


class EvidenceLink(BaseOperatorLink):
    """Leads from a gate to the evidence page of its request, or to the model's if none was asked.

    Airflow asks for the address in the task's own process, each time that the gate parks or ends.
    """

    name = "Evidence"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the page.

        Args:
            operator: The gate, as it ran.
            ti_key: Which task instance; the gate knows its request itself.
        """
        from airflow_mlgov.records.digest import Digest
        from airflow_mlgov.wiring import open_site

        gate, site = cast("ApprovalGateOperator", operator), open_site()
        return site.request(Digest.parse(gate.asked)) if gate.asked else site.model(gate.model)
