"""The index that a store keeps of its entries.

For each entry, the model that it says it is about, or that it rotates a key; for each full subtree
of 256 leaves, its root. All of it follows from the entries' bytes alone. It spares a reader the
whole ledger, and proves nothing: what is found with it is hashed from its bytes and held against a
signed checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_mlgov.ledger.merkle import append_leaves
from airflow_mlgov.ledger.view import label_of
from airflow_mlgov.service.ports import Sequenced, TreeHead


@dataclass(frozen=True, slots=True)
class IndexRows:
    """What one round of sequencing adds to the index.

    Attributes:
        models: What each entry is listed under, in the order taken; see `label_of`.
        subtrees: Number and root of each subtree of 256 leaves that became full.
    """

    models: tuple[str, ...]
    subtrees: tuple[tuple[int, bytes], ...]


def index_rows(head: TreeHead, leaves: Iterable[bytes], sequenced: Sequenced) -> IndexRows:
    """Return what a round of sequencing adds to the index.

    Args:
        head: The tree head before it.
        leaves: What it brings into the tree, in order.
        sequenced: What it came to.

    Raises:
        LedgerIntegrityError: The head's peaks do not fit its size; a retry does not help.
    """
    grown = append_leaves(head.peaks, head.size, sequenced.leaf_hashes)
    return IndexRows(tuple(map(label_of, leaves)), grown.subtrees)
