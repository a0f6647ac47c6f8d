"""What changes files, killed and failed at every call on one; threats 17, 18.

A file that is remembered is the old or the new one, never half of one. An erasure is not done, or
is finished by calling again, and then its bytes are in no file. Lineage events on a worker's disk
are kept if that was acknowledged, and come into the outbox once.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerError, LedgerUnavailableError
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.records.people import Person
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.outbox import OutboxItem
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.seen import SeenFolder
from airflow_mlgov.stores.spool import LineageSpool, Spooled
from airflow_mlgov.stores.sqlite import SqliteOutbox, SqliteStore

CALLS = "open,openat,mkdir,read,write,pread64,pwrite64,fsync,fdatasync,ftruncate,fallocate,close"
TRACE = f"trace=%file,{CALLS},fcntl,flock,lseek"
CHANGES = {"openat", "mkdir", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename"}
"""Calls that a disk may fail."""
FAULTS = ["signal=KILL", "error=EIO", "error=ENOSPC"]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
WHO, WHY = Person("victor", "Victor Surname"), "the victorious comment"


def draft(name: str) -> EntryDraft:
    body = {"task": "d/r/t", "state": "success"}
    return EntryDraft("state.changed_by_hand", "", None, body, (name,), {"by": WHO}, {"why": WHY})


def ledger_in(folder: Path, *, log: bool = True) -> Ledger:
    signers = dict(open_signers(folder / "keys"))
    ledger = Ledger(SqliteStore(folder / "ledger.db"), signers)
    if log:
        return ledger
    trust = ledger.trust_root()
    ledger._store.close()  # type: ignore[attr-defined]
    store, seen = SqliteStore(folder / "ledger.db"), SeenFolder(folder / "seen")
    return Ledger(store, {}, trust=trust, seen=seen)


def close(ledger: Ledger) -> None:
    ledger._store.close()  # type: ignore[attr-defined]


def faults(calls: Counter[str], each: Any, fault: str) -> list[tuple[str, int]]:
    every: list[tuple[str, int]] = each(calls)
    return [(n, k) for n, k in every if n in CHANGES or fault.startswith("signal")]


# --- remembering


@pytest.fixture
def remembers(tmp_path: Path) -> Path:
    """A ledger of which a machine has seen four entries; there are seven now."""
    folder = tmp_path / "template"
    folder.mkdir()
    writer = ledger_in(folder)
    for size in (4, 7):
        for number in range(writer._store.head().size or 1, size):  # type: ignore[attr-defined]
            writer.append(draft(str(number)))
        writer.drain()
        if size == 4:
            reader = ledger_in(folder, log=False)
            assert reader.checkpoint().size == 4
            close(reader)
    close(writer)
    return folder


def remembered(folder: Path) -> int:
    """Size of the checkpoint that is remembered; a file that cannot be read is a failure."""
    ledger = ledger_in(folder, log=False)
    report = ledger.verify()
    assert report.is_fine
    close(ledger)
    assert SeenFolder(folder / "seen").evidence() == []
    return report.remembered


@pytest.mark.attack(17, 18)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_memory_is_the_old_or_the_new_one(
    remembers: Path, tmp_path: Path, traced: Any, each: Any, fault: str
) -> None:
    data = [Path(path).read_bytes() for path in (remembers / "seen").glob("*.json")]
    origin = ledger_in(remembers).origin
    other = SeenFolder(tmp_path / "other")
    reader = Ledger(
        SqliteStore(remembers / "ledger.db"),
        {},
        trust=ledger_in(remembers).trust_root(),
        seen=other,
    )
    reader.checkpoint()
    old, new = data[0], other.read(origin)
    assert new is not None
    assert new != old

    def work_in(folder: Path) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            say(str(SeenFolder(folder / "seen").replace(origin, new, instead_of=old)))

        return work

    def fresh(name: str) -> Path:
        return Path(shutil.copytree(remembers, tmp_path / name))

    ended = traced(work_in(fresh("count")), "-e", TRACE).wait()
    assert ended.said == ["True"]
    outcomes: Counter[str] = Counter()
    for name, number in faults(ended.calls, each, fault):
        folder = fresh(f"{name} {number}")
        inject = f"inject={name}:{fault}:when={number}"
        ended = traced(work_in(folder), "-e", TRACE, "-e", inject).wait()
        assert ended.was_injected or ended.calls[name] < number, inject
        now = SeenFolder(folder / "seen").read(origin)
        assert now in (old, new)
        assert now == new or ended.said != ["True"]
        assert remembered(folder) == (7 if now == new else 4)
        assert SeenFolder(folder / "seen").read(origin) == new  # who looks next remembers
        outcomes["new" if now == new else "old"] += 1
        shutil.rmtree(folder)
    print(outcomes)
    assert outcomes["old"] > 2
    assert outcomes["new"] > 0 or fault != "signal=KILL"


# --- erasing


@pytest.fixture
def announced(tmp_path: Path) -> Path:
    """A ledger whose newest entry says that a name and a text are erased; they are there still."""
    folder = tmp_path / "template"
    folder.mkdir()
    ledger = ledger_in(folder)
    for number in range(1, 40):  # so that rows are on several pages
        ledger.append(draft(str(number)))
    places = [[5, "people.by"], [5, "texts.why"], [6, "people.by"], [6, "texts.why"]]
    body = {"because": "request", "count": len(places), "fields": places}
    erased = EntryDraft("erased", "", None, body, ("erased",))
    ledger.seal(ledger.append(erased, role=KeyRole.LOG))
    assert ledger.verify().is_fine
    close(ledger)
    return folder


@pytest.mark.attack(17, 18, 33)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_erasure_is_not_done_or_is_finished_by_calling_again(
    announced: Path, tmp_path: Path, traced: Any, each: Any, fault: str
) -> None:
    ledger = ledger_in(announced)
    entries = list(ledger.view().select())[5:7]
    keys = [entry.key for entry in entries]
    fields = [(key, name) for key in keys for name in ("people.by", "texts.why")]
    opened = [found for entry in entries for found in entry.disclose(entry.key).values()]
    assert len(opened) == len(fields)
    close(ledger)

    def work_in(folder: Path) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            try:
                say(f"ERASED {SqliteStore(folder / 'ledger.db').erase(fields)}")
            except LedgerError as error:
                say(f"REFUSED {type(error).__name__}")

        return work

    def fresh(name: str) -> Path:
        return Path(shutil.copytree(announced, tmp_path / name))

    def on_disk(folder: Path) -> bytes:
        return b"".join(file.read_bytes() for file in folder.glob("ledger.db*"))

    ended = traced(work_in(fresh("count")), "-e", TRACE).wait()
    assert ended.said == ["ERASED 4"]
    outcomes: Counter[str] = Counter()
    for name, number in faults(ended.calls, each, fault):
        folder = fresh(f"{name} {number}")
        inject = f"inject={name}:{fault}:when={number}"
        ended = traced(work_in(folder), "-e", TRACE, "-e", inject).wait()
        assert ended.was_injected or ended.calls[name] < number, inject
        done = ended.said == ["ERASED 4"]
        if done:
            assert not any(disclosure.salt in on_disk(folder) for disclosure in opened)
        store = SqliteStore(folder / "ledger.db")
        left = sum(len(store.disclosures(key)) for key in keys)
        assert left in (0, 4)  # all or nothing
        assert not (done and left)
        assert store.erase(fields) == left
        assert not any(disclosure.salt in on_disk(folder) for disclosure in opened)
        ledger = ledger_in(folder)
        report = ledger.verify()
        assert (report.is_fine, report.closed, report.unaccounted) == (True, 4, ())
        for opening in (store, ledger._store):  # type: ignore[attr-defined]
            opening.close()
        outcomes[f"{left} left"] += 1
        shutil.rmtree(folder)
    print(outcomes)
    assert outcomes["4 left"] > 5
    assert outcomes["0 left"] > 5 or fault != "signal=KILL"


# --- keeping lineage events while the store is away


def events(*names: str) -> list[OutboxItem]:
    return [OutboxItem(f"{name:f>64}", name.encode() * 3_000) for name in names]


def adopted(folder: Path) -> list[str]:
    """What is in the outbox once all is adopted."""
    outbox, spool = SqliteOutbox(folder / "ledger.db"), LineageSpool(folder / "spool")
    spool.adopt(outbox)
    outbox.take()
    assert spool.waiting() == Spooled(0, None, 0)
    found = [event.event[:1].decode() for event in outbox.events(0, 99)]
    outbox.close()
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_events_are_kept_on_disk_or_not_acknowledged(
    tmp_path: Path, traced: Any, each: Any, fault: str
) -> None:
    template = tmp_path / "template"
    LineageSpool(template / "spool").keep(events("a"), NOW)
    SqliteOutbox(template / "ledger.db").backlog("marquez")

    def work_in(folder: Path) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            try:
                LineageSpool(folder / "spool").keep(events("b", "c"), NOW)
                say("KEPT")
            except LedgerUnavailableError:
                say("REFUSED")

        return work

    outcomes = run_with_faults(template, tmp_path, work_in, (traced, each, fault))
    for said, found in outcomes:
        assert found in (["a"], ["a", "b", "c"])
        assert found == ["a", "b", "c"] or said != ["KEPT"]
    assert (["REFUSED"] if "error" in fault else []) in [said for said, _ in outcomes]
    assert ["a"] in [found for _, found in outcomes]


@pytest.mark.parametrize("fault", FAULTS)
def test_events_are_adopted_once(tmp_path: Path, traced: Any, each: Any, fault: str) -> None:
    template = tmp_path / "template"
    spool = LineageSpool(template / "spool")
    spool.keep(events("a"), NOW)
    spool.keep(events("b", "c"), NOW)
    SqliteOutbox(template / "ledger.db").backlog("marquez")

    def work_in(folder: Path) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            outbox = SqliteOutbox(folder / "ledger.db")
            try:
                say(f"ADOPTED {LineageSpool(folder / 'spool').adopt(outbox)}")
            except LedgerError:
                say("REFUSED")

        return work

    outcomes = run_with_faults(template, tmp_path, work_in, (traced, each, fault))
    assert all(found == ["a", "b", "c"] for _, found in outcomes)
    assert (["REFUSED"] if "error" in fault else []) in [said for said, _ in outcomes]


def run_with_faults(
    template: Path, tmp_path: Path, work_in: Any, given: tuple[Any, Any, str]
) -> list[tuple[list[str], list[str]]]:
    """Do work in copies of a folder with each fault; return what was said, and what was kept."""
    traced, each, fault = given
    counted = Path(shutil.copytree(template, tmp_path / "count"))
    ended = traced(work_in(counted), "-e", TRACE).wait()
    outcomes = []
    for name, number in faults(ended.calls, each, fault):
        folder = Path(shutil.copytree(template, tmp_path / f"{name} {number}"))
        inject = f"inject={name}:{fault}:when={number}"
        ended = traced(work_in(folder), "-e", TRACE, "-e", inject).wait()
        assert ended.was_injected or ended.calls[name] < number, inject
        outcomes.append((ended.said, adopted(folder)))
        shutil.rmtree(folder)
    return outcomes
