"""Ten thousand events that waited over an outage, in any order of arrival, to Marquez.

The Marquez is the tests' fake at its full speed, which is faster than a real one.
"""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from marquez import FakeMarquez
from shipping_world import TARGET, Auditor, World, governed_run, shuffled

from airflow_mlgov.records.clock import SystemClock

CHAINS = 1_112
BOUND_S = 400


def test_ten_thousand_events_of_an_hours_outage(tmp_path: Path) -> None:
    said = [each for number in range(CHAINS) for each in governed_run(number)]
    with FakeMarquez() as fake:
        world = World(tmp_path, fake.url)
        fake.refuse()
        mixed = shuffled(said)
        for first in range(0, len(mixed), 100):
            world.append(mixed[first : first + 100], SystemClock().now() - timedelta(hours=1))
        shipper = world.shipper(settle_s=10)
        progress = shipper.round()
        assert progress.problem
        assert progress.backlog.waiting == len(said) > 10_000
        assert progress.lag_s >= 3_600
        fake.start()
        began = time.monotonic()
        world.ship(shipper, within_s=BOUND_S)
        print(f"{len(said)} events in {time.monotonic() - began:.0f} s")
        auditor = Auditor(fake.url)
        for number in range(0, CHAINS, 40):
            auditor.check_chain(number)
        auditor.check_lists()
        assert world.outbox.backlog(TARGET).delivered == len(said) == len(fake.events)
        assert fake.max_concurrent == 1
        assert world.quarantined() == {}
