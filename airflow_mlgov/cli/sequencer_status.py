"""What a running sequencer tells over HTTP: ``/health`` and, for Prometheus, ``/metrics``.

It answers from what the sequencer noted of its last round, and never asks the store: a store that
hangs does not hang the answer, and asking costs the ledger nothing.

Source:
    Prometheus text exposition format 0.0.4.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.service.anchor import AnchorProgress
from airflow_mlgov.service.sequencer import Progress
from airflow_mlgov.service.ship import Progress as TargetProgress

STALE_AFTER_S = 30.0
"""A last good round older than this, and a tick more, is no health."""
REQUEST_TIMEOUT_S = 5.0

Number = float | int | None
Answer = tuple[HTTPStatus, str, str]
"""Status, content type and text."""


_METRICS: tuple[tuple[str, str, str], ...] = (
    ("mlgov_ledger_entries", "gauge", "Entries under the newest signed checkpoint."),
    (
        "mlgov_ledger_waiting_entries",
        "gauge",
        "Acknowledged entries that no checkpoint covered after the last round.",
    ),
    (
        "mlgov_sequencer_last_round_age_seconds",
        "gauge",
        "Seconds since a round ended well; missing before the first.",
    ),
    (
        "mlgov_sequencer_store_up",
        "gauge",
        "1 if the store could be reached in the last round, else 0.",
    ),
    ("mlgov_sequencer_rounds_total", "counter", "Rounds that ended well since the start."),
    (
        "mlgov_sequencer_failures_total",
        "counter",
        "Rounds since the start in which the store was away.",
    ),
)


_ANCHOR_METRICS: tuple[tuple[str, str, str], ...] = (
    ("mlgov_anchor_entries", "gauge", "Entries under the newest checkpoint that an anchor took."),
    (
        "mlgov_anchor_last_success_timestamp_seconds",
        "gauge",
        "When an anchor last took a checkpoint, by this machine's clock; missing before.",
    ),
    ("mlgov_anchor_failures_total", "counter", "Tries since the start that failed."),
    (
        "mlgov_anchor_contradicts",
        "gauge",
        "1 if an anchor knows another history than the ledger shows, else 0.",
    ),
)


_TARGET_METRICS: tuple[tuple[str, str, str], ...] = (
    ("mlgov_lineage_waiting_events", "gauge", "Lineage events that wait for a target."),
    (
        "mlgov_lineage_lag_seconds",
        "gauge",
        "How long the oldest of them has waited; 0 if none waits.",
    ),
    ("mlgov_lineage_delivered_events", "gauge", "Lineage events that a target has."),
    ("mlgov_lineage_quarantined_events", "gauge", "Lineage events that a target refuses."),
    ("mlgov_lineage_failures_total", "counter", "Rounds since the start that failed."),
)


def health(progress: Progress, tick_s: float, now: float) -> tuple[bool, dict[str, Any]]:
    """Return whether a sequencer is well, and what there is to say, as JSON values.

    Args:
        progress: What it noted.
        tick_s: Its pace, in seconds.
        now: The present moment by `time.monotonic`.
    """
    age = None if progress.last_round_at is None else now - progress.last_round_at
    if progress.away_since is not None:
        reason = f"the store is away for {now - progress.away_since:.1f} seconds"
    elif age is None:
        reason = "no round has ended yet"
    elif age > STALE_AFTER_S + tick_s:
        reason = f"the last round ended {age:.1f} seconds ago"
    else:
        reason = ""
    said = {
        "status": "failing" if reason else "ok",
        "reason": reason,
        "last_round_age_s": None if age is None else round(age, 3),
        "store_reachable": progress.away_since is None,
        "entries": progress.entries,
        "waiting": progress.waiting,
    }
    return not reason, said


def metrics(progress: Progress, now: float) -> str:
    """Return the same as Prometheus text.

    Args:
        progress: What the sequencer noted.
        now: The present moment by `time.monotonic`.
    """
    age = None if progress.last_round_at is None else now - progress.last_round_at
    values = (
        progress.entries,
        progress.waiting,
        age,
        int(progress.away_since is None),
        progress.rounds,
        progress.failures,
    )
    return "".join(
        f"# HELP {name} {summary}\n# TYPE {name} {kind}\n{name} {value}\n"
        for (name, kind, summary), value in zip(_METRICS, values, strict=True)
        if value is not None
    )


def anchors_health(anchors: Sequence[AnchorProgress]) -> list[dict[str, Any]]:
    """Return what there is to say of anchors, as JSON values; a failing one is no lack of health.

    Whoever restarts a sequencer because an authority is away makes nothing better.
    """
    return [
        {
            "name": anchor.name,
            "entries": anchor.size,
            "taken_at": None if anchor.at is None else to_text(anchor.at),
            "failing": bool(anchor.problem),
            "contradicts": anchor.contradicts,
        }
        for anchor in anchors
    ]


def anchors_metrics(anchors: Sequence[AnchorProgress]) -> str:
    """Return the same as Prometheus text."""
    rows = [
        (a.name, (a.size, a.at.timestamp() if a.at else None, a.failures, int(a.contradicts)))
        for a in anchors
    ]
    return _labelled(_ANCHOR_METRICS, "anchor", rows)


def targets_health(targets: Sequence[TargetProgress]) -> list[dict[str, Any]]:
    """Return what there is to say of targets of lineage; one that is away is no lack of health."""
    return [
        {
            "name": target.target,
            "waiting": target.backlog and target.backlog.waiting,
            "lag_s": round(target.lag_s, 3),
            "quarantined": target.backlog and target.backlog.quarantined,
            "failing": bool(target.problem),
        }
        for target in targets
    ]


def targets_metrics(targets: Sequence[TargetProgress]) -> str:
    """Return the same as Prometheus text."""
    return _labelled(
        _TARGET_METRICS, "target", [(t.target, (*_figures(t), t.failures)) for t in targets]
    )


def _figures(target: TargetProgress) -> tuple[Number, ...]:
    backlog = target.backlog
    if backlog is None:
        return (None,) * 4
    return backlog.waiting, round(target.lag_s, 3), backlog.delivered, backlog.quarantined


def _labelled(
    named: Sequence[tuple[str, str, str]],
    label: str,
    rows: Sequence[tuple[str, tuple[Number, ...]]],
) -> str:
    """Return metrics that each row has a value of; None is left out."""
    lines = []
    for column, (name, kind, summary) in enumerate(named if rows else ()):
        lines += [f"# HELP {name} {summary}\n", f"# TYPE {name} {kind}\n"]
        lines += [
            f'{name}{{{label}="{of}"}} {values[column]}\n'
            for of, values in rows
            if values[column] is not None
        ]
    return "".join(lines)


@contextmanager
def serving(
    address: tuple[str, int],
    progress: Callable[[], Progress],
    tick_s: float,
    anchors: Callable[[], Sequence[AnchorProgress]],
    targets: Callable[[], Sequence[TargetProgress]] = tuple,
) -> Iterator[tuple[str, int]]:
    """Answer on an address while the block runs; yield the address, with the port that it got.

    Args:
        address: Host and port; port 0 for any that is free.
        progress: Returns what the sequencer noted last.
        tick_s: Its pace, in seconds.
        anchors: Returns what was seen of each anchor.
        targets: Returns what was seen of each target of lineage.

    Raises:
        ConfigurationError: The address cannot be listened on; a retry does not help.
    """
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server = _server_of(family)((host, port), _requests_of(progress, tick_s, anchors, targets))
    except OSError as error:
        raise ConfigurationError(
            f"The sequencer cannot listen on {host}:{port}: {error.strerror or error}.",
            remedy="Name another address with --listen; two sequencers on one host need two ports.",
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="mlgov-sequencer-http", daemon=True)
    thread.start()
    try:
        yield host, int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server_of(family: int) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True
        block_on_close = False  # a request that dawdles does not hold up the end

    return Server


def _requests_of(
    progress: Callable[[], Progress],
    tick_s: float,
    anchors: Callable[[], Sequence[AnchorProgress]],
    targets: Callable[[], Sequence[TargetProgress]],
) -> type[BaseHTTPRequestHandler]:
    def answer(path: str) -> Answer:
        now = time.monotonic()
        if path == "/health":
            is_well, said = health(progress(), tick_s, now)
            status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
            said |= {
                "anchors": anchors_health(anchors()),
                "lineage": targets_health(targets()),
            }
            return status, "application/json", json.dumps(said) + "\n"
        if path == "/metrics":
            text = "".join(
                (
                    metrics(progress(), now),
                    anchors_metrics(anchors()),
                    targets_metrics(targets()),
                )
            )
            return HTTPStatus.OK, "text/plain; version=0.0.4", text
        return HTTPStatus.NOT_FOUND, "text/plain", "There are /health and /metrics.\n"

    class Requests(_Requests):
        answer_to = staticmethod(answer)

    return Requests


class _Requests(BaseHTTPRequestHandler):
    """GET and HEAD of two paths; says nothing of Python, host, store or ledger."""

    answer_to: Callable[[str], Answer]
    timeout = REQUEST_TIMEOUT_S

    def version_string(self) -> str:
        """Return what stands in the header Server."""
        return "mlgov"

    def do_GET(self) -> None:
        self._send(self.answer_to(self.path.partition("?")[0]))

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, *_: object, **__: object) -> None:
        # Python's own page repeats what was asked.
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self._send((status, "text/plain", f"{status.phrase}.\n"))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing: a watchdog asks every few seconds."""

    def _send(self, answer: Answer) -> None:
        status, content_type, text = answer
        data = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
