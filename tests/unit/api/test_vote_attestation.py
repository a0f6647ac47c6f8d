"""The middleware on a real ledger, before a stand-in for Airflow's form route.

What Airflow itself does with users, rights and forms is played in the end-to-end tests only.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_mlgov.api import vote_attestation
from airflow_mlgov.api.vote_attestation import AskedForm, VoteAttestationMiddleware
from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.service.approvals import standing_of

_SERVICE = Path(__file__).parents[1] / "service" / "conftest.py"
_spec = importlib.util.spec_from_file_location("attestation_world", _SERVICE)
service = importlib.util.module_from_spec(_spec)
sys.modules["attestation_world"] = service
_spec.loader.exec_module(service)
world, candidate = service.world, service.candidate

PATH = "/api/v2/dags/retail_pd/dagRuns/run-1/taskInstances/gate/-1/hitlDetails"


class Airflow:
    """Answers what it is told to, and keeps what reached it and what was on record by then."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.status = 200
        self.bodies: list[bytes] = []
        self.votes_before: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.bodies.append(message["body"])
        self.votes_before.append(len(self.world.kinds("approval.voted")))
        if self.status == 0:
            raise ConnectionError("the database is gone")
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b'{"of": "Airflow"}'})


class Server:
    """The middleware, its Airflow, and who is signed in."""

    def __init__(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.request = world, world.ask()
        self.airflow = Airflow(world)
        self.user: Any = SimpleNamespace(
            get_id=lambda: "olivia", get_name=lambda: "Olivia", role="OP"
        )
        self.may_answer = True
        self.form: AskedForm | None = AskedForm(world.GATE, self.request.digest, 0, False)

        async def user_of(_: Any) -> Any:
            return self.user

        monkeypatch.setattr(vote_attestation, "find_form", lambda _: self.form)
        self.dropped: list[Any] = []
        monkeypatch.setattr(vote_attestation, "drop_nobodys_answer", self.dropped.append)
        monkeypatch.setattr(vote_attestation, "user_of", user_of)
        monkeypatch.setattr(vote_attestation, "_may_answer", lambda *_: self.may_answer)
        monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: world.gov)
        self.middleware = VoteAttestationMiddleware(self.airflow)

    def answer(
        self, method: str = "PATCH", path: str = PATH, body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        fields = {"request": str(self.request.digest), "comment": "looked at the evidence"}
        sent = {"chosen_options": ["Approve"], "params_input": fields}
        whole = json.dumps(sent).encode() if body is None else body
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": whole, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": []}
        asyncio.run(self.middleware(scope, receive, send))
        return messages[0]["status"], json.loads(messages[1]["body"])

    def votes(self) -> int:
        view = self.world.gov.ledger.view()
        return len(standing_of(self.world.gov, view, self.request.digest).votes)


@pytest.fixture
def server(candidate: Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(candidate, monkeypatch)


def test_the_vote_is_on_record_before_airflow_has_the_answer(server):
    assert server.answer() == (200, {"of": "Airflow"})
    assert server.airflow.votes_before == [1]
    assert json.loads(server.airflow.bodies[0])["chosen_options"] == ["Approve"]
    assert server.votes() == 1


@pytest.mark.parametrize("by_nobody", [False, True])
def test_what_a_tasks_token_answered_is_dropped_before_airflow_sees_a_vote(server, by_nobody):
    server.form = AskedForm(server.world.GATE, server.request.digest, 0, False, by_nobody)
    server.answer()
    assert server.dropped == [server.world.GATE] * by_nobody
    server.form = None
    server.answer()
    assert len(server.dropped) == by_nobody


def test_the_vote_says_which_roles_its_voter_holds(server):
    server.answer()
    (vote,) = server.world.kinds("approval.voted")
    assert vote.body["roles"] == ["OP"]


def test_another_answer_in_the_form_does_not_strand_this_one(server):
    server.airflow.status = 409
    status, said = server.answer()
    assert (status, said["responded_by"]) == (200, {"id": "olivia", "name": "Olivia"})
    assert server.votes() == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 503])
