"""One governed run, as the steps that its tasks report and as the events that are sent."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from openlineage.client.serde import Serde

from airflow_mlgov.lineage import datasets, emission, events
from airflow_mlgov.lineage.datasets import ApprovalRef, DataRef, Deployment, ModelFacts, ModelRef
from airflow_mlgov.lineage.events import Job, StepLineage, Trained, Training
from airflow_mlgov.lineage.facets import Check
from airflow_mlgov.operators.run_facts import RunFacts
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.digest import Digest

NAMESPACE = "bank"
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
DECIDED = NOW + timedelta(days=3)

RAW = DataRef(
    "/data/taiwan_credit.csv",
    Digest.of(b"raw"),
    rows=30_000,
    size_bytes=2_862_995,
    fields=(("LIMIT_BAL", "int64"), ("AGE", "int64"), ("DEFAULT", "int64")),
)
HOLDOUT = DataRef("/data/holdout.csv", Digest.of(b"holdout"), rows=6_000)
FEATURES = DataRef("/data/applications.csv", Digest.of(b"features"), rows=1_000)
SCORES = DataRef(
    "/data/scores.csv",
    Digest.of(b"scores"),
    rows=1_000,
    fields=(("id", "int64"), ("pd", "float64")),
)
MODEL = ModelRef(
    model="retail_pd",
    namespace="mlflow://127.0.0.1:5000",
    registered_name="retail_pd",
    version="7",
    manifest=Digest.of(b"manifest"),
    summary="Probability of default of card holders.",
    owner="olivia",
)
ASKED = ApprovalRef(MODEL, "production", Digest.of(b"request"))
DATA_EVIDENCE, REPORT = Digest.of(b"data evidence"), Digest.of(b"report")
CHECKS = (
    Check("expect_column_values_to_not_be_null", passed=True, column="age"),
    Check(
        "discrimination.auc", passed=True, title="AUC", expected="fail below 0.65", actual="0.781"
    ),
    Check(
        "stability.psi", passed=False, blocking=False, expected="warn above 0.10", actual="0.124"
    ),
)
TRAINING = Training(
    "/dags/train.py", Digest.of(b"code"), {"C": 0.1, "bins": [1, 2]}, 42, "frankfurt"
)
FACTS = ModelFacts(
    registry="mlflow",
    variant="candidate",
    model_class="binary_classifier",
    tier=2,
    files=2,
    size_bytes=4_096,
    fields=(("LIMIT_BAL", "double"), ("AGE", "long"), ("UTILISATION", "double")),
    registry_uri="mlflow://127.0.0.1:5000/retail_pd/7",
)
JOB = Job(
    kind="sagemaker",
    key="mlgov-0123456789abcdef0123",
    native_id="arn:aws:sagemaker:eu-central-1:123456789012:training-job/mlgov-0123456789abcdef0123",
    console_url="https://eu-central-1.console.aws.amazon.com/sagemaker/home?region=eu-central-1#/jobs/mlgov-0123456789abcdef0123",
)
TRAINED = Trained(
    model=MODEL,
    facts=FACTS,
    inputs={"development": Digest.of(b"raw")},
    evidence=Digest.of(b"training record"),
    entry_key=str(Digest.of(b"entry")),
    job=JOB,
)
DEPLOYMENT = Deployment("mlflow", "champion", "2026-11-23T10:00:01.000Z", Digest.of(b"before"))
VALIDATION = {
    "model": "retail_pd",
    "version": str(MODEL.manifest),
    "challenger": str(Digest.of(b"challenger")),
    "plan": "binary_classifier",
    "plan_sha256": str(Digest.of(b"plan")),
    "policy_sha256": str(Digest.of(b"policy")),
    "development_sha256": str(Digest.of(b"raw")),
    "validation_sha256": str(Digest.of(b"holdout")),
    "evidence_sha256": str(REPORT),
    "passed": True,
    "results": {"pass": 1, "warn": 1, "fail": 0},
    "findings": ["F-0123abcd"],
}
OPEN = {
    "model": "retail_pd",
    "version": str(MODEL.manifest),
    "target": "production",
    "request_sha256": str(ASKED.request),
    "policy_sha256": str(Digest.of(b"policy")),
    "evidence": [{"kind": "model.validated", "sha256": str(REPORT)}],
    "decision": "open",
    "requested_at": to_text(NOW),
    "seats": [{"role": "model owner", "needed": 1, "filled": 0}],
}
GRANTED = {
    **OPEN,
    "decision": "granted",
    "decided_at": to_text(DECIDED),
    "waited_s": 259_200.0,
    "expires_at": "2027-11-26T09:00:00.000Z",
    "seats": [{"role": "model owner", "needed": 1, "filled": 1}],
    "least_assurance": "L1",
    "conditions": {
        "end_date": "2027-06-30",
        "max_rows_per_run": 30_000,
        "segments": [{"column": "EDUCATION", "values": ["1", "2"]}],
        "data_validation": True,
    },
}
GOVERNED = {
    "model": "retail_pd",
    "role": "use",
    "mode": "enforce",
    "version": str(MODEL.manifest),
}


def ledger(kind: str) -> dict[str, Any]:
    """The ledger after an entry of a kind."""
    return {
        "origin": "example.com/mlgov",
        "size": 12,
        "root_hash": "ab" * 32,
        "entry_kind": kind,
        "entry_key": str(Digest.of(kind.encode())),
        "entry_index": 11,
    }


def finished_steps() -> dict[str, StepLineage]:
    """The finished steps of one run, by task, in order."""
    evidence = [
        datasets.data_report_record("taiwan_credit", DATA_EVIDENCE),
        datasets.validation_report_record(MODEL, REPORT),
    ]
    return {
        "validate_data": events.validate_data(
            RAW, dataset="taiwan_credit", evidence=DATA_EVIDENCE, checks=CHECKS[:1]
        ).stating(mlgov_checkpoint=ledger("data.validated")),
        "train": events.train([RAW], TRAINING, TRAINED).stating(
            **JOB.facets, mlgov_checkpoint=ledger("model.registered")
        ),
        "validate_model": events.validate_model(
            [MODEL], [RAW, HOLDOUT], evidence=REPORT, checks=CHECKS[1:]
        ).stating(mlgov_validation=VALIDATION, mlgov_checkpoint=ledger("model.validated")),
        "gate.request": events.request(ASKED, evidence).stating(mlgov_approval=OPEN),
        "gate.decide": events.decide(ASKED, is_granted=True).stating(
            mlgov_approval=GRANTED, mlgov_checkpoint=ledger("approval.granted")
        ),
        "promote": events.promote(ASKED, DEPLOYMENT).stating(
            mlgov_checkpoint=ledger("model.promoted")
        ),
        "score": events.score(ASKED, [FEATURES], [SCORES]).stating(
            mlgov_governed=GOVERNED, mlgov_checkpoint=ledger("model.scored")
        ),
    }


def complete_event(step: StepLineage) -> dict[str, Any]:
    """The COMPLETE event of a step, as it is sent."""
    run = emission.Run(NAMESPACE, "retail_pd.task", str(uuid4()))
    return dict(json.loads(Serde.to_json(emission.run_event(step, run, "COMPLETE", NOW))))


@dataclass
class Recorder:
    """Sends steps as the provider and our operators do: sources, then START, then the end."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    known: set[Any] = field(default_factory=set)
    at: datetime = NOW

    def run(self, task: str, step: StepLineage, end: str = "COMPLETE") -> None:
        parent = {
            "run": {"runId": self.dag_run},
            "job": {"namespace": NAMESPACE, "name": "retail_pd"},
            "root": {
                "run": {"runId": self.dag_run},
                "job": {"namespace": NAMESPACE, "name": "retail_pd"},
            },
        }
        run = emission.Run(NAMESPACE, f"retail_pd.{task}", str(uuid4()), parent)
        for source in step.sources(known_at_start=True):
            self._send(emission.registration(source, NAMESPACE, self._tick()))
        started, ended, start = self._tick(), self._tick(), step.at_start()
        if "mlgov_approval" in step.run_facets:  # the gate's own runs, with the ledger's times
            started = ended = NOW
            if task == "gate.decide":
                ended, start = (
                    DECIDED,
                    events.decide(ASKED, is_granted=None).stating(mlgov_approval=OPEN),
                )
        self._send(emission.run_event(start, run, "START", started))
        self._send(emission.run_event(step, run, end, ended))

    def whole(self, steps: dict[str, StepLineage]) -> list[dict[str, Any]]:
        self.dag_run = str(uuid4())
        dag = emission.Run(NAMESPACE, "retail_pd", self.dag_run)
        self._send(emission.run_event(StepLineage(), dag, "START", self._tick()))
        for task, step in steps.items():
            self.run(task, step)
        self._send(emission.run_event(StepLineage(), dag, "COMPLETE", self._tick()))
        return self.sent

    def _tick(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at

    def _send(self, event: Any) -> None:
        self.sent.append(json.loads(Serde.to_json(event)))


@pytest.fixture
def steps() -> dict[str, StepLineage]:
    return finished_steps()


@pytest.fixture
def recorded(steps: dict[str, StepLineage]) -> list[dict[str, Any]]:
    return Recorder().whole(steps)


@pytest.fixture
def rare() -> dict[str, Any]:
    """Facets that hold what those of a good run do not: a denial, broken glass, a skip by hand."""
    emergency = events.promote(replace(ASKED, is_emergency=True), DEPLOYMENT)
    denied = {**GRANTED, "decision": "denied", "denied_because": "withdrawn by who asked"}
    return {
        "mlgov_approval": denied,
        "mlgov_deployment": emergency.outputs[0].facets["mlgov_deployment"],
        "mlgov_governed": RunFacts("use", state="skipped", is_by_hand=True).facet,
    }


@pytest.fixture(scope="session")
def checks() -> ModuleType:
    """The end-to-end checks, which are no package."""
    file = Path(__file__).resolve().parents[2] / "e2e" / "lineage_checks.py"
    spec = importlib.util.spec_from_file_location("lineage_checks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def schemas(checks: ModuleType) -> Any:
    """OpenLineage's published schemas; their absence fails in CI and skips elsewhere."""
    try:
        return checks.Schemas(checks.spec_dir())
    except checks.SpecMissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(f"{missing} Facets cannot be held against their published schemas here.")


@pytest.fixture
def write_events(tmp_path: Path) -> Any:
    """Write events as the file transport does and return the path."""

    def write(events_to_write: list[dict[str, Any]]) -> Path:
        path = tmp_path / "events.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in events_to_write))
        return path

    return write
