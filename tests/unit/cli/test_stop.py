"""Stopping here; resuming and revoking through a real HTTP server with our app.

Tokens are names: how Airflow reads one is its own affair.
"""

from __future__ import annotations

import getpass
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import uvicorn
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse

from airflow_mlgov.api.app import build_app
from airflow_mlgov.cli.api_server import TOKEN_VARIABLE
from airflow_mlgov.errors import LedgerUnavailableError
from airflow_mlgov.service.ledger import EntryDraft
from airflow_mlgov.service.stop import stop_in_force

AT = "2027-01-01T00:00:00.000Z"


def user_of(request: Request):
    _, _, name = request.headers["authorization"].partition(" ")
    if name == "ended":
        raise HTTPException(401, "Token Expired")
    return SimpleNamespace(get_id=lambda: name, get_name=lambda: name)


@pytest.fixture
def url(governed, monkeypatch):
    """An api-server with our app; ``/elsewhere`` leads to it."""
    app, airflow = build_app(), FastAPI()
    app.dependency_overrides[get_user] = user_of
    airflow.mount("/mlgov", app)

    @airflow.post("/elsewhere/{path:path}")
    def lead(path: str):
        return RedirectResponse(f"/{path}", 307)

    monkeypatch.setenv(TOKEN_VARIABLE, "victor")
    config = uvicorn.Config(airflow, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def is_stopped(world) -> bool:
    return stop_in_force(world.gov.ledger.view(), "retail_pd") is not None


def stop(airflow):
    return airflow("stop", "retail_pd", "--reason", "it scores nonsense", "--output", "json")


def resume(airflow, url, model="retail_pd"):
    reason = ("--reason", "it was the data")
    return airflow("resume", model, *reason, "--url", url, "--output", "json")


def test_a_model_is_stopped_by_whoever_runs_it(governed, airflow, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "zoe")
    ended = stop(airflow)
    (stopped,) = governed.kinds("model.stopped")
    assert (stopped.model, stopped.text("reason")) == ("retail_pd", "it scores nonsense")
    assert stopped.person("stopped_by").id == "zoe"
    assert (ended.code, ended.json) == (
        0,
        [{"model": "retail_pd", "entry": str(stopped.index), "stopped_by": "zoe"}],
    )


def test_an_unknown_model(governed, airflow):
    ended = airflow("stop", "unknown", "--reason", "it scores nonsense")
    assert ended.code == 64
    assert "'unknown' is not in the inventory" in ended.err
    assert governed.kinds("model.stopped") == []


def test_the_api_server_resumes_for_whose_token_it_is(governed, airflow, url):
    stop(airflow)
    ended = resume(airflow, url + "/")
    (resumed,) = governed.kinds("model.resumed")
    assert (ended.code, ended.json) == (0, [{"model": "retail_pd", "entry": str(resumed.index)}])
    assert resumed.person("resumed_by").id == "victor"
    assert resumed.text("reason") == "it was the data"
    assert not is_stopped(governed)


def test_the_address_that_airflow_knows_is_the_default(governed, airflow, url, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", url)
    stop(airflow)
    assert airflow("resume", "retail_pd", "--reason", "it was the data").code == 0
    assert not is_stopped(governed)


def test_the_api_server_revokes(governed, airflow, url):
    request = governed.ask()
    reason = ("--reason", "wrong cut-off")
    ended = airflow("revoke", str(request.digest), *reason, "--url", url, "--output", "json")
    (revoked,) = governed.kinds("approval.revoked")
    assert ended.json == [{"request_sha256": str(request.digest), "entry": str(revoked.index)}]
    assert (revoked.person("revoked_by").id, revoked.text("reason")) == ("victor", "wrong cut-off")


def test_the_api_server_settles_findings(governed, airflow, url):
    rules = "findings: {close: [victor], accept: [victor], accept_max_days: 30}\nvalid_days:"
    governed.with_pack("valid_days:", rules)
    body = {"finding": "F-0000000a", "severity": "high", "test": "t", "due_at": AT}
    draft = EntryDraft("finding.opened", "retail_pd", governed.version, body, ("a",))
    governed.gov.ledger.seal(governed.gov.ledger.append(draft))
    until = governed.clock.moment.date().isoformat()
    asked = ("F-0000000a", "--model", "retail_pd", "--reason", "small", "--url", url)

    ended = airflow("finding", "accept", *asked, "--until", "soon")
    assert (ended.code, "'soon' is no day" in ended.err) == (64, True)
    ended = airflow("finding", "accept", *asked, "--until", until, "--output", "json")
    assert (ended.code, ended.json[0]["until"]) == (0, until)
    (accepted,) = governed.kinds("finding.accepted")
    assert accepted.person("accepted_by").id == "victor"
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    (shown,) = found["open_findings"]
    assert (shown["accepted_by"], shown["accepted_because"]) == ("victor", "small")
    assert shown["accepted_until"] == accepted.body["until"]
    document = "sha256:" + "5" * 64
    assert airflow("finding", "close", *asked, "--evidence", "report.pdf").code == 1
    assert airflow("finding", "close", *asked, "--evidence", document).code == 0
    (closed,) = governed.kinds("finding.closed")
    assert closed.body["evidence_sha256"] == document


def test_glass_is_broken_and_confirmed(governed, airflow, url, monkeypatch):
    rules = "break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}"
    governed.with_pack("valid_days:", f"{rules}\nvalid_days:")
    monkeypatch.setenv(TOKEN_VARIABLE, "zoe")
    why = ("--reason", "it cannot wait", "--url", url, "--output", "json")
    asked = ("breakglass", "use", "retail_pd", "--target", "production", *why)

    assert airflow(*asked, "--version", "3").code == 1
    ended = airflow(*asked, "--version", governed.version, "--hours", "2")
    (used,) = governed.kinds("breakglass.used")
    assert (ended.code, ended.json[0]["until"]) == (0, used.body["until"])
    assert (used.person("used_by").id, used.text("reason")) == ("zoe", "it cannot wait")
    finding = ended.json[0]["finding"]
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert [(e["finding"], e["in_force"]) for e in found["emergencies"]] == [(finding, "True")]
    assert [f["finding"] for f in found["open_findings"]] == [finding]
    ended = airflow("status", "retail_pd")
    assert ended.out.index("Emergencies") < ended.out.index(finding)

    confirm = ("breakglass", "confirm", finding, "--model", "retail_pd", *why)
    ended = airflow(*confirm)
    assert (ended.code, "You broke the glass" in ended.err) == (1, True)
    monkeypatch.setenv(TOKEN_VARIABLE, "victor")
    assert airflow(*confirm).json[0]["confirmed"] == "1"
    governed.clock.moment += timedelta(hours=2)
    (found,) = airflow("status", "retail_pd", "--output", "json").json
    assert (found["emergencies"], found["open_findings"]) == ([], [])


@pytest.mark.parametrize(
    ("token", "ends"),
    [
        ("zoe", (1, "neither the owner")),
        ("ended", (64, "Token Expired")),
        ("", (64, f"no token in {TOKEN_VARIABLE}")),
        ("a\nb", (64, f"no token in {TOKEN_VARIABLE}")),
    ],
)
def test_whoever_may_not(governed, airflow, url, monkeypatch, token, ends):
    stop(airflow)
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    ended = resume(airflow, url)
    assert (ended.code, ended.out) == (ends[0], "")
    assert ends[1] in ended.err
    assert is_stopped(governed)


def test_what_the_api_server_refuses(governed, airflow, url, monkeypatch):
    ended = resume(airflow, url)
    assert (ended.code, "is not stopped" in ended.err) == (1, True)
    ended = resume(airflow, url, "a?b#c d")
    assert (ended.code, "'a?b#c d' is not in the inventory" in ended.err) == (64, True)

    def away():
        raise LedgerUnavailableError("The ledger is locked.")

    monkeypatch.setattr("airflow_mlgov.wiring.open_governance", away)
    ended = resume(airflow, url)
    assert (ended.code, "ledger.unavailable: The ledger is locked." in ended.err) == (1, True)


def test_a_token_is_not_led_elsewhere(governed, airflow, url):
    stop(airflow)
    ended = resume(airflow, f"{url}/elsewhere")
    assert (ended.code, "307" in ended.err) == (64, True)
    assert is_stopped(governed)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "file:///etc", "airflow.example.com"])
def test_no_api_server(governed, airflow, monkeypatch, address):
    monkeypatch.setenv(TOKEN_VARIABLE, "victor")
    ended = resume(airflow, address)
    assert (ended.code, ended.out) == (64, "")
    assert "--url" in ended.err
