"""Checks a recorded ``events.jsonl`` of the file transport, as an auditor and a backend would.

`check_events` reads the whole file and raises `AssertionError` in plain words at the first thing
that is wrong: an event or facet that its published schema refuses, a name that Marquez would break
on, a dataset that is read before anybody wrote it, a chain from scores back to the raw data with a
link missing. ``python tests/e2e/lineage_checks.py events.jsonl [NAME ...]`` prints the summary; a
NAME is a person whom no facet of governance may name.

Nothing here uses our own code: what it checks must be readable from the events alone, and from the
schemas, OpenLineage's and ours.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

OUR_SCHEMAS = Path(__file__).resolve().parents[2] / "airflow_mlgov" / "lineage" / "schemas"
DEFAULT_SPEC_DIR = Path(__file__).resolve().parents[3] / "shared" / "data" / "openlineage-spec"
EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
OURS = "urn:airflow-mlgov:"
NAMESPACE = re.compile(r"\A[a-zA-Z:;=/0-9_.@+-]{1,1024}\Z")
TERMINAL = {"COMPLETE", "FAIL", "ABORT"}
CHAIN = ("ENDPOINT", "APPROVAL", "APPROVAL_REQUEST", "VALIDATION_REPORT", "MODEL_VERSION")
MAX_EVENT_BYTES = 50_000

Node = tuple[str, str]
Event = dict[str, Any]


class SpecMissingError(Exception):
    """OpenLineage's schemas are not at hand; OPENLINEAGE_SPEC_DIR names their folder."""


@dataclass
class Graph:
    """Who wrote and read what."""

    writers: dict[Node, list[str]] = field(default_factory=lambda: defaultdict(list))
    reads: dict[str, set[Node]] = field(default_factory=lambda: defaultdict(set))
    jobs: dict[str, str] = field(default_factory=dict)
    types: dict[Node, str] = field(default_factory=dict)

    def upstream(self, start: Node) -> set[Node]:
        """Everything that a dataset rests on, itself included."""
        seen, todo = set(), [start]
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += [read for run in self.writers[node] for read in self.reads[run]]
        return seen


class Schemas:
    """The published schemas, OpenLineage's and ours, with their formats checked."""

    def __init__(self, folder: Path) -> None:
        from jsonschema import FormatChecker
        from referencing import Registry, Resource

        files = [*folder.glob("*.json"), *folder.glob("facets/*.json")]
        if not files:
            raise SpecMissingError(f"No OpenLineage schemas in {folder}; set OPENLINEAGE_SPEC_DIR.")
        files += OUR_SCHEMAS.rglob("*.json")
        documents = [json.loads(file.read_text()) for file in files]
        resources = [(d["$id"], Resource.from_contents(d)) for d in documents]
        self.ids = {identifier for identifier, _ in resources}
        self.registry = Registry().with_resources(resources)
        self.formats = FormatChecker()
        missing = {"date-time", "uri", "uuid"} - set(self.formats.checkers)
        if missing:
            raise SpecMissingError(
                f"Formats {sorted(missing)} cannot be checked: install the test group."
            )

    def errors(self, value: Any, url: str) -> list[str]:
        """What a schema says against a value; empty if nothing."""
        from jsonschema import Draft202012Validator

        validator = Draft202012Validator(
            {"$ref": url}, registry=self.registry, format_checker=self.formats
        )
        return [
            f"{'/'.join(map(str, e.absolute_path))}: {e.message}"
            for e in validator.iter_errors(value)
        ]

    def unlisted(self, facet: dict[str, Any], url: str) -> list[str]:
        """What a facet of ours holds that its schema does not list: it could be anything."""
        known = self.registry.resolver().lookup(url).contents["allOf"][1]["properties"]
        return [f"{key} is not listed" for key in facet if key[0] != "_" and key not in known]

    def check_event(self, event: Event, where: str) -> int:
        """Check an event and its facets; return how many facets had a schema of their own."""
        problems = self.errors(event, EVENT)
        assert not problems, f"{where}: not a valid OpenLineage event: {problems}"
        checked = 0
        for key, facet in facets_of(event):
            url = facet.get("_schemaURL", "")
            if url.partition("#")[0] in self.ids:
                problems = self.errors(facet, url)
                problems += self.unlisted(facet, url) if url.startswith(OURS) else []
                assert not problems, f"{where}: facet {key!r} is not what {url} says: {problems}"
                checked += 1
            else:
                ours = facet.get("_producer", "").startswith(OURS)
                assert not ours, (
                    f"{where}: our facet {key!r} names a schema that is not published: {url}"
                )
        return checked


