"""An append and a sequencing round, killed or failed at every single system call (threats 17, 18).

strace stops the real process at each call that touches the ledger's files: once with SIGKILL, once
with an I/O error, and where bytes are written once with a full disk. What comes after must be a
ledger that verifies, holds all that was acknowledged, and takes the same entry again as the same.

A file system that loses what it has synced cannot be played here: the kernel keeps what a killed
process wrote.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerError
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.sqlite import SqliteStore

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


def work_in(folder: Path) -> Callable[[Callable[[str], None]], None]:
    """Append, and bring it under a checkpoint; say how far it came."""

    def work(say: Callable[[str], None]) -> None:
        ledger = ledger_in(folder)
        try:
            receipt = ledger.append(draft("new"))
            say(f"ACKNOWLEDGED {receipt.leaf_hash}")
            say(f"SEALED {ledger.seal(receipt).index}")
        except LedgerError as error:
            say(f"REFUSED {type(error).__name__}")
        ledger._store.close()  # type: ignore[attr-defined]

    return work


def on_files(folder: Path) -> list[str]:
    """Arguments with which strace looks at calls on the ledger's files only."""
    files = [f"{folder}/ledger.db{end}" for end in ("", "-wal", "-shm", ".lock")]
    return [word for file in files for word in ("-P", file)]


@pytest.fixture(scope="module")
def calls(template: Path, tmp_path_factory: pytest.TempPathFactory, traced: Any) -> Counter[str]:
    """How often the work calls what, on the ledger's files."""
    folder = tmp_path_factory.mktemp("count") / "ledger"
    shutil.copytree(template, folder)
    ended = traced(work_in(folder), *on_files(folder)).wait()
    assert [line.split(" ")[0] for line in ended.said] == ["ACKNOWLEDGED", "SEALED"]
    return Counter(ended.calls)


def check(folder: Path, said: list[str]) -> None:
    """What must hold afterwards, whatever was done to the process."""
    ledger = ledger_in(folder)
    ledger.drain()
    assert ledger.verify().problems == ()
    hashes = {entry.leaf_hash for entry in ledger.view().select()}
    words = " ".join(said).split(" ")
    if "ACKNOWLEDGED" in words:
        assert words[words.index("ACKNOWLEDGED") + 1] in hashes
    receipt = ledger.append(draft("new"))
    ledger.seal(receipt)
    assert "ACKNOWLEDGED" not in words or receipt.leaf_hash in words
    assert len(ledger.view().select("state.changed_by_hand")) == 7
    assert ledger.verify().is_fine
    ledger._store.close()  # type: ignore[attr-defined]


def play(
    template: Path, tmp_path: Path, traced: Any, every: list[tuple[str, int]], fault: str
) -> Counter[str]:
    """Play one fault at every call; how the process ended, by what it said last."""
    ends: Counter[str] = Counter()
    for name, number in every:
        folder = tmp_path / f"{name}-{number}"
        shutil.copytree(template, folder)
        inject = f"inject={name}:{fault}:when={number}"
        ended = traced(work_in(folder), *on_files(folder), "-e", inject).wait()
        assert ended.was_injected, f"{name} {number} was not reached"
        check(folder, ended.said)
        ends[" ".join(line.split(" ")[0] for line in ended.said) or "nothing"] += 1
        shutil.rmtree(folder)
    return ends


@pytest.mark.attack(17)
def test_killed_at_every_call(
    template: Path, tmp_path: Path, traced: Any, calls: Counter[str], each: Any
) -> None:
    ends = play(template, tmp_path, traced, each(calls), "signal=KILL")
    print(dict(calls), dict(ends))
    assert ends["nothing"] > 5
    assert ends["ACKNOWLEDGED"] > 5
    assert ends["ACKNOWLEDGED SEALED"] > 5  # while it copies its log into the database


@pytest.mark.attack(18)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_every_call_fails_once(
    template: Path, tmp_path: Path, traced: Any, calls: Counter[str], each: Any, error: str
) -> None:
    wanted = WRITES if error == "ENOSPC" else set(calls) - HARMLESS
    failed = [(name, number) for name, number in each(calls) if name in wanted]
    ends = play(template, tmp_path, traced, failed, f"error={error}")
    print(dict(calls), dict(ends))
    assert sum(count for said, count in ends.items() if "REFUSED" in said) > 2
