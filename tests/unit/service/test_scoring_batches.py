"""Scoring of files, here and as a job of a platform in memory: verified before and after."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    ControlsRefusedError,
    DataError,
    GuardRefusedError,
    PlatformUnavailableError,
    ScoringError,
)
from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.inventory import Mode
from airflow_mlgov.policy.platform_controls import PlatformRules
from airflow_mlgov.records.conditions import Conditions
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import Choice
from airflow_mlgov.records.people import Person
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.attest_vote import Ballot, cast_vote
from airflow_mlgov.service.conditions import Rows
from airflow_mlgov.service.job_platform import JobHandle, JobState
from airflow_mlgov.service.job_scoring import JobScoring
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.score_batch import LocalBatch
from airflow_mlgov.service.scored import use_on_record
from airflow_mlgov.service.scoring_order import ScoringOrder
from airflow_mlgov.service.stop import stop_model
from airflow_mlgov.service.vote import count_votes
from tests.unit.service.conftest import load_fake

MemoryScoring = load_fake("memory_scoring").MemoryScoring
SCRIPT = """
    import csv, json, os, pathlib
    import beside
    job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
    points = json.loads((pathlib.Path(job["inputs"]["model"]) / "scorecard.json").read_text())
    rows = list(csv.DictReader(open(os.environ["MLGOV_INPUT_DATA"])))
    with open(pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"]) / "scores.csv", "w") as out:
        out.write("id,pd\\n")
        for row in rows:
            out.write(f"{row['id']},{int(row['PAY_0']) * job['parameters']['rate']}\\n")
    print("scored", len(rows), "with", points)
"""


def rows_of(data, columns) -> Rows:
    lines = data.path.read_text().splitlines()
    return Rows(len(lines) - 1, {column: frozenset({"retail"}) for column in columns})


@pytest.fixture
def promoted(candidate):
    candidate.approve(candidate.ask())
    promote(candidate.gov, candidate.registry, candidate.use())
    return candidate


@pytest.fixture
def order(candidate, tmp_path: Path) -> ScoringOrder:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "score.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "beside.py").write_text("")
    (tmp_path / "june.csv").write_text("id,PAY_0\na,1\nb,2\n")
    (tmp_path / "july.csv").write_text("id,PAY_0\nc,3\n")
    return ScoringOrder(
        use=candidate.use("score"),
        script=folder / "score.py",
        data=[str(tmp_path / "june.csv"), (tmp_path / "july.csv").as_uri()],
        output=tmp_path / "scores",
        parameters={"rate": 2},
    )


class Batch:
    """A scoring task of Airflow, tried again and again, here or on a platform in memory."""

    def __init__(self, world, order: ScoringOrder, folder: Path) -> None:
        self.world, self.order = world, order
        self.log: list[str] = []
        (folder / "store").mkdir()
        self.jobs = MemoryScoring(folder / "store")

    def here(self):
        platform = LocalPlatform(python=sys.executable)
        return LocalBatch(self.order, self.world.gov, platform, rows_of, self.log.append).score(
            self.world.registry
        )

    def job(self, **changes) -> JobScoring:
        source = replace(self.order.source, try_number=self.order.source.try_number + 1)
        self.order = replace(self.order, use=replace(self.order.use, source=source), **changes)
        return JobScoring(
            self.order, self.world.gov, self.world.registry, self.jobs.terms, self.jobs,
            rows_of, self.log.append, self.sleep,
        )  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.world.clock.moment += timedelta(seconds=seconds)

    def elsewhere(self):
        handle = self.job().start()
        return self.job().finish(handle)

    def refused(self, run) -> str:
        with pytest.raises(GuardRefusedError) as caught:
            run()
        assert self.world.kinds("guard.refused")[-1].body["check"] == caught.value.check
        assert self.world.kinds("batch.scored") == []
        return caught.value.check


@pytest.fixture
def batch(promoted, order, tmp_path: Path) -> Batch:
    return Batch(promoted, order, tmp_path)


@pytest.fixture(params=["here", "elsewhere"])
def run(request, batch: Batch):
    return getattr(batch, request.param)


def test_files_are_scored_and_it_is_on_record(run, batch, tmp_path):
    scored = run()
    assert (tmp_path / "scores" / "june.scores.csv").read_text() == "id,pd\na,2\nb,4\n"
    assert (tmp_path / "scores" / "july.scores.csv").read_text() == "id,pd\nc,6\n"
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == [
        "july.scores.csv", "june.scores.csv"
    ]  # fmt: skip
    (entry,) = batch.world.kinds("batch.scored")
    (used,) = batch.world.kinds("model.scored")
    assert entry.version == used.version == scored.version == batch.world.version
    assert entry.body["request_sha256"] == used.body["request_sha256"]
    assert [(each["data"], each["rows"]) for each in entry.body["scores"]] == [
        ("july.csv", 1), ("june.csv", 2)
    ]  # fmt: skip
    told = scored.as_json()
    assert told["version"] == str(batch.world.version)
    assert told["scores"][1] == {
        "data": "june.csv",
        "uri": (tmp_path / "scores" / "june.scores.csv").as_uri(),
        "rows": 2,
        "sha256": entry.body["scores"][1]["sha256"],
    }
    record = json.loads(batch.world.gov.evidence.get(scored.evidence))
    assert record["code_files"].keys() == {"beside.py", "score.py"}
    assert record["data"][1]["uri"] == (tmp_path / "june.csv").as_uri()


def test_what_is_not_approved_scores_nothing(run, batch, tmp_path):
    file = batch.world.registry.folder("retail_pd", "1") / "scorecard.json"
    file.write_bytes(file.read_bytes()[:-1] + b" ")
    assert batch.refused(run) == "digest"
    assert (batch.jobs.started, batch.jobs.staged) == (0, [])
    assert not (tmp_path / "scores").exists()


def test_in_observe_an_unverified_model_scores_and_is_said_to_be_that(run, batch):
    batch.world.with_inventory(mode=Mode.OBSERVE)
    (batch.world.registry.folder("retail_pd", "1") / "scorecard.json").write_text("[9]")
    scored = run()
    assert (scored.used, scored.as_json()["version"]) == (None, "")
    (entry,) = batch.world.kinds("batch.scored")
    assert entry.version == scored.version != batch.world.version
    assert "request_sha256" not in entry.body


def test_a_script_that_fails_leaves_nothing(run, batch, tmp_path):
    batch.order.script.write_text("import sys; sys.exit('no such column')")
    with pytest.raises(ScoringError, match="no such column"):
        run()
    assert not (tmp_path / "scores").exists()
    assert batch.world.kinds("batch.scored") == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "wrote no file 'scores.csv'"),
        ("id,pd\n", "has no rows"),
        ("id,pd\na,1\nb\n", "row 2 has 1 fields, not 2"),
    ],
)
def test_a_script_that_breaks_its_contract_is_told_so(run, batch, written, said):
    out = "open(__import__('os').environ['MLGOV_OUTPUT_DIR'] + '/scores.csv', 'w')"
    batch.order.script.write_text(f"{out}.write({written!r})" if written else "pass")
    with pytest.raises(ScoringError, match=said):
        run()


def test_a_file_that_is_missing_is_named(run, batch, tmp_path):
    (tmp_path / "june.csv").unlink()
    with pytest.raises(DataError, match=r"june\.csv"):
        run()
    assert batch.world.kinds("model.scored") == []


def test_two_files_of_one_name_are_refused(run, batch, tmp_path):
    (tmp_path / "june.parquet").write_bytes(b"")
    batch.order = replace(batch.order, data=[*batch.order.data, str(tmp_path / "june.parquet")])
    with pytest.raises(ConfigurationError, match=r"two files would be called june\.scores\.csv"):
        run()


def test_nothing_to_score_is_refused(run, batch):
    batch.order = replace(batch.order, data=[])
    with pytest.raises(ConfigurationError, match="No data to score"):
        run()


@pytest.fixture
def two_rows(world, order, tmp_path: Path) -> Batch:
    """A model whose approval allows two rows in one run."""
    world.with_pack("seats:\n", "conditions:\n  max_rows_per_run: true\nseats:\n")
    world.validate_data()
    world.train()
    world.validate_model()
    request = world.ask()
    given = Conditions.from_json({"max_rows_per_run": 2})
    for who, choice, bound in (
        ("olivia", Choice.APPROVE_WITH_CONDITIONS, given),
        ("victor", Choice.APPROVE, Conditions()),
    ):
        text, person = str(request.digest), Person(who, who)
        comment = "looked at the evidence"
        ballot = Ballot(request.digest, world.GATE, text, choice, comment, person, conditions=bound)
        cast_vote(world.gov, ballot)
    count_votes(world.gov, request)
    promote(world.gov, world.registry, world.use())
    return Batch(world, order, tmp_path)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_more_rows_than_the_approval_allows_are_refused(two_rows, where, tmp_path):
    assert two_rows.refused(getattr(two_rows, where)) == "conditions"
    assert two_rows.jobs.started == 0
    two_rows.order = replace(two_rows.order, data=[str(tmp_path / "july.csv")])
    assert getattr(two_rows, where)().scores[0].rows == 1


def test_rows_in_the_store_are_not_seen_so_that_no_condition_about_them_can_hold(two_rows):
    (two_rows.jobs.store / "in").mkdir()
    (two_rows.jobs.store / "in" / "may.csv").write_text("id,PAY_0\na,1\n")
    two_rows.order = replace(two_rows.order, data=["memory://in/may.csv"])
    assert two_rows.refused(two_rows.elsewhere) == "conditions"
    assert two_rows.jobs.started == 0


class TestHere:
    def test_a_place_for_the_scores_is_needed(self, batch):
        batch.order = replace(batch.order, output=None)
        with pytest.raises(ConfigurationError, match="'output_dir' is missing"):
            batch.here()

    def test_addresses_of_a_store_are_not_read(self, batch):
        batch.order = replace(batch.order, data=["s3://bank/june.csv"])
        with pytest.raises(ConfigurationError, match="a local platform reads no others"):
            batch.here()

    def test_a_script_that_changes_the_model_is_refused(self, batch, tmp_path):
        folder = "os.environ['MLGOV_INPUT_MODEL'] + '/scorecard.json'"
        with batch.order.script.open("a") as script:
            script.write(f"\nopen({folder}, 'w').write('[8]')\n")
        assert batch.refused(batch.here) == "digest"
        assert not (tmp_path / "scores").exists()

    def test_data_that_change_meanwhile_are_refused(self, batch):
        with batch.order.script.open("a") as script:
            script.write("\nopen(os.environ['MLGOV_INPUT_DATA'], 'a').write('z,9')\n")
        with pytest.raises(DataError, match="changed while it was scored"):
            batch.here()

    def test_what_stood_there_is_replaced_whole(self, batch, tmp_path):
        (tmp_path / "scores").mkdir()
        (tmp_path / "scores" / "june.scores.csv").write_text("old")
        (tmp_path / "scores" / "other.csv").write_text("stays")
        batch.here()
        assert (tmp_path / "scores" / "june.scores.csv").read_text().startswith("id,pd")
        assert (tmp_path / "scores" / "other.csv").read_text() == "stays"


class TestElsewhere:
    def test_what_is_staged_is_the_verified_model_and_the_job_says_which(self, batch):
        handle = batch.job().start()
        assert handle.purpose == "scoring"
        assert JobHandle.from_json(json.loads(json.dumps(handle.as_json()))) == handle
        folder = f"staged/{handle.spec.hex}"
        assert f"{folder}/model/scorecard.json" in batch.jobs.staged
        said = json.loads((batch.jobs.store / folder / "spec.json").read_bytes())
        assert (said["task"], said["version"]) == ("score", str(batch.world.version))

    def test_scores_stay_in_the_store_without_a_folder_for_them(self, batch, tmp_path):
        batch.order = replace(batch.order, output=None)
        scored = batch.elsewhere()
        assert [each.uri for each in scored.scores] == [
            f"memory://jobs/{next(iter(batch.jobs.jobs))}/{name}.scores.csv"
            for name in ("july", "june")
        ]
        assert not (tmp_path / "scores").exists()

    def test_files_of_the_store_are_scored_where_they_are(self, batch):
        (batch.jobs.store / "in").mkdir()
        for name in ("april.csv", "may.csv"):
            (batch.jobs.store / "in" / name).write_text("id,PAY_0\na,1\n")
        batch.order = replace(batch.order, data=["memory://in/"])
        scored = batch.elsewhere()
        assert [(each.data, each.rows) for each in scored.scores] == [
            ("april.csv", 1), ("may.csv", 1)
        ]  # fmt: skip
        assert not any("april" in name for name in batch.jobs.staged)
        (entry,) = batch.world.kinds("batch.scored")
        assert entry.body["data"][0]["uri"] == "memory://in/april.csv"
        assert entry.body["data"][0].keys() == {"name", "uri", "version"}

    def test_a_file_of_the_store_that_changes_meanwhile_is_refused(self, batch):
        (batch.jobs.store / "in").mkdir()
        (batch.jobs.store / "in" / "may.csv").write_text("id,PAY_0\na,1\n")
        batch.order = replace(batch.order, data=["memory://in/may.csv"])
        handle = batch.job().start()
        (batch.jobs.store / "in" / "may.csv").write_text("id,PAY_0\na,2\n")
        with pytest.raises(DataError, match="changed while the job"):
            batch.job().finish(handle)
        assert batch.world.kinds("batch.scored") == []

    def test_a_retry_goes_on_with_the_same_job_and_verifies_again(self, batch):
        first = batch.job().start()
        assert batch.job().start() == first
        assert batch.jobs.started == 1
        assert len(batch.world.kinds("model.scored")) == 2

    def test_a_retry_of_an_alias_that_moved_cancels_the_job_of_the_version_before(self, batch):
        batch.jobs.course = [JobState.RUNNING]
        first = batch.job().start()
        promote_another(batch.world)
        batch.jobs.course = [JobState.SUCCEEDED]
        second = batch.job().start()
        assert first.key != second.key
        assert batch.jobs.cancelled == [first.key]
        assert batch.job().finish(second).version == batch.world.version

    def test_a_job_that_has_ended_is_not_cancelled_when_something_else_is_asked_for(self, batch):
        first = batch.job().start()
        batch.job().finish(first)
        second = batch.job(parameters={"rate": 3}).start()
        assert (first.key != second.key, batch.jobs.cancelled) == (True, [])

    def test_the_jobs_of_other_tasks_are_left_alone(self, batch):
        batch.jobs.course = [JobState.RUNNING]
        batch.job().start()
        other = replace(batch.order.source, task_id="other")
        batch.order = replace(batch.order, use=replace(batch.order.use, source=other))
        batch.job(parameters={"rate": 3}).start()
        assert (batch.jobs.started, batch.jobs.cancelled) == (2, [])

    def test_a_use_of_another_version_is_none_of_this_one(self, batch):
        batch.job().start()
        view, other = batch.world.gov.ledger.view(), Digest.of(b"another version")
        assert use_on_record(view, batch.order, batch.world.version)
        assert use_on_record(view, batch.order, other) is None

    def test_a_model_stopped_meanwhile_hands_on_no_scores(self, batch, tmp_path):
        handle = batch.job().start()
        stop_model(batch.world.gov, "retail_pd", "drift", Person("sam", "sam"))
        assert batch.refused(lambda: batch.job().finish(handle)) == "stopped"
        assert not (tmp_path / "scores").exists()

    def test_a_model_swapped_in_the_store_after_the_job_is_refused(self, batch):
        handle = batch.job().start()
        batch.jobs.poll(handle)
        staged = batch.jobs.store / "staged" / handle.spec.hex / "model" / "scorecard.json"
        staged.write_text("[9]")
        assert batch.refused(lambda: batch.job().finish(handle)) == "digest"

    def test_a_model_swapped_before_the_job_scores_nothing(self, batch):
        handle = batch.job().start()
        staged = batch.jobs.store / "staged" / handle.spec.hex / "model" / "scorecard.json"
        staged.write_text("[9]")
        with pytest.raises(ScoringError, match="was approved"):
            batch.job().finish(handle)

    def test_a_specification_swapped_in_the_store_is_refused(self, batch):
        handle = batch.job().start()
        batch.jobs.poll(handle)
        (batch.jobs.store / "staged" / handle.spec.hex / "spec.json").write_text("{}")
        with pytest.raises(ArtefactError, match="is no longer there, or was changed"):
            batch.job().finish(handle)

    def test_scores_changed_in_the_store_are_refused(self, batch):
        handle = batch.job().start()
        batch.jobs.poll(handle)
        (batch.jobs.store / "jobs" / handle.key / "june.scores.csv").write_text("id,pd\na,0\n")
        with pytest.raises(ArtefactError, match=r"june\.csv"):
            batch.job().finish(handle)
        assert batch.world.kinds("batch.scored") == []

    def test_a_script_that_changed_meanwhile_is_refused(self, batch):
        handle = batch.job().start()
        with batch.order.script.open("a") as script:
            script.write("# other")
        with pytest.raises(ScoringError, match="script or a parameter changed"):
            batch.job().finish(handle)

    def test_a_use_that_is_not_on_record_hands_on_no_scores(self, batch):
        handle = batch.job().start()
        other = replace(batch.order.source, task_id="other")
        batch.order = replace(batch.order, use=replace(batch.order.use, source=other))
        assert batch.refused(lambda: batch.job().finish(handle)) == "approval"

    def test_what_the_pack_forbids_is_not_started(self, batch):
        (pack,) = batch.world.gov.packs.values()
        batch.world.gov.packs[pack.id] = replace(pack, platforms=PlatformRules(max_hours=1))
        with pytest.raises(ControlsRefusedError, match="max_hours"):
            batch.job().start()
        assert (batch.jobs.started, batch.jobs.staged) == (0, [])
        assert batch.world.kinds("job.examined")[0].body["passed"] is False

    def test_a_platform_that_is_away_starts_nothing_and_a_retry_helps(self, batch):
        batch.jobs.failures = 1
        with pytest.raises(PlatformUnavailableError):
            batch.job().start()
        assert batch.job().start()
        assert batch.jobs.started == 1

    def test_a_limit_of_memory_is_for_local_platforms(self, batch):
        batch.order = replace(batch.order, memory_mb=64)
        with pytest.raises(ConfigurationError, match="memory_mb"):
            batch.job().start()

    @pytest.mark.parametrize("name", ["a b.csv", "ü.csv"])
    def test_a_name_that_no_platform_takes_is_refused(self, batch, name, tmp_path):
        (tmp_path / name).write_text("id,PAY_0\na,1\n")
        batch.order = replace(batch.order, data=[str(tmp_path / name)])
        with pytest.raises(ConfigurationError, match="cannot be the name"):
            batch.job().start()
        assert batch.jobs.started == 0


def promote_another(world) -> None:
    world.train('{"points": [7]}', run_id="run-2")
    world.validate_model(note="second")
    source = Source("retail_pd", "run-2", "gate", -1, 1)
    world.approve(world.ask(source=source))
    promote(world.gov, world.registry, world.use(run_id="run-2"))
