from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ConfigurationError,
    DataError,
    EvidenceError,
    TrainingError,
    UnknownSubjectError,
)
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.pack import ExitRules
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.exit_plan import ExitQuestion, plan_rehearsal
from airflow_mlgov.service.exit_rehearsal import (
    HeldAgainst,
    ScoredSample,
    conclude_rehearsal,
    describe_result,
    hold_against,
    train_as_job,
    train_here,
)
from airflow_mlgov.service.job_platform import JobState
from airflow_mlgov.service.jobs import JobTraining
from airflow_mlgov.service.train import train
from airflow_mlgov.service.training_order import TrainingOrder
from airflow_mlgov.validation.equivalence import Equivalence
from tests.unit.service.conftest import load_fake

MemoryJobs = load_fake("memory_jobs").MemoryJobs
SCRIPT = """
    import json, os, pathlib, beside
    job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
    out = pathlib.Path(job["output_dir"])
    (out / "model").mkdir()
    data = pathlib.Path(job["inputs"]["development"]).read_text()
    (out / "model" / "card.json").write_text(json.dumps([job["seed"], job["parameters"], data]))
    (out / "metrics.json").write_text('{"auc": 0.77}')
    signature = {"inputs": [{"name": "PAY_0", "type": "long"}], "output": "pd"}
    (out / "signature.json").write_text(json.dumps(signature))
    print("trained")
"""
RULES = ExitRules(0.1, 0.05, 0.9, 0.2)
FIRST, SECOND = [0.1, 0.2, 0.3, 0.4], [0.1, 0.21, 0.3, 0.4]


def _silent(_line: object) -> None:
    return


@pytest.fixture
def order(tmp_path: Path) -> TrainingOrder:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "beside.py").write_text("")
    (tmp_path / "dev.csv").write_text("PAY_0,DEFAULT\n1,0\n")
    return TrainingOrder(
        model="retail_pd",
        script=folder / "train.py",
        inputs={"development": str(tmp_path / "dev.csv")},
        parameters={"rate": 0.1},
        seed=42,
        source=Source("retail_pd", "run-7", "train", -1, 1),
    )


@pytest.fixture
def trained(world, order):
    """A version that was trained on the platform ``old``."""
    packs = {name: replace(pack, exit=RULES) for name, pack in world.gov.packs.items()}
    world.gov = replace(world.gov, packs=packs)
    return train(order, world.gov, LocalPlatform("old"), world.registry, _silent)


@pytest.fixture
def question(trained, order) -> ExitQuestion:
    source = Source("", "exit-rehearsal 2026-06-01", "new")
    return ExitQuestion("retail_pd", "old", "new", order.script, source=source)


def _made(world, question, folder: Path):
    plan = plan_rehearsal(world.gov, question)
    folder.mkdir()
    here = {
        "python": "3.12.1",
        "implementation": "cpython",
        "packages": ["numpy==2.5.5", "only-here==1"],
    }
    return plan, train_here(plan, LocalPlatform("new"), here, folder, _silent)


def _sample(first=FIRST, second=SECOND) -> ScoredSample:
    return ScoredSample("file:///s.csv", Digest.of(b"s"), "scoring:card", first, second)


def test_the_same_specification_is_trained_and_nothing_is_registered(
    world, trained, question, tmp_path: Path
) -> None:
    before = len(world.kinds("model.trained", "model.registered"))
    plan, made = _made(world, question, tmp_path / "out")
    assert made.manifest.digest == trained.manifest.digest == plan.version
    assert json.loads((tmp_path / "out" / "model" / "card.json").read_text())[:2] == [
        42,
        {"rate": 0.1},
    ]
    conclude_rehearsal(world.gov, plan, made, _sample(), world.clock.now())
    assert len(world.kinds("model.trained", "model.registered")) == before
    assert len(world.registry.versions("retail_pd")) == 1


