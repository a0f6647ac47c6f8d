"""What a machine remembers of logs, in a folder."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.stores import seen as seen_module
from airflow_mlgov.stores.seen import MAX_KEPT, SeenFolder

LOG = "airflow-mlgov/1"


@pytest.fixture
def place(tmp_path: Path) -> SeenFolder:
    return SeenFolder(tmp_path / "deep" / "seen")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_it_remembers_for_nobody_else(place: SeenFolder, tmp_path: Path) -> None:
    assert place.read(LOG) is None
    assert not (tmp_path / "deep").exists()  # reading makes nothing
    assert place.replace(LOG, b"one", instead_of=None)
    assert SeenFolder(tmp_path / "deep" / "seen").read(LOG) == b"one"
    assert place.replace(LOG, b"two", instead_of=b"one")
    assert place.read(LOG) == b"two"
    path = place.path(LOG)
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("instead_of", [None, b"", b"other", b"one "])
def test_only_what_was_read_is_replaced(place: SeenFolder, instead_of: bytes | None) -> None:
    assert not place.replace(LOG, b"one", instead_of=b"x")
    assert place.read(LOG) is None
    place.replace(LOG, b"one", instead_of=None)
    assert not place.replace(LOG, b"two", instead_of=instead_of)
    assert place.read(LOG) == b"one"


def test_each_log_has_its_own_file_whatever_its_name(place: SeenFolder) -> None:
    logs = ["a/b", "a_b", "A/B", "../up", "/", ".", "..", "x" * 256, "x" * 255 + "y", "a:b@c"]
    for name in logs:
        assert place.replace(name, name.encode(), instead_of=None)
    assert [place.read(name) for name in logs] == [name.encode() for name in logs]
    assert {place.path(name).parent for name in logs} == {place.path(LOG).parent}


def test_evidence_is_kept_once_and_not_without_end(place: SeenFolder) -> None:
    assert place.evidence() == []
    where = place.keep(LOG, "3-abc.note", b"first")
    assert place.keep(LOG, "3-abc.note", b"second") == where
    assert Path(where).read_bytes() == b"first"
    assert mode_of(Path(where)) == 0o600
    assert place.evidence() == [where]
    said = [place.keep(LOG, f"{number}.note", b"x") for number in range(MAX_KEPT + 5)]
    assert len(place.evidence()) == MAX_KEPT
    assert [text.startswith("(not kept") for text in said].count(True) == 6
    assert place.keep(LOG, "3-abc.note", b"third") == where


def test_a_folder_that_cannot_be_used_is_warned_about_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    place = SeenFolder(tmp_path / "file" / "seen")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert place.read(LOG) is None
            assert not place.replace(LOG, b"one", instead_of=None)
    assert len(caplog.records) == 1
    assert str(tmp_path / "file" / "seen") in caplog.text
    assert "seen_dir" in caplog.text
    assert place.keep(LOG, "x.note", b"x").startswith("(not kept")
    assert place.evidence() == []


def test_a_disk_that_is_full_leaves_what_was_remembered(
    place: SeenFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.replace(LOG, b"one", instead_of=None)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert not place.replace(LOG, b"two", instead_of=b"one")
        assert "No space" in place.keep(LOG, "x.note", b"x")
    assert place.read(LOG) == b"one"
    assert [f.name for f in place.path(LOG).parent.rglob(".*")] == []


def test_who_holds_the_lock_for_long_stops_nobody(
    place: SeenFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.replace(LOG, b"one", instead_of=None)
    monkeypatch.setattr(seen_module, "LOCK_TIMEOUT_S", 0.05)
    with place.path(LOG).with_suffix(".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not place.replace(LOG, b"two", instead_of=b"one")
        assert place.read(LOG) == b"one"
    assert place.replace(LOG, b"two", instead_of=b"one")


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="absolute"):
        SeenFolder(Path("seen"))


def _count_up(folder: Path, start: Any) -> None:
    place = SeenFolder(folder)
    start.wait()
    for _ in range(50):
        while True:
            before = place.read(LOG)
            after = str(int(before or b"0") + 1).encode()
            if place.replace(LOG, after, instead_of=before):
                break


def test_processes_that_race_lose_no_step(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Event()
    workers = [context.Process(target=_count_up, args=(tmp_path, start)) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert SeenFolder(tmp_path).read(LOG) == b"200"
