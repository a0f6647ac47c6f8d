"""The operator that scores files: here, as a job, and what it tells lineage."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_mlgov import ScoreBatchOperator, wiring
from airflow_mlgov.errors import DataError
from airflow_mlgov.operators.job_link import JobLink
from airflow_mlgov.operators.score_batch import _shown
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.conditions import Rows
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.scoring_order import ScoredData
from airflow_mlgov.triggers.job import JobTrigger
from tests.unit.operators.test_train_model_operator import lineage
from tests.unit.service.conftest import load_fake, make_world

checks, schemas = lineage.checks, lineage.schemas
MemoryScoring = load_fake("memory_scoring").MemoryScoring
SCRIPT = """
import csv, os
rows = list(csv.DictReader(open(os.environ["MLGOV_INPUT_DATA"])))
with open(os.environ["MLGOV_OUTPUT_DIR"] + "/scores.csv", "w") as out:
    out.write("id,pd\\n" + "".join(f"{row['id']},0.5\\n" for row in rows))
print("said by the script")
"""


@pytest.fixture
def promoted(tmp_path, least_assurance, monkeypatch):
    world = make_world(tmp_path, least_assurance)
    world.validate_data()
    world.train()
    world.validate_model()
    world.approve(world.ask())
    promote(world.gov, world.registry, world.use())
    monkeypatch.setattr(wiring, "open_governance", lambda: world.gov)
    monkeypatch.setattr(wiring, "open_registry", lambda _name: world.registry)
    return world


@pytest.fixture
def operator(promoted, tmp_path):
    def make(**changes) -> ScoreBatchOperator:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "score.py").write_text(SCRIPT)
        (tmp_path / "june.csv").write_text("id\na\nb\n")
        given = {
            "model": "retail_pd",
            "script": str(tmp_path / "code" / "score.py"),
            "data": str(tmp_path / "june.csv"),
            "output_dir": str(tmp_path / "scores"),
        }
        return ScoreBatchOperator(task_id="score", **{**given, **changes})

    return make


@pytest.fixture
def context():
    pushed = {}
    instance = SimpleNamespace(
        dag_id="retail_pd", run_id="run-2", task_id="score", map_index=-1, try_number=1,
        xcom_push=lambda key, value: pushed.update({key: value}), pushed=pushed,
    )  # fmt: skip
    return {"ti": instance, "dag_run": SimpleNamespace(triggering_user_name="erin")}


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    (tmp_path / "store").mkdir()
    made = MemoryScoring(tmp_path / "store")
    monkeypatch.setattr(wiring, "platform_terms", lambda _name: made.terms)
    monkeypatch.setattr(wiring, "open_scoring", lambda _terms: made)
    return made


def scored_rows(tmp_path) -> list[dict]:
    with (tmp_path / "scores" / "june.scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_it_scores_here_and_tells_which_version_did(operator, context, promoted, tmp_path, capsys):
    told = operator().execute(context)
    assert told["version"] == str(promoted.version)
    assert [(each["data"], each["rows"]) for each in told["scores"]] == [("june.csv", 2)]
    assert scored_rows(tmp_path) == [{"id": "a", "pd": "0.5"}, {"id": "b", "pd": "0.5"}]
    assert "said by the script" in capsys.readouterr().out


def test_a_refusal_fails_the_task_for_good(operator, context, promoted, tmp_path):
    promoted.registry.aliases.clear()
    with pytest.raises(AirflowFailException, match=r"registry\.not_found"):
        operator().execute(context)
    assert not (tmp_path / "scores").exists()


def test_what_is_looked_at_is_what_is_scored(tmp_path):
    file = tmp_path / "june.csv"
    file.write_text("SEX\n1\n2\n")
    data = ScoredData(file.name, file.as_uri(), 8, Digest.of(file.read_bytes()), path=file)
    assert _shown(data, ["SEX"]) == Rows(2, {"SEX": frozenset({"1", "2"})})
    file.write_text("SEX\n1\n1\n")
    with pytest.raises(DataError, match="changed while it was looked at"):
        _shown(data, ["SEX"])


def test_elsewhere_it_leaves_the_worker_and_takes_the_scores_later(
    operator, context, jobs, promoted, tmp_path
):
    with pytest.raises(TaskDeferred) as deferred:
        operator(platform="frankfurt").execute(context)
    trigger, kwargs = deferred.value.trigger, deferred.value.kwargs
    assert isinstance(trigger, JobTrigger)
    assert trigger.handle["purpose"] == "scoring"
    assert context["ti"].pushed[JobLink().xcom_key] == trigger.handle["console_url"]
    event = {"problem": "", "retryable": False}
    told = operator(platform="frankfurt").resume(context, event, **kwargs)
    assert told["version"] == str(promoted.version)
    assert len(scored_rows(tmp_path)) == 2
    assert jobs.started == 1


def test_lineage_names_the_job(operator, context, jobs, schemas, monkeypatch, tmp_path):
    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    with pytest.raises(TaskDeferred) as deferred:
        operator(platform="frankfurt").execute(context)
    kwargs, task = deferred.value.kwargs, operator(platform="frankfurt")
    task.resume(context, {"problem": "", "retryable": False}, **kwargs)
    event = lineage.complete_event(task._lineage)
    assert schemas.check_event(event, "score") > 6
    facets = event["run"]["facets"]
    assert facets["externalQuery"]["externalQueryId"] == kwargs["handle"]["native_id"]
    assert len(event["outputs"]) == 1


def test_it_may_wait_in_the_worker(operator, context, jobs, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "airflow_mlgov.operators.job_operator.time", SimpleNamespace(sleep=lambda _s: None)
    )
    operator(platform="frankfurt", deferrable=False).execute(context)
    assert len(scored_rows(tmp_path)) == 2


def test_lineage_binds_the_version_the_data_and_the_scores(
    operator, context, promoted, schemas, monkeypatch, tmp_path
):
    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    task = operator()
    before = task.lineage_before(context)
    told = task.execute(context)
    step = task._lineage
    assert schemas.check_event(lineage.complete_event(step), "score") > 6
    read = [dataset.name.name for dataset in step.inputs]
    assert any(name == "retail_pd/1" for name in read)
    assert {dataset.name for dataset in before.inputs} == {dataset.name for dataset in step.inputs}
    (scores,) = step.outputs
    assert scores.name.name.startswith(str(tmp_path / "scores" / "june.scores.csv") + "@")
    assert set(step.run_facets) == {"mlgov_governed", "mlgov_checkpoint"}
    assert step.run_facets["mlgov_governed"]["version"] == told["version"]
    assert step.run_facets["mlgov_checkpoint"]["entry_kind"] == "batch.scored"


def test_an_unverified_version_is_no_input_of_its_scores(operator, context, promoted, monkeypatch):
    from airflow_mlgov.policy.inventory import Mode

    monkeypatch.setattr("airflow_mlgov.operators.lineage.is_listening", lambda: True)
    promoted.with_inventory(mode=Mode.OBSERVE)
    (promoted.registry.folder("retail_pd", "1") / "scorecard.json").write_text("[9]")
    task = operator()
    assert task.execute(context)["version"] == ""
    assert "version" not in task._lineage.run_facets["mlgov_governed"]
    assert not any("retail_pd/1" in dataset.name.name for dataset in task._lineage.inputs)
