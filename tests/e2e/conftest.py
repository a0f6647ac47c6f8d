"""One live Airflow for the whole run, with a governed model for each scenario.

Every scenario's run is triggered at the start, so that they reach their gates while other tests
work. Each has a model of its own: what one does to a model, its alias or its files touches no
other.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from demo.client import AirflowClient, ApiError, GateWatch  # noqa: E402
from demo.deployment import Deployment  # noqa: E402

DAG, WAITING = "governed", "waiting"
REQUESTER, DEVELOPER, OWNER, VALIDATOR, READER = "rita", "erin", "olivia", "victor", "vic"
USERS = {
    **dict.fromkeys((REQUESTER, DEVELOPER, OWNER, VALIDATOR), "user"),
    "admin": "admin",
    READER: "viewer",
}
DAGS = Path(__file__).parent / "dags"
HEARD = [
    {"scope": {}, "controls": {"emit": False}},
    {
        "scope": {"dag_id": "legacy_.*|stock_silent"},
        "match_mode": "regex",
        "controls": {"emit": True},
    },
]
"""Only these DAGs' events are sent: the others need no lineage, and would be slower for it."""
COMMENT = "Read the evidence and agree."
TARGET = "production"

SCENARIOS = {
    # name: who triggers its run
    "approve": REQUESTER,
    "reject": REQUESTER,
    "conditional": None,
    "mapped_one": None,
    "mapped_two": None,
    "awaited": REQUESTER,
    "awaited_in_vain": REQUESTER,
    "duplicate": REQUESTER,
    "requester": VALIDATOR,
    "wrong_user": REQUESTER,
    "too_soon": None,
    "at_once": REQUESTER,
    "cleared": REQUESTER,
    "restarted": REQUESTER,
    "old_form": REQUESTER,
    "no_comment": REQUESTER,
    "by_hand": REQUESTER,
    "marked": REQUESTER,
    "skipped": REQUESTER,
    "run_marked": REQUESTER,
    "promote_marked": REQUESTER,
    "forged_xcom": REQUESTER,
    "deleted": REQUESTER,
    "late": REQUESTER,
    "changed_file": REQUESTER,
    "wrong_version": REQUESTER,
    "reused": REQUESTER,
    "moved_alias": REQUESTER,
    "batches": REQUESTER,
    "legacy": REQUESTER,
    "retrained": REQUESTER,
    "forged": REQUESTER,
    "ordered": REQUESTER,
    "halted": REQUESTER,
    "expired": REQUESTER,
    "found": REQUESTER,
    "emergency": None,
    "called": None,
    "itself": REQUESTER,
    "refused": None,
}

INVENTORY = """\
version: 1
id: {model}
name: Scenario {model}
model_class: binary_classifier
purpose: Tests the gate.
intended_use: Tests only.
owner: olivia
developers: [erin]
validators: [victor]
materiality: low
complexity: low
policy: e2e
targets: [production]
registered_name: {model}
mode: enforce
regimes:
  - {{name: SR 26-2, applies: true, decided_on: 2026-06-15, reason: A test.}}
data_sources: [none]
protected_attributes: [SEX]
assumptions: [none]
limitations: [none]
"""

# victor and erin sit on one seat: as a developer erin must be kept out all the same.
POLICY = """\
version: 1
id: e2e
title: End-to-end tests
least_assurance: L1
seats:
  - {role: model_owner, count: 1, users: [olivia]}
  - {role: independent_validator, count: 1, users: [victor, erin]}
segregation: {requester: true, developers: true}
required_evidence: [model.trained, model.validated]
comment_min_length: 10
valid_days: 30
findings: {close: [victor], accept: [victor], accept_max_days: 30}
break_glass: {users: [admin], max_hours: 8, quorum: 2, confirm_within_days: 3}
conditions: {max_rows_per_run: true, segments: {SEX: ["1", "2"]}}
existing_approvals: keep
plans:
  binary_classifier:
    - {test: discrimination.auc, thresholds: {fail_below: 0.6}, severity: high, due_days: 30}
"""