def spec_dir() -> Path:
    """Where the schemas stand: OPENLINEAGE_SPEC_DIR, or beside the repository."""
    return Path(os.environ.get("OPENLINEAGE_SPEC_DIR") or DEFAULT_SPEC_DIR)


def load_schemas() -> Schemas | None:
    """Return the schemas; None where they are absent, unless this is CI, where that is an error."""
    try:
        return Schemas(spec_dir())
    except SpecMissingError:
        if os.environ.get("CI"):
            raise
        return None


def facets_of(event: Event) -> list[tuple[str, dict[str, Any]]]:
    """Every facet of an event by key."""
    holders = [event["run"].get("facets"), event["job"].get("facets")]
    for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
        holders += [dataset.get("facets"), dataset.get("inputFacets"), dataset.get("outputFacets")]
    return [(key, facet) for holder in holders for key, facet in (holder or {}).items()]


def read_events(path: Path) -> list[Event]:
    """Return the events of a file, in the order in which they arrived."""
    events = []
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise AssertionError(f"{path}:{number} is not JSON: {error}.") from error
    assert events, f"{path} holds no events: is the OpenLineage provider configured?"
    return events


def check_events(
    path: str | Path,
    people: Sequence[str] = (),
    *,
    needs_scores: bool = True,
    all_closed: bool = True,
) -> dict[str, Any]:
    """Check a recorded file of events and return a summary.

    Args:
        path: ``events.jsonl`` of the file transport, in order of arrival.
        people: Names that no facet of governance may hold, besides those of owners.
        needs_scores: Whether there must be at least one scored batch, and its chain be complete.
        all_closed: Whether every run must have ended; False while something still runs or waits.

    Returns:
        ``{"events", "runs", "jobs", "datasets", "facets_checked", "chains": [{"scores",
        "rests_on"}]}``; ``facets_checked`` is None where the schemas are not at hand.

    Raises:
        AssertionError: In plain words, what is wrong.
    """
    events = read_events(Path(path))
    schemas = load_schemas()
    named = {*people, *owners_of(events)}
    checked = 0
    for number, event in enumerate(events, start=1):
        where = f"event {number} ({event.get('eventType')} of {event.get('job', {}).get('name')})"
        checked += schemas.check_event(event, where) if schemas else 0
        check_names(event, where)
        check_facets(event, where)
        check_people(event, where, named)
    check_causal_order(events)
    check_runs(events, all_closed=all_closed)
    check_approvals(events)
    graph = graph_of(events)
    check_model_writers(events, graph)
    chains = check_chains(graph, needs_scores=needs_scores)
    return {
        "events": len(events),
        "runs": len(graph.jobs),
        "jobs": len(set(graph.jobs.values())),
        "datasets": len({*graph.writers, *(n for reads in graph.reads.values() for n in reads)}),
        "facets_checked": checked if schemas else None,
        "chains": chains,
    }


def node_of(dataset: dict[str, Any]) -> Node:
    """A dataset's key."""
    return dataset["namespace"], dataset["name"]


def inputs_of(event: Event) -> set[Node]:
    """What an event says its run reads."""
    return {node_of(dataset) for dataset in event.get("inputs", ())}


def outputs_of(event: Event) -> set[Node]:
    """What an event says its run writes."""
    return {node_of(dataset) for dataset in event.get("outputs", ())}


