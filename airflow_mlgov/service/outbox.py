"""What the outbox of lineage events promises, and the targets that its events go to.

The outbox stands in the ledger's store. Whoever appends only inserts; one shipper at a time numbers
what came in and hands it to each target. An event is a JSON object of OpenLineage, as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from airflow_mlgov.errors import LineageError
from airflow_mlgov.records.digest import Digest

Event: TypeAlias = Mapping[str, Any]

TERMINAL = frozenset({"COMPLETE", "FAIL", "ABORT"})
"""Types of the event that ends a run."""

_TYPES = TERMINAL | {"START", "RUNNING", "OTHER"}


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """An event that is to be kept.

    Attributes:
        key: Hexadecimal SHA-256 over run id, type and time: the same event has the same key.
        event: Its JSON.
    """

    key: str
    event: bytes

    @classmethod
    def of(cls, event: Event) -> OutboxItem:
        """Return an event as the outbox keeps it.

        Raises:
            LineageError: It is no event of a run that could be told from others: it lacks a run id,
                a type, a time or a job. A retry does not help.
        """
        problem = _problem(event)
        if problem:
            raise LineageError(
                f"This is no event of an OpenLineage run: {problem}.",
                remedy="Nothing of it was kept. Report it to whoever makes the event.",
            )
        identity = [event["run"]["runId"], event["eventType"], event["eventTime"]]
        return cls(
            key=Digest.of(json.dumps(identity).encode()).hex,
            event=json.dumps(event, separators=(",", ":")).encode(),
        )


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event that was numbered.

    Attributes:
        seq: From 1, without a gap, in the order in which events became visible to the shipper.
        key: As in `OutboxItem`.
        event: The exact bytes that were appended.
        received_at: When they were appended.
    """

    seq: int
    key: str
    event: bytes
    received_at: datetime

    def decoded(self) -> dict[str, Any]:
        """Return the event as an object."""
        return dict(json.loads(self.event))


class DeliveryState(StrEnum):
    """What became of an event at a target; without one it still waits."""

    DELIVERED = "delivered"
    FOLDED = "folded"
    """Not sent on purpose: it repeats what was sent (a second START of a run)."""
    QUARANTINED = "quarantined"
    """The target refuses it, or would break of it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an event at a target.

    Attributes:
        target: Name of the target.
        seq: Which event.
        state: What became of it.
        at: When.
        reason: Why it was folded or quarantined, with the remedy; else empty.
    """

    target: str
    seq: int
    state: DeliveryState
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How a target stands.

    Attributes:
        waiting: Events that have not been settled, those included that were not numbered yet.
        oldest_at: When the oldest of them was appended; None if none waits.
        delivered: Events that were delivered.
        folded: Events that were left out on purpose.
        quarantined: Events that were refused.
    """

    waiting: int
    oldest_at: datetime | None
    delivered: int
    folded: int
    quarantined: int


class Outbox(Protocol):
    """Keeps lineage events and what became of them; every method is one transaction.

    All methods raise `LedgerUnavailableError` (a retry may help) if the store cannot be reached, is
    locked or full.
    """

    def append(self, items: Sequence[OutboxItem], at: datetime) -> None:
        """Keep events durably, all or none; a key that is kept already changes nothing."""
        ...

    def take(self) -> int:
        """Number what was appended, oldest first, and return how many events that were.

        Under the store's lock; a late commit gets a later number, and is never skipped.
        """
        ...

    def events(self, after: int, limit: int) -> list[OutboxEvent]:
        """Return numbered events after a number, in order."""
        ...

    def of_run(self, run_id: str) -> list[OutboxEvent]:
        """Return the numbered events of a run, in order."""
        ...

    def of_dataset(
        self, namespace: str, name: str, *, written: bool = False, limit: int | None = None
    ) -> list[OutboxEvent]:
        """Return the numbered events that have a dataset as input or output, in order.

        Args:
            namespace: The dataset's.
            name: The dataset's.
            written: Only those that have it as output, of which there are few.
            limit: At most so many, the first ones; None for all.
        """
        ...

    def undelivered(self, target: str, limit: int) -> list[OutboxEvent]:
        """Return numbered events that have no delivery at a target, in order."""
        ...

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        """Note what became of events, in place of what was noted before."""
        ...

    def deliveries(
        self, target: str, state: DeliveryState | None = None, *, after: int = 0, limit: int = 1_000
    ) -> list[Delivery]:
        """Return what became of events at a target, by number."""
        ...

    def unsettle(self, target: str, seqs: Sequence[int]) -> int:
        """Forget what became of events, so that they wait again; return how many there were."""
        ...

    def backlog(self, target: str) -> Backlog:
        """Return how a target stands."""
        ...

    def shipping(self, target: str) -> AbstractContextManager[bool]:
        """Hold the right to ship to a target while inside; yields False, at once, if it is taken.

        The store frees it when the process that holds it dies.
        """
        ...


class LineageTarget(Protocol):
    """Where events go."""

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    @property
    def binds_on_arrival(self) -> bool:
        """Whether it takes the last arrival for the truth, as Marquez does.

        Such a target gets events in causal order, sources before their readers, one START a run,
        and nothing of a run after its end.
        """
        ...

    def problem(self, event: Event) -> str:
        """Say why an event must not be sent to it, and the remedy; empty if it may.

        Looks at the event only, and asks nobody.
        """
        ...

    def send(self, event: bytes) -> None:
        """Hand an event over; return once the target has stored it.

        Raises:
            LineageRefusedError: The target will never take it; a retry does not help.
            LineageUnavailableError: It cannot be reached, fails or is too slow; a retry may help.
        """
        ...

    def difference(self, events: Sequence[Event]) -> str:
        """Read a finished run back and say what differs from what was sent; empty if nothing.

        Args:
            events: Of one run, as sent, in order.

        Raises:
            LineageUnavailableError: It cannot be read; a retry may help.
        """
        ...


def _problem(event: Event) -> str:
    """Say what keeps an event from being told from others; empty if nothing does."""
    run, job = event.get("run"), event.get("job")
    if not isinstance(run, Mapping) or not _is_uuid(run.get("runId")):
        return "run.runId is not a UUID"
    if event.get("eventType") not in _TYPES:
        return f"eventType is not one of {', '.join(sorted(_TYPES))}"
    if not _is_moment(event.get("eventTime")):
        return "eventTime is not a date and time with its offset from UTC (RFC 3339)"
    if not isinstance(job, Mapping) or not all(
        isinstance(job.get(key), str) and job[key] for key in ("namespace", "name")
    ):
        return "job.namespace or job.name is empty"
    return ""


def _is_uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        return False


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
