"""A governed model, trained and validated, on a real ledger and with a registry in a folder."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import VoteRefusedError
from airflow_mlgov.policy.inventory_file import parse_entry
from airflow_mlgov.policy.pack_file import parse_pack
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Assurance, Choice, Outcome, TestResult
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.approvals import Use
from airflow_mlgov.service.artefacts import hash_directory
from airflow_mlgov.service.attest_vote import Ballot, cast_vote
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.request_approval import Question, request_approval
from airflow_mlgov.service.vote import Answer, count_votes, record_answer
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]


def load_fake(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "fakes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


FolderRegistry = load_fake("folder_registry").FolderRegistry
MemoryEvidence = load_fake("memory_evidence").MemoryEvidence
ToldAirflow = load_fake("told_airflow").ToldAirflow


@dataclass
class SettableClock:
    moment: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@dataclass
class World:
    """What a test plays with."""

    gov: Governance
    registry: FolderRegistry
    clock: SettableClock
    model_dir: Path
    version: Digest | None = None
    evidence_digests: dict[str, str] = field(default_factory=dict)

    GATE = Source("retail_pd", "run-1", "gate", -1, 1)
    ERIN = Person("erin", "erin")

    def keep(self, document: dict) -> str:
        return str(self.gov.evidence.put(json.dumps(document).encode()))

    def entry(
        self,
        kind: str,
        body: dict,
        *,
        version=None,
        people=None,
        texts=None,
        source=None,
        identity=(),
    ):
        draft = EntryDraft(
            kind=kind,
            model="retail_pd",
            version=version,
            body=body,
            identity=(*identity, kind, str(version), json.dumps(body, sort_keys=True)),
            people=people or {},
            texts=texts or {},
            source=source or Source("retail_pd", "run-1", "some_task", -1, 1),
        )
        return self.gov.ledger.seal(self.gov.ledger.append(draft))

    def validate_data(self, sha256: str = "sha256:" + "1" * 64, *, passed: bool = True) -> None:
        document = {
            "dataset": "development",
            "fingerprint": {"sha256": sha256, "rows": 21000, "columns": 25},
            "suite": {"name": "clients"},
            "passed": passed,
        }
        self.entry(
            "data.validated",
            {
                "dataset": "development",
                "uri": "file:///d.csv",
                "sha256": sha256,
                "rows": 21000,
                "columns": 25,
                "passed": passed,
                "evidence_sha256": self.keep(document),
            },
        )

    def train(
        self, content: str = '{"points": [1, 2]}', *, run_id: str = "run-1", by=ERIN
    ) -> Digest:
        self.model_dir.mkdir(exist_ok=True)
        (self.model_dir / "scorecard.json").write_text(content)
        manifest = hash_directory(self.model_dir)
        self.version = manifest.digest
        registered = self.registry.register("retail_pd", self.model_dir, manifest, {})
        source = Source("retail_pd", run_id, "train", -1, 1)
        record = {"script": "train.py", "code_sha256": "sha256:" + "2" * 64, "seed": 42}
        inputs = [{"name": "development", "uri": "file:///d.csv", "sha256": "sha256:" + "1" * 64}]
        self.entry(
            "model.trained",
            {
                "evidence_sha256": self.keep(record),
                "inputs": inputs,
                "variant": "candidate",
                "code_sha256": record["code_sha256"],
            },
            version=self.version,
            people={"developer": by} if by else {},
            source=source,
            identity=(run_id, self.version.hex),
        )
        self.entry(
            "model.registered",
            {
                "registry": "folder",
                "name": "retail_pd",
                "version": registered.version,
                "variant": "candidate",
                "uri": registered.uri,
                "namespace": registered.namespace,
            },
            version=self.version,
            source=source,
            identity=(run_id, self.version.hex),
        )
        return self.version

    def validate_model(self, note: str = "") -> None:
        result = TestResult(
            "discrimination.auc",
            "AUC",
            0.77,
            Outcome.PASS,
            "fail below 0.68",
            {"validation": 9000},
            "convention",
        )
        pack = self.gov.packs["retail_credit"]
        self.entry(
            "model.validated",
            {
                "evidence_sha256": self.keep({"results": [result.as_json()], "note": note}),
                "plan": "binary_classifier",
                "policy_sha256": str(pack.digest),
                "passed": True,
                "results": {"pass": 1, "warn": 0, "fail": 0},
            },
            version=self.version,
        )

    def open_finding(self, severity: str) -> None:
        self.entry(
            "finding.opened",
            {
                "finding": "F-00000001",
                "severity": severity,
                "test": "discrimination.auc",
                "due_at": "2026-07-01T00:00:00.000Z",
                "evidence_sha256": "sha256:" + "3" * 64,
                "segment": "",
            },
            version=self.version,
            people={"owner": Person("olivia", "olivia")},
            texts={"summary": "AUC fell"},
        )

    def ask(self, *, version=None, target="production", source=GATE, requester=ERIN):
        return request_approval(self.gov, Question("retail_pd", target, version, source, requester))

    def answer(
        self, request, who, choice=Choice.APPROVE, comment="looked at the evidence", *, digest=None
    ):
        """Answer, and count."""
        self.vote(request, who, choice, comment, digest=digest)
        return count_votes(self.gov, request)

    def vote(
        self, request, who, choice=Choice.APPROVE, comment="looked at the evidence", *, digest=None
    ):
        """Answer as the pack in force demands: through the api-server, or told by a task."""
        self.clock.moment += timedelta(seconds=1)
        text = str(digest or request.digest)
        person = Person(who, who) if who else None
        if person and self.gov.packs["retail_credit"].least_assurance > Assurance.L0:
            gate = Source(request.dag_id, request.run_id, request.task_id, request.map_index)
            ballot = Ballot(request.digest, gate, text, choice, comment, person)
            with suppress(VoteRefusedError):
                cast_vote(self.gov, ballot)
        else:
            answer = Answer(choice, text, comment, person, self.clock.now())
            record_answer(self.gov, request, answer, self.GATE)

    def approve(self, request):
        self.answer(request, "olivia")
        return self.answer(request, "victor")

    def use(
        self, task_id: str = "promote", run_id: str = "run-1", target: str = "production"
    ) -> Use:
        return Use("retail_pd", target, Source("retail_pd", run_id, task_id, -1, 1), "champion")

    def kinds(self, *kinds: str) -> list:
        return self.gov.ledger.view().select(*kinds)

    def forge(self, draft: EntryDraft) -> None:
        """Write as a task that goes past the service: under the writer's key, whatever the kind."""
        ledger = self.gov.ledger
        ledger._signer = lambda role, kind: ledger._signers[KeyRole.WRITER]
        try:
            ledger.append(draft)
        finally:
            del ledger._signer
        ledger.drain()

    def with_pack(self, old: str, new: str) -> None:
        """Put another pack in force, made from the present one."""
        pack = self.gov.packs["retail_credit"]
        changed = pack.source.replace(old.encode(), new.encode())
        assert changed != pack.source
        self.gov.packs["retail_credit"] = parse_pack(changed, pack.file)

    def with_inventory(self, **changes) -> None:
        self.gov.inventory["retail_pd"] = replace(self.gov.inventory["retail_pd"], **changes)


