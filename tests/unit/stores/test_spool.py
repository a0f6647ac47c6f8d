"""Events on a worker's disk: none lost, whoever dies and whatever is full."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.stores import spool as module
from airflow_mlgov.stores.spool import LineageSpool, Spooled
from airflow_mlgov.stores.sqlite import SqliteOutbox

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CONTEXT = multiprocessing.get_context("fork")


def items(*names: str) -> list[OutboxItem]:
    return [
        OutboxItem.of(
            {
                "eventType": "START",
                "eventTime": "2026-01-02T03:04:05Z",
                "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, name))},
                "job": {"namespace": "n", "name": name},
            }
        )
        for name in names
    ]


def names(outbox: Any) -> list[str]:
    outbox.take()
    return [event.decoded()["job"]["name"] for event in outbox.events(0, 1_000)]


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def spool(tmp_path: Path) -> LineageSpool:
    return LineageSpool(tmp_path / "deep" / "spool")


@pytest.fixture
def outbox(new_memory_outbox: Any) -> Any:
    return new_memory_outbox()


def test_what_is_kept_is_adopted_once_as_it_was_given(spool: LineageSpool, outbox: Any) -> None:
    given = [*items("a", "b"), OutboxItem("f" * 64, b"\x00\xff no JSON"), OutboxItem("e" * 64, b"")]
    spool.keep(given, NOW)
    assert LineageSpool(spool.folder).waiting() == Spooled(1, NOW, 0)
    assert spool.adopt(outbox) == 4
    outbox.take()
    kept = outbox.events(0, 9)
    assert [OutboxItem(event.key, event.event) for event in kept] == given
    assert {event.received_at for event in kept} == {NOW.replace(microsecond=678000)}
    assert spool.waiting() == Spooled(0, None, 0)
    assert spool.adopt(outbox) == 0
    assert list(spool.folder.iterdir()) == []


def test_a_spool_that_nothing_was_kept_in_is_not_made(spool: LineageSpool, outbox: Any) -> None:
    assert spool.waiting() == Spooled(0, None, 0)
    assert spool.adopt(outbox) == 0
    spool.keep([], NOW)
    assert not spool.folder.parent.exists()


def test_the_oldest_is_adopted_first(spool: LineageSpool, outbox: Any) -> None:
    spool.keep(items("second"), NOW)
    spool.keep(items("third"), NOW)
    spool.keep(items("last"), NOW + timedelta(microseconds=1))
    spool.keep(items("first"), NOW - timedelta(days=9_000))
    assert spool.waiting() == Spooled(4, NOW - timedelta(days=9_000), 0)
    assert spool.adopt(outbox) == 4
    assert names(outbox) == ["first", "second", "third", "last"]


@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"), [(0, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_others_read_nothing(
    spool: LineageSpool, umask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(umask)
    try:
        spool.keep(items("a"), NOW)
    finally:
        os.umask(before)
    (file,) = spool.folder.iterdir()
    assert (mode_of(file), mode_of(spool.folder)) == (file_mode, folder_mode)


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lineage_spool_dir"):
        LineageSpool(Path("spool"))


class Away:
    """An outbox that cannot be reached after so many appends."""

    def __init__(self, outbox: Any, appends: int) -> None:
        self._outbox, self._left = outbox, appends

    def append(self, given: Any, at: datetime) -> None:
        if self._left == 0:
            raise LedgerUnavailableError("The store is away.")
        self._left -= 1
        self._outbox.append(given, at)


def test_what_a_store_that_goes_away_has_not_taken_stays(spool: LineageSpool, outbox: Any) -> None:
    for name in "abc":
        spool.keep(items(name), NOW)
    with pytest.raises(LedgerUnavailableError, match="away"):
        spool.adopt(Away(outbox, 2))
    assert spool.waiting().waiting == 1
    assert spool.adopt(outbox) == 1
    assert names(outbox) == ["a", "b", "c"]


def test_files_that_are_not_the_spool_s_are_left_alone(spool: LineageSpool, outbox: Any) -> None:
    spool.keep(items("a"), NOW)
    (file,) = spool.folder.iterdir()
    for name in (f".{file.name}", f"{file.name}.bak", "README", f"x{file.name}"):
        (spool.folder / name).write_bytes(b"half of ")
    assert spool.waiting() == Spooled(1, NOW, 0)
    assert spool.adopt(outbox) == 1
    assert len(list(spool.folder.iterdir())) == 4
    assert spool.waiting() == Spooled(0, None, 0)


@pytest.mark.parametrize("length", [0, 1, 64, 65, 66, -1])
def test_a_damaged_file_is_put_aside_and_reported(
    spool: LineageSpool, outbox: Any, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    for name in "abc":
        spool.keep(items(name), NOW)
    damaged = sorted(spool.folder.iterdir())[1]
    data = damaged.read_bytes()[:length]
    damaged.write_bytes(data)
    assert spool.adopt(outbox) == 2
    assert names(outbox) == ["a", "c"]
    aside = spool.folder / "damaged" / damaged.name
    assert aside.read_bytes() == data
    assert f"in {aside}," in caplog.text
    assert spool.waiting() == Spooled(0, None, 1)
    assert spool.adopt(outbox) == 0


PLANTED = [
    b"no JSON",
    b"[]",
    b'{"at": 7, "events": []}',
    b'{"at": "2026-01-02T00:00:00+00:00", "events": [["k"]]}',
    b'{"at": "2026-01-02T00:00:00+00:00", "events": [["\\u0000", ""]]}',
    b'{"at": "2026-01-02T00:00:00+00:00", "events": [[7, ""]]}',
    b'{"at": "2026-01-02T00:00:00+00:00", "events": [["%s", "="]]}' % (b"f" * 64),
]


@pytest.mark.parametrize("rest", PLANTED)
def test_a_file_of_somebody_else_holds_up_nobody(
    spool: LineageSpool, outbox: Any, rest: bytes
) -> None:
    for name in "ab":
        spool.keep(items(name), NOW)
    planted = min(spool.folder.iterdir())
    planted.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    assert spool.adopt(outbox) == 1
    assert names(outbox) == ["b"]
    assert spool.waiting() == Spooled(0, None, 1)


def test_every_changed_bit_is_noticed(spool: LineageSpool, outbox: Any) -> None:
    spool.keep(items("a"), NOW)
    (file,) = spool.folder.iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert spool.adopt(outbox) == 0
    assert outbox.take() == 0


def test_many_keep_and_many_adopt_at_once(spool: LineageSpool, tmp_path: Path) -> None:
    def keep(writer: int) -> None:
        for number in range(20):
            LineageSpool(spool.folder).keep(items(f"{writer} {number}"), datetime.now(UTC))

    def adopt() -> None:
        outbox = SqliteOutbox(tmp_path / "ledger.db")
        while not stop.is_set():
            LineageSpool(spool.folder).adopt(outbox)

    stop = CONTEXT.Event()
    adopters = [start(adopt) for _ in range(3)]
    writers = [start(lambda n=n: keep(n)) for n in range(6)]
    for process in writers:
        process.join(60)
    stop.set()
    for process in adopters:
        process.join(60)
    assert [process.exitcode for process in (*writers, *adopters)] == [0] * 9
    outbox = SqliteOutbox(tmp_path / "ledger.db")
    spool.adopt(outbox)
    found = names(outbox)
    assert sorted(found) == sorted(f"{w} {n}" for w in range(6) for n in range(20))
    for writer in range(6):
        own = [name for name in found if name.startswith(f"{writer} ")]
        assert own == [f"{writer} {n}" for n in range(20)]
    assert spool.waiting() == Spooled(0, None, 0)


def start(work: Callable[[], None]) -> Any:
    """Run in a process of its own, which ends without what pytest would tear down."""

    def run() -> None:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)

    process = CONTEXT.Process(target=run)
    process.start()
    return process


def test_what_is_kept_is_on_disk_before_it_has_its_name_and_its_name_is_too(
    spool: LineageSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    really_sync, really_rename = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        really_sync(descriptor)

    def rename(draft: Path, name: Path) -> Path:
        done.append("renamed")
        return really_rename(draft, name)

    monkeypatch.setattr(module.os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    spool.keep(items("a"), NOW)
    (file,) = spool.folder.iterdir()
    folders = [str(spool.folder.parent.parent), str(spool.folder.parent)]  # of new folders
    draft = str(file.with_name(f".{file.name}"))
    assert done == [*folders, draft, "renamed", str(spool.folder)]


STEPS = [(Path, name) for name in ("mkdir", "replace", "read_bytes", "unlink")]
STEPS += [(module.os, name) for name in ("open", "fsync")]


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do a piece of work that is killed before its n-th step; return whether it was."""

    def run() -> None:
        left = [step]

        def before(real: Any) -> Any:
            def call(*given: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*given, **named)

            return call

        for owner, name in STEPS:
            setattr(owner, name, before(getattr(owner, name)))
        work()

    process = start(run)
    process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_who_is_killed_while_keeping_keeps_all_or_none(
    tmp_path: Path, new_memory_outbox: Any
) -> None:
    outcomes = []
    for step in range(100):
        spool, outbox = LineageSpool(tmp_path / f"{step}" / "spool"), new_memory_outbox()
        was_killed = killed_at(step, lambda own=spool: own.keep(items("a", "b"), NOW))
        adopted = spool.adopt(outbox)
        assert adopted in (0, 2)
        assert was_killed or adopted == 2  # acknowledged is kept
        spool.keep(items("a", "b"), NOW)  # as whoever tries again does
        assert spool.adopt(outbox) == 2
        assert names(outbox) == ["a", "b"]
        assert spool.waiting().damaged == 0
        outcomes.append((was_killed, adopted))
        if not was_killed:
            break
    assert len(outcomes) > 5
    assert outcomes[-1] == (False, 2)
    assert {(True, 0), (True, 2)} <= set(outcomes)


