"""A folder that keeps every event."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from airflow.sdk.io.store import _STORE_CACHE, ObjectStore
from fsspec.implementations.memory import MemoryFileSystem
from lineage_events import event, run_of

from airflow_mlgov.errors import ConfigurationError, LineageUnavailableError
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.targets.folder import FolderTarget


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_each_event_is_a_file_of_its_day_and_the_same_event_the_same_file(tmp_path: Path) -> None:
    target = FolderTarget("archive", f"file://{tmp_path}/kept")
    items = [OutboxItem.of(each) for each in run_of("a", 1439, reads=["x"])]
    items.append(OutboxItem.of(event("b", "START", 0, eventTime="2026-11-24T01:00:00+02:00")))
    for item in [*items, *items]:
        assert target.problem({}) != ""
        target.send(item.event)
    found = files(tmp_path / "kept")
    assert sorted(found.values()) == sorted(item.event for item in items)
    assert {name.partition("/")[0] for name in found} == {"2026-11-24", "2026-11-23"}
    assert any(name.startswith("2026-11-23/230000.000000Z-") for name in found)


def test_a_half_written_file_is_replaced_and_none_is_left_over(tmp_path: Path) -> None:
    target = FolderTarget("archive", f"file://{tmp_path}")
    item = OutboxItem.of(event("a", "START", 0))
    target.send(item.event)
    (name,) = files(tmp_path)
    (tmp_path / name).write_bytes(item.event[:10])
    target.send(item.event)
    assert files(tmp_path) == {name: item.event}


def test_each_file_and_its_folder_are_synced(tmp_path: Path, monkeypatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink()), real(fd))
    )
    target = FolderTarget("archive", f"file://{tmp_path}/new/kept")
    target.send(OutboxItem.of(event("a", "START", 0)).event)
    kept = tmp_path / "new" / "kept"
    assert synced[:3] == [tmp_path, tmp_path / "new", kept]  # each name, before what is in it
    assert synced[3].name.startswith(".030000.")
    assert synced[4:] == [kept / "2026-11-23", kept]


def test_a_folder_that_cannot_be_written_is_an_outage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    target = FolderTarget("archive", f"file://{tmp_path}/file")
    with pytest.raises(LineageUnavailableError, match="archive cannot be written"):
        target.send(OutboxItem.of(event("a", "START", 0)).event)


def test_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store in memory; it cannot prove what a real one does in a race."""
    monkeypatch.setitem(_STORE_CACHE, "s3", ObjectStore("s3", None, fs=MemoryFileSystem()))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    target = FolderTarget("archive", "s3://bank/lineage")
    item = OutboxItem.of(event("a", "START", 0))
    target.send(item.event)
    target.send(item.event)
    (path,) = MemoryFileSystem().find("/")
    assert path.startswith("/bank/lineage/2026-11-23/030000.000000Z-")
    assert MemoryFileSystem().cat_file(path) == item.event
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda *_, **__: 1 / 0)
    with pytest.raises(LineageUnavailableError, match="division"):
        target.send(item.event)


@pytest.mark.parametrize("url", ["file://relative", "/folder", "", "nothing://bucket/x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        FolderTarget("archive", url)


@pytest.mark.parametrize("said", [{}, {"eventTime": None}, {"eventTime": "soon"}])
def test_an_event_without_a_time_cannot_be_filed(tmp_path: Path, said: dict) -> None:
    assert "eventTime" in FolderTarget("archive", f"file://{tmp_path}").problem(said)