def test_what_airflow_does_not_take_is_voided(server, status):
    server.airflow.status = status
    assert server.answer() == (status, {"of": "Airflow"})
    assert server.votes() == 0
    (void,) = server.world.kinds("approval.vote_voided")
    assert str(status) in void.body["reason"]


def test_a_vote_is_voided_when_airflow_fails_without_an_answer(server):
    server.airflow.status = 0
    with pytest.raises(ConnectionError):
        server.answer()
    assert server.votes() == 0


def test_a_vote_that_does_not_count_wakes_nobody(server):
    server.user = SimpleNamespace(get_id=lambda: "erin", get_name=lambda: "Erin")
    status, said = server.answer()
    assert status == 403
    assert "the voter is the requester" in said["reasons"]
    assert "requester" in said["detail"]
    assert server.airflow.bodies == []


def test_an_approver_is_told_when_the_ledger_cannot_be_written(server, monkeypatch):
    def away() -> Any:
        raise LedgerUnavailableError("The ledger is locked.")

    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", away)
    status, said = server.answer()
    assert status == 503
    assert "was not recorded and does not count" in said["detail"]
    assert server.airflow.bodies == []


def test_somebody_whose_session_has_ended_is_told_to_sign_in(server):
    server.user = None
    assert server.answer()[0] == 401
    assert server.airflow.bodies == []


def test_airflow_itself_refuses_who_has_no_right(server):
    server.may_answer, server.airflow.status = False, 403
    assert server.answer() == (403, {"of": "Airflow"})
    assert server.world.kinds("approval.voted", "approval.vote_refused") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"path": PATH.replace("hitlDetails", "other")},
        {"path": PATH.replace("/-1/", "/x/")},
        {"body": b"not JSON"},
        {"body": b'{"params_input": {}}'},
    ],
)
def test_everything_else_goes_to_airflow_unchanged(server, changes):
    assert server.answer(**changes) == (200, {"of": "Airflow"})
    assert server.world.kinds("approval.voted") == []


def test_a_form_of_somebody_elses_task_is_left_alone(server):
    server.form = None
    assert server.answer() == (200, {"of": "Airflow"})
    assert server.world.kinds("approval.voted") == []


def test_one_ledger_serves_all_answers(server):
    server.answer()
    kept = server.middleware._ledger
    server.user = SimpleNamespace(get_id=lambda: "victor", get_name=lambda: "Victor")
    server.answer()
    assert server.middleware._ledger is kept
    assert server.votes() == 2


def conditional(server: Server, choice: str = "Approve with conditions", **fields: Any) -> Any:
    common = {"request": str(server.request.digest), "comment": "looked at the evidence"}
    sent = {"chosen_options": [choice], "params_input": common | fields}
    return server.answer(body=json.dumps(sent).encode())


def test_conditions_come_on_record_with_the_vote(world, monkeypatch):
    world.with_pack("seats:\n", "conditions: {max_rows_per_run: true}\nseats:\n")
    for step in (world.validate_data, world.train, world.validate_model):
        step()
    server = Server(world, monkeypatch)
    status, told = conditional(server, max_rows_per_run="x")
    assert (status, server.airflow.bodies) == (403, [])
    assert "a condition cannot be read" in told["detail"]
    assert conditional(server, choice="Approve", max_rows_per_run=9)[0] == 403
    assert conditional(server, max_rows_per_run=9)[0] == 200
    (vote,) = world.kinds("approval.voted")
    assert vote.body["conditions"] == {"max_rows_per_run": 9}


def test_conditions_that_the_pack_does_not_know_wake_nobody(server):
    status, told = conditional(server, max_rows_per_run=9)
    assert (status, server.airflow.bodies) == (403, [])
    assert "lets nobody limit rows" in told["detail"]