def check_names(event: Event, where: str) -> None:
    """Rule 8: names on which Marquez breaks, for good."""
    job = event["job"]["name"]
    assert re.fullmatch(r" *[!-~][ -~]*", job), f"{where}: job name {job!r}"
    for namespace, name in inputs_of(event) | outputs_of(event):
        assert NAMESPACE.match(namespace), f"{where}: namespace {namespace!r} breaks Marquez"
        assert not namespace.lower().startswith("arn:"), f"{where}: {namespace!r} is an ARN"
        assert name.strip(), f"{where}: an empty dataset name"
        assert "\0" not in name, f"{where}: dataset name {name!r}"
        assert ":" not in namespace or not name[0].isdigit(), f"{where}: {name!r} reads as a port"
    linked = dict(facets_of(event)).get("symlinks")
    assert not linked, f"{where}: a symlink, which two versions could share: {linked}"


def check_facets(event: Event, where: str) -> None:
    """Rules 7 and 11, and nothing of ours blanked by Airflow's masking."""
    for dataset in event.get("inputs", ()):
        extra = set(dataset.get("facets") or {}) - {"documentation"}
        assert not extra, f"{where}: a reader of {dataset['name']} states {sorted(extra)} about it"
    for key, facet in facets_of(event):
        if facet.get("_producer", "").startswith(OURS):
            assert "***" not in json.dumps(facet), f"{where}: facet {key!r} was masked: {facet}"
    size = len(json.dumps(event).encode())
    assert size < MAX_EVENT_BYTES, f"{where}: {size} bytes, more than {MAX_EVENT_BYTES}"


def owners_of(events: list[Event]) -> set[str]:
    """Who owns what, by our own statement: the one place where lineage names people."""
    return {
        owner["name"].rpartition(":")[2]
        for event in events
        for key, facet in facets_of(event)
        if key == "ownership" and facet["_producer"].startswith(OURS)
        for owner in facet["owners"]
    }


def check_people(event: Event, where: str, people: set[str]) -> None:
    """Facets of governance name nobody."""
    ours = [facet for _, facet in facets_of(event) if facet["_schemaURL"].startswith(OURS)]
    named = people.intersection(re.findall(r"[\w.@-]+", json.dumps(ours)))
    assert not named, f"{where}: a facet of governance names {sorted(named)}"


def check_causal_order(events: list[Event]) -> None:
    """Rules 1 and 2: whatever is read was written before, by a run that ended."""
    written: set[Node] = set()
    for number, event in enumerate(events, start=1):
        unknown = sorted(inputs_of(event) - written)
        where = f"event {number} ({event['eventType']} of {event['job']['name']})"
        assert not unknown, f"{where} reads what nobody has written yet: {unknown}"
        if event["eventType"] in TERMINAL:
            written |= outputs_of(event)


def check_runs(events: list[Event], *, all_closed: bool) -> None:
    """Rules 6 and 9: one start and end, the same inputs on both, complete parents."""
    runs: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        runs[event["run"]["runId"]].append(event)
    for run in runs.values():
        job = run[0]["job"]["name"]
        ends = [event for event in run if event["eventType"] in TERMINAL]
        assert ends or not all_closed, f"a run of {job} never ended"
        assert not ends or run[-1] in ends, f"a run of {job} goes on after its end"
        starts = [event for event in run if event["eventType"] == "START"]
        lone = job.startswith("register.") or job.endswith(".by_hand")
        assert starts or lone, f"a run of {job} has no START"
        for start in starts:
            for end in ends:
                lost = inputs_of(start) - inputs_of(end)
                assert not lost, (
                    f"{job} reads {sorted(lost)} on START but not on {end['eventType']}"
                )
                assert not outputs_of(start) or outputs_of(start) == outputs_of(end), (
                    f"{job}: outputs differ"
                )
        for event in run:
            parent = event["run"].get("facets", {}).get("parent")
            if parent is not None:
                assert parent["run"]["runId"] in runs, f"{job}: its parent run sent no event"


