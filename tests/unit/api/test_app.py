"""The app as Airflow mounts it, on a real ledger; who is signed in is set, but for one test."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.plugins.mlgov import MlgovPlugin
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.stop import stop_in_force

_SERVICE = Path(__file__).parents[1] / "service" / "conftest.py"
_spec = importlib.util.spec_from_file_location("app_world", _SERVICE)
service = importlib.util.module_from_spec(_spec)
sys.modules["app_world"] = service
_spec.loader.exec_module(service)
world, candidate = service.world, service.candidate

STOP = "/mlgov/api/models/retail_pd/stop"
RESUME = "/mlgov/api/models/retail_pd/resume"
AT = "2027-01-01T00:00:00.000Z"
INBOX = "/mlgov/api/inbox"
NO_REQUEST = "sha256:" + "0" * 64


class Server:
    """An api-server with the app alone."""

    def __init__(self, world) -> None:
        self.world, self.request = world, world.ask()
        (mounted,) = MlgovPlugin().fastapi_apps
        self.app = mounted["app"]
        airflow = FastAPI()
        airflow.mount(mounted["url_prefix"], self.app)
        self.client = TestClient(airflow)

    def sign_in(self, user: str) -> None:
        signed_in = SimpleNamespace(get_id=lambda: user, get_name=lambda: f"{user} Surname")
        self.app.dependency_overrides[get_user] = lambda: signed_in

    def post(self, path: str, reason: str = "it scores nonsense", **said) -> tuple[int, dict]:
        answer = self.client.post(path, json={"reason": reason, **said})
        return answer.status_code, answer.json()

    def is_stopped(self) -> bool:
        return stop_in_force(self.world.gov.ledger.view(), "retail_pd") is not None

    @property
    def revoke(self) -> str:
        return f"/mlgov/api/approvals/{self.request.digest}/revoke"

    def written(self) -> list:
        return self.world.kinds("model.stopped", "model.resumed", "approval.revoked")


@pytest.fixture
def server(candidate, monkeypatch):
    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", lambda: candidate.gov)
    return Server(candidate)


def test_anyone_stops_and_somebody_with_a_seat_resumes(server):
    server.sign_in("zoe")
    status, said = server.post(STOP)
    (stopped,) = server.written()
    assert (status, said) == (200, {"model": "retail_pd", "entry": stopped.index})
    assert (stopped.signed_by, stopped.person("stopped_by")) == (
        KeyRole.ATTESTOR,
        Person("zoe", "zoe Surname"),
    )
    assert server.is_stopped()
    status, said = server.post(RESUME, "for fun")
    assert (status, server.is_stopped()) == (403, True)
    assert "neither the owner" in said["detail"]
    server.sign_in("victor")
    status, said = server.post(RESUME, "it was the data")
    resumed = server.written()[-1]
    assert (status, said) == (200, {"model": "retail_pd", "entry": resumed.index})
    assert (resumed.person("resumed_by").id, resumed.text("reason")) == (
        "victor",
        "it was the data",
    )
    assert not server.is_stopped()


def test_somebody_with_a_seat_revokes(server):
    server.sign_in("zoe")
    assert server.post(server.revoke)[0] == 403
    assert server.written() == []
    server.sign_in("victor")
    status, said = server.post(server.revoke, "wrong cut-off")
    (revoked,) = server.written()
    digest = str(server.request.digest)
    assert (status, said) == (200, {"request_sha256": digest, "entry": revoked.index})
    assert (revoked.kind, revoked.body) == ("approval.revoked", {"request_sha256": digest})
    assert (revoked.signed_by, revoked.person("revoked_by").id) == (KeyRole.ATTESTOR, "victor")


@pytest.mark.parametrize(
    "path",
    [
        *(STOP, RESUME, "revoke"),
        "/mlgov/api/models/retail_pd/findings/F-0000000a/close",
        "/mlgov/api/models/retail_pd/findings/F-0000000a/accept",
        "/mlgov/api/models/retail_pd/breakglass",
        "/mlgov/api/models/retail_pd/breakglass/F-0000000a/confirm",
    ],
)
def test_nobody_does_anything_without_signing_in(server, path):
    """Airflow's own dependency, not a stand-in."""
    status, said = server.post(server.revoke if path == "revoke" else path)
    assert (status, said) == (401, {"detail": "Not authenticated"})
    assert server.written() == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (STOP.replace("retail_pd", "unknown"), "'unknown' is not in the inventory"),
        (RESUME.replace("retail_pd", "unknown"), "'unknown' is not in the inventory"),
        (f"/mlgov/api/approvals/{NO_REQUEST}/revoke", "holds no request"),
        ("/mlgov/api/approvals/something/revoke", "names no request"),
    ],
)
def test_what_nobody_knows(server, path, said):
    server.sign_in("victor")
    status, answer = server.post(path)
    assert status == 404
    assert said in answer["detail"]
    assert server.written() == []


def test_what_runs_is_not_resumed(server):
    server.sign_in("victor")
    assert server.post(RESUME) == (409, {"detail": "Model 'retail_pd' is not stopped."})


