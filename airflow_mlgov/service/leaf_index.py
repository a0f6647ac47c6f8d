"""The index that a store keeps of its entries.

For each entry, the model that it says it is about; for each full subtree of 256 leaves, its root.
Both follow from the entries' bytes alone. They spare a reader the whole ledger, and prove nothing:
what is found with them is hashed from its bytes and held against a signed checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_mlgov.ledger.entry import is_identifier
from airflow_mlgov.ledger.merkle import append_leaves
from airflow_mlgov.ledger.view import claims_of
from airflow_mlgov.service.ports import Sequenced, TreeHead


@dataclass(frozen=True, slots=True)
class IndexRows:
    """What one round of sequencing adds to the index.

    Attributes:
        models: What each entry says that it is about, in the order taken.
        subtrees: Number and root of each subtree of 256 leaves that became full.
    """

    models: tuple[str, ...]
    subtrees: tuple[tuple[int, bytes], ...]


def model_of(leaf: bytes) -> str:
    """Return the inventory id that a leaf says it is about; empty for none.

    What is no identifier stands in no entry that counts, and may be no text to a database.
    """
    model = claims_of(leaf)[1]
    return model if is_identifier(model) else ""


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
    return IndexRows(tuple(map(model_of, leaves)), grown.subtrees)
