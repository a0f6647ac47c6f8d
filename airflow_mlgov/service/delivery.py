"""What can be said and done about delivery with the outbox alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.service.outbox import Delivery, DeliveryState, Event, Outbox


def number_what_came(outbox: Outbox) -> str:
    """Number what was appended, as a shipper would; say why not, or nothing if it was done.

    A deployment can leave it to its sequencer, which does so within a second: then this process
    lacks the right.

    Raises:
        LedgerIntegrityError: The outbox was altered; a retry does not help.
    """
    try:
        outbox.take()
    except (ConfigurationError, LedgerUnavailableError) as error:
        return error.problem
    return ""


def waits_from_before(outbox: Outbox, target: str, moment: datetime) -> bool:
    """Tell whether an event that was appended at or before a moment still waits for a target."""
    oldest_at = outbox.backlog(target).oldest_at
    return oldest_at is not None and oldest_at <= moment


def refused_of(outbox: Outbox, target: str, root_run: str) -> list[str]:
    """Say which events of a DAG run a target refuses, and why.

    Args:
        outbox: Where they are on record.
        target: Name of the target.
        root_run: The DAG run's id in lineage.
    """
    return [
        f"{event['eventType']} of {event['job']['name']}: {delivery.reason}"
        for delivery, event in quarantined(outbox, target)
        if root_run in {event["run"]["runId"], _root_of(event)}
    ]


def quarantined(outbox: Outbox, target: str) -> Iterator[tuple[Delivery, Event]]:
    """Yield what a target refuses, in order, each with its event."""
    after = 0
    while found := outbox.deliveries(target, DeliveryState.QUARANTINED, after=after):
        for delivery in found:
            (event,) = outbox.events(delivery.seq - 1, 1)
            yield delivery, event.decoded()
        after = found[-1].seq


def _root_of(event: Event) -> str:
    parent = event["run"].get("facets", {}).get("parent", {})
    return str(parent.get("root", parent).get("run", {}).get("runId", ""))
