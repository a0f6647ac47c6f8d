"""Proofs out of subtree roots and leaf hashes, against the tree that has it all."""

from __future__ import annotations

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import (
    MerkleTree,
    append_leaves,
    leaf_hash,
    root_of_peaks,
    verify_inclusion,
)
from airflow_mlgov.ledger.subtrees import SubtreeForest

HASHES = [leaf_hash(b"%d" % number) for number in range(1_400)]
WHOLE = MerkleTree(HASHES)
SIZES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 768, 1_024, 1_025, 1_400]


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> int:
    return request.param


def forest_of(size: int, read: list[tuple[int, int]] | None = None) -> SubtreeForest:
    grown = append_leaves((), 0, HASHES[:size])
    assert [number for number, _ in grown.subtrees] == list(range(size // 256))

    def hashes(first: int, last: int) -> list[bytes]:
        if read is not None:
            read.append((first, last))
        return HASHES[first:last]

    return SubtreeForest(size, [root for _, root in grown.subtrees], hashes)


def test_threat_21_root_proofs_and_peaks_are_those_of_the_whole_tree(size: int) -> None:
    forest = forest_of(size)
    assert forest.root() == WHOLE.root(size)
    for index in range(size):
        proof = forest.inclusion_proof(index)
        assert proof == WHOLE.inclusion_proof(index, size)
        verify_inclusion(HASHES[index], index, size, proof, forest.root())
    for less in range(0, size + 1, 7):
        assert forest.root(less) == WHOLE.root(less)
        assert forest.consistency_proof(less) == WHOLE.consistency_proof(less, size)
        if less:
            assert forest.inclusion_proof(less // 3, less) == WHOLE.inclusion_proof(less // 3, less)
        assert forest.peaks(less) == append_leaves((), 0, HASHES[:less]).peaks
        assert root_of_peaks(forest.peaks(less), less) == WHOLE.root(less)


def test_there_is_no_leaf_beyond_the_tree(size: int) -> None:
    for index in (-1, size, size + 300):
        with pytest.raises(LedgerIntegrityError, match="no leaf"):
            forest_of(size).inclusion_proof(index)


def test_a_proof_reads_one_subtree_and_ascending_ones_each_once() -> None:
    read: list[tuple[int, int]] = []
    forest = forest_of(1_400, read)
    assert read == [(1_280, 1_400)]
    for index in (3, 200, 255, 256, 300, 1_279):
        forest.inclusion_proof(index)
    assert read[1:] == [(0, 256), (256, 512), (1_024, 1_280)]


@pytest.mark.parametrize("full", [256, 512, 1_024])
def test_the_root_of_full_subtrees_reads_no_leaf(full: int) -> None:
    read: list[tuple[int, int]] = []
    assert forest_of(full, read).root() == WHOLE.root(full)
    assert read == []


def test_the_same_tree_grows_in_parts_as_at_once(size: int) -> None:
    parts, subtrees = append_leaves((), 0, ()), []
    for first in range(0, size, 100):
        parts = append_leaves(parts.peaks, parts.size, HASHES[first : min(size, first + 100)])
        subtrees += parts.subtrees
    once = append_leaves((), 0, HASHES[:size])
    assert (parts.peaks, parts.size, tuple(subtrees)) == (once.peaks, size, once.subtrees)
