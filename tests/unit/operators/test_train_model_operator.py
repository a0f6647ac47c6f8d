from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_mlgov import wiring
from airflow_mlgov.errors import MlgovError, RegistryUnavailableError
from airflow_mlgov.operators.train_model import TrainModelOperator
from airflow_mlgov.policy.inventory_file import read_inventory
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.governance import Governance
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.evidence import ObjectEvidenceStore
from airflow_mlgov.stores.sqlite import SqliteStore

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
