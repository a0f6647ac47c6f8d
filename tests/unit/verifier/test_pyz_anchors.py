"""The verifier, as auditors run it, on a bundle that a witness and an authority have seen."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from airflow_mlgov.ledger.bundle import read_bundle, write_bundle
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.anchor import Anchoring, Due
from airflow_mlgov.service.bundle import COUNT_EVERY, make_bundle

UNIT = Path(__file__).parents[1]


def _load(place: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_pyz = _load(UNIT / "verifier" / "test_pyz.py", "test_pyz_of_anchors")
_anchors = _load(UNIT / "anchors" / "conftest.py", "conftest_of_pyz_anchors")
world, candidate, pyz, run = _pyz.world, _pyz.candidate, _pyz.pyz, _pyz.run
new_authority, authority = _anchors.new_authority, _anchors.authority


def make(candidate) -> bytes:
    opened = lambda: candidate.registry  # noqa: E731
    return make_bundle(candidate.gov, "retail_pd", "1", registry=opened).data


@pytest.fixture
def witness(candidate, tmp_path):
    ledger = candidate.gov.ledger
    logs = {ledger.origin: ledger._signers[KeyRole.LOG].public_key}
    made = _anchors.load_fake("witness").Witness(tmp_path, logs)
    made.url = made.start()
    yield made
    made.stop()


@pytest.fixture
def files(candidate, authority, witness, tmp_path):
    """A bundle of a model, anchored after it was counted; and the trust file with the witness."""
    candidate.clock.moment = SystemClock().now()
    candidate.approve(candidate.ask())
    make(candidate)
    ledger = candidate.gov.ledger
    anchors = [_anchors.anchor_to(witness), authority.anchor]
    said: list[str] = []
    dues = [Due(anchor, COUNT_EVERY) for anchor in anchors]
    Anchoring(ledger, ledger._store, candidate.clock, dues, said.append).round()
    assert said == []
    bundle, trust = tmp_path / "x.zip", tmp_path / "trust.json"
    bundle.write_bytes(make(candidate))
    assert make(candidate) == bundle.read_bytes()
    key = anchors[0].key
    trust.write_bytes(ledger.trust_root().with_witnesses([key]).as_bytes())
    return bundle, trust


def test_what_the_anchors_saw_is_checked(run, files, authority) -> None:
    bundle, trust = files
    words = (bundle, "--trust", trust, "--witnesses", 1, "--tsa-certificate", authority.signer)
    ended = run(*words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "witness witness.example/w1 cosigned the log's first" in ended.stdout
    assert "authority CN=Test authority stamped the log's first" in ended.stdout
    assert "came after\n" not in ended.stdout


def test_too_few_witnesses_or_no_stamp_is_incomplete(run, files, new_authority) -> None:
    bundle, trust = files
    assert run(bundle, "--trust", trust, "--witnesses", 2).returncode == 2
    stranger = new_authority("stranger").signer
    ended = run(bundle, "--trust", trust, "--tsa-certificate", stranger)
    assert ended.returncode == 2
    assert "NOT CHECKED" in ended.stdout


def test_entries_after_the_anchors_are_counted(run, files, candidate, tmp_path) -> None:
    _, trust = files
    candidate.validate_data("sha256:" + "5" * 64)
    later = tmp_path / "later.zip"
    later.write_bytes(make(candidate))
    ended = run(later, "--trust", trust)
    assert ended.returncode == 0
    assert "by its clock; 2 entries in the bundle came after" in ended.stdout
    assert run(later, "--trust", trust, "--witnesses", 1).returncode == 2


def test_the_command_that_it_names_checks_a_stamp_too(run, files, authority, tmp_path) -> None:
    """Files that are taken out of the bundle by any ZIP tool, checked by openssl alone."""
    bundle, trust = files
    lines = run(bundle, "--trust", trust).stdout.splitlines()
    (line,) = (line for line in lines if "openssl ts" in line)
    words = line.partition("run: ")[2].replace("AUTHORITY.pem", str(authority.root)).split()
    out = tmp_path / "out"
    zipfile.ZipFile(bundle).extractall(out)
    ended = subprocess.run(words, cwd=out, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "Verification: OK")
    (note,) = (out / "anchored").glob("*.note")
    note.write_bytes(note.read_bytes() + b"x")
    assert subprocess.run(words, cwd=out, capture_output=True, check=False).returncode != 0


def test_without_the_cosignature_the_witness_is_missed(run, files) -> None:
    bundle, trust = files
    read = read_bundle(bundle.read_bytes())
    held = {n: d for n, d in read.files.items() if not n.endswith(".cosignatures")}
    bundle.write_bytes(write_bundle(read.header, held))
    assert run(bundle, "--trust", trust).returncode == 0
    assert run(bundle, "--trust", trust, "--witnesses", 1).returncode == 2


def test_wrong_use(run, files, tmp_path) -> None:
    bundle, trust = files
    for words in (
        ("--witnesses", "-1"),
        ("--witnesses", "x"),
        ("--witnesses", "100"),
        ("--tsa-certificate", tmp_path / "none.pem"),
        ("--tsa-certificate", trust),
    ):
        ended = run(bundle, "--trust", trust, *words)
        assert ended.returncode == 64, words
        assert "Traceback" not in ended.stderr