def make_world(tmp_path: Path, least_assurance: str) -> World:
    clock = SettableClock()
    store = SqliteStore.from_url(f"sqlite:///{tmp_path}/ledger.db")
    ledger = Ledger(store, open_signers(tmp_path / "keys"), clock)
    inventory = ROOT / "dags" / "inventory" / "retail_pd.yaml"
    pack = ROOT / "dags" / "policy" / "retail_credit.yaml"
    accepted = f"least_assurance: {least_assurance}".encode()
    rules = pack.read_bytes().replace(b"least_assurance: L1", accepted)
    gov = Governance(
        ledger=ledger,
        evidence=MemoryEvidence(),
        inventory={"retail_pd": parse_entry(inventory.read_bytes(), str(inventory))},
        packs={"retail_credit": parse_pack(rules, str(pack))},
        clock=clock,
    )
    return World(gov, FolderRegistry(tmp_path / "registry"), clock, tmp_path / "model")


@pytest.fixture
def world(tmp_path: Path, least_assurance: str) -> World:
    return make_world(tmp_path, least_assurance)


@pytest.fixture
def candidate(world: World) -> World:
    """A world whose model waits for its gate."""
    world.validate_data()
    world.train()
    world.validate_model()
    return world


@pytest.fixture
def told(world: World) -> ToldAirflow:
    """An Airflow that knows no run yet."""
    return ToldAirflow(world.clock)
