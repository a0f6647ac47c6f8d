"""Delivery where no sequencer runs: whoever appends to the outbox sees to it that somebody ships.

With a ledger in a SQLite file, everything is on one machine, and nobody may have started
``airflow mlgov sequencer``. So a process of its own delivers what tasks append, at the lowest
priority, and ends when nothing waits. There is one of it at a time, and no task waits for it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from airflow_mlgov.errors import MlgovError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlgov.service.outbox import Outbox
    from airflow_mlgov.service.ship import Shipper

log = logging.getLogger(__name__)

LOCK = "embedded"
"""What the one process holds, beside the locks of the targets; no target is called so."""
IDLE_S = 5.0
"""How long nothing must have waited before it ends: tasks come in bursts, and a start costs 2 s."""
PATIENCE_S = 60.0
"""How long a target may be away before it ends; the next event starts another."""
PAUSE_S = 0.5


def start_shipper(outbox: Outbox) -> None:
    """Start a process that ships, if this machine keeps the ledger and no such process runs.

    Args:
        outbox: What was just appended to.
    """
    if not _is_wanted():
        return
    with outbox.shipping(LOCK) as is_free:
        pass
    if is_free:
        # Nothing of the task stays open in it: Airflow waits until the task's pipes are closed.
        subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", __name__],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def ship_until_idle() -> None:
    """Deliver to every target until nothing has waited for a while, or targets stay away."""
    from airflow_mlgov.wiring import open_outbox, open_shippers

    os.nice(19)
    outbox, shippers = open_outbox(), open_shippers(log.info)
    while True:
        with outbox.shipping(LOCK) as is_ours:
            if not is_ours:
                return
            is_away = _deliver(shippers)
        # What came after the last look, while the lock kept others from starting a process.
        names = [shipper.progress.target for shipper in shippers]
        if is_away or not any(outbox.backlog(name).waiting for name in names):
            return


def _deliver(shippers: Sequence[Shipper]) -> bool:
    """Deliver until nothing has waited for a while; return True if a target is away too long."""
    idle_since = settled_at = time.monotonic()
    while (now := time.monotonic()) - idle_since < IDLE_S:
        if now - settled_at > PATIENCE_S:
            return True
        seen = [shipper.round().backlog for shipper in shippers]
        if any(backlog is None or backlog.waiting for backlog in seen):
            idle_since = time.monotonic()
        else:
            settled_at = time.monotonic()
        time.sleep(PAUSE_S)
    return False


def _is_wanted() -> bool:
    from airflow_mlgov.wiring.ledger_store import is_postgres
    from airflow_mlgov.wiring.settings import optional_setting, setting

    return bool(optional_setting("lineage_targets_path")) and not is_postgres(setting("ledger_url"))


if __name__ == "__main__":
    try:
        ship_until_idle()
    except MlgovError:
        log.exception("Lineage is not delivered from here.")
        sys.exit(1)
