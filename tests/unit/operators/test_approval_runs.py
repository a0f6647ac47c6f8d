"""The gate's own runs, on a real ledger; events are caught where the provider sends them."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openlineage.client.serde import Serde

from airflow_mlgov.errors import ApprovalDeniedError, LedgerIntegrityError
from airflow_mlgov.operators import approval_runs
from airflow_mlgov.operators.approval_runs import ApprovalRuns
from airflow_mlgov.operators.lineage_records import approval_in_use
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.service.request_approval import Question, request_approval
from airflow_mlgov.service.vote import count_votes
from airflow_mlgov.stores.sqlite import SqliteOutbox

TESTS = Path(__file__).resolve().parents[2]


def load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


service = load("service_world", TESTS / "unit" / "service" / "conftest.py")
lineage = load("lineage_of_approvals", TESTS / "unit" / "lineage" / "conftest.py")
world = service.world
candidate = service.candidate
checks, schemas = lineage.checks, lineage.schemas


def gate(world: Any) -> ApprovalRuns:
    run = SimpleNamespace(
        logical_date=datetime(2026, 6, 1, tzinfo=UTC), clear_number=0, conf={}, run_id="run-1"
    )
    instance = SimpleNamespace(
        dag_id="retail_pd", task_id="gate", run_id="run-1", try_number=1, map_index=-1, dag_run=run
    )
    instance.get_template_context = lambda: {"dag_run": run}
    return ApprovalRuns(SimpleNamespace(), {"ti": instance}, world.gov)  # type: ignore[arg-type]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(ApprovalRuns, "_is_wanted", lambda self: True)
    monkeypatch.setattr(
        "airflow.providers.openlineage.api.emit",
        lambda event: found.append(json.loads(Serde.to_json(event))),
    )
    return found


def told(event: dict[str, Any]) -> tuple[str, str]:
    return event["job"]["name"], event["eventType"]


def names(datasets: list[dict[str, Any]]) -> list[str]:
    return sorted(dataset["name"] for dataset in datasets)


def test_a_request_is_a_moment_and_the_decision_waits_from_then_on(
    candidate: Any, sent: Any
) -> None:
    request = candidate.ask()
    gate(candidate).tell_request(request)
    assert [told(event) for event in sent] == [
        ("retail_pd.gate.request", "START"),
        ("retail_pd.gate.request", "COMPLETE"),
        ("retail_pd.gate.decide", "START"),
    ]
    asked = candidate.kinds("approval.requested")[0].at
    assert {event["eventTime"] for event in sent} == {asked.isoformat()}
    short = request.digest.short
    assert names(sent[1]["outputs"]) == [f"retail_pd/1/request/{short}"]
    assert names(sent[0]["inputs"]) == names(sent[1]["inputs"])
    assert sent[0]["outputs"] == sent[2]["outputs"] == []
    kinds = {name.split("/")[-2] for name in names(sent[1]["inputs"]) if "/report/" in name}
    assert kinds == {"report"}
    assert [n.rpartition("/")[0] for n in names(sent[1]["inputs"])] == [
        "development/report", "retail_pd", "retail_pd/1/report"
    ]  # fmt: skip
    assert names(sent[2]["inputs"]) == [f"retail_pd/1/request/{short}"]


def test_a_grant_ends_the_decision_at_the_deciding_vote(candidate: Any, sent: Any) -> None:
    request = candidate.ask()
    runs = gate(candidate)
    runs.tell_request(request)
    candidate.answer(request, "olivia")
    runs.tell_decision(request)
    assert len(sent) == 3, "one seat is still open"
    candidate.answer(request, "victor")
    runs.tell_decision(request)
    end = sent[-1]
    assert told(end) == ("retail_pd.gate.decide", "COMPLETE")
    assert end["run"]["runId"] == sent[2]["run"]["runId"] != sent[0]["run"]["runId"]
    assert end["eventTime"] == candidate.kinds("approval.voted")[-1].at.isoformat()
    assert names(end["outputs"]) == [f"retail_pd/1/approval/{request.digest.short}"]
    assert "olivia" not in json.dumps(sent)
    assert "victor" not in json.dumps(sent)


def test_a_rejection_leaves_a_denial_and_no_approval(candidate: Any, sent: Any) -> None:
    request = candidate.ask()
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(request, "victor", Choice.REJECT)
    gate(candidate).tell_decision(request)
    assert names(sent[-1]["outputs"]) == [f"retail_pd/1/denial/{request.digest.short}"]


def test_a_cleared_gate_sends_the_very_same_events(candidate: Any, sent: Any) -> None:
    request = candidate.ask()
    candidate.approve(request)
    for _ in range(2):
        gate(candidate).tell_request(candidate.ask())
        gate(candidate).tell_decision(request)
    assert sent[:4] == sent[4:]
    assert sent[-1]["eventType"] == "COMPLETE"


def approval(event: dict[str, Any]) -> dict[str, Any]:
    facet = event["run"]["facets"]["mlgov_approval"]
    return {name: value for name, value in facet.items() if not name.startswith("_")}


def test_a_decision_states_what_was_asked_what_was_decided_and_when(
    candidate: Any, sent: Any, schemas: Any
) -> None:
    request = candidate.ask()
    gate(candidate).tell_request(request)
    candidate.approve(request)
    gate(candidate).tell_decision(request)
    for event in sent:
        schemas.check_event(event, "event")
    asked, waiting, decided = (approval(event) for event in sent[1:])
    seats = [
        {"role": "model_owner", "needed": 1, "filled": 0},
        {"role": "independent_validator", "needed": 1, "filled": 0},
    ]
    assert asked == waiting == {
        "model": "retail_pd",
        "version": str(request.version),
        "target": "production",
        "request_sha256": str(request.digest),
        "policy_sha256": str(request.policy),
        "evidence": [{"kind": kind, "sha256": str(sha256)} for kind, sha256 in request.evidence],
        "decision": "open",
        "requested_at": asked["requested_at"],
        "seats": seats,
    }  # fmt: skip
    assert datetime.fromisoformat(asked["requested_at"]).isoformat() == sent[1]["eventTime"]
    assert datetime.fromisoformat(decided["decided_at"]).isoformat() == sent[3]["eventTime"]
    assert (decided["decision"], decided["waited_s"], decided["least_assurance"]) == (
        "granted",
        2.0,
        "L1",
    )
    assert [seat["filled"] for seat in decided["seats"]] == [1, 1]
    assert decided["expires_at"] > decided["decided_at"]


def test_a_rejection_says_why_and_names_nobody(candidate: Any, sent: Any, schemas: Any) -> None:
    request = candidate.ask()
    with pytest.raises(ApprovalDeniedError):
        candidate.answer(request, "victor", Choice.REJECT, "the AUC of olivia's model fell")
    gate(candidate).tell_decision(request)
    schemas.check_event(sent[-1], "event")
    facet = approval(sent[-1])
    assert (facet["decision"], facet["denied_because"]) == ("denied", "rejected by an approver")
    assert "expires_at" not in facet
    assert not [name for name in ("victor", "olivia", "erin", "AUC") if name in json.dumps(facet)]


def test_conditions_are_stated_without_a_column_for_a_key(
    world: Any, sent: Any, schemas: Any
) -> None:
    world.with_pack(
        "seats:\n",
        "conditions: {end_date: true, max_rows_per_run: true, data_validation: true, "
        'segments: {token: ["1", "2"]}}\nseats:\n',
    )
    for step in (world.validate_data, world.train, world.validate_model):
        step()
    request = world.ask()
    bound = Conditions(date(2027, 1, 31), 10, (("token", ("1",)),), data_validation=True)
    for who in ("olivia", "victor"):
        person = service.Person(who, who)
        choice = service.Choice.APPROVE_WITH_CONDITIONS
        text = str(request.digest)
        service.cast_vote(
            world.gov,
            service.Ballot(
                request.digest, world.GATE, text, choice, "limits hold", person, conditions=bound
            ),
        )
    gate(world).tell_decision(request)
    schemas.check_event(sent[-1], "event")
    assert approval(sent[-1])["conditions"] == {
        "end_date": "2027-01-31",
        "max_rows_per_run": 10,
        "segments": [{"column": "token", "values": ["1"]}],
        "data_validation": True,
    }


def test_the_decision_keeps_a_copy_of_the_checkpoint_under_which_it_was_counted(
    candidate: Any, sent: Any
) -> None:
    request = candidate.ask()
    gate(candidate).tell_request(request)
    candidate.approve(request)
    gate(candidate).tell_decision(request)
    # What is kept together with its entry cannot name the checkpoint that covers that entry.
    assert not any("mlgov_checkpoint" in event["run"]["facets"] for event in sent[:3])
    facet = sent[3]["run"]["facets"]["mlgov_checkpoint"]
    vote = candidate.kinds("approval.voted")[-1]
    assert (facet["entry_kind"], facet["entry_key"], facet["entry_index"]) == (
        "approval.voted",
        vote.key,
        vote.index,
    )
    assert facet["origin"] == candidate.gov.ledger.origin
    newest = candidate.gov.ledger.checkpoint()
    assert (facet["size"], facet["root_hash"]) == (newest.size, newest.root_hash)


def test_after_the_votes_a_request_is_told_as_it_was_asked(candidate: Any, sent: Any) -> None:
    request = candidate.ask()
    gate(candidate).tell_request(request)
    candidate.approve(request)
    gate(candidate).tell_request(request)
    assert sent[:3] == sent[3:]


def outbox_beside(world: Any) -> SqliteOutbox:
    outbox = SqliteOutbox(world.gov.ledger._store.path)
    outbox.take()
    return outbox


def ask_with_lineage(world: Any, lineage: Any) -> Any:
    question = Question("retail_pd", "production", None, world.GATE, world.ERIN)
    return request_approval(world.gov, question, lineage)


def test_the_events_of_a_request_are_kept_in_one_transaction_with_its_entry(
    candidate: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_runs, "goes_to_outbox", lambda: True)
    candidate.clock.moment += timedelta(microseconds=1234)
    runs = gate(candidate)
    request = ask_with_lineage(candidate, runs.kept_with)
    kept = [each.decoded() for each in outbox_beside(candidate).events(0, 10)]
    runs.tell_request(request)
    assert kept == sent
    assert [told(event) for event in kept] == [
        ("retail_pd.gate.request", "START"),
        ("retail_pd.gate.request", "COMPLETE"),
        ("retail_pd.gate.decide", "START"),
    ]
    assert ask_with_lineage(candidate, runs.kept_with) == request
    assert outbox_beside(candidate).take() == 0


def test_the_event_of_a_decision_is_kept_in_one_transaction_with_its_entry(
    candidate: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_runs, "goes_to_outbox", lambda: True)
    runs = gate(candidate)
    request = candidate.ask()
    for who in ("olivia", "victor"):
        candidate.vote(request, who)
        count_votes(candidate.gov, request, runs.kept_with_decision)
    (kept,) = [each.decoded() for each in outbox_beside(candidate).events(0, 10)]
    runs.tell_decision(request)
    assert told(kept) == ("retail_pd.gate.decide", "COMPLETE")
    assert approval(kept)["decision"] == "granted"
    for event in (kept, *sent):
        event["run"]["facets"].pop("mlgov_checkpoint")  # a later one is told afterwards
    assert sent == [kept]


def test_a_request_that_is_not_kept_leaves_no_events(
    candidate: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_runs, "goes_to_outbox", lambda: True)
    with closing(sqlite3.connect(candidate.gov.ledger._store.path)) as db, db:
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(LedgerIntegrityError):
        ask_with_lineage(candidate, gate(candidate).kept_with)
    assert outbox_beside(candidate).events(0, 10) == []


@pytest.mark.parametrize("elsewhere", [False, None])
def test_where_events_go_elsewhere_or_lineage_fails_the_request_is_kept_alone(
    candidate: Any, sent: Any, monkeypatch: pytest.MonkeyPatch, elsewhere: bool | None
) -> None:
    def answer() -> bool:
        if elsewhere is None:
            raise RuntimeError("no transport")
        return elsewhere

    monkeypatch.setattr(approval_runs, "goes_to_outbox", answer)
    assert ask_with_lineage(candidate, gate(candidate).kept_with)
    assert outbox_beside(candidate).events(0, 10) == []


def test_both_runs_name_the_gate_as_parent(candidate: Any, sent: Any) -> None:
    gate(candidate).tell_request(candidate.ask())
    for event in sent:
        parent = event["run"]["facets"]["parent"]
        assert parent["job"]["name"] == "retail_pd.gate"
        assert parent["root"]["job"]["name"] == "retail_pd"


def test_a_broken_transport_does_not_touch_the_gate(
    candidate: Any, sent: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def broken(event: Any) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr("airflow.providers.openlineage.api.emit", broken)
    gate(candidate).tell_request(candidate.ask())
    assert "no route to host" in caplog.text


def test_without_a_listener_nothing_is_looked_up(
    candidate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_runs, "is_listening", lambda: False)
    request = candidate.ask()
    monkeypatch.setattr(candidate.gov.ledger, "view", None)
    gate(candidate).tell_request(request)
    gate(candidate).tell_decision(request)


def test_the_approval_in_use_is_the_last_promotion_to_that_alias(candidate: Any) -> None:
    from airflow_mlgov.service.promote import promote

    request = candidate.ask()
    candidate.approve(request)
    found = lambda alias: approval_in_use(  # noqa: E731
        candidate.gov,
        candidate.gov.ledger.view(),
        model="retail_pd",
        target="production",
        alias=alias,
    )
    assert found("champion") is None
    promote(candidate.gov, candidate.registry, candidate.use())
    asked = found("champion")
    assert asked is not None
    assert (asked.request, asked.version.manifest) == (request.digest, candidate.version)
    assert asked.version.owner == "olivia"
    assert found("shadow") is None


def test_a_promotion_names_the_version_that_it_replaces(candidate: Any, schemas: Any) -> None:
    from airflow_mlgov.operators.lineage_records import asked_for, deployment_of
    from airflow_mlgov.service.promote import promote

    def promoted(run_id: str, content: str) -> Any:
        version = candidate.train(content, run_id=run_id)
        candidate.validate_model(run_id)
        gate_of_run = replace(candidate.GATE, run_id=run_id)
        request = candidate.ask(source=gate_of_run)
        candidate.approve(request)
        promote(candidate.gov, candidate.registry, candidate.use(run_id=run_id))
        view = candidate.gov.ledger.view()
        asked = asked_for(candidate.gov, view, request)
        made = deployment_of(view, asked, registry="folder", alias="champion")
        event = lineage.complete_event(lineage.events.promote(asked, made))
        schemas.check_event(event, "promote")
        return version, event["outputs"][0]["facets"]["mlgov_deployment"]

    first, told_first = promoted("run-1", '{"points": [1, 2]}')
    second, told_second = promoted("run-2", '{"points": [7]}')
    assert "replaces" not in told_first
    assert told_second["replaces"] == str(first) != str(second) == told_second["version"]
    entry = candidate.kinds("model.promoted")[1]
    assert datetime.fromisoformat(told_second["promoted_at"]) == entry.at
    assert told_second["alias"] == "champion"
