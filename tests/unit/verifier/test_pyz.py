"""The verifier as auditors run it: one file, in a process that has no Airflow and none of us."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlgov.ledger.bundle import read_bundle, write_bundle
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.clock import SystemClock
from airflow_mlgov.service.bundle import make_bundle
from airflow_mlgov.service.ledger import EntryDraft

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "verifier" / "build.py"


def _load(place: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_service = _load(ROOT / "tests" / "unit" / "service" / "conftest.py", "conftest_of_verifier")
world = _service.world
candidate = _service.candidate


@pytest.fixture(scope="session")
def pyz(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("dist") / "mlgov-verify.pyz"
    command = [sys.executable, "-I", "-S", str(BUILD), str(file)]
    subprocess.run(command, check=True, cwd="/", env={})
    return file


@pytest.fixture
def run(pyz, tmp_path):
    """Return a function that runs the verifier where only `cryptography` can be imported."""
    beside = tmp_path / "beside"
    beside.mkdir()
    installed = Path(sysconfig.get_path("purelib"))
    for package in ("cryptography", "cffi", "pycparser"):
        if (installed / package).is_dir():
            (beside / package).symlink_to(installed / package)
    for extension in installed.glob("_cffi_backend*"):
        (beside / extension.name).symlink_to(extension)

    def start(*arguments: object, path: str = str(beside)) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", str(pyz), *map(str, arguments)]
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PYTHONPATH": path},
        )

    return start


def made_by(candidate, folder):
    candidate.approve(candidate.ask())
    bundle, trust = folder / "x.zip", folder / "trust.json"
    made = make_bundle(candidate.gov, "retail_pd", "1", registry=lambda: candidate.registry)
    bundle.write_bytes(made.data)
    trust.write_bytes(candidate.gov.ledger.trust_root().as_bytes())
    return bundle, trust


@pytest.fixture
def files(candidate, tmp_path):
    """A real bundle made now, and the trust file that goes with it."""
    candidate.clock.moment = SystemClock().now()
    return made_by(candidate, tmp_path)


def rewrite(file: Path, change) -> None:
    bundle = read_bundle(file.read_bytes())
    held = dict(bundle.files)
    change(held)
    file.write_bytes(write_bundle(bundle.header, held))


def test_it_is_built_the_same_twice_and_holds_what_needs_no_airflow(pyz):
    build = _load(BUILD, "build_verifier")
    assert build.build() == pyz.read_bytes()
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()
    assert "__main__.py" in names
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert rooms == {"records", "ledger"}


def test_0_fine(run, files):
    bundle, trust = files
    ended = run(bundle, "--trust", trust, "--max-age", "7d")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("The bundle verifies.\n")
    assert "Not proven by this:" in ended.stdout


def test_1_altered(run, files):
    bundle, trust = files
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    ended = run(bundle, "--trust", trust)
    assert ended.returncode == 1
    assert ended.stdout.startswith("THE BUNDLE DOES NOT VERIFY")


def test_2_incomplete(run, files):
    bundle, trust = files

    def leave_out(held):
        for name in ("entries/2.dsse", "proofs/2.tlog-proof", "disclosures/2.json"):
            held.pop(name, None)

    rewrite(bundle, leave_out)
    ended = run(bundle, "--trust", trust)
    assert ended.returncode == 2
    assert "were left out" in ended.stdout


def test_3_unknown_key(run, files):
    bundle, trust = files
    root = TrustRoot.parse(trust.read_bytes())
    trust.write_bytes(TrustRoot(root.origin, root.log_keys).as_bytes())
    ended = run(bundle, "--trust", trust)
    assert ended.returncode == 3
    assert "unknown key: Entry 1:" in ended.stdout


def test_4_stale(run, candidate, tmp_path):
    candidate.clock.moment = SystemClock().now() - timedelta(days=7, hours=1)
    bundle, trust = made_by(candidate, tmp_path)
    assert run(bundle, "--trust", trust, "--max-age", "8d").returncode == 0
    ended = run(bundle, "--trust", trust, "--max-age", "7d")
    assert ended.returncode == 4
    assert "too old" in ended.stdout


def test_5_an_entry_that_no_checkpoint_covers(run, files, candidate):
    bundle, trust = files
    body = {"request_sha256": "sha256:" + "b" * 64, "target": "production"}
    draft = EntryDraft("model.scored", "retail_pd", candidate.version, body, ("waits",))
    candidate.gov.ledger.append(draft)
    (item,) = candidate.gov.ledger.inbox()
    name = f"waiting/{item.key.removeprefix('sha256:')}.dsse"
    rewrite(bundle, lambda held: held.update({name: item.leaf}))
    ended = run(bundle, "--trust", trust)
    assert ended.returncode == 5
    assert "no signed checkpoint covers it yet" in ended.stdout


def test_64_wrong_use(run, files):
    bundle, trust = files
    for arguments in (
        (),
        (bundle,),
        (bundle, "--trust", trust, "--max-age", "soon"),
        (bundle, "--trust", "nothing.json"),
        ("nothing.zip", "--trust", trust),
        (bundle, "--trust", bundle),
        (bundle, "--trust", trust, "--force"),
    ):
        ended = run(*arguments)
        assert ended.returncode == 64, arguments
        assert "Traceback" not in ended.stderr
    assert run("--help").returncode == 0


def test_without_cryptography_it_says_what_it_needs(run):
    ended = run("x.zip", "--trust", "y.json", path="")
    assert ended.returncode == 64
    assert "needs the Python package 'cryptography'" in ended.stderr


@pytest.mark.attack(31)
def test_what_a_bundle_holds_cannot_move_the_cursor(run, files):
    bundle, trust = files
    bundle.write_bytes(bundle.read_bytes().replace(b"bundle.json", b"\x1b[31m\r\n.json"))
    ended = run(bundle, "--trust", trust)
    assert ended.returncode == 1
    assert "\x1b" not in ended.stdout
    assert "\r" not in ended.stdout