def test_who_is_killed_while_adopting_loses_and_doubles_nothing(tmp_path: Path) -> None:
    def place(step: int) -> tuple[LineageSpool, SqliteOutbox]:
        folder = tmp_path / f"{step}"
        return LineageSpool(folder / "spool"), SqliteOutbox(folder / "ledger.db")

    for step in range(200):
        spool, outbox = place(step)
        spool.keep(items("a", "b"), NOW)
        spool.keep(items("c"), NOW)
        outbox.append(items("before"), NOW)
        was_killed = killed_at(step, lambda n=step: place(n)[0].adopt(place(n)[1]))
        spool.adopt(outbox)
        assert names(outbox) == ["before", "a", "b", "c"]
        assert spool.waiting() == Spooled(0, None, 0)
        if not was_killed:
            break
    assert step > 4
    assert not was_killed


def test_a_full_disk_is_called_one(
    spool: LineageSpool, outbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.keep(items("a"), NOW)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(LedgerUnavailableError, match="No space left") as caught:
        spool.keep(items("b"), NOW)
    monkeypatch.undo()
    assert caught.value.retryable
    assert str(spool.folder) in str(caught.value)
    assert "Free space" in caught.value.remedy
    assert [file.name for file in spool.folder.iterdir() if file.name.startswith(".")] == []
    assert spool.adopt(outbox) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk_is_called_one_and_keeps_what_it_has(
    tmp_path: Path, new_memory_outbox: Any
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        spool, kept = LineageSpool(small / "spool"), 0
        with pytest.raises(LedgerUnavailableError, match="No space left on device") as caught:  # noqa: PT012
            for number in range(100):
                spool.keep([OutboxItem(f"{number:064}", b"x" * 5_000)], NOW)
                kept += 1
        assert (str(spool.folder) in str(caught.value), kept > 3) == (True, True)
        outbox = new_memory_outbox()
        assert spool.adopt(outbox) == kept
        assert spool.waiting() == Spooled(0, None, 0)
        spool.keep(items("again"), NOW)
        assert spool.adopt(outbox) == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_in_the_way(tmp_path: Path, outbox: Any) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "spool"):
        spool = LineageSpool(folder)
        calls: list[Callable[[], object]] = [
            lambda own=spool: own.keep(items("a"), NOW),
            lambda own=spool: own.adopt(outbox),
            spool.waiting,
        ]
        for call in calls:
            with pytest.raises(LedgerUnavailableError, match="lineage_spool_dir"):
                call()
