"""The middleware when something is away, on a real ledger, before a stand-in for Airflow.

What Airflow's routes and tables say is played in ``tests/integration/test_manual_change_routes``.
"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from airflow_mlgov.enforcement import governed_tasks, manual_changes
from airflow_mlgov.enforcement.change_requests import Asked
from airflow_mlgov.enforcement.manual_changes import ManualChangeMiddleware
from airflow_mlgov.errors import DocumentError, LedgerUnavailableError
from airflow_mlgov.policy.inventory_folder import folder_at
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.changes import ManualChange
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

PATH = "/api/v2/dags/d/dagRuns/r/taskInstances/gate"
GATE = Source("d", "r", "gate")


class Server:
    """The middleware before an Airflow that answers 200 and keeps what reached it."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gov: Any = Governance(ledger, evidence=None, inventory={}, packs={}, clock=None)  # type: ignore[arg-type]
        self.reached: list[bytes] = []
        self.state = "success"
        monkeypatch.setattr(governed_tasks, "governed_changes", lambda _: self.touched())
        monkeypatch.setattr(manual_changes, "user_of", self.user)
        monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: self.gov)
        self.middleware = ManualChangeMiddleware(self.airflow)

    def touched(self) -> list[ManualChange]:
        return [ManualChange(GATE, self.state, "m")]

    async def user(self, _: Any) -> Any:
        return SimpleNamespace(get_id=lambda: "rita", get_name=lambda: "Rita")

    async def airflow(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"detail": "of Airflow"}'})

    def ask(self, state: str = "success") -> tuple[int, str]:
        self.state = state
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b'{"new_state": "success"}'}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "PATCH", "path": PATH, "headers": []}
        asyncio.run(self.middleware(scope, receive, send))
        return messages[0]["status"], json.loads(messages[1]["body"])["detail"]

    def kept(self) -> list[Any]:
        view = self.gov.ledger.view()
        return [entry.body for entry in view.select("state.changed_by_hand")]


@pytest.fixture
def server(tmp_path, monkeypatch) -> Server:
    store = SqliteStore.from_url(f"sqlite:///{tmp_path}/ledger.db")
    return Server(Ledger(store, open_signers(tmp_path / "keys")), monkeypatch)


def unreachable(*_: Any, **__: Any) -> Any:
    raise LedgerUnavailableError("The ledger is locked.")


def test_without_any_rule_the_strictest_counts(server):
    status, said = server.ask()
    assert (status, server.reached) == (403, [])
    assert "Task 'gate' of run 'r'" in said
    assert server.kept() == [{"task": "gate", "state": "success", "refused": True}]


def test_what_cannot_be_put_on_record_is_not_done(server, monkeypatch):
    monkeypatch.setattr(server.gov.ledger, "append", unreachable)
    status, said = server.ask()
    assert (status, server.reached) == (503, [])
    assert said == "Nothing was changed. The ledger is locked."


@pytest.mark.parametrize("what", ["ledger", "rules"])
@pytest.mark.parametrize("state", ["failed", "cleared"])
def test_people_can_stop_a_run_and_run_it_again_while_something_is_away(
    server, state, what, monkeypatch, caplog
):
    if what == "ledger":
        monkeypatch.setattr(server.gov.ledger, "append", unreachable)
    else:
        monkeypatch.setattr("airflow_mlgov.wiring.open_governance", unreachable)
    assert server.ask(state) == (200, "of Airflow")
    assert "could not be noted" in caplog.text


@pytest.mark.parametrize("state", ["success", "failed"])
def test_nothing_is_changed_while_airflows_database_cannot_say_what_is_protected(
    server, state, monkeypatch
):
    def away() -> Any:
        raise OperationalError("select", {}, Exception("locked"))

    monkeypatch.setattr(server, "touched", away)
    status, said = server.ask(state)
    assert (status, server.reached) == (503, [])
    assert "Airflow's database cannot say" in said


def test_nothing_is_changed_while_the_rules_cannot_be_read(server, monkeypatch):
    def malformed() -> Any:
        raise DocumentError("is no mode", file="m.yaml", line=3, path="mode")

    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", malformed)
    status, said = server.ask()
    assert (status, server.reached) == (503, [])
    assert "m.yaml:3: mode: is no mode" in said


def test_while_a_file_that_names_the_dag_is_broken_only_what_lets_nobody_through_is_done(inventory):
    file = inventory.write(more="tasks: [{dag_id: d, task_id: score, does: train}]\n")
    assert governed_tasks._named(Asked("d", "r", "success")) == {"score": "retail_pd"}
    file.write_text(file.read_text().replace("mode: enforce", "mode: strict"))
    folder_at.cache_clear()
    with pytest.raises(DocumentError, match="mode: 'strict'"):
        governed_tasks._named(Asked("d", "r", "success"))
    assert governed_tasks._named(Asked("d", "r", "failed")) == {}
    assert governed_tasks._named(Asked("elsewhere", "r", "success")) == {}


def test_tasks_that_are_not_ours_need_no_rules(server, monkeypatch):
    monkeypatch.setattr(server, "touched", list)
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", unreachable)
    assert server.ask() == (200, "of Airflow")
    assert json.loads(server.reached[0]) == {"new_state": "success"}
