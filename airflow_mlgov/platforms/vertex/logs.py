"""What a job has written, from Cloud Logging."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlgov.clouds.gcp.session import GcpSession

_LINES = 1000


def log_lines(session: GcpSession, job_id: str, cursor: str | None) -> tuple[list[str], str | None]:
    """Return what a job has written since a cursor, and the next cursor.

    A line that reaches Cloud Logging after a later one was read is not shown.

    Args:
        session: Who asks.
        job_id: Last part of the job's resource name.
        cursor: Of the last call; None for the start.
    """
    since, seen = _parsed(cursor)
    wanted = f'resource.type="ml_job" AND resource.labels.job_id="{job_id}"'
    body: dict[str, Any] = {
        "resourceNames": [f"projects/{session.terms.account}"],
        "filter": f'{wanted} AND timestamp>="{since}"' if since else wanted,
        "orderBy": "timestamp asc",
        "pageSize": _LINES,
    }
    lines: list[str] = []
    for entry in _entries(session, body):
        at, ident = str(entry["timestamp"]), str(entry["insertId"])
        if at == since and ident in seen:
            continue
        if at != since:
            since, seen = at, set()
        seen.add(ident)
        lines.append(f"{at} {_text(entry)}")
        if len(lines) == _LINES:
            break
    return lines, json.dumps([since, sorted(seen)]) if since else None


def _entries(session: GcpSession, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        page = session.log_entries(body)
        yield from page.get("entries", ())
        if not page.get("nextPageToken"):
            return
        body = {**body, "pageToken": page["nextPageToken"]}


def _parsed(cursor: str | None) -> tuple[str, set[str]]:
    if cursor is None:
        return "", set()
    since, seen = json.loads(cursor)
    return since, set(seen)


def _text(entry: Mapping[str, Any]) -> str:
    payload = entry.get("jsonPayload", {})
    said = entry.get("textPayload") or payload.get("message") or json.dumps(payload)
    return str(said).rstrip("\n")
