"""A remembered checkpoint: how it is written, and what extends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import Checkpoint, open_checkpoint
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash
from airflow_mlgov.ledger.seen import SeenCheckpoint
from airflow_mlgov.records.canonical import canonical_bytes


def peaks_of(leaves: list[bytes]) -> tuple[bytes, ...]:
    return append_leaves((), 0, map(leaf_hash, leaves)).peaks


def checkpoint_over(golden: Any, leaves: list[bytes]) -> Checkpoint:
    return open_checkpoint(golden.sign(leaves), golden.trust.log_keys, origin=golden.origin)


def seen_of(golden: Any, leaves: list[bytes]) -> SeenCheckpoint:
    return SeenCheckpoint(checkpoint_over(golden, leaves), peaks_of(leaves))


ASSETS = Path(__file__).parents[2] / "assets" / "ledger"
LEAVES = [bytes([number]) * 3 for number in range(9)]


@pytest.mark.attack(21)
@pytest.mark.parametrize("size", range(10))
def test_threat_21_every_later_tree_extends_and_no_earlier_one(golden: Any, size: int) -> None:
    seen = seen_of(golden, LEAVES[:size])
    for later in range(10):
        newest = checkpoint_over(golden, LEAVES[:later])
        assert seen.is_extended_by(newest, LEAVES[size:later]) is (later >= size)


@pytest.mark.attack(10)
@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("later", [8, 9])
def test_threat_10_a_tree_with_another_past_does_not_extend(
    golden: Any, size: int, later: int
) -> None:
    seen = seen_of(golden, LEAVES[:size])
    for index in range(size):
        other = [*LEAVES[:index], b"other", *LEAVES[index + 1 :]]
        newest = checkpoint_over(golden, other[:later])
        assert not seen.is_extended_by(newest, other[size:later])


def test_leaves_that_are_not_those_of_the_checkpoint_extend_nothing(golden: Any) -> None:
    seen = seen_of(golden, LEAVES[:3])
    newest = checkpoint_over(golden, LEAVES[:5])
    assert not seen.is_extended_by(newest, [LEAVES[3], b"altered"])
    for added in ([LEAVES[3]], LEAVES[3:6]):
        with pytest.raises(LedgerIntegrityError, match="removed or added"):
            seen.is_extended_by(newest, added)


def test_another_log_extends_nothing(golden: Any) -> None:
    other = Checkpoint("other/log", 3, seen_of(golden, LEAVES[:3]).checkpoint.root_hash, "")
    assert not seen_of(golden, LEAVES[:3]).is_extended_by(other, [])


def test_peaks_of_another_tree_are_refused(golden: Any) -> None:
    with pytest.raises(LedgerIntegrityError, match="peaks"):
        SeenCheckpoint(checkpoint_over(golden, LEAVES[:2]), peaks_of(LEAVES[1:3]))
    with pytest.raises(LedgerIntegrityError, match="peaks"):
        SeenCheckpoint(checkpoint_over(golden, LEAVES[:2]), ())


def test_the_golden_file_means_and_is_written_what_it_says(golden: Any) -> None:
    checkpoint = open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin)
    seen = SeenCheckpoint(checkpoint, peaks_of(golden.leaves))
    data = (ASSETS / "seen-v1.json").read_bytes()
    assert seen.as_bytes() == data
    assert SeenCheckpoint.parse(data, golden.trust.log_keys, origin=golden.origin) == seen


MALFORMED = {
    "version": {"v": 2},
    "true for a version": {"v": True},
    "no note": {"note": None},
    "another note": {"note": "x"},
    "peaks that are no list": {"peaks": "00"},
    "a peak that is no text": {"peaks": [5]},
    "a short peak": {"peaks": ["00"]},
    "a peak that is no number": {"peaks": ["zz" * 32]},
    "no peaks": {"peaks": []},
    "a peak beside one that is none": {"peaks": ["00" * 32, "zz" * 32]},
    "too much": {"more": 1},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_memory_is_refused(golden: Any, name: str) -> None:
    value = json.loads(seen_of(golden, LEAVES[:2]).as_bytes()) | MALFORMED[name]
    with pytest.raises(LedgerIntegrityError):
        SeenCheckpoint.parse(canonical_bytes(value), golden.trust.log_keys, origin=golden.origin)


@pytest.mark.parametrize("peaks", ["", {}])
def test_no_peaks_are_an_empty_list(golden: Any, peaks: object) -> None:
    value = json.loads(seen_of(golden, []).as_bytes())
    assert value["peaks"] == []
    with pytest.raises(LedgerIntegrityError, match="peaks of a remembered checkpoint are no such"):
        SeenCheckpoint.parse(
            canonical_bytes(value | {"peaks": peaks}), golden.trust.log_keys, origin=golden.origin
        )


def test_a_peak_has_one_spelling(golden: Any) -> None:
    value = json.loads(seen_of(golden, LEAVES[:2]).as_bytes())
    value["peaks"] = [peak.upper() for peak in value["peaks"]]
    with pytest.raises(LedgerIntegrityError):
        SeenCheckpoint.parse(canonical_bytes(value), golden.trust.log_keys, origin=golden.origin)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"{", b"\xff"])
def test_what_is_no_memory_is_refused(golden: Any, data: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        SeenCheckpoint.parse(data, golden.trust.log_keys, origin=golden.origin)


def test_a_memory_that_another_key_signed_or_of_another_log_is_refused(golden: Any) -> None:
    note = golden.sign(LEAVES[:2], role="mallory").decode()
    data = json.loads(seen_of(golden, LEAVES[:2]).as_bytes())
    with pytest.raises(UnknownKeyError):
        SeenCheckpoint.parse(
            canonical_bytes({**data, "note": note}), golden.trust.log_keys, origin=golden.origin
        )
    with pytest.raises(LedgerIntegrityError, match="not of 'other/log'"):
        SeenCheckpoint.parse(canonical_bytes(data), golden.trust.log_keys, origin="other/log")
