"""The lineage of a governed model in the service's tests, as its tasks would have sent it.

The events are made by the package's own functions; that a live Airflow sends them so is for the
end-to-end tests to show.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from openlineage.client.serde import Serde

from airflow_mlgov.lineage import datasets, emission, events, names
from airflow_mlgov.lineage.datasets import ApprovalRef, DataRef, Deployment, ModelFacts, ModelRef
from airflow_mlgov.lineage.events import StepLineage, Trained, Training
from airflow_mlgov.operators.lineage_records import approval_facet
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.approvals import standing_of
from airflow_mlgov.service.outbox import OutboxItem

NAMESPACE = "bank"
RAW = DataRef("/data/raw.csv", Digest.of(b"raw"), rows=30_000)
DEVELOPMENT = DataRef("/d.csv", Digest("1" * 64), rows=21_000, has_writer=True)
FEATURES = DataRef("/data/features.csv", Digest.of(b"features"), rows=1_000)
SCORES = DataRef("/data/scores.csv", Digest.of(b"scores"), rows=1_000)


@dataclass
class Chain:
    """Tells an outbox of lineage what a world's ledger tells of itself.

    Attributes:
        world: A `World` of the service's tests.
        outbox: Where events are appended.
        at: Time of the next event.
        runs: Ids of the runs that were told, by job without the DAG; the last of each.
        sent: Every event.
    """

    world: Any
    outbox: Any
    at: datetime = datetime(2026, 6, 1, 9, tzinfo=UTC)
    runs: dict[str, str] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def send(self, event: Any) -> dict[str, Any]:
        """Append an event, of the client's or as an object, and number it."""
        told = event if isinstance(event, dict) else json.loads(Serde.to_json(event))
        self.sent.append(told)
        self.outbox.append([OutboxItem.of(told)], self.at)
        self.outbox.take()
        return told

    def tick(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def run(
        self,
        task: str,
        step: StepLineage,
        *,
        end: str | None = "COMPLETE",
        run_id: str = "",
        times: tuple[datetime, datetime] | None = None,
        airflow: str = "",
    ) -> str:
        """Tell of a run: its sources, its start and its end (none: it runs)."""
        run = emission.Run(NAMESPACE, f"retail_pd.{task}", run_id or str(uuid4()))
        self.runs[task] = run.run_id
        for source in step.sources(known_at_start=True):
            self.send(emission.registration(source, NAMESPACE, self.tick()))
        began, ended = times or (self.tick(), self.tick())
        for state, at in (("START", began), (end, ended)):
            if state is None:
                continue
            said = step.at_start() if state == "START" else step
            event = json.loads(Serde.to_json(emission.run_event(said, run, state, at)))
            if airflow:
                event["run"].setdefault("facets", {})["airflow"] = {
                    "dagRun": {"dag_id": "retail_pd", "run_id": airflow},
                    "task": {"task_id": task},
                    "taskInstance": {"try_number": 1},
                }
            self.send(event)
        return run.run_id

    def model(self, number: str = "1") -> ModelRef:
        """The world's version, as lineage names it."""
        (entry,) = (e for e in self.world.kinds("model.registered") if e.body["version"] == number)
        namespace = entry.body["namespace"]
        return ModelRef("retail_pd", namespace, "retail_pd", number, entry.version)

    def digests(self, kind: str) -> list[Digest]:
        return [Digest.parse(e.body["evidence_sha256"]) for e in self.world.kinds(kind)]

    def tell_training(self, number: str = "1") -> None:
        """From raw data to a validated version."""
        model = self.model(number)
        self.run("prepare", events.prepare([RAW], [DEVELOPMENT]))
        evidence = self.digests("data.validated")[-1]
        self.run(
            "check", events.validate_data(DEVELOPMENT, dataset="development", evidence=evidence)
        )
        trained = Trained(
            model=model,
            facts=ModelFacts("folder", "candidate"),
            inputs={"development": DEVELOPMENT.digest},
            evidence=Digest.of(b"record"),
            entry_key=str(Digest.of(b"entry")),
        )
        training = Training("train.py", Digest.of(b"code"), {}, 42, "local")
        self.run("train", events.train([DEVELOPMENT], training, trained))
        for report in self.digests("model.validated"):
            self.run("validate", events.validate_model([model], [DEVELOPMENT], evidence=report))

    def asked(self, request: Any, number: str = "1") -> ApprovalRef:
        return ApprovalRef(self.model(number), request.target, request.digest)

    def tell_request(self, request: Any, number: str = "1") -> None:
        """That a request waits: its own run, and the start of the decision."""
        standing = standing_of(self.world.gov, self.world.gov.ledger.view(), request.digest)
        records = [
            datasets.data_report_record("development", digest)
            if kind == "data.validated"
            else datasets.validation_report_record(self.model(number), digest)
            for kind, digest in request.evidence
            if kind != "model.trained"
        ]
        at = standing.entry.at
        self.run(
            "gate.request",
            events.request(self.asked(request, number), records),
            run_id=names.approval_run_id(request.digest, "request"),
            times=(at, at),
        )
        self.run(
            "gate.decide",
            events.decide(self.asked(request, number), is_granted=None),
            run_id=names.approval_run_id(request.digest, "decide"),
            times=(at, at),
            end=None,
        )

    def tell_decision(self, request: Any, *, is_granted: bool, number: str = "1") -> None:
        """How it was decided."""
        standing = standing_of(self.world.gov, self.world.gov.ledger.view(), request.digest)
        step = events.decide(self.asked(request, number), is_granted=is_granted)
        self.run(
            "gate.decide",
            step.stating(mlgov_approval=approval_facet(standing)),
            run_id=names.approval_run_id(request.digest, "decide"),
            times=(standing.entry.at, standing.decided_at),
        )

    def tell_use(self, asked: ApprovalRef) -> None:
        """That a version was promoted, and used to score."""
        made = Deployment("folder", "champion", "2026-06-01T12:00:00.000Z")
        self.run("promote", events.promote(asked, made), airflow="run-1")
        self.run("score", events.score(asked, [FEATURES], [SCORES]), airflow="run-1")
