"""Events of runs as whoever appends them makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from airflow_mlgov.service.outbox import OutboxItem

BEGAN = datetime(2026, 11, 23, 3, tzinfo=UTC)


def run_id_of(job: str) -> str:
    return str(uuid5(NAMESPACE_URL, job))


def event(
    job: str,
    kind: str,
    minute: float,
    /,
    *,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return an event of the one run of a job, so many minutes after `BEGAN`.

    ``more`` replaces top-level fields.
    """
    return {
        "eventType": kind,
        "eventTime": (BEGAN + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z"),
        "producer": "https://example.org/airflow-mlgov",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run_id_of(job), "facets": {}},
        "job": {"namespace": "bank", "name": job, "facets": {}},
        "inputs": [{"namespace": "file", "name": name} for name in reads],
        "outputs": [{"namespace": "file", "name": name} for name in writes],
    } | more


def unchecked(said: dict[str, Any]) -> OutboxItem:
    """Return an event as the outbox keeps it, also one that whoever appends would refuse."""
    data = json.dumps(said).encode()
    return OutboxItem(hashlib.sha256(data).hexdigest(), data)


def run_of(
    job: str, minute: float, *, reads: Sequence[str] = (), writes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return START and COMPLETE of a run of half a minute; outputs stand on the end."""
    return [
        event(job, "START", minute, reads=reads),
        event(job, "COMPLETE", minute + 0.5, reads=reads, writes=writes),
    ]
