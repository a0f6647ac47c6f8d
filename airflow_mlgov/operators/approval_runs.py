"""The gate's lineage: a request and a decision as runs of their own, with their true times.

The task itself cannot carry them. It starts anew with every answer, and a backend takes the last
start for the start: three days of waiting become milliseconds. So its own run names no data, and is
the parent of ``<dag>.<gate>.request`` (one moment) and ``<dag>.<gate>.decide`` (from the request to
the deciding vote). Ids and times come from the ledger: a gate that is cleared or retried sends the
very same events again, in order and up to the same end.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlgov.operators.lineage import is_listening, quietly

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.records.governance import ApprovalRequest
    from airflow_mlgov.service.governance import Governance


class ApprovalRuns:
    """Sends the events of a gate's request and decision; never fails the gate.

    Args:
        gate: The operator.
        context: Its task's context.
        gov: Where request and votes are on record.
    """

    def __init__(self, gate: Any, context: Context, gov: Governance) -> None:
        self._gate = gate
        self._instance = context["ti"]
        self._gov = gov

    def tell_request(self, request: ApprovalRequest) -> None:
        """Say that a request is on record and waits.

        Args:
            request: A request in the ledger.
        """
        if self._is_wanted():
            quietly(lambda: self._send_request(request))

    def tell_decision(self, request: ApprovalRequest) -> None:
        """Say how a request was decided; nothing while it is open.

        Args:
            request: A request in the ledger.
        """
        if self._is_wanted():
            quietly(lambda: self._send_decision(request))

    def _send_request(self, request: ApprovalRequest) -> None:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import asked_for, evidence_of
        from airflow_mlgov.service.approvals import standing_of

        view = self._gov.ledger.view()
        standing = standing_of(self._gov, view, request.digest)
        if standing is None:
            return
        asked, at = asked_for(self._gov, view, request), standing.entry.at
        step = events.request(asked, evidence_of(view, asked.version, request))
        self._emit(step, request.digest, "request", "START", at)
        self._emit(step, request.digest, "request", "COMPLETE", at)
        self._emit(events.decide(asked, is_granted=None), request.digest, "decide", "START", at)

    def _send_decision(self, request: ApprovalRequest) -> None:
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import asked_for
        from airflow_mlgov.policy.tally import Decision
        from airflow_mlgov.records.clock import to_text
        from airflow_mlgov.service.approvals import standing_of

        view = self._gov.ledger.view()
        standing = standing_of(self._gov, view, request.digest)
        decided_at = standing.decided_at if standing else None
        if standing is None or decided_at is None:
            return
        facts = {
            "requested_at": to_text(standing.entry.at),
            "decided_at": to_text(decided_at),
            "seats": ", ".join(f"{s.seat.role}: {len(s.votes)}" for s in standing.count.seats),
            "policy": str(request.policy),
        }
        if standing.expires_at:
            facts["expires_at"] = to_text(standing.expires_at)
        if standing.count.conditions:
            facts["conditions"] = "; ".join(standing.count.conditions.words())
        step = events.decide(
            asked_for(self._gov, view, request),
            is_granted=standing.decision is Decision.GRANTED,
            facts=facts,
        )
        self._emit(step, request.digest, "decide", "COMPLETE", decided_at)

    def _emit(
        self, step: StepLineage, request: Digest, part: str, state: str, at: datetime
    ) -> None:
        from airflow.providers.openlineage import conf
        from airflow.providers.openlineage.api import emit
        from airflow.providers.openlineage.plugins import macros

        from airflow_mlgov.lineage import emission

        parent = emission.parent_of(
            macros.lineage_parent_id(self._instance), macros.lineage_root_parent_id(self._instance)
        )
        run = emission.Run(
            namespace=conf.namespace(),
            job=f"{macros.lineage_job_name(self._instance)}.{part}",
            run_id=emission.approval_run_id(request, part),
            parent=parent,
        )
        said = step.at_start() if state == "START" else step
        emit(emission.run_event(said, run, state, at))

    def _is_wanted(self) -> bool:
        """Whether somebody listens, and the emission policy lets this gate's events out."""
        if not is_listening():
            return False
        from airflow.providers.openlineage.utils.emission_policy import (
            resolve_task_emission_policy,
        )

        policy = resolve_task_emission_policy(
            operator=self._gate, dag_id=self._instance.dag_id, task_id=self._instance.task_id
        )
        return bool(policy.emit)
