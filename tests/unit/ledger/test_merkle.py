"""Our tree against a naive, recursive one written from RFC 6962 that shares no code with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger import merkle

ASSETS = Path(__file__).parents[2] / "assets" / "ledger"
SIZES = range(34)
LEAVES = [bytes([i]) * i for i in SIZES]


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    if not d:
        return sha(b"")
    if len(d) == 1:
        return sha(b"\x00" + d[0])
    k = split(len(d))
    return sha(b"\x01" + mth(d[:k]) + mth(d[k:]))


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], b), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def tree(n: int) -> merkle.MerkleTree:
    return merkle.MerkleTree(merkle.leaf_hash(leaf) for leaf in LEAVES[:n])


BIG = tree(33)
ROOTS = [mth(LEAVES[:n]) for n in SIZES]


@pytest.mark.attack(21)
@pytest.mark.parametrize("n", SIZES)
def test_threat_21_roots_of_all_sizes(n: int) -> None:
    peaks: tuple[bytes, ...] = ()
    for size, leaf in enumerate(LEAVES[:n]):
        peaks = merkle.append_leaves(peaks, size, [merkle.leaf_hash(leaf)]).peaks
    assert merkle.root_of_peaks(peaks, n) == tree(n).root() == BIG.root(n) == ROOTS[n]
    assert json.loads((ASSETS / "roots.json").read_text())[str(n)] == ROOTS[n].hex()


@pytest.mark.parametrize("n", SIZES[1:])
def test_every_inclusion_proof(n: int) -> None:
    for m in range(n):
        proof = BIG.inclusion_proof(m, n)
        assert proof == path(m, LEAVES[:n])
        merkle.verify_inclusion(merkle.leaf_hash(LEAVES[m]), m, n, proof, ROOTS[n])


@pytest.mark.parametrize("n", SIZES)
def test_every_consistency_proof(n: int) -> None:
    for m in range(n + 1):
        proof = BIG.consistency_proof(m, n)
        if 0 < m < n:
            assert proof == subproof(m, LEAVES[:n], True)
        merkle.verify_consistency(m, n, proof, ROOTS[m], ROOTS[n])


@pytest.mark.attack(23)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 32, 33])
def test_threat_23_inclusion_proofs_with_anything_else_are_refused(n: int) -> None:
    for m in range(n):
        leaf, proof = merkle.leaf_hash(LEAVES[m]), BIG.inclusion_proof(m, n)
        wrong = [
            (m, n, [*proof, ROOTS[1]]),
            (m, n, [ROOTS[1], *proof]),
            (n, n, proof),
            (-1, n, proof),
            *[(other, n, proof) for other in range(n) if other != m],
            *[(m, n, proof[:i] + proof[i + 1 :]) for i in range(len(proof))],
            *[(m, n, [*proof[:i], sha(proof[i]), *proof[i + 1 :]]) for i in range(len(proof))],
            *[(m, n, [*proof[:i], proof[i][:31], *proof[i + 1 :]]) for i in range(len(proof))],
        ]
        for index, size, hashes in wrong:
            with pytest.raises(LedgerIntegrityError):
                merkle.verify_inclusion(leaf, index, size, hashes, ROOTS[n])
        with pytest.raises(LedgerIntegrityError):
            merkle.verify_inclusion(leaf, m, n, proof, sha(ROOTS[n]))


@pytest.mark.attack(23)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 8, 9, 16, 17, 31, 32, 33])
def test_threat_23_consistency_proofs_with_anything_else_are_refused(n: int) -> None:
    for m in range(n + 1):
        proof = BIG.consistency_proof(m, n)
        wrong = [
            (m, n, [*proof, ROOTS[1]], ROOTS[m]),
            (n + 1, n, proof, ROOTS[m]),
            (-1, n, proof, ROOTS[m]),
            (m, n, proof, sha(ROOTS[m])),
            *[(other, n, proof, ROOTS[m]) for other in range(n + 1) if other != m],
            *[(m, n, proof[:i] + proof[i + 1 :], ROOTS[m]) for i in range(len(proof))],
            *[
                (m, n, [*proof[:i], sha(proof[i]), *proof[i + 1 :]], ROOTS[m])
                for i in range(len(proof))
            ],
        ]
        for first, second, hashes, root in wrong:
            with pytest.raises(LedgerIntegrityError):
                merkle.verify_consistency(first, second, hashes, root, ROOTS[n])
        if m == 0:  # every tree extends the empty one
            merkle.verify_consistency(m, n, proof, ROOTS[m], sha(ROOTS[n]))
            continue
        with pytest.raises(LedgerIntegrityError):
            merkle.verify_consistency(m, n, proof, ROOTS[m], sha(ROOTS[n]))


def test_a_wrong_size_with_the_right_hashes_is_refused_or_proves_the_same_position() -> None:
    # RFC 9162's algorithm reads sizes from the proof's shape: two sizes can share one shape, never
    # one root.
    for n in SIZES[2:]:
        proof = BIG.inclusion_proof(0, n)
        for other in SIZES[1:]:
            if other != n:
                with pytest.raises(LedgerIntegrityError):
                    merkle.verify_inclusion(
                        merkle.leaf_hash(LEAVES[0]), 0, other, proof, ROOTS[other]
                    )


@pytest.mark.attack(23)
def test_threat_23_more_hashes_than_the_size_takes_are_refused_even_if_the_root_fits() -> None:
    leaf, more = merkle.leaf_hash(b"leaf"), sha(b"more")
    for root in (merkle.node_hash(more, leaf), merkle.node_hash(leaf, more)):
        with pytest.raises(LedgerIntegrityError, match="too many"):
            merkle.verify_inclusion(leaf, 0, 1, [more], root)


@pytest.mark.attack(24)
def test_threat_24_a_node_offered_as_a_leaf_is_refused() -> None:
    left, right = merkle.leaf_hash(LEAVES[0]), merkle.leaf_hash(LEAVES[1])
    node = merkle.node_hash(left, right)
    forged = merkle.leaf_hash(left + right)
    assert forged != node
    with pytest.raises(LedgerIntegrityError):
        merkle.verify_inclusion(forged, 0, 2, BIG.consistency_proof(2, 4), ROOTS[4])


@pytest.mark.parametrize(
    ("peaks", "size"), [((), 1), ((b"x" * 32,), 0), ((b"x" * 32,), 3), ((b"x",), 1), ((), -1)]
)
def test_peaks_that_do_not_fit_the_size_are_refused(peaks: tuple[bytes, ...], size: int) -> None:
    with pytest.raises(LedgerIntegrityError):
        merkle.root_of_peaks(peaks, size)
    with pytest.raises(LedgerIntegrityError):
        merkle.append_leaves(peaks, size, [b"y" * 32])


@pytest.mark.attack(21)
def test_threat_21_sizes_around_powers_of_two_up_to_a_large_one() -> None:
    top = 2**10 + 1
    hashes = [sha(bytes([i % 256, i // 256])) for i in range(top)]
    whole = merkle.MerkleTree(hashes)
    for size in (n + d for n in (64, 128, 256, 512, 1024) for d in (-1, 0, 1)):
        proof = whole.inclusion_proof(size - 1, size)
        merkle.verify_inclusion(hashes[size - 1], size - 1, size, proof, whole.root(size))
        merkle.verify_consistency(
            size - 1, top, whole.consistency_proof(size - 1), whole.root(size - 1), whole.root()
        )


@pytest.mark.parametrize(
    "call",
    [
        lambda: BIG.root(34),
        lambda: BIG.inclusion_proof(33),
        lambda: BIG.inclusion_proof(-1),
        lambda: BIG.inclusion_proof(0, 34),
        lambda: BIG.consistency_proof(5, 4),
        lambda: BIG.consistency_proof(-1, 4),
        lambda: BIG.consistency_proof(5, 34),
        lambda: merkle.MerkleTree([sha(b"x"), b"short"]),
        lambda: merkle.append_leaves((), 0, [b"short"]),
        lambda: merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, sha(b"x")),
        lambda: merkle.check_peaks([sha(b"x")], -1),
    ],
)
def test_questions_beyond_the_tree_are_refused(call: object) -> None:
    with pytest.raises(LedgerIntegrityError):
        call()  # type: ignore[operator]


@pytest.mark.attack(23)
def test_threat_23_hashes_of_another_length_prove_nothing() -> None:
    """Cut elsewhere, the bytes under a node's hash would prove what never was a leaf."""
    tree = merkle.MerkleTree(merkle.leaf_hash(leaf) for leaf in LEAVES[:2])
    left, right = (merkle.leaf_hash(leaf) for leaf in LEAVES[:2])
    merkle.verify_inclusion(left, 0, 2, [right], tree.root())
    for leaf, sibling in ((left + right, b""), (b"", left + right), (left + right[:1], right[1:])):
        with pytest.raises(LedgerIntegrityError, match="does not have 32 bytes"):
            merkle.verify_inclusion(leaf, 0, 2, [sibling], tree.root())


