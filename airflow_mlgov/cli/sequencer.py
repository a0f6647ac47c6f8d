"""``airflow mlgov sequencer``: a service that brings entries under signed checkpoints."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from airflow_mlgov.cli.run import command, option, reports_errors, tell

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.service.anchor import Anchoring
    from airflow_mlgov.service.sequencer import Sequencer
    from airflow_mlgov.service.ship import Shipper

_N = TypeVar("_N", int, float)

TICK_S = (0.01, 60.0)
HEARTBEAT_S = (1, 31_536_000)
LISTEN = "127.0.0.1:8975"
"""Beside the port of Airflow's own scheduler health check (8974), on this machine only."""


@reports_errors
def sequencer(args: Namespace) -> None:
    """Sequence until SIGTERM or SIGINT; exit 1 if the ledger does not verify."""
    from airflow_mlgov.cli.sequencer_status import serving
    from airflow_mlgov.service.sequencer import Pace
    from airflow_mlgov.wiring import open_anchoring, open_sequencer, open_shippers

    pace = Pace(args.tick, args.heartbeat)
    service = open_sequencer(pace, tell)
    if args.once:
        service.round()
        done = service.progress
        tell(f"{done.entries} entries under a signed checkpoint, {done.waiting} waiting.")
        return
    anchoring, shippers = open_anchoring(tell), open_shippers(tell)
    with (
        _stopped_by_signals(service),
        _beside(anchoring if anchoring.progress else None, *shippers),
        serving(
            args.listen,
            lambda: service.progress,
            pace.tick_s,
            lambda: anchoring.progress,
            lambda: [shipper.progress for shipper in shippers],
        ) as (host, port),
    ):
        tell(f"Sequencing; /health and /metrics on {host}:{port}.")
        service.run()
    tell("Stopped after the round in hand.")


def sequencer_command() -> ActionCommand:
    """Return the command ``airflow mlgov sequencer``."""
    return command(
        sequencer,
        "Bring acknowledged entries under signed checkpoints and deliver lineage, as a service",
        option(
            "tick",
            "Seconds between two rounds, from 0.01 to 60 (default: 0.1)",
            type=_number(float, *TICK_S),
            default=0.1,
        ),
        option(
            "heartbeat",
            "Whole seconds between heartbeats in the ledger, at most a year; 0 for none "
            "(default: 3600)",
            type=_heartbeat,
            default=3600,
        ),
        option(
            "listen",
            f"HOST:PORT of /health and /metrics (default: {LISTEN})",
            type=_address,
            default=LISTEN,
        ),
        option("once", "Do one round and exit", action="store_true"),
        description="Holds the log key. Stops on SIGTERM or SIGINT, after the round in hand.",
    )


@contextmanager
def _beside(*others: Anchoring | Shipper | None) -> Iterator[None]:
    """Let anchors and targets have threads of their own: no round waits for them, nor the end."""
    running = [other for other in others if other is not None]
    for other in running:
        threading.Thread(target=other.run, name="mlgov-beside", daemon=True).start()
    try:
        yield
    finally:
        for other in running:
            other.stop()


@contextmanager
def _stopped_by_signals(service: Sequencer) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda *_: service.stop())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ArgumentTypeError(f"{text!r} is not HOST:PORT, such as {LISTEN}")
    return host, int(port)


def _heartbeat(text: str) -> int:
    return 0 if text == "0" else _number(int, *HEARTBEAT_S)(text)


def _number(kind: type[_N], least: _N, most: _N) -> Callable[[str], _N]:
    def parse(text: str) -> _N:
        try:
            value = kind(text)
        except ValueError as error:
            raise ArgumentTypeError(f"{text!r} is not a number") from error
        if not least <= value <= most:  # not a number is not between them either
            raise ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    return parse