def test_the_outcome_is_on_record_with_its_report(world, trained, question, tmp_path) -> None:
    started_at = world.clock.now()
    plan, made = _made(world, question, tmp_path / "out")
    done = conclude_rehearsal(world.gov, plan, made, _sample(), started_at)
    assert done.passed
    (entry,) = world.kinds("exit.rehearsed")
    pack = world.gov.packs["retail_credit"]
    assert entry.version == trained.manifest.digest
    assert entry.source == question.source
    assert entry.body == {
        "evidence_sha256": str(done.evidence),
        "policy_sha256": str(pack.digest),
        "rehearsed_sha256": str(trained.manifest.digest),
        "platform": "old",
        "to_platform": "new",
        "passed": True,
    }
    report = json.loads(world.gov.evidence.get(done.evidence))
    assert report == done.document
    assert (report["type"], report["v"], report["same_bytes"]) == ("exit_rehearsal", 1, True)
    assert report["training_record"] == str(trained.evidence)
    assert report["training"]["platform"] == "new"
    assert report["apart"] == [{"row": 2, "first": 0.2, "second": 0.21}]
    assert report["sample"]["rows"] == 4
    assert world.gov.evidence.get(pack.digest) == pack.source
    changes = {item["name"]: (item["from"], item["to"]) for item in report["environment"]}
    assert changes["only-here"] == ("", "1")
    assert changes["numpy"][1] == "2.5.5"
    assert changes["python"][1] == "3.12.1"
    assert changes["pytest"][1] == ""
    assert "implementation" not in changes


def test_scores_too_far_apart_are_an_outcome_that_is_kept(
    world, trained, question, tmp_path
) -> None:
    plan, made = _made(world, question, tmp_path / "out")
    sample = _sample(second=[0.1, 0.3, 0.3, 0.7])
    done = conclude_rehearsal(world.gov, plan, made, sample, world.clock.now())
    assert not done.passed
    assert [result.measure for result in done.results if not result.passed][:2] == [
        "max_difference", "mean_difference",
    ]  # fmt: skip
    assert world.kinds("exit.rehearsed")[0].body["passed"] is False


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"max_difference": 0.1000001}, ["max_difference"]),
        ({"mean_difference": 0.0500001}, ["mean_difference"]),
        ({"rank_agreement": 0.8999999}, ["min_rank_agreement"]),
        ({"rank_agreement": None}, ["min_rank_agreement"]),
        ({"psi": 0.2000001}, ["max_psi"]),
    ],
)
def test_each_tolerance_is_kept_up_to_its_bound(changes, broken) -> None:
    found = replace(Equivalence(9, 0.1, 0.05, 0.9, 0.2, ()), **changes)
    results = hold_against(found, RULES)
    assert [result.measure for result in results if not result.passed] == broken
    assert [result.bound for result in results] == [0.1, 0.05, 0.9, 0.2]


def test_a_result_reads_as_a_line() -> None:
    kept = HeldAgainst("max_psi", "Population stability index", 0.0123456789, 0.2, passed=True)
    lost = HeldAgainst("min_rank_agreement", "Agreement of ranks", None, 0.9, passed=False)
    assert describe_result(kept) == "PASS Population stability index 0.0123457 (at most 0.2)"
    assert describe_result(lost) == "FAIL Agreement of ranks not defined (at least 0.9)"


def test_without_tolerances_there_is_no_rehearsal(world, question) -> None:
    packs = {name: replace(pack, exit=None) for name, pack in world.gov.packs.items()}
    with pytest.raises(ConfigurationError, match="no section 'exit'"):
        plan_rehearsal(replace(world.gov, packs=packs), question)


def test_a_platform_is_not_left_for_itself(world, question) -> None:
    with pytest.raises(ConfigurationError, match="both are 'old'"):
        plan_rehearsal(world.gov, replace(question, to_platform="old"))


def test_the_newest_candidate_of_that_platform_is_meant(world, order, trained, question) -> None:
    data = Path(order.inputs["development"])
    later = replace(order, seed=43, source=replace(order.source, run_id="run-8"))
    newest = train(later, world.gov, LocalPlatform("old"), world.registry, _silent)
    other = replace(order, seed=44, source=replace(order.source, run_id="run-9"))
    train(other, world.gov, LocalPlatform("elsewhere"), world.registry, _silent)
    rival = replace(order, seed=45, variant="challenger")
    train(rival, world.gov, LocalPlatform("old"), world.registry, _silent)
    assert plan_rehearsal(world.gov, question).version == newest.manifest.digest
    assert plan_rehearsal(world.gov, question).order.seed == 43
    meant = replace(question, version=trained.manifest.digest)
    assert plan_rehearsal(world.gov, meant).order.seed == 42
    assert plan_rehearsal(world.gov, meant).order.inputs == {"development": data.as_uri()}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"from_platform": "nowhere"}, "No version of model 'retail_pd' was trained on platform"),
        ({"version": Digest.of(b"x")}, "was not trained on platform 'old'"),
    ],
)
def test_what_was_never_trained_there_is_said(world, question, changes, said: str) -> None:
    with pytest.raises(UnknownSubjectError, match=said):
        plan_rehearsal(world.gov, replace(question, **changes))


