"""What people order past a gate: stop, resume, revoke, settle a finding, break glass."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from demo.client import ApiError

pytestmark = pytest.mark.e2e

OWNER, VALIDATOR, USER, EMERGENCY = "olivia", "victor", "rita", "admin"
WHY = {"reason": "Scores of new clients make no sense."}


def order(run, user, what, **said):
    """Send an order about the run's model as somebody."""
    path = f"/mlgov/api/models/{run.model}/{what}"
    return run.live.client(user).call("POST", path, WHY | said)


def refused(run, user, what, **said):
    with pytest.raises(ApiError) as error:
        order(run, user, what, **said)
    return error.value.status


def by_command(run, user, *words):
    """Give an order on the command line, with somebody's token."""
    token = run.live.client(user)._http.headers["Authorization"].removeprefix("Bearer ")
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "mlgov", *words, "--reason", WHY["reason"]],
        env={**os.environ, "AIRFLOW_CLI_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def long_ago(live, days):
    """Return the governance of an api-server whose clock stood so many days back."""

    class Past:
        def now(self):
            return datetime.now(UTC) - timedelta(days=days)

    gov = replace(live.governance(), clock=Past())
    gov.ledger._clock = gov.clock
    return gov


def score_again(run):
    run.clear("score")
    return run.wait("score", "success", "failed")


@pytest.mark.bypass(15)
@pytest.mark.scenario("ordered")
def test_a_stop_and_a_revocation_close_the_next_guard(run):
    run.approve_fully()
    assert run.wait("score", "success") == "success"
    order(run, USER, "stop")
    assert score_again(run) == "failed"
    assert refused(run, USER, "resume") == 403
    order(run, OWNER, "resume")
    assert score_again(run) == "success"

    (asked,) = run.entries("approval.requested")
    path = f"/mlgov/api/approvals/{asked.body['request_sha256']}/revoke"
    with pytest.raises(ApiError) as error:
        run.live.client(USER).call("POST", path, WHY)
    assert error.value.status == 403
    run.live.client(VALIDATOR).call("POST", path, WHY)
    assert score_again(run) == "failed"
    assert run.refusals() == ["stopped", "revoked"]
    (revoked,) = run.entries("approval.revoked")
    assert (revoked.person("revoked_by").id, revoked.signed_by.value) == (VALIDATOR, "attestor")


@pytest.mark.scenario("halted")
def test_orders_by_command_hold_a_run_that_is_under_way(run):
    run.wait_gate()
    by_command(run, USER, "stop", run.model)
    run.answer(OWNER)
    run.wait_gate()
    run.answer(VALIDATOR)
    assert run.wait("promote", "failed") == "failed"
    assert run.state("gate") == "success"
    assert run.alias is None

    by_command(run, OWNER, "resume", run.model)
    run.clear("promote")
    assert run.wait("score", "success") == "success"
    (asked,) = run.entries("approval.requested")
    by_command(run, VALIDATOR, "revoke", asked.body["request_sha256"])
    assert score_again(run) == "failed"
    assert run.refusals() == ["stopped", "revoked"]
    (resumed,) = run.entries("model.resumed")
    assert (resumed.person("resumed_by").id, resumed.signed_by.value) == (OWNER, "attestor")


@pytest.mark.bypass(15)
@pytest.mark.scenario("expired")
def test_an_approval_that_has_ended_promotes_nothing(run):
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.records.governance import Choice
    from airflow_mlgov.records.people import Person
    from airflow_mlgov.service.attest_vote import Ballot, cast_vote

    run.wait_gate()
    (asked,) = run.entries("approval.requested")
    digest = asked.body["request_sha256"]
    for user in (OWNER, VALIDATOR):
        ballot = Ballot(
            shown=Digest.parse(digest),
            gate=asked.source,
            named=digest,
            choice=Choice.APPROVE,
            comment=WHY["reason"],
            person=Person(user, user),
        )
        cast_vote(long_ago(run.live, days=31), ballot)
    run.force_states(gate="success")
    assert run.wait("promote", "failed") == "failed"
    assert run.refusals() == ["expiry"]
    assert run.alias is None
    assert not run.entries("approval.consumed")


@pytest.mark.scenario("found")
def test_a_finding_holds_the_promotion_until_it_is_settled_by_whom_the_pack_names(run):
    from airflow_mlgov.records.clock import to_text
    from airflow_mlgov.records.people import Person
    from airflow_mlgov.service.ledger import EntryDraft

    gov = run.live.governance()
    body = {
        "finding": "F-0000000a",
        "severity": "high",
        "test": "discrimination.auc",
        "due_at": to_text(gov.clock.now() + timedelta(days=30)),
    }
    owner = {"owner": Person(OWNER, OWNER)}
    draft = EntryDraft(
        "finding.opened", run.model, run.version, body, ("F-0000000a",), owner, {"summary": "low"}
    )
    run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    gov.ledger.seal(gov.ledger.append(draft))
    run.answer(VALIDATOR)
    assert run.wait("gate", "failed") == "failed"

    until = (gov.clock.now() + timedelta(days=9)).date().isoformat()
    finding = "findings/F-0000000a"
    assert refused(run, OWNER, f"{finding}/accept", until=until) == 403
    order(run, VALIDATOR, f"{finding}/accept", until=until)
    run.clear("gate")
    assert run.wait("score", "success") == "success"
    order(run, VALIDATOR, f"{finding}/close")
    assert refused(run, VALIDATOR, f"{finding}/close") == 409


def test_broken_glass_opens_one_version_for_hours_and_is_looked_at_afterwards(live):
    from airflow_mlgov.service.findings import high_findings

    version = str(live.registry().get("emergency", "1").manifest)
    run = live.trigger("emergency", USER, version=version)
    run.wait_gate()
    run.force_states(gate="success")
    assert run.wait("promote", "failed") == "failed"

    assert refused(run, USER, "breakglass", version=version, target="production") == 403
    glass = order(run, EMERGENCY, "breakglass", version=version, target="production", hours=1)
    asked = live.trigger("emergency", USER, version=version)
    assert asked.wait("score", "success") == "success"
    assert live.client("admin").xcom(asked.dag, asked.id, "gate")["decision"] == "emergency"
    assert run.alias == version

    def blocking():
        gov = live.governance()
        return high_findings(gov.ledger.view(), run.model, asked_version, gov.clock.now())

    asked_version = run.entries("breakglass.used")[0].version
    assert blocking() == [glass["finding"]]
    confirm = f"breakglass/{glass['finding']}/confirm"
    assert refused(run, EMERGENCY, confirm) == 403
    order(run, VALIDATOR, confirm)
    assert order(run, OWNER, confirm)["confirmed"] == 2
    assert blocking() == []
