"""``airflow mlgov lineage``: deliver lineage, see how it stands, send it again, take it along."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.files import write_whole
from airflow_mlgov.cli.run import FOR_PROGRAMS, command, option, print_rows, reports_errors, tell
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.service.outbox import Outbox
    from airflow_mlgov.service.ship import Shipper

PATIENCE_S = 20.0
"""Longer than an event waits for the writer of what it reads."""
_PAUSE_S = 0.5
_AT_ONCE = 1_000


@reports_errors
def ship(args: Namespace) -> None:
    """Deliver what waits; exit 1 if something still does, or is refused."""
    from airflow_mlgov.wiring import open_outbox, open_spool

    outbox, shippers = open_outbox(), _shippers(args.target)
    spool = open_spool()
    if spool is not None:
        spool.adopt(outbox)
    for shipper in shippers:
        _deliver(shipper)
    rows = _standing(outbox, [shipper.progress.target for shipper in shippers])
    print_rows(rows, args.output)
    if any(row["waiting"] or row["quarantined"] for row in rows):
        raise SystemExit(1)


@reports_errors
def status(args: Namespace) -> None:
    """Show how each target stands, and what waits on this machine."""
    from airflow_mlgov.wiring import lineage_target_names, open_outbox, open_spool

    outbox, spool = open_outbox(), open_spool()
    rows = _standing(outbox, lineage_target_names())
    if not rows and args.output not in FOR_PROGRAMS:
        tell("There are no targets: events are kept, and go nowhere.")
    print_rows(rows, args.output)
    kept = spool.waiting() if spool else None
    if kept and (kept.waiting or kept.damaged):
        tell(
            f"On this machine wait {kept.waiting} files of events, made while the store was away; "
            f"{kept.damaged} are damaged and were put aside."
        )


@reports_errors
def quarantine(args: Namespace) -> None:
    """List what targets refuse, and why."""
    from airflow_mlgov.service.delivery import quarantined
    from airflow_mlgov.wiring import lineage_targets_meant, open_outbox

    outbox = open_outbox()
    rows = [
        {
            "target": delivery.target,
            "at": to_text(delivery.at),
            "run": event["run"]["runId"],
            "job": f"{event['job']['namespace']}/{event['job']['name']}",
            "event": event["eventType"],
            "reason": delivery.reason,
        }
        for name in lineage_targets_meant(args.target)
        for delivery, event in quarantined(outbox, name)
    ]
    if not rows and args.output not in FOR_PROGRAMS:
        tell("Nothing is in quarantine.")
        return
    print_rows(rows, args.output)


@reports_errors
def replay(args: Namespace) -> None:
    """Let runs be delivered once more, from their START up to their end."""
    from airflow_mlgov.service.delivery import quarantined
    from airflow_mlgov.wiring import open_outbox

    if bool(args.run) == args.quarantined:
        raise ConfigurationError(
            "Nothing says what is to be sent again.",
            remedy="Name runs with --run, or give --quarantined.",
        )
    outbox, again = open_outbox(), 0
    for shipper in _shippers(args.target):
        runs = args.run or [
            event["run"]["runId"] for _, event in quarantined(outbox, shipper.progress.target)
        ]
        again += sum(shipper.replay(dict.fromkeys(runs)).values())
    tell(f"{again} events wait to be sent again; `airflow mlgov lineage ship` sends them now.")


@reports_errors
def export(args: Namespace) -> None:
    """Write every event of the outbox, one JSON object a line, in the order of arrival."""
    from airflow_mlgov.wiring import open_outbox

    outbox = open_outbox()
    outbox.take()
    events = list(_all_events(outbox))
    write_whole(Path(args.file), b"".join(event + b"\n" for event in events))
    tell(f"Wrote {len(events)} events to {args.file}.")


def lineage_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov lineage``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    target = option("target", "Name of one target (default: all of the file)")
    return [
        command(
            ship,
            "Deliver what waits, and exit: 0 if all was delivered, 1 if not",
            target,
            ARG_OUTPUT,
        ),
        command(status, "Show how many events wait for each target, and since when", ARG_OUTPUT),
        command(quarantine, "List what targets refuse, with the reason", target, ARG_OUTPUT),
        command(
            replay,
            "Let runs be sent again, in order and up to their end",
            option("run", "Run id; repeat for more", action="append"),
            option("quarantined", "All runs with an event in quarantine", action="store_true"),
            target,
        ),
        command(
            export,
            "Write all events, one JSON object a line",
            option("file", "File to write", required=True),
        ),
    ]


def _shippers(target: str | None) -> list[Shipper]:
    from airflow_mlgov.wiring import lineage_targets_meant, open_shippers

    names = lineage_targets_meant(target)
    return [shipper for shipper in open_shippers(tell) if shipper.progress.target in names]


def _deliver(shipper: Shipper) -> None:
    """Ship until nothing waits, the target fails, or what waits does not get less."""
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < PATIENCE_S:
        progress = shipper.round()
        waiting = progress.backlog.waiting if progress.backlog else 0
        if progress.problem or not waiting:
            break
        if waiting != seen:
            seen, since = waiting, time.monotonic()
        time.sleep(_PAUSE_S)
    if shipper.progress.problem:
        tell(shipper.progress.problem)


def _standing(outbox: Outbox, targets: Sequence[str]) -> list[dict[str, Any]]:
    from airflow_mlgov.records.clock import SystemClock
    from airflow_mlgov.service.ship import status as standing_of

    return [
        {
            "target": seen.target,
            "waiting": seen.backlog.waiting,
            "since": to_text(seen.backlog.oldest_at) if seen.backlog.oldest_at else None,
            "delivered": seen.backlog.delivered,
            "folded": seen.backlog.folded,
            "quarantined": seen.backlog.quarantined,
        }
        for seen in standing_of(outbox, targets, SystemClock())
        if seen.backlog is not None
    ]


def _all_events(outbox: Outbox) -> Iterator[bytes]:
    after = 0
    while found := outbox.events(after, _AT_ONCE):
        yield from (event.event for event in found)
        after = found[-1].seq