@pytest.mark.parametrize("reason", ["", " \n", "x" * 2001])
def test_a_reason_is_needed(server, reason):
    server.sign_in("victor")
    assert server.post(STOP, reason)[0] == 422
    assert server.written() == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LedgerUnavailableError("The ledger is locked."), 503),
        (ConfigurationError("There is no attestor key."), 500),
    ],
)
def test_whoever_asks_is_told_when_the_ledger_cannot_be_written(server, monkeypatch, error, status):
    def away():
        raise error

    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", away)
    server.sign_in("victor")
    assert server.post(STOP) == (status, {"detail": error.problem})


def test_the_inbox_of_who_is_signed_in(server, monkeypatch):
    read = []

    def may_read(user):
        return lambda dag: read.append((user.get_id(), dag)) or True

    monkeypatch.setattr("airflow_mlgov.api.app.may_read", may_read)
    server.sign_in("victor")
    answer = server.client.get(INBOX)
    assert answer.status_code == 200
    said = answer.json()
    (asked,) = said["requests"]
    assert (said["user"], said["hidden"], said["findings"]) == ("victor", 0, [])
    assert asked["request_sha256"] == str(server.request.digest)
    assert asked["waits_for_you"] is True
    assert read == [("victor", "retail_pd")]
    assert server.client.get(INBOX, params={"model": "unknown"}).status_code == 404
    monkeypatch.setattr("airflow_mlgov.api.app.may_read", lambda _user: lambda _dag: False)
    said = server.client.get(INBOX).json()
    assert (said["requests"], said["hidden"]) == ([], 1)


def test_nobody_has_an_inbox_without_signing_in(server):
    assert server.client.get(INBOX).status_code == 401


def test_there_is_nothing_to_look_at(server):
    for path in ("/mlgov/docs", "/mlgov/openapi.json", STOP):
        assert server.client.get(path).status_code in {404, 405}


def test_findings_are_settled_by_whom_the_pack_names(server):
    world = server.world
    rules = "findings: {close: [victor], accept: [olivia], accept_max_days: 30}\nvalid_days:"
    world.with_pack("valid_days:", rules)
    path = "/mlgov/api/models/retail_pd/findings/F-0000000a"
    body = {"finding": "F-0000000a", "severity": "high", "test": "t", "due_at": AT}
    draft = EntryDraft("finding.opened", "retail_pd", world.version, body, ("a",))
    world.gov.ledger.seal(world.gov.ledger.append(draft))
    until = (world.clock.moment + timedelta(days=3)).date().isoformat()

    server.sign_in("victor")
    assert server.post(f"{path}/accept", until=until)[0] == 403
    server.sign_in("olivia")
    assert server.post(f"{path}/close")[0] == 403
    assert server.post(f"{path}/accept", until="soon")[0] == 422
    status, said = server.post(f"{path}/accept", until=until)
    assert (status, said["until"]) == (200, until)
    (entry,) = world.kinds("finding.accepted")
    assert entry.person("accepted_by") == Person("olivia", "olivia Surname")
    server.sign_in("victor")
    assert server.post(f"{path}/close", evidence_sha256="report.pdf")[0] == 422
    assert server.post(f"{path}/close", evidence_sha256=NO_REQUEST)[0] == 200
    assert world.kinds("finding.closed")[0].body["evidence_sha256"] == NO_REQUEST
    assert server.post(f"{path}/close")[0] == 409
    assert server.post(f"{path[:-1]}b/close")[0] == 404


def test_glass_is_broken_by_whom_the_pack_names_and_confirmed_by_others(server):
    world = server.world
    rules = "break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}"
    path = "/mlgov/api/models/retail_pd/breakglass"
    opens = {"version": str(world.version), "target": "production"}

    server.sign_in("zoe")
    assert server.post(path, **opens)[0] == 403
    world.with_pack("valid_days:", f"{rules}\nvalid_days:")
    assert server.post(path, **opens | {"version": "3"})[0] == 422
    assert server.post(path, **opens, hours="many")[0] == 422
    assert server.post(path, **opens, hours=9)[0] == 403
    assert server.post(path, **opens | {"target": "moon"})[0] == 404
    assert server.post(path, " ", **opens)[0] == 422
    assert world.kinds("breakglass.used") == []
    status, said = server.post(path, **opens, hours=2)
    (used,) = world.kinds("breakglass.used")
    assert (used.signed_by, used.person("used_by")) == (
        KeyRole.ATTESTOR,
        Person("zoe", "zoe Surname"),
    )
    assert (status, said) == (
        200,
        {
            "finding": f"F-{used.key[7:15]}",
            "target": "production",
            "until": used.body["until"],
            "confirmed": 0,
            "quorum": 1,
            "confirm_by": used.body["confirm_by"],
            "entry": used.index,
        },
    )
    confirm = f"{path}/{said['finding']}/confirm"
    assert server.post(confirm)[0] == 403
    server.sign_in("victor")
    assert server.post(f"{path}/F-00000000/confirm")[0] == 404
    status, said = server.post(confirm)
    (confirmed,) = world.kinds("breakglass.confirmed")
    assert (status, said["confirmed"], said["entry"]) == (200, 1, confirmed.index)
    assert server.post(confirm)[0] == 409
    server.sign_in("zoe")
    server.post(STOP)
    status, said = server.post(path, **opens)
    assert (status, "stopped" in said["detail"]) == (409, True)
