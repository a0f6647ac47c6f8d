"""Ways round a gate that begin in a DAG, or after it: each on Airflow's own gate, then on ours.

What Airflow has no counterpart of (digests, packs, keys) is shown against ours alone.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.e2e

OWNER, VALIDATOR, USER = "olivia", "victor", "rita"
REFUSED = Path(__file__).parent / "refused_dags"


def approved(live, **conf):
    """Return a run of the stock DAG whose gate somebody has approved."""
    client = live.client(USER)
    run = client.trigger("stock", conf)
    live.watch.wait("stock", run, "gate")
    client.answer("stock", run, "gate", "Approve")
    assert client.wait_for_task("stock", run, "promote") == "success"
    return client, run


def ended(client, run):
    while client.run_state("stock", run) not in ("success", "failed"):
        time.sleep(0.2)


def answer_by_token(live, task):
    """Answer a task's form with the token that Airflow gives the task; nobody is signed in."""
    from airflow.api_fastapi.auth.tokens import JWTGenerator

    token = JWTGenerator(
        secret_key=live.deployment.env["AIRFLOW__API_AUTH__JWT_SECRET"],
        issuer=None,
        audience="urn:airflow.apache.org:task",
        valid_for=600,
        algorithm="HS512",
    ).generate({"sub": task["id"]})
    fields = {"chosen_options": ["Approve"], "params_input": {}}
    url = f"{live.deployment.url}/execution/hitlDetails/{task['id']}"
    body = {"ti_id": task["id"], **fields}
    headers = {"Authorization": f"Bearer {token}"}
    reply = httpx.patch(url, json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text


@pytest.mark.stock(9, 12)
def test_airflow_approves_by_default_and_takes_a_tasks_own_answer(live):
    client = live.client(USER)
    run = client.trigger("stock_alone")
    assert client.wait_for_task("stock_alone", run, "by_a_token", ("awaiting_input",))
    answer_by_token(live, client.task("stock_alone", run, "by_a_token"))
    form = client.form("stock_alone", run, "by_a_token")
    assert (form["chosen_options"], form["responded_by_user"]) == (["Approve"], None)
    for task in ("promoted_by_default", "promoted_by_a_token"):
        assert client.wait_for_task("stock_alone", run, task) == "success"


@pytest.mark.bypass(9, 10, 18)
def test_what_would_get_round_a_gate_is_refused_when_it_is_parsed(live):
    said = {
        "default.py": "default",
        "lenient.py": "all_done",
        "silent.py": "Lineage is switched off for 'promote' (emit)",
        "without_gate.py": "gate",
    }
    for file in said:
        shutil.copy(REFUSED / file, live.folder / "dags")
    end = time.monotonic() + 120
    errors: dict[str, str] = {}
    while said.keys() - errors.keys() and time.monotonic() < end:
        found = live.client("admin").call("GET", "/api/v2/importErrors")["import_errors"]
        errors = {each["filename"].rpartition("/")[2]: each["stack_trace"] for each in found}
        time.sleep(0.5)
    assert errors.keys() == said.keys()
    for file, word in said.items():
        (live.folder / "dags" / file).unlink()
        assert word in errors[file]
        assert "'promote'" in errors[file] or "'form'" in errors[file]


@pytest.mark.stock(10)
def test_a_lenient_task_of_airflow_runs_after_a_rejection(live):
    client = live.client(USER)
    run = client.trigger("stock")
    live.watch.wait("stock", run, "gate")
    client.answer("stock", run, "gate", "Reject")
    assert client.wait_for_task("stock", run, "lenient") == "success"


@pytest.mark.bypass(10)
def test_the_code_of_promotion_verifies_whoever_calls_it(live):
    version = str(live.registry().get("called", "1").manifest)
    client = live.client(USER)
    run = client.trigger("without_gate", {"model": "called", "version": version})
    assert client.wait_for_task("without_gate", run, "promote", ("success", "failed")) == "failed"
    (refused,) = live.governance().ledger.view().select("guard.refused", model="called")
    assert (refused.body["check"], refused.source.dag_id) == ("approval", "without_gate")
    assert live.alias_of("called") is None


@pytest.mark.stock(11)
def test_airflow_takes_an_answer_after_its_gate_has_ended(live):
    client = live.client(USER)
    run = client.trigger("stock")
    live.watch.wait("stock", run, "gate")
    client.mark("stock", run, "gate", "failed")
    client.answer("stock", run, "gate", "Approve")
    assert client.form("stock", run, "gate")["chosen_options"] == ["Approve"]


@pytest.mark.bypass(12)
@pytest.mark.scenario("itself")
def test_what_a_tasks_token_answers_is_no_vote_and_keeps_nobody_from_voting(run):
    run.wait_gate()
    client = run.live.client(USER)
    answer_by_token(run.live, client.task(run.dag, run.id, "gate"))
    assert client.form(run.dag, run.id, "gate")["response_received"] is True
    run.answer(OWNER)
    run.wait_gate()
    answer_by_token(run.live, client.task(run.dag, run.id, "gate"))
    assert run.voters() == [OWNER]
    assert not run.entries("approval.granted")
    run.answer(VALIDATOR)
    assert run.wait("gate", "success") == "success"
    assert run.voters() == [OWNER, VALIDATOR]


@pytest.mark.stock(14, 15)
def test_airflow_promotes_other_bytes_and_once_more_on_one_approval(live, tmp_path):
    file = tmp_path / "model"
    file.write_text("what was approved")
    client, run = approved(live, file=str(file))
    assert client.xcom("stock", run, "promote") == "what was approved"
    ended(client, run)
    file.write_text("something else")
    client.clear("stock", run, "promote")
    ended(client, run)
    assert client.xcom("stock", run, "promote") == "something else"


@pytest.mark.stock(16)
def test_the_form_of_airflow_keeps_its_old_text_after_a_clear(live):
    admin, client = live.client("admin"), live.client(USER)
    admin.call("POST", "/api/v2/variables", {"key": "asked", "value": "version 1"})
    run = client.trigger("stock")
    live.watch.wait("stock", run, "gate")
    admin.call("PATCH", "/api/v2/variables/asked", {"key": "asked", "value": "version 2"})
    client.clear("stock", run, "gate")
    live.watch.wait("stock", run, "gate")
    assert client.form("stock", run, "gate")["subject"] == "Approve version 1?"


@pytest.mark.bypass(16)
@pytest.mark.scenario("retrained")
def test_another_version_is_another_question_and_old_votes_do_not_count(run):
    before = run.wait_gate()
    run.answer(OWNER)
    run.wait_gate()
    other = run.live.make_candidate(run.model, weight=2)
    conf = json.dumps({"model": run.model, "version": other})
    run.force("UPDATE dag_run SET conf = ? WHERE dag_id = ? AND run_id = ?", conf)
    run.live.client(USER).clear(run.dag, run.id, "gate")
    after = run.wait_gate()
    assert after["params"]["request"]["value"] != before["params"]["request"]["value"]
    assert "version 2" in after["subject"]
    assert "olivia (L1)" not in after["body"]
    old = before["params"]["request"]["value"]
    assert "old" in run.refused_answer(OWNER, request=old)
    run.answer(VALIDATOR)
    run.wait_gate()
    assert not run.entries("approval.granted")


@pytest.mark.stock(18)
def test_airflow_says_nothing_of_a_task_whose_author_wants_that(live):
    client = live.client(USER)
    run = client.trigger("stock_silent")
    for task in ("heard", "silent"):
        assert client.wait_for_task("stock_silent", run, task) == "success"
    said = [(event["job"]["name"], event["eventType"]) for event in live.lineage()]
    assert ("stock_silent.heard", "COMPLETE") in said
    assert "stock_silent.silent" not in {job for job, _ in said}


@pytest.mark.bypass(19)
@pytest.mark.scenario("forged")
def test_what_a_task_writes_with_its_own_key_opens_nothing(run):
    from airflow_mlgov.records.kinds import KeyRole
    from airflow_mlgov.records.people import Person
    from airflow_mlgov.service.ledger import EntryDraft

    request = run.wait_gate()["params"]["request"]["value"]
    ledger = run.live.governance().ledger
    ledger._signer = lambda role, kind: ledger._signers[KeyRole.WRITER]  # whatever the kind
    source = run.entries("approval.requested")[0].source
    forged = {
        "approval.voted": {"request_sha256": request, "choice": "approve"},
        "approval.granted": {"request_sha256": request, "statement": {}},
        "model.resumed": {"stop": f"sha256:{'0' * 64}"},
        "finding.closed": {"finding": "F-00000001"},
    }
    for kind, body in forged.items():
        for who in (OWNER, VALIDATOR) if kind == "approval.voted" else (OWNER,):
            people = {"voter": Person(who, who)} if kind == "approval.voted" else {}
            ledger.append(
                EntryDraft(kind, run.model, run.version, body, (kind, who), people, source=source)
            )
    ledger.drain()
    run.force_states(gate="success")
    assert run.wait("promote", "failed") == "failed"
    assert run.refusals() == ["approval"]
    assert run.alias is None
    assert run.entries("model.resumed") == run.entries("finding.closed") == []
    report = "; ".join(map(str, run.live.governance().ledger.verify().problems))
    assert "may not sign" in report or "key" in report
