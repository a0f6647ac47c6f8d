"""Counting the entries of one model, against a plain count of the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from airflow_mlgov.ledger.model_index import ModelCount, ModelIndex
from airflow_mlgov.ledger.verify import verify_ledger

LEAVES = [(index, hashlib.sha256(bytes([index])).digest()) for index in (0, 3, 4, 9, 200)]


def plain(size: int) -> ModelCount:
    listed = [[index, leaf.hex()] for index, leaf in LEAVES if index < size]
    text = json.dumps(listed, separators=(",", ":")).encode()
    return ModelCount(size, len(listed), f"sha256:{hashlib.sha256(text).hexdigest()}")


def test_every_size_in_any_order_is_counted_as_a_plain_count_does():
    index = ModelIndex()
    for at, leaf in LEAVES:
        index.add(at, leaf)
    for size in (0, 1, 3, 4, 5, 201, 9, 10, 200, 4, 0):
        assert index.count(size) == plain(size)


def test_it_goes_on_after_it_was_asked():
    index = ModelIndex()
    for at, leaf in LEAVES:
        index.add(at, leaf)
        assert index.count(at + 1) == plain(at + 1)


def test_what_an_entry_says_is_read_back():
    body = plain(5).as_body()
    assert body.keys() == {"size", "count", "leaves_sha256"}
    assert ModelCount.of_body(body) == plain(5)
    rotated = replace(plain(5), rotations=3)
    assert ModelCount.of_body(rotated.as_body()) == rotated


def test_rotations_below_a_size_are_counted():
    counted = [ModelIndex().count(size, [2, 4, 5]).rotations for size in (0, 2, 3, 5, 9)]
    assert counted == [0, 0, 1, 2, 3]


def verified(bundled):
    golden = bundled.golden
    note = golden.sign(bundled.leaves)
    return verify_ledger(bundled.leaves, note, golden.trust, disclose=golden.disclose)


def test_whoever_has_the_whole_log_finds_every_count_to_be_so(bundled):
    bundled.append_count()
    bundled.append_count(**bundled.count(2))
    report = verified(bundled)
    assert report.is_fine
    assert report.kinds["model.indexed"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 3},
        {"count": 5},
        {"leaves_sha256": "sha256:" + "0" * 64},
        {"size": 2},
        {"size": 7},
        {"size": 10**15},
    ],
)
def test_whoever_has_the_whole_log_finds_a_false_count(bundled, changes):
    bundled.append_count(**changes)
    report = verified(bundled)
    assert report.exit_code == 1
    assert "Entry 6 counts for nothing: It says" in report.problems[0]


def test_an_entry_that_counts_for_nothing_is_counted_all_the_same(bundled):
    # Who reads it with another trust file counts it too, and both must come to the same number.
    bundled.leaves.append(bundled.golden.leaf("stranger", key="sha256:" + "6" * 64))
    bundled.append_count()
    assert verified(bundled).problems == ()
