"""Airflow without us: what the other tests refuse does happen here, so they can fail."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.e2e


@pytest.mark.stock(1, 2)
@pytest.mark.parametrize("way", ["single", "bulk"])
def test_downstream_of_a_stock_gate_runs_after_it_is_marked_by_hand(live, way):
    client = live.client("rita")
    run = client.trigger("stock")
    live.watch.wait("stock", run, "gate")

    if way == "single":
        client.mark("stock", run, "gate", "success")
    else:
        client.mark_bulk("stock", run, ["gate"], "success")

    assert client.wait_for_task("stock", run, "promote") == "success"


@pytest.mark.stock(13)
def test_a_stock_gate_lets_one_person_decide_alone(live):
    client = live.client("rita")
    run = client.trigger("stock")
    live.watch.wait("stock", run, "gate")

    client.answer("stock", run, "gate", "Approve")

    assert client.wait_for_task("stock", run, "promote") == "success"
    assert client.form("stock", run, "gate")["responded_by_user"]["id"] == "rita"
