"""The parts of docker-compose.yml, started on this machine with the environments it gives them.

PostgreSQL (with passwords) and Redis, Airflow's five parts with Celery between them, the sequencer
and MLflow run for real. A fake takes the place of Marquez and its door. What this cannot prove is
in `composed.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from composed import ROOT, Composed, read_config
from marquez import FakeMarquez
from postgres_server import PostgresServer

from demo.client import AirflowClient
from demo.processes import stop_components

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
DAG = MODEL = "small"
DEVELOPER, OWNER, VALIDATOR = "erin", "olivia", "victor"
PORTS = {
    "redis": 6379,
    "api-server": 8080,
    "scheduler": 8974,
    "sequencer": 8975,
    "mlflow": 5000,
}
AIRFLOWS = ("scheduler", "dag-processor", "triggerer", "worker")
RUNNING = ("redis", "api-server", *AIRFLOWS, "sequencer", "mlflow")
COMMENT = "Read the evidence and agree."


@dataclass
class Deployment:
    composed: Composed
    postgres: PostgresServer
    marquez: FakeMarquez
    url: str
    people: dict[str, AirflowClient]

    def secret(self, name: str) -> str:
        return (self.composed.secrets / name).read_text()

    def connect(self, role: str, secret: str, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.postgres.port,
            user=role,
            password=self.secret(secret),
            dbname=database,
        )


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or pytest.skip(f"{name} is not installed (Debian package of that name)")


def make_secrets(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_secrets", ROOT / "deploy/make_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(folder, folder.with_suffix(".env"))


@contextmanager
def server_with_passwords(administrator: str) -> Iterator[PostgresServer]:
    """A PostgreSQL as the image makes it: a superuser `postgres`, and a password for everybody."""
    server = PostgresServer()
    try:
        server.start()
        role = f"CREATE ROLE postgres SUPERUSER LOGIN PASSWORD '{administrator}'"
        server.execute("postgres", role)
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        server.run("pg_ctl", "-D", str(server.data), "reload")
        yield server
    finally:
        server.remove()


def make_people(composed: Composed, url: str, password: str) -> dict[str, AirflowClient]:
    """Make the first user as the docs say, and the others as that one would."""
    about = ["--firstname", "Ada", "--lastname", "Admin", "--email", "admin@bank.example"]
    who = ["--username", "admin", "--role", "Admin", "--password", password]
    made = composed.execute("api-server", "airflow", "users", "create", *who, *about)
    assert made.returncode == 0, made.stdout + made.stderr
    admin = AirflowClient(url, "admin", password)
    for name in (DEVELOPER, OWNER, VALIDATOR):
        body = {
            "username": name,
            "email": f"{name}@bank.example",
            "first_name": name.title(),
            "last_name": "Test",
            "roles": [{"name": "User"}],
            "password": password,
        }
        admin.call("POST", "/auth/fab/v1/users", body)
    others = {name: AirflowClient(url, name, password) for name in (DEVELOPER, OWNER, VALIDATOR)}
    return {"admin": admin} | others


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    pytest.importorskip("airflow.providers.fab", reason="make test-long installs it")
    program("redis-server")
    folder = tmp_path_factory.mktemp("deployment")
    secrets = folder / "secrets"
    make_secrets(secrets)
    administrator = (secrets / "postgres_password").read_text()
    with server_with_passwords(administrator) as postgres, FakeMarquez() as marquez:
        config = read_config(
            program("docker-compose"),
            MLGOV_DAGS=str(HERE / "deployed" / "dags"),
            MLGOV_RULES=str(HERE / "deployed"),
        )
        elsewhere = {
            "postgres": f"127.0.0.1:{postgres.port}",
            "door": marquez.url.removeprefix("http://"),
        }
        composed = Composed(folder / "run", config, secrets, PORTS, elsewhere, [postgres.bin])
        url = f"http://{composed.places['api-server']}"
        try:
            composed.run("keys")
            composed.up(*RUNNING)
            for name in RUNNING:
                composed.wait_healthy(name)
            yield Deployment(
                composed, postgres, marquez, url, make_people(composed, url, "for this test")
            )
        finally:
            composed.stop()


@pytest.fixture(scope="module")
def run(deployment: Deployment) -> str:
    """A run that was trained, approved by two people, promoted and scored."""
    erin = deployment.people[DEVELOPER]
    deployment.people["admin"].wait_for_dags([DAG])
    deployment.people["admin"].call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})
    run = erin.trigger(DAG)
    erin.wait_for_task(DAG, run, "approved", ["deferred"])
    for name in (OWNER, VALIDATOR):
        vote(deployment, run, name)
    erin.wait_for_task(DAG, run, "score", ["success"])
    return run


def vote(deployment: Deployment, run: str, name: str) -> None:
    from demo.client import ApiError

    client = deployment.people[name]
    end = time.monotonic() + 120
    while True:
        client.wait_for_task(DAG, run, "gate", ["awaiting_input"])
        shown = client.form(DAG, run, "gate")["params"]["request"]
        request = shown["value"] if isinstance(shown, dict) else shown
        try:
            client.answer(DAG, run, "gate", "Approve", {"request": request, "comment": COMMENT})
        except ApiError as error:  # an answer that the gate is about to read
            if error.status not in (404, 409) or time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def until(found: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def test_a_model_is_trained_approved_promoted_and_scored_by_the_celery_worker(deployment, run):
    erin = deployment.people[DEVELOPER]
    assert json.loads(erin.xcom(DAG, run, "score")) == {"mean": 3.0}
    tasks = erin.tasks(DAG, run)
    assert {name: each["state"] for name, each in tasks.items()} == dict.fromkeys(
        ("train", "gate", "promote", "approved", "score"), "success"
    )
    log = (deployment.composed.folder / "logs" / "worker.log").read_text()
    assert log.count("execute_workload") >= len(tasks)


def test_a_tasks_log_reaches_the_api_server_by_the_volume(deployment, run):
    assert "The mean of 3 numbers." in deployment.people[DEVELOPER].log(DAG, run, "train")


def test_the_ledger_verifies_and_each_part_signed_with_its_own_key(deployment, run):
    trust = str(deployment.composed.secrets / "ledger" / "trust.json")
    said = deployment.composed.execute(
        "sequencer", "airflow", "mlgov", "ledger", "verify", "--trust", trust
    )
    assert said.returncode == 0, said.stdout + said.stderr
    shown = deployment.composed.execute(
        "sequencer", "airflow", "mlgov", "ledger", "show", "--output", "json"
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    entries, _ = json.JSONDecoder().raw_decode(shown.stdout)
    signed = [(each["kind"], each["signed_by"]) for each in entries]
    assert signed.count(("approval.voted", "attestor")) == 2
    assert set(signed) >= {
        ("genesis", "log"),
        ("model.trained", "writer"),
        ("approval.requested", "writer"),
        ("approval.granted", "writer"),
        ("model.promoted", "writer"),
    }
    assert {by for kind, by in signed if kind == "approval.voted"} == {"attestor"}


def test_mlflow_has_the_version_and_lineage_arrives_with_the_token(deployment, run):
    address = f"http://{deployment.composed.places['mlflow']}/api/2.0/mlflow/registered-models"
    found = httpx.get(f"{address}/alias", params={"name": MODEL, "alias": "champion"}, timeout=60)
    assert found.json()["model_version"]["version"] == "1", found.text

    def arrived() -> bool:
        return any("small.score" in event["job"]["name"] for event in deployment.marquez.events)

    until(arrived, "no lineage of the run arrives")
    token = f"Bearer {deployment.secret('marquez_write_token')}"
    posts = [each for each in deployment.marquez.requests if each.method == "POST"]
    assert {each.headers.get("authorization") for each in posts} == {token}


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("reader", "INSERT INTO mlgov.inbox DEFAULT VALUES"),
        ("writer", "INSERT INTO mlgov.entries DEFAULT VALUES"),
        ("writer", "DELETE FROM mlgov.inbox"),
        ("sequencer", "DELETE FROM mlgov.entries"),
        ("sequencer", "CREATE TABLE mlgov.another (id int)"),
    ],
)
def test_a_role_may_read_the_ledger_and_no_more_than_its_part_needs(
    deployment, run, role, statement
):
    secret = f"ledger_{role}_password"
    with deployment.connect(f"mlgov_{role}", secret, "ledger") as connection:
        assert connection.execute("SELECT count(*) FROM mlgov.entries").fetchone()[0] > 5
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        deployment.connect(f"mlgov_{role}", secret, "airflow")


def test_every_part_stays_healthy_and_none_said_that_it_lacks_something(deployment, run):
    for name in RUNNING:
        said = deployment.composed.check(name)
        assert said.returncode == 0, f"{name}: {said.stdout} {said.stderr}"
        deployment.composed.running[name].check()


# From here on things are changed that others need: these two stay last.


def test_a_new_password_holds_once_roles_has_run_again(deployment, run):
    before = deployment.secret("ledger_reader_password")
    (deployment.composed.secrets / "ledger_reader_password").unlink()
    make_secrets(deployment.composed.secrets)
    assert deployment.secret("ledger_reader_password") != before
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        deployment.connect("mlgov_reader", "ledger_reader_password", "ledger")
    said = deployment.composed.execute("roles", "bash", "/deploy/roles.sh")
    assert said.returncode == 0, said.stderr
    deployment.connect("mlgov_reader", "ledger_reader_password", "ledger").close()


def test_a_key_is_rotated_and_the_trust_file_made_anew_by_hand(deployment, run):
    composed = deployment.composed
    for name in ("scheduler", "worker"):
        stop_components([composed.running[name]], grace_s=20)
    trust = composed.secrets / "ledger" / "trust.json"
    key, before = composed.secrets / "ledger" / "writer.key", trust.read_bytes()
    old = key.read_bytes()
    rotated = composed.execute("keys", "airflow", "mlgov", "keys", "rotate", "--role", "writer")
    assert rotated.returncode == 0, rotated.stdout + rotated.stderr
    assert key.read_bytes() != old
    written = composed.execute("keys", *composed.config["services"]["keys"]["command"])
    assert written.returncode == 0, written.stderr
    assert trust.read_bytes() != before
    said = composed.execute(
        "sequencer", "airflow", "mlgov", "ledger", "verify", "--trust", str(trust)
    )
    assert said.returncode == 0, said.stdout + said.stderr
