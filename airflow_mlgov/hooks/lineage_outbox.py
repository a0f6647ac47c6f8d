"""The outbox, read as `airflow_mlgov.service.lineage_gaps` asks for it.

A task's run in OpenLineage has an id that the provider makes of names, try and date: it is the same
wherever it is made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_mlgov.hooks.listening import keeps_outbox
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.delivery import number_what_came
from airflow_mlgov.service.lineage_gaps import ToldEnd
from airflow_mlgov.service.on_record import APART

if TYPE_CHECKING:
    from airflow_mlgov.service.outbox import Outbox, OutboxEvent

PAGE = 500


def open_lineage_records() -> LineageOutbox | None:
    """Return what lineage has on record; None if this Airflow's events do not go to the outbox.

    Raises:
        ConfigurationError: The ledger's store is not set; a retry does not help.
    """
    from airflow_mlgov.wiring import open_outbox

    return LineageOutbox(open_outbox()) if keeps_outbox() else None


class LineageOutbox:
    """`airflow_mlgov.service.lineage_gaps.LineageRecords` over an outbox.

    Args:
        outbox: Where events are kept.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._span: tuple[datetime, datetime] | None = None

    def span(self) -> tuple[datetime, datetime] | None:
        """Return between which moments every event that was sent can be read."""
        if self._span is None:
            now, is_whole = SystemClock().now(), not number_what_came(self._outbox)
            first = self._outbox.events(0, 1)
            if first:
                until = now if is_whole else self._last().received_at - APART
                self._span = first[0].received_at, until
        return self._span

    def is_told(self, task: Source, dated_at: datetime) -> bool | None:
        """Tell whether there is an event of a task's try."""
        from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

        if not _is_wanted(task):
            return None
        run_id = OpenLineageAdapter.build_task_instance_run_id(
            dag_id=task.dag_id,
            task_id=task.task_id,
            try_number=task.try_number,
            logical_date=dated_at,
            map_index=task.map_index,
        )
        return bool(self._outbox.of_run(str(run_id)))

    def ends(self, since: datetime) -> Iterator[ToldEnd]:
        """Yield governed tasks that ended well by an event kept since."""
        if self.span() is None:
            return
        after = bisect_left(
            range(self._size()), since, key=lambda n: self._outbox.events(n, 1)[0].received_at
        )
        while page := self._outbox.events(after, PAGE):
            yield from filter(None, map(_end, page))
            after = page[-1].seq

    def _size(self) -> int:
        beyond = 1
        while self._outbox.events(beyond, 1):
            beyond *= 2
        return bisect_left(range(beyond), 1, key=lambda n: not self._outbox.events(n, 1))

    def _last(self) -> OutboxEvent:
        return self._outbox.events(self._size() - 1, 1)[0]


def _is_wanted(task: Source) -> bool:
    """Whether the deployment's own configuration sends a task's events, whatever its author says.

    Rules for a class of operators are not looked at: from here nobody knows the class.
    """
    from airflow.providers.openlineage.utils.emission_policy import resolve_task_emission_policy

    governed: Any = SimpleNamespace(params={"_selective_enable_ol": True})
    return bool(resolve_task_emission_policy(governed, task.dag_id, task.task_id).emit)


def _end(kept: OutboxEvent) -> ToldEnd | None:
    """Return what an event says, if it is the good end of a governed task that really ran."""
    event = kept.decoded()
    facets = event["run"].get("facets") or {}
    governed, airflow = facets.get("mlgov_governed"), facets.get("airflow")
    if event["eventType"] != "COMPLETE" or not governed or not airflow:
        return None
    if governed.get("airflow_state") or governed.get("state_set_by_hand"):
        return None
    instance = airflow["taskInstance"]
    index = instance.get("map_index")
    task = Source(
        dag_id=facets["parent"]["job"]["name"],
        run_id=airflow["dagRun"]["run_id"],
        task_id=airflow["task"]["task_id"],
        map_index=-1 if index is None else index,
        try_number=instance["try_number"],
    )
    return ToldEnd(task, governed.get("model", ""), governed["role"], kept.received_at)
