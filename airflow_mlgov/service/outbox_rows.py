"""What every outbox knows about its rows: what an event is found by, and what a row must look like.

Bytes that are no event of OpenLineage are numbered like any other, and found by nothing: who ships
them says what is wrong with them, and they hold up nobody.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.records.clock import from_text, to_text
from airflow_mlgov.service.outbox import Backlog, Delivery, DeliveryState, OutboxEvent

_TARGET = re.compile(r"[a-z0-9_-]{1,40}")
_RUN = re.compile(r"[!-~]{1,100}")


class Found(NamedTuple):
    """What a numbered event is found by.

    Attributes:
        run_id: Its run; empty if it names none.
        datasets: `dataset_key` of its inputs and outputs, each once, and of its outputs as written.
    """

    run_id: str
    datasets: tuple[bytes, ...]


def found_by(event: bytes) -> Found:
    """Return what an event is found by; nothing in it can make this fail."""
    try:
        decoded = json.loads(event)
    except (ValueError, RecursionError):
        return Found("", ())
    run_id = _get(_get(decoded, "run"), "runId")
    datasets = {
        dataset_key(namespace, name, written=written)
        for side, written in (("inputs", False), ("outputs", False), ("outputs", True))
        for dataset in _listed(_get(decoded, side))
        if isinstance(namespace := _get(dataset, "namespace"), str)
        and isinstance(name := _get(dataset, "name"), str)
    }
    is_run = isinstance(run_id, str) and _RUN.fullmatch(run_id)
    return Found(run_id if is_run else "", tuple(sorted(datasets)))


def dataset_key(namespace: str, name: str, *, written: bool = False) -> bytes:
    """Return what stands for a dataset in an index: names can be longer than a database indexes.

    Args:
        namespace: The dataset's.
        name: The dataset's.
        written: Whether what writes it is meant, and not all that has to do with it: a model that
            is used each day is read by many, and written once.
    """
    named = [namespace, name, "written"] if written else [namespace, name]
    return hashlib.sha256(json.dumps(named).encode()).digest()


def checked_target(target: str) -> str:
    """Return the name of a target.

    Raises:
        ConfigurationError: It is none; a retry does not help.
    """
    if not _TARGET.fullmatch(target):
        raise ConfigurationError(
            f"{target!r} is no name for a target of lineage events.",
            remedy="Use 1 to 40 of a-z, 0-9, - and _.",
        )
    return target


def check_numbered(deliveries: Sequence[Delivery], newest: int) -> None:
    """Do nothing if all deliveries are of numbered events.

    Args:
        deliveries: What is to be noted.
        newest: Number of the newest event; 0 if there is none.

    Raises:
        LedgerIntegrityError: One is of no event; a retry does not help.
    """
    for delivery in deliveries:
        if not 1 <= delivery.seq <= newest:
            raise LedgerIntegrityError(f"There is no lineage event {delivery.seq} to be settled.")


def delivery_row(delivery: Delivery) -> tuple[str, int, str, str, str]:
    """Return the row that `checked_delivery` reads; targets say all sorts of things for reasons."""
    reason = delivery.reason.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
    return delivery.target, delivery.seq, delivery.state.value, to_text(delivery.at), reason


def checked_event(row: Sequence[Any]) -> OutboxEvent:
    """Return the event in a row of its number, key, bytes and time.

    Raises:
        LedgerIntegrityError: A value is of another type; a retry does not help.
    """
    seq, key, event, received_at = row
    if not isinstance(seq, int) or not isinstance(key, str) or not isinstance(event, bytes):
        raise _altered("A lineage event")
    try:
        return OutboxEvent(seq, key, event, from_text(received_at))
    except (TypeError, ValueError) as error:
        raise _altered("A lineage event") from error


def checked_delivery(row: Sequence[Any]) -> Delivery:
    """Return the delivery in a row of its target, number, state, time and reason.

    Raises:
        LedgerIntegrityError: A value is of another type; a retry does not help.
    """
    target, seq, state, at, reason = row
    if not all(isinstance(text, str) for text in (target, reason)) or not isinstance(seq, int):
        raise _altered("What became of a lineage event")
    try:
        return Delivery(target, seq, DeliveryState(state), from_text(at), reason)
    except (TypeError, ValueError) as error:
        raise _altered("What became of a lineage event") from error


def checked_backlog(row: Sequence[Any]) -> Backlog:
    """Return the backlog in a row of figures.

    They are: events numbered, new ones that are not, the oldest time of those that wait, and how
    many were settled, and of these folded and quarantined.

    Raises:
        LedgerIntegrityError: A value is of another type; a retry does not help.
    """
    numbered, fresh, oldest_at, settled, folded, quarantined = row
    try:
        return Backlog(
            waiting=numbered + fresh - settled,
            oldest_at=None if oldest_at is None else from_text(oldest_at),
            delivered=settled - folded - quarantined,
            folded=folded,
            quarantined=quarantined,
        )
    except (TypeError, ValueError) as error:
        raise _altered("A lineage event") from error


def _altered(what: str) -> LedgerIntegrityError:
    return LedgerIntegrityError(f"{what} is malformed in the store: it was altered.")


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
