"""The gate's own runs, on a real ledger; events are caught where the provider sends them."""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openlineage.client.serde import Serde

from airflow_mlgov.errors import ApprovalDeniedError
from airflow_mlgov.operators import approval_runs
from airflow_mlgov.operators.approval_runs import ApprovalRuns
from airflow_mlgov.operators.lineage_records import approval_in_use
from airflow_mlgov.records.governance import Choice

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
world = service.world
candidate = service.candidate


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