@pytest.mark.attack(23)
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("other", ["x" * 32, None, b"x" * 31, b"x" * 33])
def test_threat_23_what_is_no_hash_is_refused_wherever_it_stands(place: int, other: object) -> None:
    given: list[object] = [b"x" * 32, b"y" * 32, b"z" * 32]
    given[place] = other
    one, two, three = given
    with pytest.raises(LedgerIntegrityError, match="does not have 32 bytes"):
        merkle.verify_inclusion(one, 0, 2, [two], three)  # type: ignore[arg-type, list-item]
    with pytest.raises(LedgerIntegrityError, match="does not have 32 bytes"):
        merkle.verify_consistency(1, 2, [one], two, three)  # type: ignore[arg-type, list-item]


def test_leaf_hashes_are_those_of_each_leaf() -> None:
    assert merkle.leaf_hashes(LEAVES) == [sha(b"\x00" + leaf) for leaf in LEAVES]


@pytest.mark.parametrize("n", SIZES)
def test_peaks_of_every_former_size(n: int) -> None:
    peaks, low = [], 0
    for width in (32, 16, 8, 4, 2, 1):
        if n & width:
            peaks.append(mth(LEAVES[low : low + width]))
            low += width
    assert BIG.peaks(n) == tuple(peaks)


@pytest.mark.parametrize("cut", [0, 1, 255, 256, 300, 767, 768, 770])
def test_subtrees_of_256_leaves_are_told_as_they_become_full(cut: int) -> None:
    leaves = [b"%d" % number for number in range(770)]
    before = merkle.append_leaves((), 0, merkle.leaf_hashes(leaves[:cut]))
    after = merkle.append_leaves(before.peaks, cut, merkle.leaf_hashes(leaves[cut:]))
    assert merkle.SUBTREE_LEAVES == 256
    whole = [(n, mth(leaves[256 * n : 256 * (n + 1)])) for n in range(3)]
    assert [*before.subtrees, *after.subtrees] == whole
    assert (len(before.subtrees), after.size) == (cut // 256, 770)
    assert merkle.root_of_peaks(after.peaks, 770) == mth(leaves)
