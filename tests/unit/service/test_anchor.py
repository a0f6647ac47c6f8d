"""When anchors are asked, what happens if one fails, and what verifying finds afterwards."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_mlgov.errors import (
    AnchorUnavailableError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.ledger.checkpoint import open_checkpoint
from airflow_mlgov.service import anchor as module
from airflow_mlgov.service.ports import Anchored
from airflow_mlgov.service.verify_anchored import verify_anchored

_PLACE = Path(__file__).parents[1] / "anchors" / "conftest.py"
_spec = importlib.util.spec_from_file_location("conftest_of_anchors", _PLACE)
_anchors = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _anchors
_spec.loader.exec_module(_anchors)
place, folder, watched = _anchors.place, _anchors.folder, _anchors.watched
new_witness, witness = _anchors.new_witness, _anchors.witness
new_authority, authority = _anchors.new_authority, _anchors.authority

MINUTES = timedelta(minutes=1)


class Scripted:
    """An anchor that does what it is told; proves nothing about real ones."""

    kind = "directory"

    def __init__(self, name: str = "scripted") -> None:
        self.name = name
        self.took: list[tuple[int, int]] = []
        self.error: Exception | None = None
        self.data = b""

    def take(self, checkpoint, tree, since):
        if self.error is not None:
            raise self.error
        self.took.append((since, checkpoint.size))
        return self.data

    def check(self, note, data):
        return None

    def notes(self, origin):
        return []


def verify(place, *anchors, trust=None, **more):
    trust = trust or place.ledger.trust_root()
    return verify_anchored(place.ledger, trust, anchors=anchors, **more)


def found(report) -> str:
    return "\n".join(report.lines())


def test_one_is_due_when_the_ledger_has_grown_and_its_time_has_come(place) -> None:
    one = Scripted()
    anchoring = place.anchoring(one)
    anchoring.round()
    assert one.took == [(0, 1)]
    place.clock.moment += 60 * MINUTES
    anchoring.round()  # nothing new
    place.grow()
    anchoring.round()
    place.grow()
    place.clock.moment += 9 * MINUTES
    anchoring.round()  # too early
    place.anchoring(one).round()  # for another process as well
    place.clock.moment += MINUTES
    anchoring.round()
    assert one.took == [(0, 1), (1, 2), (2, 3)]
    (seen,) = anchoring.progress
    assert (seen.size, seen.at, seen.failures) == (3, place.clock.moment, 0)
    assert [row.size for row in place.store.anchored()] == [1, 2, 3]


def test_one_that_asks_itself_need_not_be_due(place) -> None:
    one = Scripted()
    place.anchoring(one).round()
    place.grow()
    place.anchoring(one).round(only_due=False)
    place.anchoring(one).round(only_due=False)
    assert one.took == [(0, 1), (1, 2)]


def test_a_clock_that_was_set_back_puts_nothing_off(place) -> None:
    one = Scripted()
    place.anchoring(one).round()
    place.grow()
    place.clock.moment -= timedelta(days=365)
    place.anchoring(one).round()
    assert [size for _, size in one.took] == [1, 2]


def test_one_that_fails_stops_no_other_and_is_told_once(place) -> None:
    bad, good = Scripted("bad"), Scripted("good")
    bad.error = AnchorUnavailableError("It is away.")
    anchoring = place.anchoring(bad, good)
    for _ in range(4):
        anchoring.round()
        place.clock.moment += 2 * MINUTES
    assert good.took == [(0, 1)]
    first, second = anchoring.progress
    assert (first.failures, first.problem, first.contradicts) == (4, "It is away.", False)
    assert (second.size, second.problem) == (1, "")
    assert place.said == ["Anchor bad took no checkpoint. It is away."]
    bad.error = LedgerIntegrityError("Another history.")
    anchoring.round()
    assert place.said[-1] == "Anchor bad took no checkpoint. Another history."
    assert anchoring.progress[0].contradicts
    bad.error = None
    place.clock.moment += 2 * MINUTES
    anchoring.round()
    assert place.said[-1] == "Anchor bad takes checkpoints again."
    assert not anchoring.progress[0].contradicts
    assert len(place.said) == 3


def test_after_a_failure_it_is_tried_again_in_a_minute(place) -> None:
    bad = Scripted()
    bad.error = AnchorUnavailableError("It is away.")
    anchoring = place.anchoring(bad)
    anchoring.round()
    anchoring.round()
    assert anchoring.progress[0].failures == 1
    place.clock.moment += MINUTES
    anchoring.round()
    assert anchoring.progress[0].failures == 2


def test_it_goes_on_when_the_store_was_away(place, monkeypatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    one = Scripted()
    anchoring = place.anchoring(one)
    real, asked = anchoring._ledger.checkpoint, []

    def away():
        asked.append(1)
        if len(asked) < 4:
            raise LedgerUnavailableError("The store is away.")
        return real()

    monkeypatch.setattr(anchoring._ledger, "checkpoint", away)
    thread = threading.Thread(target=anchoring.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not one.took:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    anchoring.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert place.said == ["Nothing is handed to any anchor. The store is away."]


def test_what_is_kept_of_a_longer_ledger_is_a_contradiction(place) -> None:
    one = Scripted()
    place.grow(3)
    place.anchoring(one).round()
    rows = place.store.anchored()
    place.rewrite(keep=2, then=1)
    for row in rows:
        place.store.keep_anchored(row)
    anchoring = place.anchoring(one)
    anchoring.round(only_due=False)
    assert anchoring.progress[0].contradicts
    assert "took a checkpoint over 4 entries that is not the ledger's" in place.said[0]


def test_leaves_that_do_not_give_the_root_are_not_proven(place, folder) -> None:
    place.grow(3)
    place.anchoring(folder).round()
    place.grow(3)
    with closing(sqlite3.connect(place.store.path)) as connection, connection:
        connection.execute("DELETE FROM entries WHERE seq = 6")
    anchoring = place.anchoring(folder)
    anchoring.round(only_due=False)
    assert "do not give the root" in anchoring.progress[0].problem


@pytest.fixture
def anchored(place, folder, watched, authority):
    """A ledger of four entries that all three kinds of anchor have seen, and of two more."""
    place.grow(3)
    three = (folder, watched, authority.anchor)
    place.anchoring(*three).round()
    assert place.said == []
    place.grow(2)
    return three


def test_a_sound_ledger_says_what_its_anchors_saw(place, anchored) -> None:
    report = verify(place, *anchored)
    assert report.problems == ()
    text = found(report)
    assert "anchor vault (directory): 1 checkpoint(s), the newest over 4 entries\n" in text
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f"anchor w1 (witness): 1 checkpoint(s), the newest over 4 entries, {today}" in text
    assert f"anchor tsa (timestamp): 1 checkpoint(s), the newest over 4 entries, {today}" in text
    assert report.as_json()["anchors"] == list(report.anchors)
    assert report.earlier == 1


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("keep", "then"), [(2, 1), (3, 1), (3, 6)])
def test_attacks_5_and_10_what_is_kept_contradicts_a_rewritten_ledger(
    place, anchored, which, keep, then
) -> None:
    """With the log key in the attacker's hand; of what anchors gave, one row is put back."""
    row = next(row for row in place.store.anchored() if row.anchor == anchored[which].name)
    place.rewrite(keep=keep, then=then)
    assert place.ledger.verify().is_fine
    place.store.keep_anchored(row)
    report = verify(place)
    assert report.exit_code == 1
    assert "A checkpoint kept elsewhere" in found(report)