def check_approvals(events: list[Event]) -> None:
    """Rule 4: a request and its decision are two runs, and the decision reads the request."""
    for event in events:
        outputs = [name for namespace, name in outputs_of(event) if namespace == "mlgov"]
        decided = [name for name in outputs if "/approval/" in name or "/denial/" in name]
        asked = [name for name in outputs if "/request/" in name]
        assert not (asked and decided), f"{event['job']['name']} both asks and decides"
        for name in (*asked, *decided):
            check_decision(event, name)
        for name in decided:
            request = re.sub(r"/(approval|denial)/", "/request/", name)
            assert inputs_of(event) == {("mlgov", request)}, f"{name} does not rest on its request"


def check_decision(event: Event, record: str) -> None:
    """A request and a decision state what was decided, and at the very times of their runs."""
    facet = event["run"].get("facets", {}).get("mlgov_approval")
    assert facet, f"{record} is written by a run that states no mlgov_approval"
    decision = {"request": "open", "approval": "granted", "denial": "denied"}[record.split("/")[2]]
    assert facet["decision"] == decision, f"{record}: its run says {facet['decision']!r}"
    read = datetime.fromisoformat
    times = [read(facet[name]) for name in ("requested_at", "decided_at") if name in facet]
    assert times[-1:] == [read(event["eventTime"])], f"{record}: its run ended at another time"
    waited = (times[-1] - times[0]).total_seconds()
    assert waited == facet.get("waited_s", 0) >= 0, f"{record}: waited {waited} s, says otherwise"


def check_model_writers(events: list[Event], graph: Graph) -> None:
    """Rule 5: nothing but a training writes a model version."""
    for event in events:
        for node in outputs_of(event):
            if graph.types.get(node) == "MODEL_VERSION":
                assert "sourceCodeLocation" in event["job"].get("facets", {}), (
                    f"{event['job']['name']} writes model version {node[1]} but trains nothing"
                )


def graph_of(events: list[Event]) -> Graph:
    """Return who wrote and read what."""
    graph = Graph()
    for event in events:
        run = event["run"]["runId"]
        graph.jobs[run] = event["job"]["name"]
        graph.reads[run] |= inputs_of(event)
        for dataset in event.get("outputs", ()):
            node = node_of(dataset)
            if event["eventType"] in TERMINAL and run not in graph.writers[node]:
                graph.writers[node].append(run)
            kind = (dataset.get("facets") or {}).get("datasetType", {})
            graph.types[node] = kind.get("subType") or kind.get("datasetType", "")
    return graph


def check_chains(graph: Graph, *, needs_scores: bool) -> list[dict[str, Any]]:
    """Walk back from each scored batch to approval, request, report, model and raw data."""
    scored = sorted(
        node
        for node, runs in list(graph.writers.items())
        for run in runs
        if any(graph.types.get(read) == "ENDPOINT" for read in graph.reads[run])
    )
    assert scored or not needs_scores, "nothing was scored with a promoted model"
    chains = []
    for scores in dict.fromkeys(scored):
        upstream = graph.upstream(scores)
        found = {graph.types.get(node, "") for node in upstream}
        for kind in CHAIN:
            assert kind in found, f"{scores[1]} does not lead back to any {kind}"
        raw = _raw_data(graph, upstream)
        chains.append(
            {"scores": " | ".join(scores), "rests_on": sorted(" | ".join(n) for n in raw)}
        )
    return chains


def _raw_data(graph: Graph, upstream: set[Node]) -> set[Node]:
    """What the trainings behind a batch read, which must have been registered."""
    models = {node for node in upstream if graph.types.get(node) == "MODEL_VERSION"}
    read = {r for node in models for run in graph.writers[node] for r in graph.reads[run]}
    sources = {
        n
        for r in read
        for n in graph.upstream(r)
        if not any(graph.reads[w] for w in graph.writers[n])
    }
    assert sources, "the model version does not lead back to any data"
    for source in sources:
        jobs = {graph.jobs[run] for run in graph.writers[source]}
        assert any(job.startswith("register.") for job in jobs), (
            f"source {source[1]} was never registered: {jobs}"
        )
    return sources


if __name__ == "__main__":
    print(json.dumps(check_events(sys.argv[1], sys.argv[2:]), indent=2))