@dataclass
class Run:
    """One run of the governed DAG and the people around it.

    Attributes:
        live: Where it runs.
        model: Its model.
        version: Manifest digest that its gate asks about.
        id: Run id.
        dag: DAG id.
    """

    live: Live
    model: str
    version: str
    id: str
    dag: str = DAG

    def wait_gate(self) -> dict[str, Any]:
        """Wait until the gate can be answered safely; the form."""
        return self.live.watch.wait(self.dag, self.id, "gate")

    def wait(self, task: str, *states: str) -> str:
        """Wait for a task."""
        return self.live.client("admin").wait_for_task(self.dag, self.id, task, states)

    def settle(self) -> None:
        """Wait until the run has ended: what is cleared before that races with the scheduler."""
        end = time.monotonic() + 120
        while self.live.client("admin").run_state(self.dag, self.id) not in ("success", "failed"):
            assert time.monotonic() < end, "the run does not end"
            time.sleep(0.2)

    def clear(self, task: str) -> None:
        """Clear a task and what follows, once the run has ended."""
        self.settle()
        self.live.client(REQUESTER).clear(self.dag, self.id, task, downstream=True)

    def state(self, task: str) -> str | None:
        """The state of a task; None if it is gone."""
        try:
            return str(self.live.client("admin").task(self.dag, self.id, task)["state"])
        except ApiError:
            return None

    def answer(self, user: str, choice: str = "Approve", **changes: Any) -> None:
        """Answer the gate's form as it stands, but for the changes."""
        client = self.live.client(user)
        shown = client.form(self.dag, self.id, "gate")["params"]["request"]
        request = shown["value"] if isinstance(shown, dict) else shown
        fields = {"request": request, "comment": COMMENT} | changes
        client.answer(self.dag, self.id, "gate", choice, fields)

    def answer_at_once(self, user: str) -> None:
        """Answer as soon as Airflow takes it, without waiting until that is safe."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            self.wait("gate", "awaiting_input")
            try:
                self.answer(user)
            except ApiError as error:
                if error.status not in (404, 409):  # an answer that the gate is about to read
                    raise
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"nothing takes the answer of {user}")

    def refused_answer(self, user: str, choice: str = "Approve", **changes: Any) -> str:
        """Answer the gate's form, see it refused, and return why."""
        with pytest.raises(ApiError) as refused:
            self.answer(user, choice, **changes)
        assert refused.value.status == 403
        return str(refused.value)

    def approve_fully(self) -> None:
        """Let both seats be filled."""
        self.wait_gate()
        self.answer(OWNER)
        self.wait_gate()
        self.answer(VALIDATOR)
        self.wait("gate", "success")

    def entries(self, kind: str) -> list[Any]:
        """What the verified ledger says about this model."""
        return self.live.governance().ledger.view().select(kind, model=self.model)

    def refusals(self) -> list[str]:
        """Which check refused a use of this model, in order."""
        return [entry.body["check"] for entry in self.entries("guard.refused")]

    def changes_by_hand(self) -> list[tuple[str, str, bool, str]]:
        """Task, state, whether it was refused, and who: every change by hand on record."""
        view = self.live.governance().ledger.view()
        return [
            (
                entry.source.task_id,
                entry.body["state"],
                entry.body["refused"],
                entry.person("by").id,
            )
            for entry in view.select("state.changed_by_hand")
            if entry.source.run_id == self.id
        ]

    def force(self, statement: str, *values: str) -> None:
        """Change Airflow's database itself, which no api-server sees."""
        database = self.live.deployment.home / "airflow.db"
        with closing(sqlite3.connect(database, timeout=60)) as db, db:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute(statement, (*values, self.dag, self.id))

    def force_states(self, **states: str) -> None:
        """Set states of tasks in Airflow's database."""
        for task, state in states.items():
            where = "task_id = ? AND dag_id = ? AND run_id = ?"
            self.force(f"UPDATE task_instance SET state = ? WHERE {where}", state, task)

    def voters(self) -> list[str]:
        """Who voted on this model, in ledger order; every vote was attested by the api-server."""
        votes = self.entries("approval.voted")
        assert {entry.signed_by.value for entry in votes} <= {"attestor"}
        return [entry.person("voter").id for entry in votes]

    def refused_votes(self) -> list[str]:
        """The reasons of every vote that was not counted."""
        return ["; ".join(e.body["reasons"]) for e in self.entries("approval.vote_refused")]

    @property
    def alias(self) -> str | None:
        """Manifest digest of the version that the registry's alias points to."""
        return self.live.alias_of(self.model)


