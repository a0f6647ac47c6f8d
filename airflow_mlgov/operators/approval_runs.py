"""The gate's lineage: a request and a decision as runs of their own, with their true times.

The task itself cannot carry them. It starts anew with every answer, and a backend takes the last
start for the start: three days of waiting become milliseconds. So its own run names no data, and is
the parent of ``<dag>.<gate>.request`` (one moment) and ``<dag>.<gate>.decide`` (from the request to
the deciding vote). Ids and times come from the ledger: a gate that is cleared or retried sends the
same events again, in order and up to the same end; only the ledger's checkpoint, on the end of the
decision, may be a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlgov.hooks.listening import is_listening
from airflow_mlgov.operators.lineage import quietly

if TYPE_CHECKING:
    from airflow.sdk import Context
    from openlineage.client.event_v2 import RunEvent

    from airflow_mlgov.ledger.entry import Entry
    from airflow_mlgov.lineage.events import StepLineage
    from airflow_mlgov.lineage.facets import Facet
    from airflow_mlgov.policy.pack import PolicyPack
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.records.governance import ApprovalRequest
    from airflow_mlgov.service.approvals import Standing
    from airflow_mlgov.service.governance import Governance
    from airflow_mlgov.service.ledger import LedgerView, SealedEntry
    from airflow_mlgov.service.outbox import OutboxItem

OUTBOX_KIND = "mlgov_outbox"
"""How `airflow_mlgov.listeners.outbox_transport.OutboxTransport` calls its kind."""


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

    def kept_with(
        self, request: ApprovalRequest, pack: PolicyPack, entry: Entry
    ) -> list[OutboxItem]:
        """Return what goes into the outbox in one transaction with a request's entry.

        These are the same events that `tell_request` sends, so that nothing is on record that waits
        unseen. Where events go elsewhere it is nothing.

        Args:
            request: What is asked.
            pack: Under which it is asked.
            entry: About to be put on record.
        """
        from airflow_mlgov.records.clock import from_text, to_text

        at = from_text(to_text(entry.at))  # as it will be read from the ledger
        return self._kept(lambda view: self._asked(view, request, pack, at))

    def kept_with_decision(self, standing: Standing) -> list[OutboxItem]:
        """Return what goes into the outbox in one transaction with a decision's entry.

        Args:
            standing: The request, decided.
        """
        return self._kept(lambda view: self._decided(view, standing))

    def _kept(self, build: Callable[[LedgerView], list[RunEvent]]) -> list[OutboxItem]:
        if not self._is_wanted():
            return []
        return quietly(lambda: _items(build(self._gov.ledger.view()))) or []

    def _send_request(self, request: ApprovalRequest) -> None:
        from airflow.providers.openlineage.api import emit

        from airflow_mlgov.service.approvals import standing_of

        view = self._gov.ledger.view()
        standing = standing_of(self._gov, view, request.digest)
        if standing is not None:
            for event in self._asked(view, request, standing.pack, standing.entry.at):
                emit(event)

    def _asked(
        self, view: LedgerView, request: ApprovalRequest, pack: PolicyPack, at: datetime
    ) -> list[RunEvent]:
        """Return the events of a request, whenever this is asked: nobody has voted in them."""
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import asked_for, evidence_of, request_facet
        from airflow_mlgov.policy.tally import Electorate, tally

        nobody = Electorate(None, (), asked_at=at)
        facet = request_facet(request, tally(pack, (), nobody, at), at)
        asked = asked_for(self._gov, view, request)
        asking = events.request(asked, evidence_of(view, asked.version, request))
        asking = asking.stating(mlgov_approval=facet)
        waiting = events.decide(asked, is_granted=None).stating(mlgov_approval=facet)
        return [
            self._event(asking.at_start(), request.digest, "request", "START", at),
            self._event(asking, request.digest, "request", "COMPLETE", at),
            self._event(waiting, request.digest, "decide", "START", at),
        ]

    def _send_decision(self, request: ApprovalRequest) -> None:
        from airflow.providers.openlineage.api import emit

        from airflow_mlgov.service.approvals import standing_of

        view = self._gov.ledger.view()
        standing = standing_of(self._gov, view, request.digest)
        if standing is not None:
            for event in self._decided(view, standing):
                emit(event)

    def _decided(self, view: LedgerView, standing: Standing) -> list[RunEvent]:
        """Return the event of a decision; none while the request is open."""
        from airflow_mlgov.lineage import events
        from airflow_mlgov.operators.lineage_records import approval_facet, asked_for
        from airflow_mlgov.policy.tally import Decision

        request, decided_at = standing.request, standing.decided_at
        if decided_at is None:
            return []
        step = events.decide(
            asked_for(self._gov, view, request), is_granted=standing.decision is Decision.GRANTED
        ).stating(
            mlgov_approval=approval_facet(standing),
            mlgov_checkpoint=self._ledger(view, _decided_by(view, standing)),
        )
        return [self._event(step, request.digest, "decide", "COMPLETE", decided_at)]

    def _ledger(self, view: LedgerView, entry: SealedEntry) -> Facet:
        from airflow_mlgov.operators.lineage_records import checkpoint_facet
        from airflow_mlgov.service.ledger import SealedReceipt

        seen = view.checkpoint
        receipt = SealedReceipt(entry.key, entry.index, seen.size, seen.root_hash)
        return checkpoint_facet(self._gov, entry.kind, receipt)

    def _event(
        self, step: StepLineage, request: Digest, part: str, state: str, at: datetime
    ) -> RunEvent:
        from airflow.providers.openlineage import conf
        from airflow.providers.openlineage.plugins import macros

        from airflow_mlgov.lineage import emission, names

        parent = emission.parent_of(
            macros.lineage_parent_id(self._instance), macros.lineage_root_parent_id(self._instance)
        )
        run = emission.Run(
            namespace=conf.namespace(),
            job=f"{macros.lineage_job_name(self._instance)}.{part}",
            run_id=names.approval_run_id(request, part),
            parent=parent,
        )
        return emission.run_event(step, run, state, at)

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


def goes_to_outbox() -> bool:
    """Tell whether what the provider emits is kept in the ledger's store."""
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    client = get_openlineage_listener().adapter.get_or_create_openlineage_client()
    return bool(client.transport.kind == OUTBOX_KIND)


def _items(events: Sequence[RunEvent]) -> list[OutboxItem]:
    """Return events as the outbox keeps them; none if it does not get what the provider emits."""
    from openlineage.client.serde import Serde

    from airflow_mlgov.service.outbox import OutboxItem

    if not goes_to_outbox():
        return []
    return [OutboxItem.of(json.loads(Serde.to_json(event))) for event in events]


def _decided_by(view: LedgerView, standing: Standing) -> SealedEntry:
    """Return the entry of the vote that decided; of the request, if time did."""
    vote = standing.count.decided_by
    if vote is None:
        return standing.entry
    votes = view.select("approval.voted", version=standing.request.version)
    return next((entry for entry in votes if entry.index == vote.index), standing.entry)