@pytest.mark.parametrize("name", ["train.py", "beside.py"])
def test_other_code_is_refused(world, question, name: str) -> None:
    (question.script.parent / name).write_text("changed = True")
    with pytest.raises(TrainingError, match=f"{name} in .* is not what the version was trained"):
        plan_rehearsal(world.gov, question)


def test_a_file_that_came_beside_it_later_does_no_harm(world, question) -> None:
    (question.script.parent / "later.py").write_text("")
    assert plan_rehearsal(world.gov, question)


def test_other_data_are_refused(world, order, question, tmp_path: Path) -> None:
    Path(order.inputs["development"]).write_text("PAY_0,DEFAULT\n2,0\n")
    with pytest.raises(DataError, match="is not what the version learnt from"):
        plan_rehearsal(world.gov, question)
    (tmp_path / "moved.csv").write_text("PAY_0,DEFAULT\n1,0\n")
    moved = replace(question, inputs={"development": str(tmp_path / "moved.csv")})
    assert plan_rehearsal(world.gov, moved).order.inputs == moved.inputs
    with pytest.raises(ConfigurationError, match="has no input others"):
        plan_rehearsal(world.gov, replace(question, inputs={"others": "/x"}))


def test_code_that_changes_while_it_runs_counts_for_nothing(
    world, question, tmp_path: Path
) -> None:
    plan = plan_rehearsal(world.gov, question)

    class Changes(LocalPlatform):
        def run(self, job, log) -> None:
            super().run(job, log)
            (question.script.parent / "beside.py").write_text("changed = True")

    (tmp_path / "out").mkdir()
    with pytest.raises(TrainingError, match=r"beside\.py"):
        train_here(plan, Changes("new"), {}, tmp_path / "out", _silent)


def test_data_that_change_while_it_runs_count_for_nothing(
    world, order, question, tmp_path: Path
) -> None:
    plan = plan_rehearsal(world.gov, question)

    class Changes(LocalPlatform):
        def run(self, job, log) -> None:
            super().run(job, log)
            Path(order.inputs["development"]).write_text("PAY_0,DEFAULT\n2,0\n")

    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="changed while the script learnt from it"):
        train_here(plan, Changes("new"), {}, tmp_path / "out", _silent)


def test_the_script_is_held_against_its_own_digest_too(world, question, trained) -> None:
    """In an early record, or where its name does not end as a Python file's, nothing else is."""
    record = json.loads(world.gov.evidence.get(trained.evidence))
    del record["code_files"]
    body = {"evidence_sha256": world.keep(record), "inputs": [], "variant": "candidate"}
    world.entry("model.trained", body, version=trained.manifest.digest)
    assert plan_rehearsal(world.gov, question)
    question.script.write_text("changed = True")
    with pytest.raises(TrainingError, match=r"train\.py in"):
        plan_rehearsal(world.gov, question)


def test_a_record_that_is_none_is_said(world, question, trained) -> None:
    record = json.loads(world.gov.evidence.get(trained.evidence))
    del record["seed"]
    broken = world.keep(record)
    body = {"evidence_sha256": broken, "inputs": [], "variant": "candidate"}
    world.entry("model.trained", body, version=trained.manifest.digest)
    with pytest.raises(EvidenceError, match=r"is no 'model\.trained' document"):
        plan_rehearsal(world.gov, question)


def test_a_job_of_a_cloud_is_watched_to_its_end_and_can_be_cancelled(
    world, trained, question, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    jobs = MemoryJobs(tmp_path / "store")
    jobs.course = [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    plan = plan_rehearsal(world.gov, replace(question, to_platform="frankfurt"))
    slept, cancels = [], []
    training = JobTraining(plan.order, world.gov, jobs.terms, jobs, _silent, slept.append)
    (tmp_path / "out").mkdir()
    made = train_as_job(training, tmp_path / "out", cancels.append)
    assert made.manifest.digest == trained.manifest.digest
    assert made.record["job"]["native_id"]
    assert made.record["platform"] == "frankfurt"
    assert len(slept) >= 2
    (tmp_path / "again").mkdir()
    train_as_job(training, tmp_path / "again", cancels.append)
    assert jobs.started == 1, "asked again, it goes on with the same job"
    assert len(world.kinds("model.registered")) == 1
    cancels[0]()
    assert len(jobs.cancelled) == 1
