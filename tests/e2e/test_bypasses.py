"""Ways round a gate that a plain Airflow user has: refused, and worth nothing where forced.

What a user asks the api-server is refused there. What is forced past it, in Airflow's database,
must not get the protected task past itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from demo.client import ApiError

pytestmark = pytest.mark.e2e

OWNER, VALIDATOR, INTRUDER = "olivia", "victor", "rita"
FORGED = {"decision": "granted"}


def assert_refused(run):
    assert run.wait("promote", "failed") == "failed"
    assert run.wait("score", "upstream_failed") == "upstream_failed"
    assert run.refusals() == ["approval"]
    assert run.alias is None
    assert not run.entries("approval.consumed")
    assert not run.entries("approval.granted")


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not holds() and time.monotonic() < end:
        time.sleep(0.2)
    return holds()


def in_state(task: str, state: str) -> Callable[[Any, str], bool]:
    return lambda client, run: client.task("stock", run, task)["state"] == state


@dataclass(frozen=True)
class Way:
    """One way round a gate.

    Attributes:
        number: As the list of threats counts them.
        go: Tries it as somebody, on a DAG and run.
        state: What becomes of the tasks.
        tasks: The governed tasks that it touches.
        works: Whether it has worked on Airflow's own gate.
    """

    number: int
    go: Callable[[Any, str, str], object]
    state: str
    works: Callable[[Any, str], bool]
    tasks: tuple[str, ...] = ("gate",)


WAYS = [
    Way(
        1,
        lambda client, *run: client.mark(*run, "gate", "success"),
        "success",
        in_state("promote", "success"),
    ),
    Way(
        2,
        lambda client, *run: client.mark_bulk(*run, ["gate"], "success"),
        "success",
        in_state("promote", "success"),
    ),
    Way(
        3,
        lambda client, *run: client.delete_task(*run, "gate"),
        "deleted",
        lambda client, run: "gate" not in client.tasks("stock", run),
    ),
    Way(
        4,
        lambda client, *run: client.mark(*run, "gate", "skipped"),
        "skipped",
        in_state("gate", "skipped"),
    ),
    Way(
        5,
        lambda client, *run: client.create_xcom(*run, "gate", "skipmixin_key", {"skipped": []}),
        "xcom",
        lambda client, run: client.xcom("stock", run, "gate", "skipmixin_key") == {"skipped": []},
    ),
    Way(
        6,
        lambda client, *run: client.create_xcom(*run, "gate", "return_value", FORGED),
        "xcom",
        lambda client, run: client.xcom("stock", run, "gate") == FORGED,
    ),
    Way(
        7,
        lambda client, *run: client.mark(*run, "promote", "success"),
        "success",
        in_state("promote", "success"),
        ("promote",),
    ),
    Way(
        8,
        lambda client, *run: client.set_run_state(*run, "success"),
        "success",
        in_state("gate", "success"),
        ("gate", "promote", "score"),
    ),
]
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: f"way_{way.number}")


@pytest.mark.bypass(1, 2, 3, 4, 5, 6, 7, 8)
@each_way
@pytest.mark.scenario("by_hand")
def test_a_user_is_refused_with_the_reason_and_on_record_by_name(run, way):
    run.wait_gate()
    before = len(run.changes_by_hand())
    with pytest.raises(ApiError) as refused:
        way.go(run.live.client(INTRUDER), run.dag, run.id)

    assert refused.value.status == 403
    assert "is a gate or protected task of a model in mode 'enforce'" in refused.value.detail
    attempts = run.changes_by_hand()[before:]
    assert set(attempts) == {(task, way.state, True, INTRUDER) for task in way.tasks}
    assert len(attempts) == len(way.tasks)
    assert run.state("gate") == "awaiting_input"
    assert run.state("promote") == "None"


@pytest.mark.stock(1, 2, 3, 4, 5, 6, 7, 8)
@each_way
def test_airflow_alone_lets_a_user_do_it(live, way):
    client = live.client(INTRUDER)
    run = client.trigger("stock")
    live.watch.wait("stock", run, "gate")
    way.go(client, "stock", run)
    assert eventually(lambda: way.works(client, run))


@pytest.mark.bypass(1, 2)
@pytest.mark.scenario("marked")
def test_a_gate_that_was_forced_to_success_lets_nobody_through(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    run.force_states(gate="success")
    assert_refused(run)


@pytest.mark.bypass(4)
@pytest.mark.scenario("skipped")
def test_a_gate_that_was_forced_to_be_skipped_lets_nobody_through(run):
    run.wait_gate()
    run.force_states(gate="skipped")
    assert run.wait("promote", "skipped") == "skipped"
    run.settle()
    run.force_states(gate="success")
    run.clear("promote")
    assert_refused(run)
    # To run a task again lets nobody through either, so that it is done, and on record.
    assert sorted(run.changes_by_hand()) == [
        ("promote", "cleared", False, INTRUDER),
        ("score", "cleared", False, INTRUDER),
    ]


@pytest.mark.bypass(8)
@pytest.mark.scenario("run_marked")
def test_a_run_that_was_forced_to_success_promotes_nothing(run):
    run.wait_gate()
    run.force_states(promote="skipped", score="skipped", gate="success")
    run.settle()
    assert run.alias is None
    run.clear("promote")
    assert_refused(run)


@pytest.mark.bypass(7)
@pytest.mark.scenario("promote_marked")
def test_a_promotion_that_was_forced_to_success_moves_no_alias_and_scoring_refuses(run):
    run.wait_gate()
    run.force_states(promote="success", gate="success")
    assert run.wait("score", "failed") == "failed"
    assert run.alias is None
    assert run.refusals(), "the refusal is not on record"
    assert not run.entries("approval.consumed")


@pytest.mark.bypass(5, 6)
@pytest.mark.scenario("forged_xcom")
def test_a_forged_answer_after_a_rejection_is_worth_nothing(run):
    run.wait_gate()
    run.answer(VALIDATOR, "Reject")
    run.wait("gate", "failed")
    run.settle()
    forged = FORGED | {"model": run.model, "version": run.version}
    run.force(
        "INSERT INTO xcom (key, value, timestamp, task_id, map_index, dag_result,"
        " dag_run_id, dag_id, run_id)"
        " SELECT 'return_value', ?, CURRENT_TIMESTAMP, 'gate', -1, 0, id, dag_id, run_id"
        " FROM dag_run WHERE dag_id = ? AND run_id = ?",
        json.dumps(forged),
    )
    run.force_states(gate="success")
    run.clear("promote")

    assert_refused(run)
    assert run.live.client(INTRUDER).xcom(run.dag, run.id, "gate") == forged
    assert "rejected" in run.entries("guard.refused")[-1].body["reason"]


@pytest.mark.bypass(3)
@pytest.mark.scenario("deleted")
def test_deleting_the_run_is_refused_and_erases_nothing_where_forced(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    client = run.live.client(INTRUDER)
    run.force("DELETE FROM task_instance WHERE task_id = 'gate' AND dag_id = ? AND run_id = ?")
    with pytest.raises(ApiError) as gone:
        client.form(run.dag, run.id, "gate")
    assert gone.value.status == 404

    client.set_run_state(run.dag, run.id, "failed")  # anybody may stop a run
    assert ("promote", "failed", False, INTRUDER) in run.changes_by_hand()
    with pytest.raises(ApiError) as refused:
        client.delete_run(run.dag, run.id)
    assert refused.value.status == 403
    assert ("promote", "deleted", True, INTRUDER) in run.changes_by_hand()

    run.force("DELETE FROM dag_run WHERE dag_id = ? AND run_id = ?")
    assert run.voters() == [OWNER]
    assert len(run.entries("approval.requested")) == 1
    assert run.alias is None
    assert not run.entries("approval.consumed")


@pytest.mark.bypass(11)
@pytest.mark.scenario("late")
def test_an_answer_after_the_gate_has_ended_is_void(run):
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    run.force_states(gate="success")
    run.wait("promote", "failed")

    assert "has ended" in run.refused_answer(VALIDATOR)  # Airflow would accept it
    run.clear("promote")
    run.wait("promote", "failed")

    assert run.voters() == [OWNER]
    assert run.refusals() == ["approval", "approval"]
    assert not run.entries("approval.granted")
    assert run.alias is None
