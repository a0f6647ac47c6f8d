"""An append and a sequencing round, killed or failed at every single system call (threats 17, 18).

strace stops the real process at each call that touches the ledger's files: once with SIGKILL, once
with an I/O error, and where bytes are written once with a full disk. What comes after must be a
ledger that verifies, holds all that was acknowledged, and takes the same entry again as the same.

A file system that loses what it has synced cannot be played here: the kernel keeps what a killed
process wrote.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (Debian package strace)"
)

WORK = """
import sys
from pathlib import Path
from airflow_mlgov.errors import LedgerError
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

folder = Path(sys.argv[1])
ledger = Ledger(SqliteStore(folder / "ledger.db"), open_signers(folder / "keys"))
body = {"task": "d/r/t", "state": "success"}
try:
    receipt = ledger.append(EntryDraft("state.changed_by_hand", "", None, body, ("new",)))
    print("ACKNOWLEDGED", receipt.leaf_hash, flush=True)
    print("SEALED", ledger.seal(receipt).index, flush=True)
except LedgerError as error:
    print("REFUSED", type(error).__name__, flush=True)
"""
WRITES = {"write", "pwrite64", "pwritev", "ftruncate", "fallocate"}
HARMLESS = {"close", "munmap", "stat", "lstat", "newfstatat", "fstat", "access", "readlink"}
"""Calls that are not failed, only killed at: the kernel gives them no such error here."""


def draft(name: str) -> EntryDraft:
    body = {"task": "d/r/t", "state": "success"}
    return EntryDraft("state.changed_by_hand", "", None, body, (name,))


def ledger_in(folder: Path) -> Ledger:
    return Ledger(SqliteStore(folder / "ledger.db"), open_signers(folder / "keys"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with some entries under a checkpoint and one that waits, nothing open."""
    folder = tmp_path_factory.mktemp("template")
    store = SqliteStore(folder / "ledger.db")
    ledger = Ledger(store, open_signers(folder / "keys"))
    for number in range(5):
        ledger.append(draft(str(number)))
    ledger.drain()
    ledger.append(draft("waits"))
    store.close()
    return folder


def trace(folder: Path, *strace: str) -> tuple[int, str, str]:
    """Run the work under strace; its exit code, what it said, and the calls that were seen."""
    log = folder.with_name(f"{folder.name}.strace")
    files = [f"{folder}/ledger.db{end}" for end in ("", "-wal", "-shm", ".lock")]
    paths = [word for file in files for word in ("-P", file)]
    done = subprocess.run(
        ["strace", "-f", "-o", str(log), *paths, *strace, sys.executable, "-c", WORK, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, log.read_text()


@pytest.fixture(scope="module")
def calls(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often the work calls what, on the ledger's files."""
    folder = tmp_path_factory.mktemp("count") / "ledger"
    shutil.copytree(template, folder)
    code, said, log = trace(folder)
    assert (code, said.split()[0], said.split()[2]) == (0, "ACKNOWLEDGED", "SEALED")
    return Counter(re.findall(r"^\d+ +(\w+)\(", log, flags=re.MULTILINE))


def check(folder: Path, said: str) -> None:
    """What must hold afterwards, whatever was done to the process."""
    ledger = ledger_in(folder)
    ledger.drain()
    assert ledger.verify().problems == ()
    hashes = {entry.leaf_hash for entry in ledger.view().select()}
    words = said.split()
    if "ACKNOWLEDGED" in words:
        assert words[words.index("ACKNOWLEDGED") + 1] in hashes
    receipt = ledger.append(draft("new"))
    ledger.seal(receipt)
    assert "ACKNOWLEDGED" not in words or receipt.leaf_hash in words
    assert len(ledger.view().select("state.changed_by_hand")) == 7
    assert ledger.verify().is_fine


def play(template: Path, tmp_path: Path, calls: Counter[str], fault: str) -> Counter[str]:
    """Play one fault at every call; how the process ended, by what it said last."""
    ends: Counter[str] = Counter()
    for name, count in sorted(calls.items()):
        for number in range(1, count + 1):
            folder = tmp_path / f"{name}-{number}"
            shutil.copytree(template, folder)
            code, said, log = trace(folder, "-e", f"inject={name}:{fault}:when={number}")
            assert "INJECTED" in log or code == -9, f"{name} {number} was not reached"
            check(folder, said)
            ends[" ".join(said.split()[::2]) or "nothing"] += 1
            shutil.rmtree(folder)
    return ends


@pytest.mark.attack(17)
def test_killed_at_every_call(template: Path, tmp_path: Path, calls: Counter[str]) -> None:
    ends = play(template, tmp_path, calls, "signal=KILL")
    print(dict(calls), dict(ends))
    assert ends["nothing"] > 5
    assert ends["ACKNOWLEDGED"] > 5


@pytest.mark.attack(18)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_every_call_fails_once(
    template: Path, tmp_path: Path, calls: Counter[str], error: str
) -> None:
    wanted = WRITES if error == "ENOSPC" else set(calls) - HARMLESS
    failed = Counter({name: count for name, count in calls.items() if name in wanted})
    ends = play(template, tmp_path, failed, f"error={error}")
    print(dict(failed), dict(ends))
    assert sum(count for said, count in ends.items() if "REFUSED" in said) > 2
