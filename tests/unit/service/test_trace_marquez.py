"""What a Marquez shows of a trace's runs, when it is right and when somebody has been at it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import pytest
from lineage_chain import DEVELOPMENT, FEATURES, RAW, SCORES, Chain
from marquez import FakeMarquez
from memory_outbox import MemoryOutbox

from airflow_mlgov.lineage import events
from airflow_mlgov.lineage.datasets import DataRef
from airflow_mlgov.lineage.marquez import MarquezClient
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.trace import Gap, Trace
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score import model_in_use
from airflow_mlgov.service.trace import Tracer

SCORED = ("file", SCORES.dataset.name)


@pytest.fixture
def marquez() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


@pytest.fixture
def used(candidate) -> Chain:
    """A whole chain, approved, promoted and used."""
    chain = Chain(candidate, MemoryOutbox())
    chain.tell_training()
    request = candidate.ask()
    chain.tell_request(request)
    candidate.approve(request)
    chain.tell_decision(request, is_granted=True)
    promote(candidate.gov, candidate.registry, candidate.use())
    with model_in_use(candidate.gov, candidate.registry, candidate.use("score")):
        pass
    chain.tell_use(chain.asked(request))
    return chain


def deliver(chain: Chain, marquez: FakeMarquez, *but: str) -> None:
    """Post events as a shipper does: one after the other, and each once."""
    client, seen = MarquezClient(marquez.url), set()
    for event in chain.sent:
        key = (event["run"]["runId"], event["eventType"])
        if key not in seen and event["run"]["runId"] not in but:
            client.post(json.dumps(event).encode())
        seen.add(key)


def traced(chain: Chain, marquez: FakeMarquez) -> Trace:
    return Tracer(chain.world.gov, chain.outbox, MarquezClient(marquez.url)).from_dataset(*SCORED)


def told_differently(chain: Chain, marquez: FakeMarquez) -> list[tuple[str, str, str]]:
    gaps = traced(chain, marquez).gaps
    assert {gap.where for gap in gaps} <= {"marquez"}
    return [(gap.node.removeprefix("run:"), gap.field, gap.problem) for gap in gaps]


def post_state(marquez: FakeMarquez, run_id: str, word: str) -> None:
    ask = urllib.request.Request(f"{marquez.url}/api/v1/jobs/runs/{run_id}/{word}", method="POST")
    urllib.request.urlopen(ask).close()


def changed(event: dict, **changes: object) -> bytes:
    return json.dumps({**event, **changes}).encode()


def end_of(chain: Chain, task: str) -> dict:
    ended = [e for e in chain.sent if e["job"]["name"] == f"retail_pd.{task}"]
    return next(e for e in ended if e["eventType"] == "COMPLETE")


def test_what_was_delivered_is_shown_as_it_was_sent(used, marquez):
    deliver(used, marquez)
    trace = traced(used, marquez)
    assert trace.gaps == ()
    assert trace == Tracer(used.world.gov, used.outbox, None).from_dataset(*SCORED)


def test_nothing_but_questions_is_sent(used, marquez):
    deliver(used, marquez)
    before = len(marquez.requests)
    traced(used, marquez)
    asked = marquez.requests[before:]
    assert asked
    assert {request.method for request in asked} == {"GET"}


def test_mallory_turns_an_approval_into_a_rejection(used, marquez):
    deliver(used, marquez)
    decide = end_of(used, "gate.decide")
    facet = decide["run"]["facets"]["mlgov_approval"]
    forged = {**facet, "decision": "rejected", "decided_by": "mallory"}
    run = {**decide["run"], "facets": {"mlgov_approval": forged}}
    job = {"namespace": "bank", "name": "mallory.job"}
    client = MarquezClient(marquez.url)
    client.post(changed(decide, run=run, job=job, eventTime="2026-06-02T00:00:00Z", outputs=[]))
    run_id = used.runs["gate.decide"]
    found = told_differently(used, marquez)
    assert (
        run_id,
        "mlgov_approval.decision",
        f"run {run_id}: mlgov_approval.decision is rejected in Marquez, granted was sent",
    ) in found
    assert (
        run_id,
        "mlgov_approval.decided_by",
        f"run {run_id}: mlgov_approval.decided_by is mallory in Marquez, nothing was sent",
    ) in found
    assert (run_id, "end") in {each[:2] for each in found}


def test_a_facet_that_was_never_sent_is_named(used, marquez):
    deliver(used, marquez)
    score = end_of(used, "score")
    facets = {**score["run"]["facets"], "mlgov_approval": {"decision": "granted"}}
    run = {**score["run"], "facets": facets}
    MarquezClient(marquez.url).post(changed(score, run=run))
    (found,) = told_differently(used, marquez)
    assert found[:2] == (used.runs["score"], "mlgov_approval")
    assert found[2].endswith("in Marquez, nothing was sent")


def test_a_state_that_somebody_set_is_named(used, marquez):
    deliver(used, marquez)
    run_id = used.runs["score"]
    post_state(marquez, run_id, "fail")
    found = told_differently(used, marquez)
    assert found[0] == (
        run_id,
        "state",
        f"run {run_id}: state is FAILED in Marquez, COMPLETE was sent",
    )
    assert [each[1] for each in found] == ["state", "end"]


def test_a_run_that_is_missing_is_named_once(used, marquez):
    run_id = used.runs["score"]
    deliver(used, marquez, run_id)
    assert told_differently(used, marquez) == [
        (run_id, "run", f"run {run_id} (retail_pd.score) is missing in Marquez, COMPLETE was sent")
    ]


def test_a_missing_source_breaks_the_audit_query_and_is_no_empty_answer(used, marquez):
    source = next(
        e for e in used.sent if e["outputs"] and e["outputs"][0]["name"] in RAW.dataset.name
    )
    deliver(used, marquez, source["run"]["runId"])
    found = told_differently(used, marquez)
    fields = [each[1] for each in found]
    assert fields == ["run", "upstream"]
    run_id = used.runs["score"]
    assert found[1][0] == run_id
    assert found[1][2].startswith(
        f"Marquez cannot answer the audit query for run {run_id} (HTTP 500): "
    )


def test_a_second_start_that_moved_the_beginning_is_named(used, marquez):
    deliver(used, marquez)
    decide = end_of(used, "gate.decide")
    client = MarquezClient(marquez.url)
    client.post(changed(decide, eventType="START", eventTime="2026-06-01T13:00:00Z"))
    client.post(changed(decide))
    found = told_differently(used, marquez)
    assert [each[:2] for each in found] == [(used.runs["gate.decide"], "start")]
    assert "start is 2026-06-01T13:00:00Z in Marquez" in found[0][2]


def test_a_run_that_still_runs_there_is_named(used, marquez):
    deliver(used, marquez)
    promoted = end_of(used, "promote")
    MarquezClient(marquez.url).post(changed(promoted, eventType="RUNNING"))
    found = told_differently(used, marquez)
    assert (used.runs["promote"], "state") in {each[:2] for each in found}
    assert "state is RUNNING in Marquez, COMPLETE was sent" in found[0][2]


def test_a_forged_input_and_a_hidden_one_are_named(used, marquez):
    deliver(used, marquez)
    score = end_of(used, "score")
    inputs = [*score["inputs"], {"namespace": "file", "name": RAW.dataset.name}]
    MarquezClient(marquez.url).post(changed(score, inputs=inputs))
    found = told_differently(used, marquez)
    assert [each[:2] for each in found] == [(used.runs["score"], "inputs")]
    assert RAW.dataset.name in found[0][2]


def post(marquez: FakeMarquez, *told: dict) -> None:
    client = MarquezClient(marquez.url)
    for event in told:
        client.post(json.dumps(event).encode())


def test_an_input_that_is_not_shown_is_named_and_what_it_leads_to(used, marquez):
    score_id = used.runs["score"]
    for event in used.sent:
        is_score = event["run"]["runId"] == score_id
        features = [e for e in event["inputs"] if e["name"] == FEATURES.dataset.name]
        post(marquez, {**event, "inputs": features} if is_score else event)
    found = told_differently(used, marquez)
    score = end_of(used, "score")
    hidden = [e["name"] for e in score["inputs"] if e["name"] != FEATURES.dataset.name]
    assert [each for each in found if each[1] == "inputs"] == [
        (score_id, "inputs", f"run {score_id}: inputs is without {n} in Marquez, {n} was sent")
        for n in hidden
    ]
    lost = [each[2] for each in found if each[1] == "upstream"]
    assert len(lost) == len(found) - len(hidden) == 7
    assert any(
        f"run {used.runs['train']} (retail_pd.train) is not reached" in said for said in lost
    )


def test_an_input_that_changed_while_it_was_read_is_named(used, marquez):
    *before, end = used.sent
    source = next(
        e for e in before if e["outputs"] and e["outputs"][0]["name"] == FEATURES.dataset.name
    )
    stranger = {**source, "run": {"runId": "00000000-0000-4000-8000-000000000666"}}
    post(marquez, *before, stranger, end)
    found = told_differently(used, marquez)
    run_id, name = used.runs["score"], FEATURES.dataset.name
    assert found[0] == (
        run_id,
        "inputs",
        f"run {run_id}: inputs is {name} in 2 versions in Marquez, one was sent",
    )


def test_a_missing_run_is_not_named_again_by_the_audit_query(used, marquez):
    again = events.prepare([RAW], [DEVELOPMENT])
    run_id = used.run("prepare_again", again)
    deliver(used, marquez, run_id)
    assert [each[:2] for each in told_differently(used, marquez)] == [(run_id, "run")]


def test_an_input_that_another_run_wrote_is_named(used, marquez):
    """As if somebody had posted a file of that name before the reader came."""
    score_id = used.runs["score"]
    before = [e for e in used.sent if e["run"]["runId"] != score_id]
    for event in before:
        MarquezClient(marquez.url).post(json.dumps(event).encode())
    (source,) = (
        e for e in before if e["outputs"] and e["outputs"][0]["name"] == FEATURES.dataset.name
    )
    run = {"runId": "00000000-0000-4000-8000-000000000666"}
    MarquezClient(marquez.url).post(changed(source, run=run))
    for event in used.sent:
        if event["run"]["runId"] == score_id:
            MarquezClient(marquez.url).post(json.dumps(event).encode())
    (found,) = told_differently(used, marquez)
    assert found[:2] == (score_id, "inputs")
    assert f"{FEATURES.dataset.name} of run {run['runId']} in Marquez, that of" in found[2]


def test_a_record_that_a_stranger_wrote_is_named(used, marquez):
    deliver(used, marquez)
    decide = end_of(used, "gate.decide")
    run = {"runId": "00000000-0000-4000-8000-000000000666"}
    MarquezClient(marquez.url).post(changed(decide, run=run))
    gaps = traced(used, marquez).gaps
    (name,) = (each["name"] for each in decide["outputs"])
    assert gaps == (
        Gap(
            "marquez",
            f"run {run['runId']} wrote {name} by Marquez, and the outbox knows nothing of it",
            f"dataset:mlgov:{name}",
            "writer",
        ),
    )


def test_a_job_of_another_name_is_named(used, marquez):
    score = end_of(used, "score")
    used_elsewhere = {**score["job"], "name": "other.score"}
    client = MarquezClient(marquez.url)
    for event in used.sent:
        is_score = event["run"]["runId"] == used.runs["score"]
        client.post(changed(event, job=used_elsewhere if is_score else event["job"]))
    (found,) = told_differently(used, marquez)
    assert found[1] == "job"
    assert "job is bank other.score in Marquez, bank retail_pd.score was sent" in found[2]


def test_a_marquez_that_is_away_is_a_gap(used, marquez):
    marquez.refuse()
    (gap,) = traced(used, marquez).gaps
    assert gap.where == "marquez"
    assert gap.problem.startswith("Marquez cannot be asked, and the rest was not compared: ")


def test_a_running_run_is_compared_as_far_as_it_is(used, marquez):
    out = DataRef("/data/out.csv", Digest.of(b"out"))
    run_id = used.run("copy", events.prepare([RAW], [out]), end=None)
    deliver(used, marquez)
    client = MarquezClient(marquez.url)
    tracer = Tracer(used.world.gov, used.outbox, client)
    assert tracer.from_run(run_id).gaps == ()
    used.at += timedelta(seconds=5)
    post_state(marquez, run_id, "complete")
    assert [gap.field for gap in tracer.from_run(run_id).gaps] == ["state", "end"]
