"""The gate on a real ledger; Airflow's form is one row in memory that behaves as Airflow's does."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskAwaitingInput

from airflow_mlgov.dossiers.approval_form import ANSWER_READ
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.operators import approval_gate
from airflow_mlgov.operators.approval_gate import ApprovalGateOperator
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.use_break_glass import Emergency, use_break_glass

TESTS = Path(__file__).resolve().parents[2]
TASK = UUID("01234567-89ab-4cde-8f01-23456789abcd")
AT = datetime(2026, 6, 1, 13, 0, 0, 123456, tzinfo=UTC)


def load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


service = load("gate_world", TESTS / "unit" / "service" / "conftest.py")
world = service.world
candidate = service.candidate


@pytest.fixture
def least_assurance() -> str:
    return "L0"


def answered(
    request: Any, who: str | None = "victor", choice: str = "Approve", **changes: Any
) -> Any:
    return {
        "chosen_options": [choice],
        "params_input": {"request": str(request.digest), "comment": "looked at the evidence"},
        "responded_at": AT,
        "responded_by_user": {"id": who, "name": who} if who else None,
    } | changes


class Gate:
    """One gate task with its form."""

    def __init__(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.opened: list[dict[str, Any]] = []
        self.in_form: list[dict[str, Any]] = []
        self.notified: list[Any] = []
        monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: world.gov)
        monkeypatch.setattr(approval_gate, "_send_form", self.send_form)
        self.operator = ApprovalGateOperator(
            task_id="gate", model="retail_pd", version=str(world.version)
        )
        self.operator.notifiers = [self.notified.append]  # type: ignore[list-item]

    def send_form(self, **sent: Any) -> dict[str, Any] | None:
        """As the middleware does: tell the oldest answer, until the gate says that it has it."""
        self.opened.append(sent)
        if self.in_form and self.read_mark() == self.in_form[0]["responded_at"].isoformat():
            self.in_form.pop(0)
        return self.in_form[0] if self.in_form else None

    def context(self, try_number: int = 1) -> Any:
        source = service.World.GATE
        instance = SimpleNamespace(
            id=TASK,
            dag_id=source.dag_id,
            run_id=source.run_id,
            task_id=source.task_id,
            map_index=-1,
            try_number=try_number,
        )
        return {"ti": instance, "dag_run": SimpleNamespace(triggering_user_name="erin")}

    def run(self, try_number: int = 1) -> Any:
        return ApprovalGateOperator.execute.__wrapped__(  # type: ignore[attr-defined]
            self.operator, self.context(try_number)
        )

    def wake(self, request: Any, event: dict[str, Any]) -> Any:
        return self.operator.execute_complete(self.context(), event, str(request.digest))

    def read_mark(self) -> str:
        mark: str = self.opened[-1]["params"]["request"]["schema"][ANSWER_READ]
        return mark

    def reasons(self) -> list[str]:
        refused = self.world.kinds("approval.vote_refused")
        return [reason for entry in refused for reason in entry.body["reasons"]]


@pytest.fixture
def gate(candidate: Any, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(candidate, monkeypatch)


def test_the_form_says_which_answer_the_gate_has_taken(gate: Gate) -> None:
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    assert gate.read_mark() == ""
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request))
    assert datetime.fromisoformat(gate.read_mark()) == AT
    assert len(gate.notified) == 2


def test_airflow_compares_no_user_ids_since_packs_may_state_names(gate: Gate) -> None:
    gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    assert gate.opened[-1]["assigned_users"] == []


def test_form_and_link_lead_to_the_page_of_the_request_also_after_a_restart(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    page = f"https://airflow.example/mlgov/requests/{request.digest}"
    assert f"(<{page}>)" in gate.opened[-1]["body"]
    gate.operator.asked = ""
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request))
    (link,) = gate.operator.operator_extra_links
    assert link.get_link(gate.operator, ti_key=gate.context()["ti"]) == page


def test_a_retry_says_that_it_has_taken_nothing_so_that_the_form_keeps_what_is_in_it(
    gate: Gate,
) -> None:
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request))
    with pytest.raises(TaskAwaitingInput):
        gate.run(try_number=2)
    assert gate.read_mark() == ""


def test_an_answer_that_stands_in_the_form_is_taken_before_the_gate_parks(gate: Gate) -> None:
    request = gate.world.ask()
    gate.in_form = [
        answered(request, "olivia", responded_at=AT),
        answered(request, "victor", responded_at=AT + timedelta(seconds=1)),
    ]
    assert gate.run(try_number=2)["decision"] == "granted"
    assert len(gate.world.kinds("approval.voted")) == 2
    assert gate.notified == []


def test_a_retry_takes_no_answer_twice(gate: Gate) -> None:
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request))
    gate.in_form = [answered(request)]
    with pytest.raises(TaskAwaitingInput):
        gate.run(try_number=2)
    assert gate.in_form == []
    assert len(gate.world.kinds("approval.voted")) == 1
    assert gate.reasons() == []


def test_what_the_form_kept_for_a_retry_is_one_vote(gate: Gate) -> None:
    request = gate.world.ask()
    for _ in range(2):
        with pytest.raises(TaskAwaitingInput):
            gate.wake(request, answered(request))
    assert len(gate.world.kinds("approval.voted")) == 1
    assert gate.reasons() == []


def test_an_answer_taken_for_an_earlier_version_says_nothing_about_the_next(gate: Gate) -> None:
    earlier = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.wake(earlier, answered(earlier))
    gate.world.train('{"points": [3]}')
    gate.world.validate_model()
    later = gate.world.ask(version=gate.world.version)
    with pytest.raises(TaskAwaitingInput):
        gate.wake(later, answered(earlier))
    (vote,) = gate.world.kinds("approval.voted")
    assert vote.body["request_sha256"] == str(earlier.digest)
    assert gate.reasons() == []
    assert datetime.fromisoformat(gate.read_mark()) == AT


def test_an_answer_to_a_request_of_another_gate_is_refused(gate: Gate) -> None:
    other = service.Source("retail_pd", "run-1", "other_gate", -1, 1)
    elsewhere = gate.world.ask(version=gate.world.version, source=other)
    own = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.wake(own, answered(elsewhere))
    assert not gate.world.kinds("approval.voted")
    assert "another request" in gate.reasons()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"chosen_options": ["Ship it"]},
        {"chosen_options": []},
        {"chosen_options": None},
        {"chosen_options": [["Approve"]]},
        {"chosen_options": ["Approve", "Reject"]},
        {"params_input": None},
        {"params_input": ["comment"]},
        {"params_input": {}},
        {"params_input": {"request": 7, "comment": "looked at the evidence"}},
        {"params_input": {"request": {"value": "x"}, "comment": "looked at the evidence"}},
        {"comment": 17},
        {"comment": None},
        {"comment": ["looked at the evidence"]},
        {"responded_by_user": None},
    ],
)
def test_a_strange_answer_is_refused_and_the_gate_waits_on(gate: Gate, changes: Any) -> None:
    request = gate.world.ask()
    event = answered(request)
    if "comment" in changes:
        event["params_input"] |= changes
    else:
        event |= changes
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, event)
    assert not gate.world.kinds("approval.voted")
    assert len(gate.reasons()) == 1


@pytest.mark.parametrize("comment", ["looked at it \ud800 all", "long " * 400_000, "\x00" * 20])
def test_a_strange_comment_does_not_stop_the_gate(gate: Gate, comment: str) -> None:
    request = gate.world.ask()
    fields = {"request": str(request.digest), "comment": comment}
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request, params_input=fields))
    assert len(gate.world.kinds("approval.voted", "approval.vote_refused")) >= 1


REFUSED = {
    "defaults": ["Approve"],
    "response_timeout": timedelta(hours=1),
    "multiple": True,
    "assigned_users": [{"id": "mallory", "name": "mallory"}],
    "options": ["Approve"],
    "params": {"budget": 1},
    "subject": "Say yes",
    "body": "All is well.",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_without_effect_is_refused(name: str) -> None:
    given: dict[str, Any] = {"task_id": "gate", name: REFUSED[name]}
    with pytest.raises(ConfigurationError, match=f"'gate' takes no {name}"):
        ApprovalGateOperator(model="m", **given)
    with pytest.raises(ConfigurationError, match=f"'gate' takes no {name}"):
        ApprovalGateOperator.partial(**given)


def test_params_and_defaults_of_the_dag_stay_outside() -> None:
    defaults = {
        "defaults": ["Approve"],
        "response_timeout": timedelta(hours=1),
        "execution_timeout": timedelta(minutes=2),
        "multiple": True,
    }
    with DAG("d", params={"color": "red"}, default_args=defaults):
        gate = ApprovalGateOperator(task_id="gate", model="m")
        mapped = ApprovalGateOperator.partial(task_id="mapped").expand(model=["a", "b"])
    assert set(gate.params) == {"comment", "request"}
    assert (gate.defaults, gate.multiple, gate.response_timeout) == (None, False, None)
    assert gate.execution_timeout == mapped.execution_timeout == timedelta(minutes=2)


@pytest.mark.parametrize(
    ("default_args", "given", "retries"),
    [
        ({}, {}, 10),
        ({"retries": 0}, {}, 10),
        ({"retries": None}, {}, 10),
        ({}, {"retries": 1}, 10),
        ({"retries": 17}, {}, 17),
        ({"retries": 0}, {"retries": 15}, 15),
    ],
)
def test_a_gate_can_always_try_again(
    default_args: dict[str, Any], given: dict[str, Any], retries: int
) -> None:
    with DAG("d", default_args=default_args):
        gate = ApprovalGateOperator(task_id="gate", model="m", **given)
        mapped = ApprovalGateOperator.partial(task_id="mapped", **given).expand(model=["a", "b"])
    assert gate.retries == mapped.retries == retries
    assert gate.retry_delay == mapped.retry_delay == timedelta(seconds=5)
    unmapped: Any = mapped.unmap({"model": "a"})
    assert (unmapped.model, unmapped.retries) == ("a", retries)


def test_reminders_wake_the_gate_which_speaks_again_and_waits_again(gate: Gate) -> None:
    rules = (
        "reminders: {after_days: [1], escalate_after_days: 2, escalate_to: [rita]}\n"
        "decide_within_days: 3\nvalid_days:"
    )
    gate.world.with_pack("valid_days:", rules)
    gate.world.validate_model()
    escalated: list[Any] = []
    gate.operator.escalation_notifiers = [escalated.append]  # type: ignore[list-item]
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput) as parked:
        gate.run()
    timer = {"error": "The response timeout has passed.", "error_type": "timeout"}
    for day, occasions in ((1, [False, True]), (2, [False, True, True])):
        assert parked.value.timeout is not None
        gate.world.clock.moment += parked.value.timeout
        with pytest.raises(TaskAwaitingInput) as parked:
            gate.wake(request, timer)
        assert [told["mlgov"]["is_reminder"] for told in gate.notified] == occasions
        assert len(escalated) == day - 1
    told = gate.notified[-1]["mlgov"]
    assert told["is_escalated"]
    assert told["escalate_to"] == ["rita"]
    assert told["request"] == str(request.digest)
    assert {seat["role"] for seat in told["open_seats"]} == {"model_owner", "independent_validator"}
    assert told["evidence_url"].endswith(f"/mlgov/requests/{told['request']}")
    assert parked.value.timeout is not None
    gate.world.clock.moment += parked.value.timeout
    with pytest.raises(AirflowFailException, match="nobody decided in time"):
        gate.wake(request, timer)
    assert len(gate.world.kinds("approval.denied")) == 1


def test_a_notifier_that_fails_costs_the_gate_nothing(gate: Gate) -> None:
    def broken(_: Any) -> None:
        raise OSError("no mail today")

    gate.operator.notifiers.insert(0, broken)  # type: ignore[arg-type]
    gate.world.ask()
    with pytest.raises(TaskAwaitingInput) as parked:
        gate.run()
    assert parked.value.timeout is None
    assert len(gate.notified) == 1


def test_while_glass_is_broken_the_gate_asks_nobody(gate: Gate) -> None:
    """Also one that has asked: it is cleared, and lets the promotion verify for itself."""
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    asked = len(gate.opened)
    rules = "break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}"
    gate.world.with_pack("valid_days:", f"{rules}\nvalid_days:")
    gate.world.validate_model()
    emergency = Emergency("retail_pd", gate.world.version, "production", None)
    use_break_glass(gate.world.gov, emergency, "it cannot wait", Person("zoe", "zoe"))
    assert gate.run() == {
        "model": "retail_pd",
        "version": str(gate.world.version),
        "target": "production",
        "request": None,
        "decision": "emergency",
        "expires_at": "2026-06-01T20:00:00+00:00",
    }
    assert len(gate.opened) == asked
    assert gate.world.kinds("approval.granted") == []
    gate.world.clock.moment += timedelta(hours=8)
    with pytest.raises(AirflowFailException, match="open High findings"):
        gate.run()


CONDITIONS = 'conditions: {max_rows_per_run: true, segments: {SEX: ["1", "2"]}}\nseats:\n'


def test_a_pack_that_knows_conditions_adds_a_button_and_fields(gate: Gate) -> None:
    gate.world.with_pack("seats:\n", CONDITIONS)
    gate.world.validate_model("under the new pack")
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    form = gate.opened[-1]
    assert form["options"] == ["Approve", "Approve with conditions", "Reject", "Withdraw"]
    assert list(form["params"]) == ["comment", "max_rows_per_run", "segment_SEX", "request"]
    fields = {
        "request": str(request.digest),
        "comment": "looked at the evidence",
        "max_rows_per_run": 10,
        "segment_SEX": ["1"],
    }
    event = answered(request, "olivia", "Approve with conditions", params_input=fields)
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, event)
    (vote,) = gate.world.kinds("approval.voted")
    said = {"max_rows_per_run": 10, "segments": {"SEX": ["1"]}}
    assert (vote.body["choice"], vote.body["conditions"]) == ("approve_with_conditions", said)
    assert "Conditions so far" in gate.opened[-1]["body"]
    result = gate.wake(request, answered(request, "victor", responded_at=AT + timedelta(seconds=1)))
    assert (result["decision"], result["conditions"]) == ("granted", said)


def test_without_conditions_in_the_pack_the_form_has_no_more_than_before(gate: Gate) -> None:
    request = gate.world.ask()
    with pytest.raises(TaskAwaitingInput):
        gate.run()
    assert gate.opened[-1]["options"] == ["Approve", "Reject", "Withdraw"]
    assert list(gate.opened[-1]["params"]) == ["comment", "request"]
    assert "conditions" not in gate.opened[-1]["body"]
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request, "olivia", "Approve with conditions"))
    assert "no condition is set" in "; ".join(gate.reasons())


def test_fields_that_cannot_be_read_make_no_answer(gate: Gate) -> None:
    request = gate.world.ask()
    fields = {"request": str(request.digest), "comment": "looked at it", "max_rows_per_run": "ten"}
    with pytest.raises(TaskAwaitingInput):
        gate.wake(request, answered(request, "olivia", params_input=fields))
    assert gate.reasons() == ["it is no answer that the form offers"]
    with pytest.raises(AirflowFailException, match="rejected by an approver"):
        gate.wake(request, answered(request, "olivia", "Reject", params_input=fields))
