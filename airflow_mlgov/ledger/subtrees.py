"""A tree that is too large for memory, proven from the roots of its subtrees of 256 leaves.

Since every split of an RFC 6962 tree of more than 256 leaves falls between two such subtrees, the
tree over their roots (the last one over what is left) has the root of the tree over the leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from airflow_mlgov.ledger.merkle import SUBTREE_LEAVES, MerkleTree, Tree, node_hash, split


class SubtreeForest(Tree):
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
        self._held: dict[int, MerkleTree] = {}  # the one that was read last
        rest = [self._subtree(size // SUBTREE_LEAVES).root()] if size % SUBTREE_LEAVES else []
        self._upper = MerkleTree([*subtrees, *rest])

    @property
    def size(self) -> int:
        """Leaves in the tree."""
        return self._size

    def range_root(self, low: int, high: int) -> bytes:
        """Return the root over leaves low..high-1; each subtree is read once in a row."""
        number, place = divmod(low, SUBTREE_LEAVES)
        if place == 0 and high in {self._size, high // SUBTREE_LEAVES * SUBTREE_LEAVES}:
            return self._upper.range_root(number, -(-high // SUBTREE_LEAVES))
        if high - low <= SUBTREE_LEAVES:
            return self._subtree(number).range_root(place, place + high - low)
        middle = low + split(high - low)
        return node_hash(self.range_root(low, middle), self.range_root(middle, high))

    def _subtree(self, number: int) -> MerkleTree:
        if number not in self._held:
            first = number * SUBTREE_LEAVES
            last = min(first + SUBTREE_LEAVES, self._size)
            self._held = {number: MerkleTree(self._leaf_hashes(first, last))}
        return self._held[number]
