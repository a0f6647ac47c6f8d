"""Scoring as a container is started for it: in a process without our package."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from scoring_package import GOOD, Package, make_package

from airflow_mlgov.errors import DataError, ScoringError
from airflow_mlgov.service import container_score
from airflow_mlgov.service.artefacts import fingerprint_file
from airflow_mlgov.service.container_score import ContainerScorer, check_scores
from airflow_mlgov.service.container_scoring import SpecData, score_command
from airflow_mlgov.service.container_script import ContainerScript

ALL = ["cards.scores.csv", "loans.scores.csv", "scores.json"]


@dataclass
class Job:
    package: Package
    root: Path

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def failure(self) -> Path:
        return self.root / "said" / "failure"

    def command(self, **data: str) -> list[str]:
        given = {name: str(self.root / "data" / name) for name in self.package.data}
        command = score_command(
            package=str(self.package.folder),
            spec_sha256=self.package.digest,
            data=data.get("data", given),
            output=str(self.output),
            failure=str(self.failure),
        )
        return [sys.executable, "-P", "-S", *command[1:]]

    def start(self, **data) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(**data),
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(self.root / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **data) -> tuple[int, str, str]:
        with self.start(**data) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def fails(self, **data) -> str:
        """Run it to its failure; return what it says. Nothing of it stays."""
        status, _, said = self.run(**data)
        assert status == 1
        assert said.endswith(self.failure.read_text() + "\n")
        assert not [name for name in ALL if (self.output / name).exists()]
        assert list((self.root / "tmp").iterdir()) == []
        return self.failure.read_text()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return made(tmp_path)


def made(root: Path, source: str = GOOD) -> Job:
    """Return a job with this script; one that was there is gone."""
    for each in ("package", "data", "tmp"):
        shutil.rmtree(root / each, ignore_errors=True)
    package = make_package(root / "package", source)
    (root / "data").mkdir()
    (root / "tmp").mkdir()
    for name, content in package.data.items():
        (root / "data" / name).write_bytes(content)
    return Job(package, root)


def test_it_scores_each_file_and_accounts_for_all(job: Job) -> None:
    status, out, err = job.run()
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"The model's files are version {job.package.spec.version}.",
        "scoring cards.csv",
        "cards.csv: 1 rows are scored.",
        "scoring loans.csv",
        "loans.csv: 2 rows are scored.",
        f"The scores of 2 files are complete in {job.output}.",
    ]
    assert sorted(path.name for path in job.output.iterdir()) == ALL
    assert (job.output / "loans.scores.csv").read_text() == "row,score\n0,5.25\n1,10.25\n"
    assert json.loads((job.output / "scores.json").read_text()) == [
        {
            "data": name,
            "data_sha256": str(job.package.spec.data[name].sha256),
            "data_size": len(job.package.data[name]),
            "scores": f"{name[:5]}.scores.csv",
            "scores_sha256": str(fingerprint_file(job.output / f"{name[:5]}.scores.csv")[0]),
            "scores_size": (job.output / f"{name[:5]}.scores.csv").stat().st_size,
            "rows": rows,
        }
        for name, rows in (("cards.csv", 1), ("loans.csv", 2))
    ]
    assert not job.failure.exists()
    assert list((job.root / "tmp").iterdir()) == []


def test_a_file_may_be_given_by_its_folder(job: Job) -> None:
    folder = dict.fromkeys(job.package.data, str(job.root / "data"))
    status, _, err = job.run(data=folder)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("name", ["score.py", "beside.py", "spec.json"])
def test_what_is_not_what_was_staged_scores_nothing(job: Job, name: str) -> None:
    file = job.package.folder / name
    file.write_bytes(file.read_bytes() + b"\n")
    assert name in (said := job.fails())
    assert "is not what was staged" in said


@pytest.mark.parametrize("change", ["bytes", "another file", "one file less", "a link", "none"])
def test_a_model_that_is_not_the_approved_one_scores_nothing(job: Job, change: str) -> None:
    model = job.package.folder / "model"
    if change == "bytes":
        (model / "deep" / "m.json").write_text('{"weight": 11}')
    elif change == "another file":
        (model / "n.json").write_text("{}")
    elif change == "one file less":
        (model / "deep" / "m.json").unlink()
    elif change == "a link":
        (model / "n.json").symlink_to("deep/m.json")
    else:
        shutil.rmtree(model)
    said = job.fails()
    assert "was approved" in said or "The model's files cannot be used" in said


def test_a_model_that_changes_while_it_is_used_scores_nothing(tmp_path: Path) -> None:
    change = 'Path(os.environ["MLGOV_INPUT_MODEL"], "more").write_text("x")\n'
    assert "was approved" in made(tmp_path, GOOD + change).fails()


@pytest.mark.parametrize("content", [b"x\n1\n3\n", b"x\n1\n", b"x\n1\n2\n3\n", b""])
def test_data_that_is_not_what_was_meant_is_not_scored(job: Job, content: bytes) -> None:
    (job.root / "data" / "loans.csv").write_bytes(content)
    said = job.fails()
    wanted = job.package.spec.data["loans.csv"].sha256
    assert "loans.csv is not what was meant: it is sha256:" in said
    assert f"of {len(content)} bytes, not {wanted}." in said


def test_data_that_only_the_store_knows_is_held_against_its_length(job: Job) -> None:
    sizes = {name: SpecData(None, len(each), "v7") for name, each in job.package.data.items()}
    job.package = job.package.with_spec(data=sizes)
    (job.root / "data" / "loans.csv").write_bytes(b"x\n1\n3\n")
    status, _, err = job.run()
    assert (status, err) == (0, "")
    for name in ALL:
        (job.output / name).unlink()
    (job.root / "data" / "loans.csv").write_bytes(b"x\n1\n")
    assert "of 4 bytes, not 6 bytes." in job.fails()


def test_a_length_does_not_stand_for_a_digest(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    scorer = ContainerScorer(package.folder, package.digest, ContainerScript("S", ScoringError))
    (tmp_path / "same").write_bytes(b"x\n9\n9\n")
    with pytest.raises(DataError, match="none of this job's files"):
        scorer.named(tmp_path / "same")
    with pytest.raises(DataError, match="is not what was meant"):
        scorer.score("loans.csv", tmp_path / "same", tmp_path)
    with pytest.raises(DataError, match="is none of this job's files"):
        scorer.score("other.csv", tmp_path / "same", tmp_path)


def test_data_that_is_missing_is_named(job: Job) -> None:
    (job.root / "data" / "loans.csv").unlink()
    assert f"No such file or directory: '{job.root / 'data' / 'loans.csv'}'" in job.fails()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["loans.csv"], "the container was given loans.csv."),
        (["loans.csv", "cards.csv", "more.csv"], "was given cards.csv, loans.csv, more.csv."),
        (["loans.csv", "card.csv"], "was given card.csv, loans.csv."),
        ([], "was given none."),
    ],
)
def test_the_files_are_those_of_the_specification(job: Job, names: list[str], said: str) -> None:
    problem = job.fails(data=dict.fromkeys(names, str(job.root / "data")))
    assert problem.startswith("The job's files are cards.csv, loans.csv; ")
    assert said in problem


def test_a_script_that_fails_is_told_and_leaves_nothing_of_the_files_before(tmp_path: Path) -> None:
    job = made(tmp_path, GOOD + "if data.name == 'loans.csv': raise SystemExit('no column')\n")
    said = job.fails()
    assert said.startswith("Scoring script score.py exited with status 1.")
    assert said.endswith("no column")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        ("", "wrote no file 'scores.csv'"),
        ("(out / 'scores.csv').mkdir()", "wrote no file 'scores.csv'"),
        ("(out / 'scores.csv').symlink_to('/etc/hostname')", "wrote no file 'scores.csv'"),
        ("(out / 'scores.csv').write_text('a,b\\n1,2\\n3\\n')", "row 2 has 1 fields"),
        ("(out / 'scores.csv').write_text('a,b\\n')", "'scores.csv' has no rows"),
        ("(out / 'scores.csv').write_bytes(b'a\\n\\xff\\n')", "is no CSV in UTF-8"),
    ],
)
def test_a_script_that_breaks_its_contract_leaves_nothing(
    tmp_path: Path, write: str, said: str
) -> None:
    source = f"import os, pathlib\nout = pathlib.Path(os.environ['MLGOV_OUTPUT_DIR'])\n{write}\n"
    problem = made(tmp_path, source).fails()
    assert said in problem
    assert "docs/reference/scoring-contract.md" in problem


@pytest.mark.parametrize("name", ALL)
def test_an_output_folder_that_is_used_is_left_alone(job: Job, name: str) -> None:
    job.output.mkdir()
    (job.output / name).symlink_to("nowhere")
    (job.output / "else").write_text("of the platform")
    status, _, err = job.run()
    assert status == 1
    assert f"{name} already" in err
    assert sorted(path.name for path in job.output.iterdir()) == sorted(["else", name])
    assert (job.output / name).is_symlink()


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    slow = "import time\nif data.name == 'loans.csv': print('slow', flush=True); time.sleep(60)\n"
    job = made(tmp_path, GOOD + slow)
    with job.start() as process:
        while process.stdout.readline() != "slow\n":
            pass
        assert (job.output / "cards.scores.csv").exists()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (1, "The platform stopped the job.\n")
    assert list(job.output.iterdir()) == []


def test_a_stop_before_the_account_leaves_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ContainerScript("Scoring script", ScoringError)
    score = ContainerScorer.score

    def stopped_after(self: ContainerScorer, name: str, file: Path, into: Path) -> object:
        scored = score(self, name, file, into)
        if name == "loans.csv":
            script.stop()
        return scored

    monkeypatch.setattr(ContainerScorer, "score", stopped_after)
    said = container_score._parser().parse_args(job.command()[4:])
    with pytest.raises(ScoringError, match="The platform stopped the job"):
        container_score._score(said, script)
    assert list(job.output.iterdir()) == []


def test_scores_that_cannot_be_copied_whole_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_package(tmp_path / "package")
    (tmp_path / "loans.csv").write_bytes(package.data["loans.csv"])
    (tmp_path / "out").mkdir()
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        copy(source, target)
        if target.parent == tmp_path / "out":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(container_score.shutil, "copyfile", full)
    scorer = ContainerScorer(package.folder, package.digest, ContainerScript("S", ScoringError))
    with pytest.raises(OSError, match="No space left"):
        scorer.score("loans.csv", tmp_path / "loans.csv", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"score\n0.1\n", 1),
        (b"score\n0.1", 1),
        (b"a,b\r\n1,2\r\n3,4\r\n", 2),
        ('id,score\n"ä, ö\nü",1\n"say ""so""",2\n'.encode(), 2),
        (b"\xef\xbb\xbfscore\n1\n", 1),
    ],
)
def test_rows_of_scores_are_counted(tmp_path: Path, content: bytes, rows: int) -> None:
    (tmp_path / "scores.csv").write_bytes(content)
    assert check_scores(tmp_path / "scores.csv") == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no rows"),
        (b"score\n", "has no rows"),
        (b"\nscore\n", "row 0 has 0 fields"),
        (b"a,b\n1,2\n\n3,4\n", "row 2 has 0 fields, not 2"),
        (b"a,b\n1,2,3\n", "row 1 has 3 fields, not 2"),
        (b'a,b\n1,"2\n', "is no CSV in UTF-8: unexpected end of data"),
        ("a\nä\n".encode("latin-1"), "is no CSV in UTF-8"),
        ("a\n1\n".encode("utf-16"), "is no CSV in UTF-8"),
    ],
)
def test_what_is_no_table_is_no_scores(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "scores.csv").write_bytes(content)
    with pytest.raises(ScoringError, match=said) as caught:
        check_scores(tmp_path / "scores.csv")
    assert not caught.value.retryable
