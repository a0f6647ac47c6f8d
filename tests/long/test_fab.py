"""Ways round a gate under the FAB auth manager: ids are numbers, rights come from roles.

The pack names the owner by user name and the validators by id; the inventory names people by name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_mlgov.records.people import Person
from demo.client import AirflowClient, ApiError
from demo.deployment import Deployment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

REQUESTER, DEVELOPER, OWNER, VALIDATOR, VIEWER = "rita", "erin", "olivia", "victor", "vera"
ROLES = {"admin": "Admin", VIEWER: "Viewer"}
MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
SCENARIOS = {
    "approve": REQUESTER,
    "by_hand": REQUESTER,
    "people": REQUESTER,
    "requester": VALIDATOR,
}


class FabDeployment(Deployment):
    """An Airflow whose users are FAB's: one made by the command line, the others by its API."""

    def start(self, timeout_s: float = 240) -> None:
        """Start, and make the users."""
        super().start(timeout_s)
        self.passwords[VIEWER] = "only for this test"
        about = ["--firstname", "Ada", "--lastname", "Admin", "--email", "admin@bank.example"]
        secret = ["--password", self.passwords["admin"]]
        made = self.airflow("users", "create", "-u", "admin", "-r", "Admin", *about, *secret)
        assert made.returncode == 0, made.stderr
        for user in (REQUESTER, DEVELOPER, OWNER, VALIDATOR, VIEWER):
            self.make_user(user, ROLES.get(user, "User"))

    def make_user(self, name: str, role: str) -> None:
        admin = AirflowClient(self.url, "admin", self.passwords["admin"])
        body = {
            "username": name,
            "email": f"{name}@bank.example",
            "first_name": name.title(),
            "last_name": "Test",
            "roles": [{"name": role}],
            "password": self.passwords.setdefault(name, "only for this test"),
        }
        admin.call("POST", "/auth/fab/v1/users", body)


@dataclass
class Fab:
    """The live Airflow, and its users as FAB knows them."""

    live: Any
    people: dict[str, Person]


@pytest.fixture(scope="module")
def fab(e2e: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fab]:
    pytest.importorskip("airflow.providers.fab", reason="make test-long installs it")
    folder = tmp_path_factory.mktemp("fab")
    settings = {"AIRFLOW__CORE__AUTH_MANAGER": MANAGER}
    with e2e.start_live(folder, SCENARIOS, FabDeployment, extra_env=settings) as live:
        with closing(sqlite3.connect(live.deployment.home / "airflow.db", timeout=60)) as db:
            rows = db.execute("SELECT id, username FROM ab_user").fetchall()
        people = {name: Person(str(number), name) for number, name in rows}
        seated = f'users: ["{people[VALIDATOR].id}", "{people[DEVELOPER].id}"]'
        policy = e2e.POLICY.replace("users: [victor, erin]", seated)
        assert seated in policy
        (folder / "rules" / "policy" / "e2e.yaml").write_text(policy)
        for scenario, user in SCENARIOS.items():
            version = live.make_candidate(scenario)
            live.runs[scenario] = live.trigger(scenario, user, version=version)
        yield Fab(live, people)


def voters(run: Any) -> list[Person]:
    return [entry.person("voter") for entry in run.entries("approval.voted")]


def test_people_named_by_name_or_id_approve_and_are_on_record_with_both(fab):
    run = fab.live.runs["approve"]
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    assert voters(run) == [fab.people[OWNER]]
    assert fab.people[OWNER].id.isdecimal()
    run.answer(VALIDATOR)
    assert run.wait("score", "success") == "success"
    assert voters(run) == [fab.people[OWNER], fab.people[VALIDATOR]]
    assert {entry.signed_by.value for entry in run.entries("approval.voted")} == {"attestor"}
    by = run.live.client("admin").form(run.dag, run.id, "gate")["responded_by_user"]
    assert Person(**by) == fab.people[VALIDATOR]
    assert run.refused_votes() == []
    assert run.alias == run.version


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_a_user_is_refused_with_the_reason_and_on_record_by_id_and_name(fab, bypasses, number):
    (way,) = (way for way in bypasses.WAYS if way.number == number)
    run = fab.live.runs["by_hand"]
    run.wait_gate()
    before = len(changes(run))
    with pytest.raises(ApiError) as refused:
        way.go(run.live.client(REQUESTER), run.dag, run.id)
    assert refused.value.status == 403
    assert "is a gate or protected task of a model in mode 'enforce'" in refused.value.detail
    attempts = changes(run)[before:]
    by = fab.people[REQUESTER]
    assert sorted(task for task, *_ in attempts) == sorted(way.tasks)
    assert {tuple(what) for _, *what in attempts} == {(way.state, True, by)}
    assert run.state("gate") == "awaiting_input"
    assert run.state("promote") == "None"


def changes(run: Any) -> list[tuple[str, str, bool, Person]]:
    """Task, state, whether it was refused, and who: every change by hand on record."""
    entries = run.live.governance().ledger.view().select("state.changed_by_hand")
    return [
        (entry.source.task_id, entry.body["state"], entry.body["refused"], entry.person("by"))
        for entry in entries
        if entry.source.run_id == run.id
    ]


def test_somebody_is_counted_once_and_never_as_developer_or_without_a_seat(fab):
    run = fab.live.runs["people"]
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    assert "voted before" in run.refused_answer(OWNER, comment="I approve of it once more.")
    # Seated by id, a developer by name.
    assert "developer" in run.refused_answer(DEVELOPER)
    assert "on no seat" in run.refused_answer("admin")
    refused = [entry.person("voter") for entry in run.entries("approval.vote_refused")]
    assert refused == [fab.people[name] for name in (OWNER, DEVELOPER, "admin")]

    run.refused_answer(VIEWER)  # by Airflow, for want of the right to answer forms
    assert len(run.refused_votes()) == 3
    assert voters(run) == [fab.people[OWNER]]
    assert run.state("gate") == "awaiting_input"


def test_a_user_name_does_not_pass_for_another_users_id(fab):
    run = fab.live.runs["people"]
    name = fab.people[VALIDATOR].id
    run.live.deployment.make_user(name, "User")
    run.wait_gate()
    assert "another's user id" in run.refused_answer(name)
    assert voters(run) == [fab.people[OWNER]]


def test_who_triggered_the_run_has_no_vote_though_seated_by_id(fab):
    run = fab.live.runs["requester"]
    run.wait_gate()
    assert "requester" in run.refused_answer(VALIDATOR)
    assert voters(run) == []