@pytest.mark.parametrize(("keep", "then"), [(2, 1), (3, 1), (3, 6)])
def test_attack_10_a_folder_shows_what_the_ledger_has_forgotten(
    place, anchored, keep, then
) -> None:
    place.rewrite(keep=keep, then=then)
    assert verify(place).is_fine
    report = verify(place, anchored[0])
    assert report.exit_code == 1
    assert "A checkpoint kept elsewhere" in found(report)


def test_attack_10_the_witness_refuses_when_it_is_asked_next(place, anchored) -> None:
    place.rewrite(keep=3, then=6)
    anchoring = place.anchoring(anchored[1])
    anchoring.round()
    assert anchoring.progress[0].contradicts
    assert "entries that were signed are gone or are others" in place.said[-1]


def test_attack_10_a_stamped_note_that_somebody_kept_contradicts(place, anchored) -> None:
    """An authority remembers nothing: its stamp proves that the kept note is as old as it says."""
    row = next(row for row in place.store.anchored() if row.kind == "timestamp")
    place.rewrite(keep=3, then=6)
    assert anchored[2].check(row.note, row.data) is not None
    trust = place.ledger.trust_root()
    kept = open_checkpoint(row.note, trust.log_keys, origin=trust.origin)
    assert not verify(place, earlier=[kept]).is_fine


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_new_note_does_not_get_an_old_anchor(place, anchored, which) -> None:
    """What was given for the true checkpoint is put beside a forged one of the same size."""
    anchor = anchored[which]
    row = next(row for row in place.store.anchored() if row.anchor == anchor.name)
    forged = place.rewrite(keep=3, then=1)
    assert forged.size == row.size
    place.grow(3)
    place.store.keep_anchored(replace(row, note=forged.note.encode()))
    report = verify(place, anchor)
    assert report.exit_code == 1
    assert f"What anchor {anchor.name} gave for 4 entries" in found(report)


def test_rows_that_do_not_fit_themselves(place, anchored) -> None:
    note = place.ledger.checkpoint().note.encode()
    for row in (
        Anchored("a", "directory", 5, note, b"", place.clock.moment),
        Anchored("b", "timestamp", 6, b"junk", b"", place.clock.moment),
        Anchored("c", "witness", 6, note, b"junk", place.clock.moment),
    ):
        place.store.keep_anchored(row)
    report = verify(place, *anchored)
    assert len(report.problems) == 3
    assert "over another number" in found(report)


def test_without_the_anchors_cosignatures_are_checked_by_the_trust_file(place, anchored) -> None:
    bare = verify(place)
    assert bare.is_fine
    assert "anchor w1 (witness): 0 checkpoint(s); 1 not checked" in found(bare)
    trust = place.ledger.trust_root().with_witnesses([anchored[1].key])
    report = verify(place, trust=trust)
    assert "anchor w1 (witness): 1 checkpoint(s), the newest over 4" in found(report)
    assert "anchor tsa (timestamp): 0 checkpoint(s); 1 not checked" in found(report)


def test_a_folder_that_is_away_is_a_remark(place, anchored) -> None:
    away = replace(anchored[0], folder=anchored[0].folder / "away")
    report = verify(place, away)
    assert report.is_fine
    assert any("there is no folder" in remark for remark in report.remarks)
    assert "anchor vault (directory): 0 checkpoint(s); 1 not checked" in found(report)


def test_a_folder_with_a_strange_note_is_a_problem(place, anchored) -> None:
    strange = anchored[0].place(place.origin) / f"9-{'0' * 16}.note"
    strange.write_bytes(b"x")
    report = verify(place, anchored[0])
    assert any("that anchor vault shows" in problem for problem in report.problems)
