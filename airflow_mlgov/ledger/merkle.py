"""The Merkle tree of RFC 6962: hashes, proofs and the checks of proofs.

Source:
    RFC 6962 section 2.1; the checking algorithms are those of RFC 9162 sections 2.1.3.2 and
    2.1.4.2.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_mlgov.errors import LedgerIntegrityError

HASH_BYTES = 32
SUBTREE_LEVEL = 8
SUBTREE_LEAVES = 1 << SUBTREE_LEVEL
"""Leaves of the subtrees whose roots the stores keep."""

EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256  # called a million times for a million entries


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf)."""
    return _sha256(b"\x00" + leaf).digest()


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """Return `leaf_hash` of each, without a call for each."""
    return [_sha256(b"\x00" + leaf).digest() for leaf in leaves]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree after more leaves.

    Attributes:
        peaks: Roots of its perfect subtrees, largest first.
        size: Leaves in it.
        subtrees: Number and root of each subtree of 256 leaves that became full: subtree n is over
            leaves 256 n .. 256 n + 255.
    """

    peaks: tuple[bytes, ...]
    size: int
    subtrees: tuple[tuple[int, bytes], ...]


def append_leaves(peaks: Sequence[bytes], size: int, leaf_hashes: Iterable[bytes]) -> Grown:
    """Return a tree after more leaves, in memory that does not grow with them.

    Args:
        peaks: Roots of the perfect subtrees of the tree before, largest first.
        size: Leaves in it.
        leaf_hashes: Of the leaves that follow, in order, 32 bytes each.

    Raises:
        LedgerIntegrityError: The number of peaks does not fit the size.
    """
    check_peaks(peaks, size)
    grown, full = list(peaks), []
    for leaf in leaf_hashes:
        node, size = leaf, size + 1
        rest = size
        while not rest & 1:  # as many merges as the new size has trailing zero bits
            node = _sha256(b"\x01" + grown.pop() + node).digest()  # node_hash, without a call
            rest >>= 1
            if rest << SUBTREE_LEVEL == size:
                full.append((rest - 1, node))
        grown.append(node)
    check_peaks(grown, size)
    return Grown(tuple(grown), size, tuple(full))


def root_of_peaks(peaks: Sequence[bytes], size: int) -> bytes:
    """Return the root hash of a tree from its peaks.

    Raises:
        LedgerIntegrityError: The number of peaks does not fit the size.
    """
    check_peaks(peaks, size)
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def check_peaks(peaks: Sequence[bytes], size: int) -> None:
    """Refuse peaks that cannot be those of a tree of this size.

    Raises:
        LedgerIntegrityError: Negative size, another number of peaks than the size has one-bits, or
            not 32 bytes each.
    """
    if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
        raise LedgerIntegrityError(
            f"{len(peaks)} stored peaks do not belong to a tree of {size} leaves."
        )


class Tree(ABC):
    """Proves things about any of its former states, from the roots of ranges of its leaves."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Leaves in the tree."""

    @abstractmethod
    def range_root(self, low: int, high: int) -> bytes:
        """Return the root over leaves low..high-1, a range that RFC 6962 splits a tree into."""

    def root(self, size: int | None = None) -> bytes:
        """Return the root hash of the first `size` leaves (default all)."""
        size = self._known_size(size)
        return self.range_root(0, size) if size else EMPTY_ROOT

    def peaks(self, size: int | None = None) -> tuple[bytes, ...]:
        """Return the roots of the perfect subtrees of the first `size` leaves, largest first."""
        size = self._known_size(size)
        found, low = [], 0
        for bit in reversed(range(size.bit_length())):
            if size >> bit & 1:
                found.append(self.range_root(low, low + (1 << bit)))
                low += 1 << bit
        return tuple(found)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Return PATH(index, D[size]), leaf side first.

        Raises:
            LedgerIntegrityError: The index is not below the size, or the size is beyond the tree.
        """
        size = self._known_size(size)
        if not 0 <= index < size:
            raise LedgerIntegrityError(f"There is no leaf {index} in a tree of {size} leaves.")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + split(high - low)
            if index < middle:
                path.append(self.range_root(middle, high))
                high = middle
            else:
                path.append(self.range_root(low, middle))
                low = middle
        return path[::-1]

    def consistency_proof(self, first: int, second: int | None = None) -> list[bytes]:
        """Return PROOF(first, D[second]): that the tree of `second` leaves extends that of `first`.

        Raises:
            LedgerIntegrityError: `first` is beyond `second`, or `second` beyond the tree.
        """
        second = self._known_size(second)
        if not 0 <= first <= second:
            raise LedgerIntegrityError(f"A tree of {second} leaves cannot extend one of {first}.")
        if first == 0:
            return []
        proof: list[bytes] = []
        low, high = 0, second
        while first != high:
            middle = low + split(high - low)
            if first <= middle:
                proof.append(self.range_root(middle, high))
                high = middle
            else:
                proof.append(self.range_root(low, middle))
                low = middle
        if low:
            proof.append(self.range_root(low, high))
        return proof[::-1]

    def _known_size(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise LedgerIntegrityError(
                f"The tree has {self.size} leaves; nothing is known of {size}."
            )
        return size


class MerkleTree(Tree):
    """A tree in memory.

    Args:
        leaf_hashes: In order, 32 bytes each.
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        # _levels[k][i] covers leaves i * 2^k .. (i + 1) * 2^k - 1
        self._levels: list[list[bytes]] = [list(leaf_hashes)]
        _check_hashes(*self._levels[0])
        while len(level := self._levels[-1]) > 1:
            even = range(0, len(level) - 1, 2)  # an odd one has no parent yet
            self._levels.append([node_hash(level[place], level[place + 1]) for place in even])

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return len(self._levels[0])

    def range_root(self, low: int, high: int) -> bytes:
        """Return the root over leaves low..high-1, a range that RFC 6962 splits a tree into."""
        width = high - low
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._levels[level][low >> level]
        middle = low + split(width)
        return node_hash(self.range_root(low, middle), self.range_root(middle, high))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a leaf hash stands at an index of the tree with this root.

    Args:
        leaf: Leaf hash, 32 bytes.
        index: Position, 0 <= index < size.
        size: Leaves in the tree.
        proof: PATH(index, D[size]), leaf side first; exactly as many hashes as it takes.
        root: Root hash, 32 bytes.

    Raises:
        LedgerIntegrityError: It does not; a retry does not help.

    Source:
        RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise LedgerIntegrityError(f"There is no leaf {index} in a tree of {size} leaves.")
    _check_hashes(leaf, root, *proof)
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise LedgerIntegrityError("The inclusion proof has too many hashes.")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            position, last = _skip_right_edge(position, last)
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise LedgerIntegrityError("The inclusion proof has too few hashes.")
    if computed != root:
        raise LedgerIntegrityError(
            f"Entry {index} is not in the tree of {size} entries with this root."
        )


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> None:
    """Check that the tree of `second` leaves is an extension of the tree of `first` leaves.

    Args:
        first: Leaves in the older tree, 0 <= first <= second.
        second: Leaves in the newer tree.
        proof: PROOF(first, D[second]); empty if `first` is 0 or equal to `second`.
        first_root: Root hash of the older tree.
        second_root: Root hash of the newer tree.

    Raises:
        LedgerIntegrityError: It is not: one of the two was altered; a retry does not help.

    Source:
        RFC 9162 section 2.1.4.2.
    """
    if not 0 <= first <= second:
        raise LedgerIntegrityError(f"A tree of {second} leaves cannot extend one of {first}.")
    _check_hashes(first_root, second_root, *proof)
    if first in {0, second}:
        expected = EMPTY_ROOT if first == 0 else second_root
        if proof or first_root != expected or (second == 0 and second_root != EMPTY_ROOT):
            raise LedgerIntegrityError(
                f"The trees of {first} and {second} leaves are not consistent."
            )
        return
    old, new = _roots_of_consistency(first, second, proof, first_root)
    if (old, new) != (first_root, second_root):
        raise LedgerIntegrityError(
            f"The trees of {first} and {second} leaves are not consistent: one was altered."
        )


def _roots_of_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes
) -> tuple[bytes, bytes]:
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path:
        raise LedgerIntegrityError("The consistency proof has too few hashes.")
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise LedgerIntegrityError("The consistency proof has too many hashes.")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            position, last = _skip_right_edge(position, last)
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise LedgerIntegrityError("The consistency proof has too few hashes.")
    return old, new


def _skip_right_edge(position: int, last: int) -> tuple[int, int]:
    # Where the tree's right edge has no sibling, its subtree is lifted unchanged. A position that
    # comes here is odd, or that of the last leaf, which is not the first: it never ends at 0.
    while not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def split(width: int) -> int:
    """Return how many leaves go left of so many, at least 2: the largest power of two below."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(*hashes: bytes) -> None:
    if any(not isinstance(hashed, bytes) or len(hashed) != HASH_BYTES for hashed in hashes):
        raise LedgerIntegrityError(f"A hash of a proof does not have {HASH_BYTES} bytes.")
