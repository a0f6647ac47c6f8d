from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.changes import (
    ManualChange,
    is_governed,
    named,
    record_changes,
    record_manual_change,
)

GATE = Source("d", "r", "gate", -1, 2)
RITA = Person("rita", "Rita")


def kept(world):
    return world.kinds("state.changed_by_hand")


@pytest.fixture
def two_models(world):
    strict = world.gov.inventory["retail_pd"]
    world.gov.inventory["watched"] = replace(strict, id="watched", mode=Mode.OBSERVE)
    return world


@pytest.mark.parametrize("state", ["success", "skipped", "deleted", "xcom", "removed"])
@pytest.mark.parametrize(
    ("model", "is_refused"),
    [("retail_pd", True), ("watched", False), ("{{ params.model }}", True), ("", True)],
)
def test_the_mode_decides_and_an_unknown_model_is_the_strictest(
    two_models, state, model, is_refused
):
    assert ManualChange(GATE, state, model).is_refused(two_models.gov) is is_refused


@pytest.mark.parametrize("state", ["failed", "queued", "cleared"])
def test_what_lets_nobody_through_is_never_refused(two_models, state):
    assert not ManualChange(GATE, state, "retail_pd").is_refused(two_models.gov)


def test_nothing_is_refused_where_every_model_only_warns(world):
    world.with_inventory(mode=Mode.WARN)
    assert not ManualChange(GATE, "success", "{{ x }}").is_refused(world.gov)


def test_each_task_of_a_request_is_kept_with_the_name_under_the_attestors_key(world):
    changes = [ManualChange(GATE, "success", "retail_pd"), ManualChange(GATE, "xcom", "{{ x }}")]
    record_changes(world.gov, changes, RITA, refused=True)
    first, second = kept(world)
    assert (first.model, first.source, first.signed_by) == ("retail_pd", GATE, KeyRole.ATTESTOR)
    assert first.body == {"task": "gate", "state": "success", "refused": True}
    assert first.person("by") == RITA
    assert second.model == ""


def test_the_same_attempt_again_is_kept_again(world):
    for _ in range(2):
        record_changes(world.gov, [ManualChange(GATE, "success", "")], RITA, refused=True)
    assert len(kept(world)) == 2


def test_what_is_kept_with_a_name_is_not_kept_without(world):
    record_changes(world.gov, [ManualChange(GATE, "success", "")], RITA, refused=False)
    with named([ManualChange(GATE, "success", "")]):
        record_manual_change(world.gov.ledger, GATE, "success")
        assert len(kept(world)) == 1
        record_manual_change(world.gov.ledger, replace(GATE, run_id="other"), "success")
        assert len(kept(world)) == 2
    record_manual_change(world.gov.ledger, GATE, "success")
    assert len(kept(world)) == 3


@pytest.mark.parametrize(
    ("operator", "custom", "wanted"),
    [
        ("ApprovalGateOperator", None, True),
        ("HouseGate", "ApprovalGateOperator", True),
        ("HouseTask", "@task.governed", True),
        ("ScoreBatchOperator", None, True),
        ("HouseBatch", "ScoreBatchOperator", True),
        ("EmptyOperator", "EmptyOperator", False),
        (None, None, False),
    ],
)
def test_a_governed_task_is_known_by_either_name(operator, custom, wanted):
    assert is_governed(operator, custom) is wanted
