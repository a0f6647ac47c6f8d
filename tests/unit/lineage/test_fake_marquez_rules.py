"""What a real Marquez was seen to do and no recording holds, and the ways to make the fake fail."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from marquez import FakeMarquez

POSTED = "/api/v1/lineage"


@pytest.fixture
def fake() -> Iterator[FakeMarquez]:
    with FakeMarquez() as server:
        yield server


def ask(fake: FakeMarquez, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(fake.url + path, data, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def at(minute: int) -> str:
    return f"2026-11-23T03:{minute:02}:00Z"


def ds(name: str, namespace: str = "file", **facets: Any) -> dict[str, Any]:
    return {"namespace": namespace, "name": name} | ({"facets": facets} if facets else {})


class Run:
    """Sends the events of one run."""

    def __init__(self, fake: FakeMarquez, job: str, **facets: Any) -> None:
        self.fake, self.job, self.facets, self.id = fake, job, facets, str(uuid4())

    def event(self, kind: str, minute: int, read: Any = (), wrote: Any = ()) -> dict[str, Any]:
        return {
            "eventType": kind,
            "eventTime": at(minute),
            "producer": "https://example.org/x",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": self.id, "facets": self.facets},
            "job": {"namespace": "bank", "name": self.job},
            "inputs": [ds(each) if isinstance(each, str) else each for each in read],
            "outputs": [ds(each) if isinstance(each, str) else each for each in wrote],
        }

    def send(self, kind: str, minute: int, read: Any = (), wrote: Any = ()) -> int:
        return ask(self.fake, "POST", POSTED, self.event(kind, minute, read, wrote))[0]

    def whole(self, minute: int, read: Any = (), wrote: Any = ()) -> None:
        assert self.send("START", minute, read, wrote) == 201
        assert self.send("COMPLETE", minute + 1, read, wrote) == 201

    def seen(self) -> dict[str, Any]:
        status, found = ask(self.fake, "GET", f"/api/v1/jobs/runs/{self.id}")
        assert status == 200
        return dict(found)

    def upstream(self) -> tuple[int, Any]:
        return ask(self.fake, "GET", f"/api/v1/runlineage/upstream?runId={self.id}&depth=9")


def dataset(fake: FakeMarquez, name: str, rest: str = "") -> Any:
    path = f"/api/v1/namespaces/file/datasets/{quote(name, safe='')}{rest}"
    return ask(fake, "GET", path)[1]


def parent_of(run: Run, job: str) -> dict[str, Any]:
    return {"run": {"runId": run.id}, "job": {"namespace": "bank", "name": job}}


def test_a_reader_before_its_writer_has_completed_breaks_the_audit_query(fake: FakeMarquez) -> None:
    writer, reader = Run(fake, "write"), Run(fake, "read")
    assert writer.send("START", 1, (), ["a"]) == 201
    reader.whole(2, ["a"], ["b"])
    assert writer.send("COMPLETE", 4, (), ["a"]) == 201
    assert reader.upstream()[0] == 500
    assert writer.upstream()[0] == 200


def test_a_reader_binds_what_is_current_at_each_of_its_events(fake: FakeMarquez) -> None:
    Run(fake, "write").whole(1, (), ["a"])
    reader = Run(fake, "read")
    assert reader.send("START", 3, ["a"]) == 201
    Run(fake, "write").whole(4, (), ["a"])
    assert reader.send("COMPLETE", 6, ["a"]) == 201
    assert len(reader.seen()["inputDatasetVersions"]) == 2
    assert len(reader.upstream()[1]["runs"]) == 3


def test_a_failed_writer_changes_nothing_for_readers(fake: FakeMarquez) -> None:
    first, second = Run(fake, "write"), Run(fake, "write")
    first.whole(1, (), ["a"])
    assert second.send("FAIL", 3, (), ["a"]) == 201
    reader = Run(fake, "read")
    reader.whole(4, ["a"])
    (read,) = reader.upstream()[1]["runs"][0]["inputs"]
    assert read["producedByRunId"] == first.id


def test_two_events_of_a_run_at_once_leave_it_running(fake: FakeMarquez) -> None:
    fake.slow_s = 0.2
    run = Run(fake, "write")
    sent = [
        threading.Thread(target=run.send, args=(kind, minute))
        for kind, minute in (("START", 1), ("COMPLETE", 2))
    ]
    for each in sent:
        each.start()
    for each in sent:
        each.join()
    assert fake.overlapped == {run.id}
    assert fake.max_concurrent == 2
    assert run.seen()["state"] == "RUNNING"


def test_one_event_after_the_other_overlaps_nothing(fake: FakeMarquez) -> None:
    run = Run(fake, "write")
    run.whole(1)
    assert (fake.overlapped, fake.max_concurrent) == (set(), 1)
    assert run.seen()["state"] == "COMPLETED"


def test_running_moves_the_start(fake: FakeMarquez) -> None:
    run = Run(fake, "wait")
    assert run.send("START", 1) == 201
    assert run.send("RUNNING", 9) == 201
    assert run.send("COMPLETE", 10) == 201
    assert run.seen()["startedAt"] == at(9)
    assert run.seen()["durationMs"] == 60_000


def test_whoever_lists_an_output_becomes_its_producer(fake: FakeMarquez) -> None:
    Run(fake, "train").whole(1, (), ["m/7"])
    tagger, scorer = Run(fake, "tag"), Run(fake, "score")
    tagger.whole(3, (), ["m/7"])
    scorer.whole(5, ["m/7"])
    (read,) = scorer.upstream()[1]["runs"][0]["inputs"]
    assert read["producedByRunId"] == tagger.id


def edges(fake: FakeMarquez, job: str) -> tuple[list[Any], list[Any]]:
    found = ask(fake, "GET", f"/api/v1/namespaces/bank/jobs/{job}")[1]
    return found["inputs"], found["outputs"]


def test_edges_come_with_the_end_and_go_with_an_empty_start(fake: FakeMarquez) -> None:
    Run(fake, "source").whole(1, (), ["a"])
    run = Run(fake, "job")
    assert run.send("START", 3, ["a"], ["b"]) == 201
    assert edges(fake, "job") == ([], [])
    assert run.send("COMPLETE", 4, ["a"], ["b"]) == 201
    assert edges(fake, "job") == ([ds("a")], [ds("b")])
    assert run.send("START", 5) == 201
    assert edges(fake, "job") == ([], [])


def test_a_schema_that_comes_late_makes_two_versions(fake: FakeMarquez) -> None:
    run = Run(fake, "write")
    assert run.send("START", 1, (), ["a"]) == 201
    late = ds("a", schema={"fields": [{"name": "pd", "type": "double"}]})
    assert run.send("COMPLETE", 2, (), [late]) == 201
    assert dataset(fake, "a", "/versions")["totalCount"] == 2
    again = Run(fake, "write")
    again.whole(3, (), ["b"])
    assert dataset(fake, "b", "/versions")["totalCount"] == 1


def test_the_description_goes_with_the_next_event(fake: FakeMarquez) -> None:
    told = ds("a", documentation={"description": "A model card."})
    Run(fake, "write").whole(1, (), [told])
    assert dataset(fake, "a")["description"] == "A model card."
    Run(fake, "read").whole(3, ["a"])
    assert dataset(fake, "a")["description"] is None
    assert dataset(fake, "a")["facets"]["documentation"] == {"description": "A model card."}


def test_output_facets_belong_to_the_run(fake: FakeMarquez) -> None:
    run = Run(fake, "write")
    run.whole(1, (), [ds("a") | {"outputFacets": {"outputStatistics": {"rowCount": 3}}}])
    (wrote,) = run.seen()["outputDatasetVersions"]
    assert wrote["facets"] == {"outputStatistics": {"rowCount": 3}}
    assert dataset(fake, "a")["facets"] == {}


def test_a_bad_namespace_in_a_symlink_breaks_the_lists(fake: FakeMarquez) -> None:
    alias = {"identifiers": [{"namespace": "not a name", "name": "x", "type": "TABLE"}]}
    assert Run(fake, "write").send("START", 1, (), [ds("a", symlinks=alias)]) == 201
    assert fake.is_poisoned
    for path in ("namespaces", "jobs", "namespaces/bank/jobs"):
        assert ask(fake, "GET", f"/api/v1/{path}")[0] == 500
    assert ask(fake, "GET", "/api/v1/events/lineage")[0] == 200


def test_a_bad_namespace_of_an_input_is_only_refused(fake: FakeMarquez) -> None:
    run = Run(fake, "read")
    assert run.send("START", 1, [ds("a", "not a name")]) == 400
    assert not fake.is_poisoned
    assert ask(fake, "GET", f"/api/v1/jobs/runs/{run.id}")[0] == 404
    assert len(fake.events) == 1


def test_a_refused_end_leaves_the_raw_event_and_half_of_the_rest(fake: FakeMarquez) -> None:
    run = Run(fake, "write")
    assert run.send("COMPLETE", 1, (), [ds("a", "not a name")]) == 400
    assert len(fake.events) == 1
    assert run.seen()["state"] == "COMPLETED"
    assert run.seen()["jobVersion"] is None


def test_an_alias_of_two_versions_is_the_first(fake: FakeMarquez) -> None:
    alias = {"identifiers": [{"namespace": "file", "name": "champion", "type": "TABLE"}]}
    first, reader = Run(fake, "train"), Run(fake, "score")
    first.whole(1, (), [ds("m/6", symlinks=alias)])
    Run(fake, "train").whole(3, (), [ds("m/7", symlinks=alias)])
    reader.whole(5, ["champion"])
    (read,) = reader.upstream()[1]["runs"][0]["inputs"]
    assert (read["name"], read["producedByRunId"]) == ("m/6", first.id)


def test_a_digit_after_a_namespace_with_a_colon_is_taken_for_a_port(fake: FakeMarquez) -> None:
    Run(fake, "train").whole(1, (), [ds("7/m", "mlflow://h:5000"), ds("m/7", "mlflow://h:5000")])
    node = quote("dataset:mlflow://h:5000:m/7")
    assert ask(fake, "GET", f"/api/v1/lineage?nodeId={node}")[0] == 200
    node = quote("dataset:mlflow://h:5000:7/m")
    assert ask(fake, "GET", f"/api/v1/lineage?nodeId={node}")[0] == 500


def test_a_nul_is_an_error_and_nothing_is_kept(fake: FakeMarquez) -> None:
    assert Run(fake, "write").send("START", 1, (), ["a\0b"]) == 500
    assert fake.events == []


def test_incomplete_facets_are_refused(fake: FakeMarquez) -> None:
    run = Run(fake, "child", parent={"run": {"runId": str(uuid4())}})
    status, said = ask(fake, "POST", POSTED, run.event("START", 1))
    assert status == 422
    assert "run.facets.parent.job.name must not be null" in said["errors"]
    assert fake.events == []


def test_the_parent_is_made_in_the_namespace_of_the_child(fake: FakeMarquez) -> None:
    dag = Run(fake, "dag")
    child = Run(fake, "dag.task", parent=parent_of(dag, "dag"))
    assert child.send("START", 1) == 201
    assert child.send("COMPLETE", 2) == 201
    assert dag.seen()["state"] == "RUNNING"  # its first child's; nothing ends it
    found = ask(fake, "GET", "/api/v1/namespaces/bank/jobs/dag.task")[1]
    assert (found["simpleName"], found["parentJobName"]) == ("task", "dag")
    assert child.seen()["state"] == "COMPLETED"
    other = Run(fake, "extract", parent=parent_of(dag, "dag"))
    assert other.send("START", 3) == 201
    assert ask(fake, "GET", "/api/v1/namespaces/bank/jobs/dag.extract")[0] == 200


def test_a_job_in_the_graph_has_the_colour_of_its_parents_run(fake: FakeMarquez) -> None:
    dag = Run(fake, "dag")
    child = Run(fake, "dag.task", parent=parent_of(dag, "dag"))
    child.whole(1, (), ["a"])
    assert dag.send("COMPLETE", 3) == 201
    node = quote("job:bank:dag.task")
    graph = ask(fake, "GET", f"/api/v1/lineage?nodeId={node}")[1]["graph"]
    (job,) = (each for each in graph if each["type"] == "JOB")
    assert job["data"]["currentRunUuid"] == dag.id
    assert job["data"]["latestRun"]["state"] == "COMPLETED"


def test_a_large_event_is_taken_and_comes_back(fake: FakeMarquez) -> None:
    run = Run(fake, "write", mlgov_large={"text": "x" * 1_000_000})
    run.whole(1)
    path = f"/api/v1/jobs/runs/{run.id}/facets?type=run"
    assert len(ask(fake, "GET", path)[1]["facets"]["mlgov_large"]["text"]) == 1_000_000


def test_events_from_2030_on_are_hidden_and_counted(fake: FakeMarquez) -> None:
    run = Run(fake, "write")
    late = run.event("COMPLETE", 2) | {"eventTime": "2030-01-01T00:00:00Z"}
    assert run.send("START", 1) == 201
    assert ask(fake, "POST", POSTED, late)[0] == 201
    found = ask(fake, "GET", "/api/v1/events/lineage")[1]
    assert found["totalCount"] == 2
    assert [each["eventType"] for each in found["events"]] == ["START"]


def test_anybody_changes_what_a_run_came_to(fake: FakeMarquez) -> None:
    granted = Run(fake, "approve", mlgov_approval={"decision": "granted"})
    granted.whole(1)
    forged = Run(fake, "mallory", mlgov_approval={"decision": "rejected"})
    forged.id = granted.id
    assert forged.send("COMPLETE", 5) == 201
    assert granted.seen()["facets"] == {"mlgov_approval": {"decision": "rejected"}}
    assert ask(fake, "POST", f"/api/v1/jobs/runs/{granted.id}/fail")[0] == 200
    assert granted.seen()["state"] == "FAILED"


def test_anybody_deletes_and_raw_events_stay(fake: FakeMarquez) -> None:
    Run(fake, "write").whole(1, (), ["a"])
    assert ask(fake, "DELETE", "/api/v1/namespaces/bank/jobs/write")[0] == 200
    assert ask(fake, "GET", "/api/v1/namespaces/bank/jobs/write")[0] == 404
    assert ask(fake, "DELETE", "/api/v1/namespaces/file/datasets/a")[0] == 200
    assert ask(fake, "GET", "/api/v1/namespaces/file/datasets/a")[0] == 404
    assert ask(fake, "DELETE", "/api/v1/namespaces/bank")[0] == 200
    names = [each["name"] for each in ask(fake, "GET", "/api/v1/namespaces")[1]["namespaces"]]
    assert names == ["default", "file"]
    assert len(fake.events) == 2


def test_what_it_does_not_know_it_says(fake: FakeMarquez) -> None:
    assert ask(fake, "GET", "/api/v1/search?q=a")[0] == 501
    assert ask(fake, "PUT", "/api/v1/sources/x", {})[0] == 501
    of_dataset = {"schemaURL": "https://openlineage.io/x.json#/$defs/DatasetEvent"}
    assert ask(fake, "POST", POSTED, of_dataset)[0] == 501


def test_it_refuses_and_comes_back_with_what_it_had(fake: FakeMarquez) -> None:
    run, url = Run(fake, "write"), fake.url
    run.whole(1)
    fake.refuse()
    with pytest.raises(urllib.error.URLError, match="refused"):
        run.send("START", 3)
    fake.start()
    assert fake.url == url
    fake.restart()
    assert run.seen()["state"] == "COMPLETED"


def test_a_restart_ends_connections_that_are_kept(fake: FakeMarquez) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", int(fake.url.rpartition(":")[2]), timeout=5)
    kept.request("GET", "/api/v1/namespaces")
    kept.getresponse().read()
    fake.restart()
    kept.sock.settimeout(5)
    assert kept.sock.recv(1) == b""


def test_it_hangs_and_has_stored_nothing(fake: FakeMarquez) -> None:
    fake.hang_s = 0.3
    began = time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        Run(fake, "write").send("START", 1)
    assert time.monotonic() - began >= 0.3
    assert fake.events == []


def test_it_fails_as_often_as_it_was_told(fake: FakeMarquez) -> None:
    fake.fail_next(2, 503)
    run = Run(fake, "write")
    assert [run.send("START", 1) for _ in range(3)] == [503, 503, 201]
    assert len(fake.events) == 1


def test_it_stores_and_does_not_answer(fake: FakeMarquez) -> None:
    fake.drop_answer_after_store = 1
    run = Run(fake, "write")
    with pytest.raises(http.client.RemoteDisconnected):
        run.send("START", 1)
    assert run.seen()["state"] == "RUNNING"
    assert run.send("COMPLETE", 2) == 201
    assert [each.status for each in fake.requests] == [0, 200, 201]


def test_it_takes_no_more_than_it_is_told(fake: FakeMarquez) -> None:
    fake.max_body = 100
    assert Run(fake, "write").send("START", 1) == 413
