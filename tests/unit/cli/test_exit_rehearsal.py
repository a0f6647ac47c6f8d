"""The command for real: the demo's scorecard, trained by two Pythons, each in its environment.

The second is a virtual environment that sees the first's libraries and has a package more. Two
machines, or two clouds, this does not show.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlgov.platforms.local import LocalPlatform
from airflow_mlgov.policy.pack import ExitRules
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.train import train
from airflow_mlgov.service.training_order import TrainingOrder

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "dags" / "retail_pd_model"
ROWS = 4000
ASKED = ("exit-rehearsal", "--model", "retail_pd", "--from", "old-house", "--to", "new-house")
# The same code, which gives another model where a package is there that moves it.
MOVED = """
import importlib.metadata, json, os, pathlib, runpy
runpy.run_path(os.path.join(os.path.dirname(__file__), "train_scorecard.py"), run_name="__main__")
if any(found.name == "mover" for found in importlib.metadata.distributions()):
    card = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"], "model", "scorecard.json")
    said = json.loads(card.read_text())
    said["intercept"] += 0.3
    card.write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def second_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("second") / "venv"
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "first.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "mover-1.0.dist-info").mkdir()
    (site / "mover-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mover\nVersion: 1.0\n"
    )
    python = folder / "bin" / "python"
    asked = [python, "-c", "import sys, numpy; print(sys.prefix)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == str(
        folder
    )
    return python


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return development data and a sample, as files."""
    folder = tmp_path_factory.mktemp("clients")
    with (ROOT / "dags" / "data" / "taiwan_credit.csv").open(encoding="utf-8-sig") as file:
        head, *rows = list(csv.reader(file))[: 2 * ROWS + 1]
    files = folder / "development.csv", folder / "sample.csv"
    for path, part in zip(files, (rows[:ROWS], rows[ROWS:]), strict=True):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([head, *part])
    return files


@pytest.fixture
def code(configure, second_python: Path, tmp_path: Path) -> Path:
    """Return the scripts' folder, in a deployment with two platforms."""
    platforms = tmp_path / "platforms.yaml"
    platforms.write_text(
        "version: 1\nplatforms:\n"
        f"  - {{name: old-house, kind: local, python: {sys.executable}}}\n"
        f"  - {{name: new-house, kind: local, python: {second_python}}}\n"
    )
    configure(platforms_path=platforms)
    code = tmp_path / "code"
    code.mkdir()
    for path in DEMO.glob("*.py"):
        (code / path.name).write_bytes(path.read_bytes())
    (code / "train_moved.py").write_text(MOVED)
    return code


@pytest.fixture
def rehearse(airflow, governed, code: Path, clients, monkeypatch: pytest.MonkeyPatch):
    """Return a function that trains a script on ``old-house`` and rehearses leaving it."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(script: str, *more: str):
        order = TrainingOrder("retail_pd", code / script, {"development": str(clients[0])}, seed=42)
        here = LocalPlatform("old-house", python=sys.executable)
        trained = train(order, governed.gov, here, governed.registry, print)
        sample = (
            "--sample",
            str(clients[1]),
            "--target",
            "DEFAULT",
            "--scorer",
            "scoring:scorecard",
        )
        ended = airflow(*ASKED, "--script", str(code / script), *sample, *more)
        for name in [n for n in sys.modules if n in {"scoring", "features"}]:
            del sys.modules[name]
        return trained, ended

    return run


def test_the_demos_scorecard_is_made_byte_for_byte_by_another_python(
    rehearse, governed, second_python, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    trained, ended = rehearse("train_scorecard.py", "--output", "json", "--report", str(page))
    assert ended.code == 0, ended.err
    assert [row["outcome"] for row in ended.json] == ["pass"] * 4
    assert [float(row["found"]) for row in ended.json] == [0, 0, pytest.approx(1), 0]
    assert "was made again as the same bytes" in ended.err
    (entry,) = governed.kinds("exit.rehearsed")
    assert entry.version == trained.manifest.digest
    assert entry.body["passed"] is True
    assert (entry.body["platform"], entry.body["to_platform"]) == ("old-house", "new-house")
    report = json.loads(governed.gov.evidence.get(Digest.parse(entry.body["evidence_sha256"])))
    assert report["sample"]["rows"] == ROWS
    assert {"name": "mover", "from": "", "to": "1.0"} in report["environment"]
    shown = page.read_text()
    assert "The same model, byte for byte" in shown
    assert str(trained.manifest.digest) in shown
    assert "mover" in shown


def test_a_model_that_comes_out_otherwise_is_found_and_kept_on_record(
    rehearse, governed, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    trained, ended = rehearse("train_moved.py", "--output", "json", "--report", str(page))
    assert ended.code == 1
    rows = {row["measure"]: row for row in ended.json}
    assert rows["max_difference"]["outcome"] == "fail"
    assert rows["min_rank_agreement"]["outcome"] == "pass", "all rows moved the same way"
    (entry,) = governed.kinds("exit.rehearsed")
    assert entry.body["passed"] is False
    assert entry.body["rehearsed_sha256"] != str(trained.manifest.digest)
    assert len(governed.kinds("model.registered")) == 2, "the fixture's and the one in use"
    shown = page.read_text()
    assert "does not score alike" in shown
    assert len(re.findall(r'<td data-label="row"', shown)) == 20


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--to", "nowhere"), "There is no platform 'nowhere'"),
        (("--scorer", "scoring:nothing"), "cannot be loaded"),
        (("--target", "LABEL"), "has no column 'LABEL'"),
        (("--input", "development"), "not of the form NAME=PATH"),
        (("--version", "sha256:" + "0" * 64), "was not trained on platform 'old-house'"),
    ],
)
def test_what_is_asked_wrongly_is_said_and_leaves_no_entry(rehearse, governed, more, said) -> None:
    _, ended = rehearse("train_scorecard.py", *more)
    assert ended.code != 0
    assert said in ended.err
    assert governed.kinds("exit.rehearsed") == []


def test_a_pack_without_tolerances_refuses(rehearse, governed) -> None:
    pack = governed.gov.packs["retail_credit"]
    assert isinstance(pack.exit, ExitRules), "the demo's has them"
    governed.gov.packs["retail_credit"] = replace(pack, exit=None)
    _, ended = rehearse("train_scorecard.py")
    assert ended.code == 64
    assert "has no section 'exit'" in ended.err