@dataclass
class Live:
    """The live Airflow with everything around it."""

    deployment: Deployment
    folder: Path
    runs: dict[str, Run] = field(default_factory=dict)
    _clients: dict[str, AirflowClient] = field(default_factory=dict)

    def client(self, user: str) -> AirflowClient:
        """Somebody signed in."""
        if user not in self._clients:
            deployment = self.deployment
            self._clients[user] = AirflowClient(deployment.url, user, deployment.passwords[user])
        return self._clients[user]

    @property
    def watch(self) -> GateWatch:
        return GateWatch(self.client("admin"), self.deployment.logs / "scheduler.log")

    def governance(self) -> Any:
        from airflow_mlgov.wiring import open_governance

        return open_governance()

    def registry(self) -> Any:
        from airflow_mlgov.registries.mlflow import MlflowRegistry

        return MlflowRegistry(f"sqlite:///{self.folder / 'mlflow.db'}")

    def lineage(self) -> list[dict[str, Any]]:
        """The OpenLineage events so far."""
        from airflow_mlgov.wiring import open_outbox

        outbox = open_outbox()
        outbox.take()
        return [each.decoded() for each in outbox.events(0, 1_000)]

    def alias_of(self, model: str) -> str | None:
        from airflow_mlgov.errors import VersionNotFoundError

        try:
            return str(self.registry().by_alias(model, "champion").manifest)
        except VersionNotFoundError:
            return None

    def model_file(self, model: str, version: str) -> Path:
        """The file of a version in MLflow's artefact store."""
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        for known in client.search_model_versions(f"name='{model}'"):
            root = Path(client.get_run(known.run_id).info.artifact_uri.removeprefix("file://"))
            file = root / "package" / "model" / "scorecard.json"
            if known.tags["mlgov.manifest_sha256"] == version:
                return file
        raise AssertionError(f"{model} {version} is not in the registry")

    def make_candidate(self, model: str, weight: int = 1) -> str:
        """Register a small model with its evidence, as training and validation leave it."""
        from airflow_mlgov.records.canonical import canonical_bytes
        from airflow_mlgov.records.people import Person
        from airflow_mlgov.service.artefacts import hash_directory
        from airflow_mlgov.service.ledger import EntryDraft

        folder = self.folder / "candidates" / f"{model}-{weight}"
        folder.mkdir(parents=True)
        (folder / "scorecard.json").write_text(json.dumps({"intercept": 0, "weight": weight}))
        gov, manifest = self.governance(), hash_directory(folder)
        version = manifest.digest
        registered = self.registry().register(model, folder, manifest, {})
        digest = f"sha256:{'0' * 64}"
        training = {"script": "tiny.py", "code_sha256": digest, "seed": weight, "metrics": {}}
        result = {
            "test": "discrimination.auc",
            "title": "AUC",
            "statistic": "0.7",
            "outcome": "pass",
            "threshold": "fail below 0.6",
            "sample_sizes": {"validation": 100},
            "source": "a test",
            "details": {},
            "segment": "",
        }
        trained = gov.evidence.put(canonical_bytes(training))
        validated = gov.evidence.put(
            json.dumps({"results": [result | {"statistic": 0.7}]}).encode()
        )
        pack = gov.pack_for(gov.model(model)).digest
        erin = Person(DEVELOPER, DEVELOPER)
        bodies: dict[str, tuple[dict[str, Any], dict[str, Person]]] = {
            "model.trained": (
                {
                    "evidence_sha256": str(trained),
                    "inputs": [],
                    "variant": "candidate",
                    "code_sha256": digest,
                },
                {"developer": erin},
            ),
            "model.registered": (
                {
                    "registry": registered.registry,
                    "name": registered.name,
                    "version": registered.version,
                    "variant": "candidate",
                    "uri": registered.uri,
                    "namespace": registered.namespace,
                },
                {},
            ),
            "model.validated": (
                {
                    "evidence_sha256": str(validated),
                    "plan": "binary_classifier",
                    "policy_sha256": str(pack),
                    "passed": True,
                    "results": {"pass": 1, "warn": 0, "fail": 0},
                },
                {},
            ),
        }
        for kind, (body, people) in bodies.items():
            gov.ledger.append(EntryDraft(kind, model, version, body, (model, str(version)), people))
        return str(version)

    def trigger(self, scenario: str, user: str, **conf: Any) -> Run:
        """Start a run of the governed DAG for a scenario's model."""
        conf = {"model": scenario} | conf
        run = self.client(user).trigger(DAG, conf)
        return Run(self, scenario, conf["version"], run)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def start_live(
    folder: Path,
    scenarios: Iterable[str],
    kind: type[Deployment] = Deployment,
    dags: Path = DAGS,
    mlgov: dict[str, str] | None = None,
    **changes: Any,
) -> Iterator[Live]:
    """Start a live Airflow that governs one model for each scenario; nothing runs yet.

    Args:
        folder: Everything goes here.
        scenarios: Models.
        kind: What starts Airflow.
        dags: Folder of a DAG named `DAG`, with whatever is driven beside it; copied.
        mlgov: Further settings of ours.
        **changes: Further arguments of the deployment.
    """
    rules = {"inventory": folder / "rules" / "inventory", "policy": folder / "rules" / "policy"}
    shutil.copytree(dags, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    deployment = kind(
        folder=folder / "deployment",
        dags=folder / "dags",
        users=USERS,
        **changes,
        mlgov=(mlgov or {})
        | {
            "ledger_url": f"sqlite:///{folder / 'ledger.db'}",
            "evidence_url": f"file://{folder / 'evidence'}",
            "inventory_path": str(rules["inventory"]),
            "policy_path": str(rules["policy"]),
            "keys_dir": str(folder / "keys"),
            "seen_dir": str(folder / "seen"),
        },
        connections={
            "mlflow_default": {
                "conn_type": "mlflow",
                "extra": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
            }
        },
    )
    for path in rules.values():
        path.mkdir(parents=True)
    for scenario in scenarios:
        text = INVENTORY.format(model=scenario)
        (rules["inventory"] / f"{scenario}.yaml").write_text(text)
    (rules["policy"] / "e2e.yaml").write_text(POLICY)
    deployment.prepare()
    reader = {"host": deployment.url, "login": READER, "password": deployment.passwords[READER]}
    deployment.env["AIRFLOW_CONN_MLGOV_AIRFLOW"] = json.dumps(
        reader | {"conn_type": "mlgov_airflow"}
    )
    with _environment(deployment.env):
        try:
            deployment.start()
            live = Live(deployment, folder)
            live.client("admin").wait_for_dags([DAG])
            yield live
        finally:
            deployment.stop()


@pytest.fixture(scope="session")
def cloud() -> Iterator[Any]:
    """A cloud that the live Airflow's platform file names: a fake of Vertex AI's own interfaces."""
    import vertex_server

    with vertex_server.start() as fake:

        def container(command: list[str], root: Path) -> int:
            del root
            entry = next(n for n, word in enumerate(command) if word.endswith(".pyz"))
            run = [sys.executable, *command[entry:]]
            done = subprocess.run(run, capture_output=True, text=True, check=False)
            words = " ".join(command)
            (job,) = (each for each in fake.jobs.all if each.job.labels["mlgov-key"] in words)
            fake.jobs.say(*done.stdout.splitlines(), *done.stderr.splitlines(), job=job)
            return done.returncode

        fake.container = container
        yield fake


PLATFORMS = """\
version: 1
platforms:
  - name: gcp
    kind: vertex
    connection: {connection}
    account: {account}
    region: {region}
    endpoint: {endpoint}
    image: {image}
    instance: {{type: n2-standard-4}}
    identity: {identity}
    output: {output}
    limits: {{poll_seconds: 1, outage_minutes: 1}}
"""


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, cloud: Any) -> Iterator[Live]:
    """A live Airflow with a run for each scenario on its way to its gate."""
    folder = tmp_path_factory.mktemp("live")
    terms, platforms = asdict(cloud.terms()), folder / "platforms.yaml"
    platforms.write_text(PLATFORMS.format_map(terms))
    env = cloud.environment() | {
        "AIRFLOW__OPENLINEAGE__EMISSION_POLICY": json.dumps(HEARD),
    }
    with start_live(
        folder,
        [*SCENARIOS, "elsewhere"],
        mlgov={"platforms_path": str(platforms)},
        lineage_namespace="bank",
        extra_env=env,
    ) as live:
        live.client("admin").wait_for_dags([WAITING, "stock", "stock_alone", "stock_silent"])
        for scenario, user in SCENARIOS.items():
            version = live.make_candidate(scenario)
            if user is not None:
                live.runs[scenario] = live.trigger(scenario, user, version=version)
        yield live


@pytest.fixture
def run(live: Live, request: pytest.FixtureRequest) -> Run:
    """The run of the scenario that the test is marked with."""
    return live.runs[request.node.get_closest_marker("scenario").args[0]]
