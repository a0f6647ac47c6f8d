"""The demo's whole flow, with its lineage delivered to Marquez while it runs, and read back.

Marquez is the one at ``MARQUEZ_URL`` for the tests marked ``marquez``, else the fake. What is read
back is what Marquez's public API says, against what stands in the outbox: nothing of our delivery
is asked.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fakes")]

from marquez import FakeMarquez  # noqa: E402

from demo.steps import STEPS, Story  # noqa: E402
from demo.world import open_world  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from lineage_checks import check_events, inputs_of, outputs_of  # noqa: E402

pytestmark = pytest.mark.e2e

STATES = {"START": "RUNNING", "COMPLETE": "COMPLETED", "FAIL": "FAILED", "ABORT": "ABORTED"}
TARGETS = """\
version: 1
targets:
  - {{name: marquez, kind: marquez, url: "{url}"}}
"""


@dataclass
class Flow:
    """What was sent, and where to read it back.

    Attributes:
        file: Every event of the outbox, a line each, in the order of arrival.
        api: Marquez's API.
        standing: What `airflow mlgov lineage ship` said at the end.
        namespace: Of the jobs.
    """

    file: Path
    api: httpx.Client
    standing: dict[str, Any]
    namespace: str

    @property
    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """Events by run, in the order of arrival."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in self.file.read_text("utf-8").splitlines():
            event = json.loads(line)
            found[event["run"]["runId"]].append(event)
        return found

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self.api.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
        return dict(answer.json())


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.marquez)])
def flow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Flow]:
    if request.param == "real":
        url = os.environ.get("MARQUEZ_URL")
        if not url:
            pytest.skip("left out: no MARQUEZ_URL")
        yield run_flow(tmp_path_factory.mktemp("real"), url.rstrip("/"))
        return
    with FakeMarquez() as fake:
        yield run_flow(tmp_path_factory.mktemp("fake"), fake.url)
        assert fake.overlapped == set()


def run_flow(folder: Path, url: str) -> Flow:
    """Run the demo under a folder, its lineage going to a Marquez; everything has ended after."""
    world = open_world(folder / "demo", print)
    deployment = world.deployment
    deployment.lineage_namespace = f"airflow-mlgov-{uuid.uuid4().hex[:8]}"
    targets = folder / "targets.yaml"
    targets.write_text(TARGETS.format(url=url))
    deployment.mlgov = {**deployment.mlgov, "lineage_targets_path": str(targets)}
    before = dict(os.environ)
    try:
        world.start()
        story = Story(world)
        for step in STEPS:
            print(step.name, step.act(story))
    finally:
        deployment.stop()
        # The demo's settings become this process's; other tests have a live Airflow of their own.
        os.environ.clear()
        os.environ.update(before)
    shipped = deployment.airflow("mlgov", "lineage", "ship", "--output", "json")
    assert shipped.returncode == 0, shipped.stdout + shipped.stderr
    (standing,) = json.loads(shipped.stdout)
    api = httpx.Client(base_url=url, timeout=60)
    return Flow(deployment.export_lineage(), api, standing, deployment.lineage_namespace)


def end_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The event that ends a run, of which more than one may say that it does; else its last."""
    return next((event for event in events if event["eventType"] != "START"), events[-1])


def moment(text: str) -> datetime:
    """A moment, to the millisecond: that is what every backend keeps."""
    at = datetime.fromisoformat(text)
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_every_event_is_valid_and_the_chain_is_whole(flow):
    summary = check_events(flow.file, all_closed=False)
    assert summary["facets_checked"]
    assert len(summary["chains"]) == 1


def test_all_of_it_was_delivered_and_nothing_refused(flow):
    assert (flow.standing["waiting"], flow.standing["quarantined"]) == ("0", "0")
    assert int(flow.standing["delivered"]) >= len(flow.runs)


def test_each_run_has_the_state_the_times_and_the_inputs_that_were_sent(flow):
    for run_id, events in flow.runs.items():
        shown = flow.get(f"/jobs/runs/{run_id}")
        first, last = events[0], end_of(events)
        name = first["job"]["name"]
        assert shown["state"] == STATES[last["eventType"]], name
        if last["eventType"] == "START":
            continue
        assert moment(shown["endedAt"]) == moment(last["eventTime"]), name
        if first["eventType"] == "START":
            assert moment(shown["startedAt"]) == moment(first["eventTime"]), name
        read = [
            (each["datasetVersionId"]["namespace"], each["datasetVersionId"]["name"])
            for each in shown["inputDatasetVersions"]
        ]
        assert sorted(read) == sorted(inputs_of(last)), f"{name}: one version of each input"


def test_a_gates_wait_is_shown_as_it_was(flow):
    decided = [
        events for events in flow.runs.values() if events[0]["job"]["name"].endswith(".decide")
    ]
    assert decided
    for events in decided:
        shown = flow.get(f"/jobs/runs/{events[0]['run']['runId']}")
        sent = moment(events[-1]["eventTime"]) - moment(events[0]["eventTime"])
        assert sent.total_seconds() > 1
        assert abs(shown["durationMs"] / 1000 - sent.total_seconds()) < 0.01


def test_from_the_scores_the_audit_query_reaches_the_raw_file_and_the_approval(flow):
    scored = [
        run_id
        for run_id, events in flow.runs.items()
        if any("/endpoint/" in name for _, name in inputs_of(events[-1])) and outputs_of(events[-1])
    ]
    assert scored
    for run_id in scored:
        runs = flow.get("/runlineage/upstream", runId=run_id, depth=30)["runs"]
        jobs = {each["job"]["name"] for each in runs}
        read = {each["name"] for each in runs for each in each["inputs"]}
        assert any(name.startswith("register.") for name in jobs), jobs
        assert any(name.endswith(".decide") for name in jobs), jobs
        assert any("/approval/" in name for name in read), read
        assert any("german" in name or "taiwan" in name for name in read), read


def test_what_an_approval_says_can_be_read(flow):
    for run_id, events in flow.runs.items():
        if not events[0]["job"]["name"].endswith(".decide"):
            continue
        facets = flow.get(f"/jobs/runs/{run_id}/facets", type="run")["facets"]
        sent = events[-1]["run"]["facets"]["mlgov_approval"]
        assert facets["mlgov_approval"] == sent
        return
    raise AssertionError("nothing was decided")


def test_lists_still_answer(flow):
    names = {each["name"] for each in flow.get("/namespaces")["namespaces"]}
    assert {flow.namespace, "mlgov", "file"} <= names
    assert flow.get("/jobs", limit=10)["jobs"]
    jobs = flow.get(f"/namespaces/{quote(flow.namespace, safe='')}/jobs", limit=100)
    assert {job["name"] for job in jobs["jobs"]} >= {
        "retail_pd.train_champion",
        "retail_pd.gate.decide",
    }
