"""Whole chains through the shipper into a real Marquez, and everything read back from it."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from shipping_world import Auditor, World, event, governed_run, run_id_of, run_of, shuffled

pytestmark = pytest.mark.marquez


@pytest.fixture
def world(marquez_url: str, tmp_path: Path) -> World:
    return World(tmp_path, marquez_url, timeout_s=30)


def test_chains_that_arrive_in_disorder_are_stored_as_they_were(world: World) -> None:
    series = f".{uuid4().hex[:8]}"
    said = [each for number in range(3) for each in governed_run(number, series)]
    world.append(shuffled(said))
    world.ship(world.shipper(settle_s=10))
    auditor = Auditor(world.url)
    for number in range(3):
        auditor.check_chain(number, series)
    auditor.check_lists()
    assert world.quarantined() == {}


def test_second_starts_late_events_and_poison_change_nothing(world: World) -> None:
    name = f"gate.{uuid4().hex[:8]}"
    source = event(f"register.{name}", "COMPLETE", -1, writes=[f"{name}/raw"])
    start, _ = run_of(name, 0, reads=[f"{name}/raw"])
    end = event(name, "COMPLETE", 3 * 1440 + 0.1, reads=[f"{name}/raw"])
    shipper = world.shipper()
    world.append([source, start])
    world.ship(shipper)
    again = event(name, "START", 3 * 1440, reads=[f"{name}/raw"])
    poison = event(f"{name}.bad", "COMPLETE", 1, outputs=[{"namespace": "a b", "name": "x"}])
    world.append([again, poison, end])
    world.ship(shipper)
    world.append([event(name, "FAIL", 0.2), event(name, "START", 9_000)])
    world.ship(shipper)
    auditor = Auditor(world.url)
    auditor.check_run([start, end])
    auditor.check_lists()
    assert world.quarantined().keys() == {f"{name}.bad.COMPLETE"}


def test_a_source_that_nobody_wrote_does_not_break_the_audit_query(world: World) -> None:
    name = f"train.{uuid4().hex[:8]}"
    world.append(run_of(name, 0, reads=[f"{name}/raw"], writes=[f"{name}/model"]))
    world.ship()
    runs = Auditor(world.url).client.upstream(run_id_of(name))
    assert [each["job"]["name"].partition(".")[0] for each in runs] == ["train", "register"]
