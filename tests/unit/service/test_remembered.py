"""A ledger in a real SQLite file that is set back, and a machine that remembers it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError, MlgovError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import open_checkpoint
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ledger import EntryDraft, Ledger
from airflow_mlgov.service.remembered import Memory
from airflow_mlgov.service.sequencing import checked_head
from airflow_mlgov.signers.file import open_signers
from airflow_mlgov.stores.seen import SeenFolder
from airflow_mlgov.stores.sqlite import SqliteStore

DIGEST = "sha256:" + "0" * 64


def draft(name: str) -> EntryDraft:
    return EntryDraft("policy.changed", "", None, {"policy_sha256": DIGEST}, (name,))


class Place:
    """A ledger's file, its keys, and machines that look at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ledger.db"

    def ledger(
        self, machine: str = "", *, file: Path | None = None, log_key: bool = True
    ) -> Ledger:
        """Open it anew, as a process would; a machine without a name remembers nothing."""
        signers = dict(open_signers(self.folder / "keys"))
        trust = None
        if not log_key:
            trust = Ledger(self.store(), signers).trust_root()
            del signers[KeyRole.LOG]
        seen = SeenFolder(self.folder / machine) if machine else None
        return Ledger(self.store(file), signers, trust=trust, seen=seen)

    def store(self, file: Path | None = None) -> SqliteStore:
        return SqliteStore(file or self.file)

    def grow(self, *names: str, file: Path | None = None) -> None:
        """Append and sign, one checkpoint an entry, on a machine that remembers nothing."""
        ledger = self.ledger(file=file)
        for name in names:
            ledger.seal(ledger.append(draft(name)))
        ledger._store.close()  # type: ignore[attr-defined]

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.file) as connection:
            for statement in statements:
                connection.execute(statement)

    def copy(self, name: str) -> Path:
        """Return a consistent copy, as ``sqlite3 .backup`` makes it."""
        with sqlite3.connect(self.file) as source, sqlite3.connect(self.folder / name) as target:
            source.backup(target)
        return self.folder / name

    def put_in_place(self, file: Path) -> None:
        for suffix in ("-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        shutil.copy(file, self.folder / "copy.db")
        (self.folder / "copy.db").replace(self.file)

    def kept(self, machine: str) -> list[Path]:
        return [Path(path) for path in SeenFolder(self.folder / machine).evidence()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.grow("a", "b", "c")
    return place


def cut_tail(place: Place) -> None:
    place.sql("DELETE FROM entries WHERE seq > 1", "DELETE FROM checkpoints WHERE size > 2")


def cut_tail_and_grow(place: Place) -> None:
    cut_tail(place)
    place.grow("other", "b", "d", "e", "f")


def cut_tail_and_grow_to_the_same_size(place: Place) -> None:
    cut_tail(place)
    place.grow("x", "y", "z")


def fork(place: Place) -> None:
    # The copy was made before `see`; both went on and were signed.
    copy = place.folder / "early.db"
    place.grow("other", "branch", "which", "is", "longer", file=copy)
    place.put_in_place(copy)


def restore(place: Place) -> None:
    place.put_in_place(place.folder / "early.db")


def restore_and_grow(place: Place) -> None:
    restore(place)
    place.grow("later 1", "later 2", "later 3")


def drop_checkpoints(place: Place) -> None:
    place.sql("DELETE FROM checkpoints")


ATTACKS: dict[str, Callable[[Place], None]] = {
    "5 tail and its checkpoints": cut_tail,
    "5 tail, then grown beyond": cut_tail_and_grow,
    "5 tail, then grown to the same size": cut_tail_and_grow_to_the_same_size,
    "10 two copies, both extended and signed": fork,
    "11 an old backup": restore,
    "11 an old backup, then grown beyond": restore_and_grow,
}


def see(place: Place, machine: str) -> None:
    place.copy("early.db")
    place.grow("d")
    assert place.ledger(machine).view().checkpoint.size == 5


READERS: dict[str, Callable[[Ledger], Any]] = {
    "view": Ledger.view,
    "checkpoint": Ledger.checkpoint,
    "seal": lambda ledger: ledger.seal(ledger.append(draft("a"))),
}


@pytest.mark.attack(5, 10, 11)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("log_key", [True, False])
def test_a_ledger_that_was_set_back_is_found_by_who_saw_it(
    place: Place, attack: str, reader: str, log_key: bool
) -> None:
    see(place, "m")
    ATTACKS[attack](place)
    READERS[reader](place.ledger())  # who never saw it finds a sound ledger
    with pytest.raises(LedgerIntegrityError, match=r"seen one over 5 entries") as caught:
        READERS[reader](place.ledger("m", log_key=log_key))
    assert "contradict" in caught.value.problem
    assert not caught.value.retryable
    # Both notes are kept, each signed by the log: together they prove that it contradicts itself.
    trust = place.ledger().trust_root()
    notes = [
        open_checkpoint(path.read_bytes(), trust.log_keys, origin=trust.origin)
        for path in place.kept("m")
    ]
    newest = place.ledger().checkpoint()
    assert {(note.size, note.root_hash) for note in notes} >= {(newest.size, newest.root_hash)}
    assert len(notes) == 2
    assert 5 in {note.size for note in notes}
    assert all(str(path) in caught.value.problem for path in place.kept("m"))


@pytest.mark.attack(5, 10, 11)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_signed_over_a_ledger_that_was_set_back(place: Place, attack: str) -> None:
    see(place, "m")
    ATTACKS[attack](place)
    before = place.store().head()
    ledger = place.ledger("m")
    ledger.append(draft("new"))
    for _ in range(2):
        with pytest.raises(LedgerIntegrityError, match="contradict"):
            ledger.drain()
    assert place.store().head() == before
    assert place.store().waiting() == 1
    place.ledger("n").drain()  # another machine does not know
    assert place.store().head().size == before.size + 1


@pytest.mark.attack(5, 10, 11)
@pytest.mark.parametrize("attack", ATTACKS)
def test_verify_says_so_and_what_is_remembered_stays(place: Place, attack: str) -> None:
    see(place, "m")
    assert place.ledger("m").verify().remembered == 5
    ATTACKS[attack](place)
    assert place.ledger().verify().is_fine
    for _ in range(2):  # it is not forgotten by being told
        report = place.ledger("m").verify()
        assert report.exit_code == 1
        (problem,) = report.problems
        assert "contradict" in problem


@pytest.mark.attack(5)
def test_threat_5_all_checkpoints_gone(place: Place) -> None:
    see(place, "m")
    drop_checkpoints(place)
    ledger = place.ledger("m")
    for read in (ledger.view, ledger.checkpoint):
        with pytest.raises(LedgerIntegrityError, match="has seen one over 5 entries"):
            read()
    assert place.ledger("m").verify().exit_code == 1


def _write_and_be_killed(place: Place) -> None:
    ledger = place.ledger("m")
    ledger.seal(ledger.append(draft("e")))
    assert ledger.view().checkpoint.size == 5
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.attack(12)
def test_threat_12_a_deleted_write_ahead_log(place: Place) -> None:
    # What is in the main file is there; what a killed process wrote is in the log beside it.
    with closing(sqlite3.connect(place.file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    process = multiprocessing.get_context("fork").Process(
        target=_write_and_be_killed, args=(place,)
    )
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    beside = [place.file.with_name(f"ledger.db{suffix}") for suffix in ("-wal", "-shm")]
    assert beside[0].stat().st_size > 0
    for file in beside:
        file.unlink()
    assert place.ledger().view().checkpoint.size == 4  # sound, and shorter
    with pytest.raises(LedgerIntegrityError, match="seen one over 5 entries"):
        place.ledger("m").view()


def test_an_honest_ledger_is_followed_by_every_reader(place: Place) -> None:
    readers = [place.ledger(machine, log_key=log_key) for machine in "mn" for log_key in (1, 0)]
    for number in range(6):
        place.grow(f"more {number}")
        for reader in readers:
            assert reader.view().checkpoint.size == 5 + number
            assert reader.checkpoint().size == 5 + number
            assert reader.verify().is_fine
    assert place.kept("m") == place.kept("n") == []


def test_an_older_view_of_the_same_process_hides_nothing(place: Place) -> None:
    see(place, "m")
    ledger = place.ledger("m")
    ledger.view()
    cut_tail_and_grow(place)
    with pytest.raises(LedgerIntegrityError, match="contradict"):
        ledger.view()
    with pytest.raises(LedgerIntegrityError, match="contradict"):
        ledger.view()


def test_what_another_process_saw_counts_for_this_one(place: Place) -> None:
    ledger = place.ledger("m")
    for _ in range(2):
        assert ledger.view().checkpoint.size == 4
    see(place, "m")
    cut_tail(place)
    place.grow("b", "c")  # by itself, what this process saw fits
    with pytest.raises(LedgerIntegrityError, match="seen one over 5 entries"):
        ledger.view()


def test_who_looked_earlier_and_compares_later_makes_nobody_forget(place: Place) -> None:
    folder, store = SeenFolder(place.folder / "m"), place.store()
    memory, keyring = Memory(folder), place.ledger().keyring()
    recalled, head = memory.recall(keyring.trust, lambda: keyring), store.head()
    see(place, "m")
    memory.accept(recalled, checked_head(head, keyring), head, lambda start: store.leaves(start, 4))
    assert memory.recall(keyring.trust, lambda: keyring).size == 5


def test_the_round_itself_refuses_a_head_that_went_back_meanwhile(place: Place) -> None:
    see(place, "m")
    ledger = place.ledger("m")
    ledger.append(draft("new"))
    honest = ledger._store.sequence  # type: ignore[attr-defined]

    def sequence(integrate: Any) -> Any:
        cut_tail(place)  # after the comparison, before the lock
        return honest(integrate)

    ledger._store.sequence = sequence  # type: ignore[attr-defined]
    with pytest.raises(LedgerIntegrityError, match="went back to 2 entries"):
        ledger.drain()
    assert place.store().head().size == 2


def test_what_was_signed_is_compared_with_what_was_stored(place: Place) -> None:
    ledger = place.ledger("m")
    ledger.view()
    ledger.append(draft("new"))
    honest = ledger._store.sequence  # type: ignore[attr-defined]

    def sequence(integrate: Any) -> Any:
        head = honest(integrate)
        place.sql("DELETE FROM entries WHERE seq = 4")
        return head

    ledger._store.sequence = sequence  # type: ignore[attr-defined]
    with pytest.raises(LedgerIntegrityError, match="removed"):
        ledger.drain()


def test_a_memory_that_cannot_be_read_is_set_aside_with_a_warning(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    see(place, "m")
    origin = place.ledger().origin
    path = SeenFolder(place.folder / "m").path(origin)
    path.write_bytes(b"scribble")
    with caplog.at_level(logging.WARNING):
        assert place.ledger("m").view().checkpoint.size == 5
    assert "cannot be read" in caplog.text
    (kept,) = place.kept("m")
    assert kept.read_bytes() == b"scribble"
    assert str(kept) in caplog.text
    cut_tail(place)  # and what was seen then is remembered again
    with pytest.raises(LedgerIntegrityError, match="contradict"):
        place.ledger("m").view()


def test_a_folder_that_cannot_be_used_stops_no_gate(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    (place.folder / "m").write_text("no folder")
    ledger = place.ledger("m")
    for name in ("x", "y"):
        ledger.seal(ledger.append(draft(name)))
        ledger.view()
    assert ledger.view().checkpoint.size == 6
    assert len([r for r in caplog.records if "cannot be remembered" in r.message]) == 1


def test_a_checkpoint_of_a_key_that_is_not_trusted_is_never_remembered(place: Place) -> None:
    see(place, "m")
    (place.folder / "keys" / "log.key").unlink()
    with pytest.raises(UnknownKeyError):
        place.ledger("m").view()
    assert b"\\n5\\n" in SeenFolder(place.folder / "m").path(place.ledger().origin).read_bytes()


def test_threads_that_share_a_ledger_never_remember_less(place: Place) -> None:
    reader, folder = place.ledger("m"), SeenFolder(place.folder / "m")
    origin, sizes, errors = reader.origin, [], []
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.is_set():
                reader.checkpoint()
        except MlgovError as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        place.grow(str(number))
        data = folder.read(origin)
        if data is not None:
            sizes.append(int(data.decode().split("\\n")[1]))
    stop.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert sizes == sorted(sizes)
    assert place.kept("m") == []
