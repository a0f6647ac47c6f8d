"""Ends, in lineage, what Airflow begins anew without ever having ended it.

A gate that is cleared while it waits gets another try, and a DAG run that is cleared before its end
another clear number: both are other runs of OpenLineage, and the provider says nothing more of the
first ones. They would stand as running for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from airflow_mlgov.service.delivery import number_what_came
from airflow_mlgov.service.outbox import TERMINAL, Outbox

MAX_BEFORE = 20
"""Earlier tries and clears that are looked at."""


def endings(event: Mapping[str, Any], outbox: Outbox) -> list[dict[str, Any]]:
    """Return an ABORT for each earlier run that an event's run takes the place of.

    Args:
        event: As the provider sends it; only a START begins anything.
        outbox: Where the earlier runs are on record; one that is there without an end is ended, at
            the moment of the START and with what it said that it reads.

    Raises:
        LedgerUnavailableError: The outbox cannot be read; a retry may help.
    """
    if event["eventType"] != "START":
        return []
    earlier, ended = list(_earlier(event["run"].get("facets") or {})), []
    if earlier:
        number_what_came(outbox)  # an end that came a moment ago has no number yet
    for run_id in earlier:
        told = [kept.decoded() for kept in outbox.of_run(run_id)]
        if told and not any(each["eventType"] in TERMINAL for each in told):
            over = {"eventType": "ABORT", "eventTime": event["eventTime"], "outputs": []}
            ended.append({**told[-1], **over})
    return ended


def _earlier(facets: Mapping[str, Any]) -> Iterator[str]:
    """Yield the ids of the runs before, by the facets that the provider states."""
    from airflow.providers.openlineage.utils.utils import (
        build_dag_run_ol_run_id,
        build_task_instance_ol_run_id,
    )

    if "airflowDagRun" in facets:
        run = facets["airflowDagRun"]["dagRun"]
        for number in _before(run.get("clear_number", 0)):
            yield build_dag_run_ol_run_id(run["dag_id"], _date(run), number)
    elif "airflow" in facets:
        about = facets["airflow"]
        run, instance = about["dagRun"], about["taskInstance"]
        for number in _before(instance["try_number"]):
            yield build_task_instance_ol_run_id(
                dag_id=run["dag_id"],
                task_id=about["task"]["task_id"],
                try_number=number,
                logical_date=_date(run),
                map_index=instance.get("map_index", -1),
            )


def _before(number: int) -> range:
    return range(max(0, number - MAX_BEFORE), number)


def _date(run: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(run.get("logical_date") or run["run_after"])
