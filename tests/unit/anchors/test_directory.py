"""Checkpoints in a folder that somebody else keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlgov.anchors.directory import DirectoryAnchor
from airflow_mlgov.errors import AnchorUnavailableError, LedgerIntegrityError


def test_each_checkpoint_gets_a_file_and_the_newest_another(place, folder) -> None:
    first, second = place.grow(), None
    assert folder.take(first, place.tree, 0) == b""
    second = place.grow(2)
    folder.take(second, place.tree, first.size)
    folder.take(second, place.tree, first.size)  # the same again is fine
    kept = folder.place(place.origin)
    assert {path.name for path in kept.iterdir()} == {
        f"{c.size}-{c.root_hash[:16]}.note" for c in (first, second)
    } | {"latest"}
    assert (kept / "latest").read_bytes() == second.note.encode()
    assert folder.notes(place.origin) == [first.note.encode(), second.note.encode()]
    assert folder.check(second.note.encode(), b"") is None


def test_two_logs_do_not_meet(folder) -> None:
    assert folder.place("a/b") != folder.place("a_b")
    assert folder.place("../../etc").parent == folder.folder


def test_other_bytes_are_never_written_over(place, folder) -> None:
    checkpoint = place.grow()
    folder.take(checkpoint, place.tree, 0)
    path = next(folder.place(place.origin).glob("*.note"))
    path.write_bytes(b"other")
    with pytest.raises(LedgerIntegrityError, match="holds other bytes"):
        folder.take(checkpoint, place.tree, 0)
    assert path.read_bytes() == b"other"
    with pytest.raises(LedgerIntegrityError, match="or is another"):
        folder.check(checkpoint.note.encode(), b"")


@pytest.mark.parametrize(("keep", "then"), [(2, 0), (2, 1), (2, 2), (2, 5)])
def test_attacks_5_and_10_a_rewritten_ledger_is_refused(place, folder, keep, then) -> None:
    checkpoint = place.grow(3)
    folder.take(checkpoint, place.tree, 0)
    forged = place.rewrite(keep=keep, then=then)
    assert place.ledger.verify().is_fine  # sound in itself
    with pytest.raises(LedgerIntegrityError, match=r"over 4 entries .* does not extend"):
        folder.take(forged, place.tree, 0)
    assert folder.notes(place.origin) == [checkpoint.note.encode()]


def test_a_folder_that_is_not_mounted_is_not_made(place, tmp_path: Path) -> None:
    anchor = DirectoryAnchor("vault", tmp_path / "nowhere")
    for use in (
        lambda: anchor.take(place.grow(), place.tree, 0),
        lambda: anchor.notes("x"),
        lambda: anchor.check(b"x\n1\n", b""),
    ):
        with pytest.raises(AnchorUnavailableError, match="there is no folder"):
            use()
    assert not anchor.folder.exists()


def test_a_folder_that_cannot_be_written(place, folder) -> None:
    folder.place(place.origin).write_text("a file")
    with pytest.raises(AnchorUnavailableError, match="cannot be used"):
        folder.take(place.grow(), place.tree, 0)


def test_what_was_cut_off_while_writing_leaves_nothing_that_counts(place, folder, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("airflow_mlgov.anchors.directory.os.fsync", fail)
    with pytest.raises(AnchorUnavailableError, match="No space left"):
        folder.take(place.grow(), place.tree, 0)
    assert list(folder.place(place.origin).iterdir()) == []
