"""What a job has written, from CloudWatch Logs."""

from __future__ import annotations

import json
from typing import Any

from airflow_mlgov.clouds.aws import code_of

_MOST_LINES = 1000
_MOST_EVENTS = 10_000


def log_lines(logs: Any, group: str, job: str, cursor: str | None) -> tuple[list[str], str | None]:
    """Return at most 1,000 lines and the next cursor; only within `Aws.talking`.

    A cursor says for each machine the time of its last line, and how many lines have that time:
    tokens of CloudWatch expire, and times do not.

    Args:
        logs: Client of CloudWatch Logs.
        group: Log group of such jobs.
        job: Name of the job.
        cursor: From the last call; None for the start.
    """
    seen: dict[str, list[int]] = json.loads(cursor) if cursor else {}
    lines: list[str] = []
    for stream in _streams(logs, group, job):
        at_ms, count = seen.get(stream, [0, 0])
        events = logs.get_log_events(
            logGroupName=group,
            logStreamName=stream,
            startTime=at_ms,
            startFromHead=True,
            limit=min(_MOST_EVENTS, count + _MOST_LINES - len(lines)),
        )["events"]
        for event in _after(events, at_ms, count):
            at_ms, count = event["timestamp"], 1 + (count if event["timestamp"] == at_ms else 0)
            lines.append(event["message"].rstrip("\n"))
        seen[stream] = [at_ms, count]
        if len(lines) >= _MOST_LINES:
            break
    return lines, json.dumps(seen, sort_keys=True) if seen else cursor


def _after(events: list[Any], at_ms: int, count: int) -> list[Any]:
    same = [event for event in events if event["timestamp"] == at_ms][count:]
    return same + [event for event in events if event["timestamp"] > at_ms]


def _streams(logs: Any, group: str, job: str) -> list[str]:
    from botocore.exceptions import ClientError

    try:
        pages = logs.get_paginator("describe_log_streams").paginate(
            logGroupName=group, logStreamNamePrefix=f"{job}/"
        )
        return sorted(each["logStreamName"] for page in pages for each in page["logStreams"])
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return []  # nobody in this account had such a job yet
        raise
