"""Walks from decisions back to data and approvals, held against a real ledger."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from lineage_chain import DEVELOPMENT, FEATURES, RAW, SCORES, Chain
from memory_outbox import MemoryOutbox

from airflow_mlgov.errors import LedgerUnavailableError, UnknownSubjectError
from airflow_mlgov.lineage import events, names
from airflow_mlgov.lineage.datasets import ApprovalRef, DataRef
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.records.trace import NodeKind, Trace
from airflow_mlgov.service import trace_walk
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.stop import revoke_approval
from airflow_mlgov.service.trace import Tracer
from airflow_mlgov.service.use_break_glass import Emergency, use_break_glass

SCORED = ("file", SCORES.dataset.name)


@pytest.fixture
def chain(candidate) -> Chain:
    """A candidate whose lineage was told up to its validation."""
    found = Chain(candidate, MemoryOutbox())
    found.tell_training()
    return found


@pytest.fixture
def asked(chain):
    request = chain.world.ask()
    chain.tell_request(request)
    return request


@pytest.fixture
def used(chain, asked) -> Chain:
    """The same, approved, promoted and used."""
    chain.world.approve(asked)
    chain.tell_decision(asked, is_granted=True)
    use_it(chain.world)
    chain.tell_use(chain.asked(asked))
    return chain


def use_it(world) -> None:
    promote(world.gov, world.registry, world.use())
    with model_in_use(world.gov, world.registry, world.use("score")):
        pass


def tracer(chain: Chain) -> Tracer:
    return Tracer(chain.world.gov, chain.outbox, None)


def named(trace: Trace) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in trace.nodes:
        found.setdefault(node.kind.value, []).append(node.name)
    return found


def problems(trace: Trace) -> list[str]:
    return [f"{gap.where}: {gap.problem}" for gap in trace.gaps]


def node_of(trace: Trace, kind: NodeKind):
    (found,) = (node for node in trace.nodes if node.kind is kind)
    return found


def test_a_scored_batch_leads_back_to_the_raw_file_and_the_approval(used, asked):
    trace = tracer(used).from_dataset(*SCORED)
    assert problems(trace) == []
    short = asked.digest.short
    found = named(trace)
    assert sorted(found.pop("run")) == [
        f"retail_pd.{job}"
        for job in (
            "check",
            "gate.decide",
            "gate.request",
            "prepare",
            "promote",
            "score",
            "train",
            "validate",
        )
    ]
    assert sorted(found.pop("source")) == [FEATURES.dataset.name, RAW.dataset.name]
    assert sorted(found.pop("data")) == [DEVELOPMENT.dataset.name, SCORES.dataset.name]
    assert [name.rpartition("/")[0] for name in found.pop("report")] == [
        "development/report",
        "retail_pd/1/report",
    ]
    assert found == {
        "model": ["retail_pd/1"],
        "request": [f"retail_pd/1/request/{short}"],
        "approval": [f"retail_pd/1/approval/{short}"],
        "endpoint": [f"retail_pd/1/endpoint/production/{short}"],
    }
    assert [node.name for node in trace.ends] == [SCORES.dataset.name]
    assert node_of(trace, NodeKind.APPROVAL).state == "consumed"
    assert [(a.seat, a.who, a.assurance) for a in trace.answers] == [
        ("model_owner", "olivia", "L1"),
        ("independent_validator", "victor", "L1"),
    ]


def test_the_json_of_a_trace_is_what_programs_read(used, asked):
    trace = tracer(used).from_dataset(*SCORED).as_json()
    assert json.loads(json.dumps(trace)) == trace
    assert sorted(trace) == ["edges", "gaps", "nodes"]
    score, scores = f"run:{used.runs['score']}", f"dataset:file:{SCORES.dataset.name}"
    assert trace["nodes"][0] == {
        "id": scores,
        "kind": "data",
        "name": SCORES.dataset.name,
        "digest": str(SCORES.digest),
        "at": trace["nodes"][1]["at"],
    }
    assert trace["nodes"][1] == {
        "id": score,
        "kind": "run",
        "name": "retail_pd.score",
        "state": "COMPLETE",
        "at": used.sent[-1]["eventTime"].replace("+00:00", ".000Z"),
    }
    assert {"from": score, "to": scores} in trace["edges"]
    assert {"from": "dataset:folder://registry:retail_pd/1", "to": score} in trace["edges"]
    ids = {node["id"] for node in trace["nodes"]}
    assert {end for edge in trace["edges"] for end in edge.values()} == ids
    assert len(trace["nodes"]) == len(ids)
    assert tracer(used).from_dataset(*SCORED).as_json() == trace


def test_a_run_leads_back_too(used):
    trace = tracer(used).from_run(used.runs["train"])
    assert [node.name for node in trace.nodes] == [
        "retail_pd.train",
        DEVELOPMENT.dataset.name,
        "retail_pd.prepare",
        RAW.dataset.name,
    ]
    assert trace.gaps == ()


def test_a_version_is_shown_with_all_that_was_decided_about_it(used, asked):
    trace = tracer(used).from_model("retail_pd", "1")
    assert problems(trace) == []
    found = named(trace)
    assert found["endpoint"] == [f"retail_pd/1/endpoint/production/{asked.digest.short}"]
    assert "retail_pd.score" not in found["run"]
    by_digest = tracer(used).from_model("retail_pd", str(used.world.version))
    assert by_digest == trace


def test_an_open_request_shows_the_decision_running(chain, asked):
    trace = tracer(chain).from_model("retail_pd", "1")
    assert problems(trace) == []
    states = {node.name: node.state for node in trace.nodes}
    assert states["retail_pd.gate.decide"] == "RUNNING"
    assert states[f"retail_pd/1/request/{asked.digest.short}"] == "open"


def test_a_rejection_is_shown_as_one(chain, asked):
    with pytest.raises(Exception, match="rejected"):
        chain.world.answer(asked, "victor", Choice.REJECT)
    chain.tell_decision(asked, is_granted=False)
    trace = tracer(chain).from_model("retail_pd", "1")
    assert problems(trace) == []
    assert node_of(trace, NodeKind.DENIAL).state == "denied"
    assert NodeKind.APPROVAL not in {node.kind for node in trace.nodes}
    assert trace.answers == ()


def test_a_revoked_approval_is_shown_as_one(used, asked):
    revoke_approval(used.world.gov, asked.digest, "wrong data", Person("victor", "victor"))
    trace = tracer(used).from_dataset(*SCORED)
    assert node_of(trace, NodeKind.APPROVAL).state == "revoked"


def test_two_versions_are_told_apart(used, asked):
    world = used.world
    world.train('{"points": [3]}', run_id="run-2")
    world.validate_model(note="second")
    assert world.kinds("model.registered")[-1].body["version"] == "2"
    first = tracer(used).from_model("retail_pd", "1")
    assert problems(first) == []
    second = tracer(used).from_model("retail_pd", "2")
    entries = [world.kinds("model.registered")[-1], world.kinds("model.validated")[-1]]
    report = names.validation_report("retail_pd", "2", used.digests("model.validated")[-1])
    assert problems(second) == [
        f"outbox: no run in the outbox wrote {name}, though it is on record as entry {entry.index} "
        "of the ledger"
        for name, entry in zip(("retail_pd/2", report.name), entries, strict=True)
    ]
    assert "retail_pd/1" not in {node.name for node in second.nodes}


def test_glass_that_was_broken_is_found_in_the_ledger(chain):
    world = chain.world
    world.with_pack(
        "valid_days:",
        "break_glass: {users: [zoe], max_hours: 8, quorum: 1, confirm_within_days: 3}\nvalid_days:",
    )
    emergency = Emergency("retail_pd", world.version, "production", None)
    glass = use_break_glass(world.gov, emergency, "fraud rises by the hour", Person("zoe", "zoe"))
    promote(world.gov, world.registry, world.use(), world.version)
    with model_in_use(world.gov, world.registry, world.use("score")):
        pass
    model = chain.model()
    chain.tell_use(ApprovalRef(model, "production", glass.key, is_emergency=True))
    trace = tracer(chain).from_dataset(*SCORED)
    assert problems(trace) == []
    assert node_of(trace, NodeKind.BREAK_GLASS).state == "unconfirmed"
    other = ApprovalRef(model, "production", Digest.of(b"no glass"), is_emergency=True)
    chain.run("other", events.score(other, [FEATURES], [replace(SCORES, digest=Digest.of(b"o"))]))
    name = f"retail_pd/1/breakglass/{other.request.short}"
    assert any(
        f"ledger holds no emergency {name}" in said
        for said in problems(tracer(chain).from_run(chain.runs["other"]))
    )


def test_an_approval_that_the_ledger_does_not_have_is_forged(chain, asked):
    forged = ApprovalRef(chain.model(), "production", Digest.of(b"forged"))
    chain.run("gate.decide", events.decide(forged, is_granted=True))
    chain.tell_use(forged)
    trace = tracer(chain).from_dataset(*SCORED)
    short = forged.request.short
    unknown = "it is forged, or of another ledger"
    used_it = "(retail_pd.score) used retail_pd/1 by lineage, and the ledger has no such use"
    assert problems(trace) == [
        f"outbox: no run in the outbox wrote retail_pd/1/request/{short}",
        f"ledger: the ledger holds no request retail_pd/1/approval/{short}: {unknown}",
        f"ledger: the ledger holds no promotion retail_pd/1/endpoint/production/{short}: {unknown}",
        f"ledger: the ledger holds no request retail_pd/1/request/{short}: {unknown}",
        f"ledger: run {chain.runs['score']} {used_it}",
    ]
    assert trace.answers == ()


def test_an_approval_of_a_request_that_is_open_is_forged(chain, asked):
    chain.run(
        "gate.decide",
        events.decide(chain.asked(asked), is_granted=True),
        run_id=names.approval_run_id(asked.digest, "decide"),
    )
    trace = tracer(chain).from_model("retail_pd", "1")
    name = f"retail_pd/1/approval/{asked.digest.short}"
    (gap,) = trace.gaps
    assert (gap.where, gap.field) == ("ledger", "decision")
    assert gap.node == f"dataset:mlgov:{name}"
    assert gap.problem == f"{name}: lineage shows granted, the votes in the ledger come to open"


def test_a_decision_of_another_run_is_forged(used, asked):
    used.run("mallory", events.decide(used.asked(asked), is_granted=True))
    trace = tracer(used).from_dataset(*SCORED)
    assert problems(trace) == [
        (
            f"ledger: run {used.runs['mallory']} (retail_pd.mallory) wrote retail_pd/1/approval/"
            f"{asked.digest.short}, which only the gate's run "
            f"{names.approval_run_id(asked.digest, 'decide')} writes"
        )
    ]


def test_a_decision_told_with_other_facts_is_named_by_field(chain, asked):
    chain.world.approve(asked)
    facts = {"decision": "denied", "decided_at": "2026-06-01T00:00:00.000Z"}
    step = events.decide(chain.asked(asked), is_granted=True)
    chain.run(
        "gate.decide",
        replace(step, run_facets={"executionParameters": parameters(facts)}),
        run_id=names.approval_run_id(asked.digest, "decide"),
    )
    trace = tracer(chain).from_model("retail_pd", "1")
    node = f"run:{chain.runs['gate.decide']}"
    assert [(gap.where, gap.node, gap.field) for gap in trace.gaps] == [
        ("ledger", node, "decision"),
        ("ledger", node, "decided_at"),
    ]


def parameters(facts):
    return {"parameters": [{"key": k, "name": k, "value": v} for k, v in facts.items()]}


def test_an_approval_shown_for_another_version_is_named(used, asked):
    """The record of version 1's approval, under the name of version 2's."""
    used.world.train('{"points": [3]}', run_id="run-2")
    event = json.dumps(end_of(used, "gate.decide"))
    name = f"retail_pd/2/approval/{asked.digest.short}"
    used.send(json.loads(event.replace(f"retail_pd/1/approval/{asked.digest.short}", name)))
    fresh = Chain(used.world, MemoryOutbox())
    for each in used.sent:
        if each["job"]["name"] != "retail_pd.gate.decide" or each is used.sent[-1]:
            fresh.send(each)
    trace = tracer(fresh).from_dataset("mlgov", name)
    assert [(gap.where, gap.field) for gap in trace.gaps] == [("ledger", "name")]
    assert trace.gaps[0].problem == f"{name} is {name.replace('/2/', '/1/')} by the ledger"


def test_a_use_that_rests_on_another_approval_is_named(used, asked):
    other = used.world.ask(
        version=used.world.version, source=Source("retail_pd", "run-2", "gate", -1, 1)
    )
    used.tell_request(other)
    used.world.approve(other)
    used.tell_decision(other, is_granted=True)
    used.run("score", events.score(used.asked(other), [FEATURES], [SCORES]), airflow="run-1")
    trace = tracer(used).from_run(used.runs["score"])
    told = [gap for gap in trace.gaps if gap.field == "inputs"]
    assert [gap.where for gap in told] == ["ledger", "ledger"]
    assert (
        f"rests on retail_pd/1/approval/{other.digest.short} by lineage, on "
        f"{asked.digest.short} by the ledger"
    ) in told[0].problem


def test_a_report_of_no_validation_is_forged(chain):
    step = events.validate_model([chain.model()], [DEVELOPMENT], evidence=Digest.of(b"fine"))
    chain.run("validate", step)
    name = names.validation_report("retail_pd", "1", Digest.of(b"fine")).name
    trace = tracer(chain).from_dataset("mlgov", name)
    assert problems(trace) == [
        f"ledger: the ledger holds no validation {name}: it is forged, or of another ledger"
    ]
    assert problems(tracer(chain).from_model("retail_pd", "1")) == problems(trace)


def test_a_record_that_names_no_digest_is_forged(used):
    for record in ("report", "approval"):
        place = {"namespace": "mlgov", "name": f"retail_pd/1/{record}/"}
        event = end_of(used, "prepare")
        run = {"runId": f"00000000-0000-4000-8000-00000000000{len(record)}"}
        used.send({**event, "run": run, "outputs": [place]})
        (told,) = problems(tracer(used).from_dataset("mlgov", place["name"]))
        assert "it is forged, or of another ledger" in told


def test_a_version_that_two_runs_wrote_is_named(chain):
    event = end_of(chain, "train")
    again = {"runId": "00000000-0000-4000-8000-000000000007"}
    chain.send({**event, "run": {**event["run"], **again}})
    trace = tracer(chain).from_dataset("folder://registry", "retail_pd/1")
    both = f"{chain.runs['train']}, {again['runId']}"
    assert problems(trace) == [f"outbox: retail_pd/1 was written by more than one run: {both}"]


def test_of_what_many_wrote_the_first_are_read(chain, monkeypatch):
    monkeypatch.setattr(trace_walk, "WRITERS", 2)
    out = DataRef("/data/out.csv", Digest.of(b"out"))
    for name in ("a", "b", "c"):
        chain.run(f"copy_{name}", events.prepare([RAW], [out]))
    trace = tracer(chain).from_dataset("file", out.dataset.name)
    assert named(trace)["run"] == ["retail_pd.copy_a", "retail_pd.copy_b"]
    assert problems(trace) == [
        f"outbox: only the first 2 events that wrote {out.dataset.name} were read"
    ]


def end_of(chain: Chain, task: str) -> dict:
    ended = [e for e in chain.sent if e["job"]["name"] == f"retail_pd.{task}" and e["outputs"]]
    return ended[0]


def test_what_a_request_rests_on_must_stand_in_lineage(chain):
    asked = chain.world.ask()
    step = events.request(chain.asked(asked), [])
    at = chain.world.kinds("approval.requested")[0].at
    run_id = names.approval_run_id(asked.digest, "request")
    chain.run("gate.request", step, run_id=run_id, times=(at, at))
    found = list(tracer(chain).from_model("retail_pd", "1").gaps)
    assert [(gap.where, gap.field) for gap in found] == [("ledger", "evidence")] * 2


def test_a_version_under_another_digest_is_named(used):
    world = used.world
    world.train('{"points": [3]}', run_id="run-2")
    event = end_of(used, "train")
    altered = json.loads(
        json.dumps(event).replace(str(used.model().manifest), "sha256:" + "7" * 64)
    )
    fresh = Chain(world, MemoryOutbox())
    for each in used.sent:
        fresh.send(altered if each is event else each)
    trace = tracer(fresh).from_dataset("folder://registry", "retail_pd/1")
    assert [(gap.where, gap.field) for gap in trace.gaps] == [("ledger", "digest")]
    assert "sha256:" + "7" * 64 in trace.gaps[0].problem


def test_a_training_that_hides_an_input_is_named(chain):
    other = replace(DEVELOPMENT, digest=Digest.of(b"other"), has_writer=False)
    event = json.dumps(end_of(chain, "train"))
    fresh = Chain(chain.world, MemoryOutbox())
    fresh.run("other", events.prepare([RAW], [other]))
    fresh.send(json.loads(event.replace(DEVELOPMENT.dataset.name, other.dataset.name)))
    trace = tracer(fresh).from_dataset("folder://registry", "retail_pd/1")
    assert [(gap.where, gap.field) for gap in trace.gaps] == [("ledger", "inputs")]
    assert "learnt from development (sha256:1111" in trace.gaps[0].problem


def test_a_use_that_lineage_does_not_show_is_named(used):
    world = used.world
    with model_in_use(world.gov, world.registry, world.use("score", run_id="run-2")):
        pass
    entry = world.kinds("model.scored")[-1]
    on_record = f"entry {entry.index} of the ledger has on record (retail_pd run-2 score)"
    assert problems(tracer(used).from_model("retail_pd", "1")) == [
        f"outbox: no run in the outbox is the use that {on_record}"
    ]


def test_a_use_that_the_ledger_does_not_have_is_named(used, asked):
    """The same task used the same version, in another run of its DAG."""
    step = events.score(used.asked(asked), [FEATURES], [SCORES])
    run_id = used.run("score", step, airflow="run-9")
    no_use = "used retail_pd/1 by lineage, and the ledger has no such use"
    found = problems(tracer(used).from_run(run_id))
    assert found == [f"ledger: run {run_id} (retail_pd.score) {no_use}"]
    run_id = used.run("other", step)  # without Airflow's facet it is known by its job
    found = problems(tracer(used).from_run(run_id))
    assert found == [f"ledger: run {run_id} (retail_pd.other) {no_use}"]
    assert tracer(used).from_run(used.run("score", step)).gaps == ()


def test_uses_are_not_looked_for_among_readers_that_are_not_all(used, monkeypatch):
    world = used.world
    with model_in_use(world.gov, world.registry, world.use("score", run_id="run-2")):
        pass
    monkeypatch.setattr(trace_walk, "READERS", 3)
    assert problems(tracer(used).from_model("retail_pd", "1")) == []


def test_what_nothing_wrote_is_a_gap(chain):
    lost = DataRef("/data/lost.csv", Digest.of(b"lost"), has_writer=True)
    out = DataRef("/data/out.csv", Digest.of(b"out"))
    chain.run("join", events.prepare([lost, RAW], [out]))
    trace = tracer(chain).from_dataset("file", out.dataset.name)
    assert problems(trace) == [f"outbox: no run in the outbox wrote {lost.dataset.name}"]


def test_a_run_that_failed_wrote_what_its_end_says(chain):
    report = Digest.parse(chain.world.kinds("data.validated")[0].body["evidence_sha256"])
    fresh = Chain(chain.world, MemoryOutbox())
    step = events.validate_data(RAW, dataset="development", evidence=report)
    fresh.run("check", step, end="FAIL")
    trace = tracer(fresh).from_dataset("mlgov", names.data_report("development", report).name)
    assert [(node.kind.value, node.state) for node in trace.nodes] == [
        ("report", ""),
        ("run", "FAIL"),
        ("source", ""),
    ]
    assert trace.gaps == ()


def test_only_an_end_writes(chain):
    out = DataRef("/data/out.csv", Digest.of(b"out"))
    chain.run("join", events.prepare([RAW], [out]))
    event = dict(chain.sent[-1])
    fresh = Chain(chain.world, MemoryOutbox())
    fresh.send({**event, "eventType": "RUNNING"})
    trace = tracer(fresh).from_dataset("file", out.dataset.name)
    assert [node.kind for node in trace.nodes] == [NodeKind.DATA]
    assert len(trace.gaps) == 1


def test_an_end_that_comes_after_the_end_is_a_gap_and_changes_nothing(used):
    before = tracer(used).from_dataset(*SCORED)
    event = end_of(used, "score")
    used.send({**event, "eventType": "FAIL", "outputs": [], "eventTime": "2026-06-02T00:00:00Z"})
    trace = tracer(used).from_dataset(*SCORED)
    assert trace.nodes == before.nodes
    (gap,) = trace.gaps
    assert (gap.where, gap.node, gap.field) == ("outbox", f"run:{used.runs['score']}", "state")


def test_circles_end(chain):
    one, two = (DataRef(f"/data/{n}.csv", Digest.of(n.encode())) for n in ("one", "two"))
    one, two = replace(one, has_writer=True), replace(two, has_writer=True)
    chain.run("forth", events.prepare([one], [two]))
    chain.run("back", events.prepare([two], [one]))
    trace = tracer(chain).from_dataset("file", one.dataset.name)
    assert [node.name for node in trace.nodes] == [
        one.dataset.name,
        "retail_pd.back",
        two.dataset.name,
        "retail_pd.forth",
    ]
    assert [node.name for node in trace.ends] == [one.dataset.name]
    assert trace.gaps == ()


def test_a_long_way_ends_with_a_gap(chain, monkeypatch):
    monkeypatch.setattr(trace_walk, "MAX_DEPTH", 5)
    steps = [DataRef(f"/data/{n}.csv", Digest.of(b"%d" % n), has_writer=True) for n in range(9)]
    for one, other in pairwise(steps):
        chain.run(f"step{one.uri[6]}", events.prepare([one], [other]))
    trace = tracer(chain).from_dataset("file", steps[-1].dataset.name)
    assert len([node for node in trace.nodes if node.kind is NodeKind.RUN]) == 5
    assert "the walk ended at" in problems(trace)[0]


def test_sources_are_registered_by_many_and_shown_once(chain):
    for name in ("a", "b", "c"):
        out = DataRef(f"/data/{name}.csv", Digest.of(name.encode()))
        chain.run(f"copy_{name}", events.prepare([RAW], [out]))
    trace = tracer(chain).from_run(chain.runs["copy_c"])
    assert [node.kind.value for node in trace.nodes] == ["run", "source"]


def test_events_of_other_tools_do_no_harm(chain):
    strange = [
        {"inputs": None, "outputs": 7, "eventTime": "yesterday"},
        {"inputs": [{"namespace": "n", "name": "x", "facets": []}, 7, {"name": "y"}]},
        {"run": {"runId": "r", "facets": 7}, "job": None},
        {"run": {"runId": "r", "facets": {"airflow": [], "parent": 7, "executionParameters": 7}}},
        {"outputs": [{"namespace": "n", "name": "o", "facets": {"datasetType": 7, "version": 7}}]},
    ]
    for number, more in enumerate(strange):
        event = {"run": {"runId": "r"}, "eventType": "RUNNING", "job": {"name": 7}} | more
        chain.outbox.append([OutboxItem(f"{number:064}", json.dumps(event).encode())], chain.at)
    end = {"run": {"runId": "r"}, "eventType": "COMPLETE", **strange[-1]}
    chain.outbox.append([OutboxItem("f" * 64, json.dumps(end).encode())], chain.at)
    trace = tracer(chain).from_dataset("n", "o")
    assert [node.name for node in trace.nodes] == ["o", "", "x"]


def test_unknown_subjects_are_errors(used):
    found = tracer(used)
    with pytest.raises(UnknownSubjectError, match="no event about the dataset"):
        found.from_dataset("file", "/nowhere")
    with pytest.raises(UnknownSubjectError, match="no event of the run"):
        found.from_run("00000000-0000-0000-0000-000000000000")
    with pytest.raises(UnknownSubjectError, match="not in the inventory"):
        found.from_model("unknown", "1")
    with pytest.raises(UnknownSubjectError, match="no version '9'") as caught:
        found.from_model("retail_pd", "9")
    assert "Registered are: 1." in caught.value.remedy


def test_events_that_nobody_numbered_are_numbered_or_named(used):
    late = DataRef("/data/late.csv", Digest.of(b"late"))
    run = used.run("late", events.prepare([RAW], [late]))
    appended = MemoryOutbox()
    appended.append([OutboxItem.of(event) for event in used.sent], used.at)
    assert Tracer(used.world.gov, appended, None).from_run(run).gaps == ()

    class ReadOnly(MemoryOutbox):
        def take(self) -> int:
            raise LedgerUnavailableError("permission denied")

    read_only = ReadOnly()
    read_only.append([OutboxItem.of(event) for event in used.sent], used.at)
    MemoryOutbox.take(read_only)
    trace = Tracer(used.world.gov, read_only, None).from_run(run)
    assert "not numbered yet" in problems(trace)[0]


def test_a_whole_run_as_it_is_sent_is_walked(world):
    """The very events that the tests of lineage hold against OpenLineage's schemas."""
    file = Path(__file__).parents[1] / "lineage" / "conftest.py"
    spec = importlib.util.spec_from_file_location("conftest_of_lineage", file)
    lineage = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = lineage
    spec.loader.exec_module(lineage)
    told = Chain(world, MemoryOutbox())
    for event in lineage.Recorder().whole(lineage.finished_steps()):
        told.send(event)
    trace = tracer(told).from_dataset("file", lineage.SCORES.dataset.name)
    kinds = [node.kind.value for node in trace.nodes]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "data": 1,
        "run": 7,
        "model": 1,
        "approval": 1,
        "endpoint": 1,
        "source": 3,
        "request": 1,
        "report": 2,
    }
    assert {gap.where for gap in trace.gaps} == {"ledger"}
