"""A tree that is too large for memory, proven from the roots of its subtrees of 256 leaves.

Since every split of an RFC 6962 tree of more than 256 leaves falls between two such subtrees, the
tree over their roots (the last one over what is left) has the root of the tree over the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from airflow_mlgov.ledger.merkle import SUBTREE_LEAVES, MerkleTree


class SubtreeForest:
    """Proofs about a tree of which a store keeps the leaf hashes and the roots of full subtrees.

    Whether the store is right is not checked here: compare `root` with a signed one, and verify
    each proof.

    Args:
        size: Leaves in the tree.
        subtrees: Roots of its full subtrees of 256 leaves, in order.
        leaf_hashes: Returns those of the indices from the first up to the second, in order.
    """

    def __init__(
        self,
        size: int,
        subtrees: Sequence[bytes],
        leaf_hashes: Callable[[int, int], Iterable[bytes]],
    ) -> None:
        self._size = size
        self._leaf_hashes = leaf_hashes
        self._upper = MerkleTree(subtrees)
        self._held = -1, MerkleTree()
        if size % SUBTREE_LEAVES:
            self._upper.append(self._subtree(size // SUBTREE_LEAVES).root())

    def root(self) -> bytes:
        """Return the root hash of the whole tree."""
        return self._upper.root()

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Return PATH(index, D[size]), leaf side first.

        Args:
            index: Ascending ones read each subtree once.

        Raises:
            LedgerIntegrityError: There is no such leaf.
        """
        number, place = divmod(index, SUBTREE_LEAVES)
        upper = self._upper.inclusion_proof(number)
        return self._subtree(number).inclusion_proof(place) + upper

    def peaks(self, size: int) -> tuple[bytes, ...]:
        """Return the roots of the perfect subtrees of the first `size` leaves, largest first."""
        full, rest = divmod(size, SUBTREE_LEAVES)
        lower = self._subtree(full).peaks(rest) if rest else ()
        return self._upper.peaks(full) + lower

    def _subtree(self, number: int) -> MerkleTree:
        if self._held[0] != number:
            first = number * SUBTREE_LEAVES
            last = min(first + SUBTREE_LEAVES, self._size)
            self._held = number, MerkleTree(self._leaf_hashes(first, last))
        return self._held[1]
