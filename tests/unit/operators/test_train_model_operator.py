from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_mlgov import wiring
from airflow_mlgov.errors import MlgovError, RegistryUnavailableError
from airflow_mlgov.operators.job_link import JobLink
from airflow_mlgov.operators.train_model import TrainModelOperator
from airflow_mlgov.policy.inventory_file import read_inventory
from airflow_mlgov.policy.pack_file import read_packs
from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.job_platform import JobState
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.evidence import ObjectEvidenceStore
from airflow_mlgov.stores.sqlite import SqliteStore
from airflow_mlgov.triggers.job import JobTrigger

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, os, pathlib
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
out = pathlib.Path(job["output_dir"])
(out / "model").mkdir()
(out / "model" / "m.json").write_text(json.dumps(job["parameters"]))
(out / "metrics.json").write_text('{"auc": 0.7}')
(out / "signature.json").write_text('{"inputs": [{"name": "a", "type": "long"}], "output": "p"}')
print("said by the script")
"""
CONTEXT = {
    "ti": SimpleNamespace(
        dag_id="d", run_id="r", task_id="train", map_index=-1, try_number=1
    ),
    "dag_run": SimpleNamespace(triggering_user_name="erin"),
}  # fmt: skip


def load_lineage():
    """What the tests of lineage share, which is no package."""
    file = ROOT / "tests" / "unit" / "lineage" / "conftest.py"
    spec = importlib.util.spec_from_file_location("lineage_of_trainings", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


lineage = load_lineage()
checks, schemas = lineage.checks, lineage.schemas


@pytest.fixture
def governance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Governance:
    sys.path.insert(0, str(ROOT / "tests" / "fakes"))
    from folder_registry import FolderRegistry

    store = SqliteStore.from_url(f"sqlite:///{tmp_path}/ledger.db")
    gov = Governance(
        ledger=Ledger(store, open_signers(tmp_path / "keys"), SystemClock()),
        evidence=ObjectEvidenceStore(f"file://{tmp_path}/evidence"),
        inventory=read_inventory(ROOT / "dags" / "inventory"),
        packs={},
        clock=SystemClock(),
    )
    registry = FolderRegistry(tmp_path / "registry")
    monkeypatch.setattr(wiring, "open_governance", lambda: gov)
    monkeypatch.setattr(wiring, "open_registry", lambda _conn_id: registry)
    return gov


@pytest.fixture
def operator(tmp_path: Path):
    def make(source: str = SCRIPT, **changes) -> TrainModelOperator:
        (tmp_path / "train.py").write_text(source)
        (tmp_path / "data.csv").write_text("a\n1\n")
        given = {
            "model": "retail_pd",
            "script": str(tmp_path / "train.py"),
            "inputs": {"development": str(tmp_path / "data.csv")},
            "parameters": {"depth": 3},
        }
        return TrainModelOperator(task_id="train", **{**given, **changes})

    return make


def test_the_task_returns_what_the_ledger_says(governance, operator, capsys) -> None:
    answer = operator().execute(CONTEXT)
    trained, registered = governance.ledger.view().select("model.trained", "model.registered")
    assert answer == {
        "model": "retail_pd",
        "version": str(trained.version),
        "registry_version": registered.body["version"],
        "uri": registered.body["uri"],
        "variant": "candidate",
        "metrics": {"auc": 0.7},
    }
    assert trained.person("developer") == Person("erin", "erin")
    assert (trained.source.dag_id, trained.source.task_id) == ("d", "train")
    assert "said by the script" in capsys.readouterr().out


def test_lineage_states_the_version_the_training_and_the_ledger(
    governance, operator, schemas, monkeypatch
) -> None:
    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    task = operator()
    sha256 = str(Digest.of((Path(task.inputs["development"])).read_bytes()))
    schema = [{"name": "a", "type": "int64"}, {"name": "DEFAULT", "type": "int64"}]
    validated(governance, sha256, schema)
    validated(governance, str(Digest.of(b"other data")), [{"name": "c", "type": "int64"}])
    answer = task.execute(CONTEXT)
    event = lineage.complete_event(task._lineage)
    assert schemas.check_event(event, "train") > 6
    trained, registered = governance.ledger.view().select("model.trained", "model.registered")
    facets = event["run"]["facets"]
    training = facets["mlgov_training"]
    assert training["entry_key"] == trained.key
    assert training["code_sha256"] == trained.body["code_sha256"]
    assert training["evidence_sha256"] == trained.body["evidence_sha256"]
    assert training["inputs"] == [{"name": "development", "sha256": sha256}]
    assert training["parameters_sha256"] == str(Digest.of(b'{"depth":3}'))
    assert facets["mlgov_checkpoint"]["entry_index"] == registered.index
    (output,) = event["outputs"]
    model = output["facets"]["mlgov_model"]
    assert (model["version"], model["files"], model["registry_version"]) == (
        answer["version"],
        1,
        answer["registry_version"],
    )
    assert "tier" not in model, "no pack is at hand, and nothing else is lost of it"
    assert output["facets"]["schema"]["fields"] == [{"name": "a", "type": "long"}]
    (data,) = event["inputs"]
    columns = output["facets"]["columnLineage"]["fields"]
    assert list(columns) == ["a"]
    (read,) = columns["a"]["inputFields"]
    assert (read["namespace"], read["name"]) == (data["namespace"], data["name"])


def validated(governance: Governance, sha256: str, schema: list[dict[str, str]]) -> None:
    evidence = governance.evidence.put(json.dumps({"fingerprint": {"schema": schema}}).encode())
    body = {
        "dataset": "data",
        "sha256": sha256,
        "passed": True,
        "evidence_sha256": str(evidence),
    }
    draft = EntryDraft("data.validated", "retail_pd", None, body, (sha256,))
    governance.ledger.seal(governance.ledger.append(draft))


def test_columns_of_data_that_nobody_validated_are_not_known(
    governance, operator, monkeypatch
) -> None:
    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    task = operator()
    task.execute(CONTEXT)
    (model,) = task._lineage.outputs
    assert "columnLineage" not in model.facets
    assert "schema" in model.facets


def test_a_failing_script_fails_the_task_for_good(governance, operator) -> None:
    with pytest.raises(AirflowFailException, match="exited with status 1"):
        operator("1 / 0").execute(CONTEXT)
    assert not governance.ledger.view().select("model.trained", "model.registered")


def test_an_unreachable_registry_is_worth_a_retry(governance, operator, monkeypatch) -> None:
    def gone(_conn_id: str) -> None:
        raise RegistryUnavailableError("gone")

    monkeypatch.setattr(wiring, "open_registry", gone)
    with pytest.raises(AirflowException) as caught:
        operator().execute(CONTEXT)
    assert not isinstance(caught.value, AirflowFailException)
    assert isinstance(caught.value.__cause__, MlgovError)


def test_killing_the_task_ends_the_script(governance, operator, tmp_path: Path) -> None:
    started = tmp_path / "started"
    task = operator(
        f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(300)"
    )
    failures: list[Exception] = []

    def run() -> None:
        try:
            task.execute(CONTEXT)
        except AirflowFailException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    task.on_kill()
    thread.join(20)
    assert "was cancelled" in str(failures[0])


def test_killing_a_task_that_has_not_begun_is_harmless(operator) -> None:
    operator().on_kill()


def test_everything_that_may_differ_by_run_is_templated() -> None:
    assert {"script", "inputs", "parameters"} <= set(TrainModelOperator.template_fields)


class Instance(SimpleNamespace):
    """A running task instance, as far as our operators use one."""

    def xcom_push(self, key: str, value: str) -> None:
        self.pushed[key] = value


@pytest.fixture
def jobs(governance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from memory_jobs import MemoryJobs

    packs = {pack.id: pack for pack in read_packs(ROOT / "dags" / "policy").values()}
    gov = replace(governance, packs=packs)
    made = MemoryJobs(tmp_path / "store")
    monkeypatch.setattr(wiring, "open_governance", lambda: gov)
    monkeypatch.setattr(wiring, "platform_terms", lambda _name: made.terms)
    monkeypatch.setattr(wiring, "open_jobs", lambda _terms: made)
    return made


@pytest.fixture
def context():
    ti = Instance(dag_id="d", run_id="r", task_id="train", map_index=-1, try_number=1, pushed={})
    return CONTEXT | {"ti": ti}


def deferred(task: TrainModelOperator, context) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context)
    return caught.value


class TestElsewhere:
    """On a platform whose jobs outlive the task."""

    def test_the_worker_is_left_while_the_job_runs_and_its_result_is_taken(
        self, jobs, governance, operator, context, capsys
    ) -> None:
        wait = deferred(operator(platform="frankfurt"), context)
        handle = wait.kwargs["handle"]
        assert isinstance(wait.trigger, JobTrigger)
        assert (wait.trigger.handle, wait.trigger.outage_s) == (handle, 60.0)
        assert context["ti"].pushed == {"_link_JobLink": handle["console_url"]}
        woken = operator(platform="frankfurt")
        event = {"problem": "", "retryable": False}
        answer = getattr(woken, wait.method_name)(context, event=event, **wait.kwargs)
        (trained,) = governance.ledger.view().select("model.trained")
        assert answer["version"] == str(trained.version)
        assert jobs.started == 1
        assert "said by the script" in capsys.readouterr().out
        assert JobLink().get_link(woken, ti_key=None) == handle["console_url"]

    def test_lineage_names_the_job_with_its_link_and_the_version_s_address(
        self, jobs, operator, context, schemas, monkeypatch
    ) -> None:
        monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
        wait = deferred(operator(platform="frankfurt"), context)
        woken = operator(platform="frankfurt")
        answer = woken.resume(context, event={"problem": "", "retryable": False}, **wait.kwargs)
        event = lineage.complete_event(woken._lineage)
        assert schemas.check_event(event, "train") > 6
        handle, facets = wait.kwargs["handle"], event["run"]["facets"]
        assert facets["externalQuery"]["externalQueryId"] == handle["native_id"]
        assert facets["externalQuery"]["source"] == jobs.terms.kind
        assert facets["mlgov_training"]["job"] == {
            "kind": jobs.kind,
            **{name: handle[name] for name in ("key", "native_id", "console_url")},
        }
        (output,) = event["outputs"]
        assert output["facets"]["mlgov_model"]["registry_uri"] == answer["uri"]

    @pytest.mark.parametrize("problem", ["the API is away", ""])
    def test_lineage_of_a_training_that_fails_names_its_job(
        self, jobs, operator, context, schemas, monkeypatch, problem
    ) -> None:
        monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
        wait = deferred(operator("1 / 0", platform="frankfurt"), context)
        woken = operator("1 / 0", platform="frankfurt")
        with pytest.raises(AirflowException):
            woken.resume(context, event={"problem": problem, "retryable": False}, **wait.kwargs)
        event = lineage.complete_event(woken._lineage)
        assert schemas.check_event(event, "train")
        stated = event["run"]["facets"]["externalQuery"]
        assert stated["externalQueryId"] == wait.kwargs["handle"]["native_id"]
        assert len(event["inputs"]) == 1
        assert event["outputs"] == []

    def test_a_retry_goes_on_with_the_same_job(self, jobs, operator, context) -> None:
        first, again = (deferred(operator(platform="frankfurt"), context).kwargs for _ in range(2))
        assert first == again
        assert jobs.started == 1

    @pytest.mark.parametrize(
        ("retryable", "error"), [(True, AirflowException), (False, AirflowFailException)]
    )
    def test_what_the_trigger_found_fails_the_task(
        self, jobs, operator, context, retryable, error
    ) -> None:
        wait = deferred(operator(platform="frankfurt"), context)
        event = {"problem": "the API is away", "retryable": retryable}
        with pytest.raises(AirflowException, match="the API is away") as caught:
            operator(platform="frankfurt").resume(context, event=event, **wait.kwargs)
        assert type(caught.value) is error

    def test_a_woken_task_asks_the_platform_itself(
        self, jobs, governance, operator, context
    ) -> None:
        jobs.course = [JobState.RUNNING]
        wait = deferred(operator(platform="frankfurt"), context)
        event = {"problem": "", "retryable": False}
        with pytest.raises(AirflowFailException, match="has not ended"):
            operator(platform="frankfurt").resume(context, event=event, **wait.kwargs)
        assert not governance.ledger.view().select("model.trained")

    def test_it_may_wait_in_the_worker(self, jobs, operator, context, capsys, monkeypatch) -> None:
        slept: list[float] = []
        clock = SimpleNamespace(sleep=slept.append)
        monkeypatch.setattr("airflow_mlgov.operators.job_operator.time", clock)
        jobs.course = [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
        answer = operator(platform="frankfurt", deferrable=False).execute(context)
        assert answer["metrics"] == {"auc": 0.7}
        assert len(slept) == 2
        assert capsys.readouterr().out.count("said by the script") == 1

    def test_killing_a_task_that_waits_in_the_worker_cancels_the_job(
        self, jobs, operator, context
    ) -> None:
        task = operator(platform="frankfurt")
        handle = deferred(task, context).kwargs["handle"]
        task.on_kill()
        assert jobs.cancelled == [handle["key"]]
        jobs.failures = 1
        task.on_kill()  # says that it could not, and lets Airflow go on

    def test_what_the_pack_forbids_fails_the_task_for_good(
        self, jobs, governance, operator, context, monkeypatch
    ) -> None:
        gov = wiring.open_governance()
        rules = PlatformRules(regions=("eu-west-1",))
        packs = {name: replace(pack, platforms=rules) for name, pack in gov.packs.items()}
        monkeypatch.setattr(wiring, "open_governance", lambda: replace(gov, packs=packs))
        with pytest.raises(AirflowFailException, match="Nothing was started"):
            operator(platform="frankfurt").execute(context)
        assert jobs.started == 0
