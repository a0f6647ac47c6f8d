"""All entries about one model, and none left out, without reading the whole ledger.

The store's index says where they are, and is not believed. Each entry is hashed from its bytes and
proven to stand under the signed checkpoint. That none is missing follows from two things: those
that a ``model.indexed`` entry counts are exactly the ones that the log key counted, and everything
after that is read, and proven to be what the signed tree goes on with. Without a count, or if the
index hides one, more is read; the log key's first count of a model rests on every leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, takewhile

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint
from airflow_mlgov.ledger.entry import is_identifier
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import (
    SUBTREE_LEAVES,
    append_leaves,
    leaf_hash,
    root_of_peaks,
    verify_inclusion,
)
from airflow_mlgov.ledger.model_index import ModelCount, ModelIndex
from airflow_mlgov.ledger.subtrees import SubtreeForest
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.view import ROTATIONS, Disclose, SealedEntry, label_of, read_entry
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.ports import LedgerStore
from airflow_mlgov.service.stored import index_misfit


class ModelView:
    """Entries about one model, rotations of keys, and the log's first, each with its proof.

    What they are about is what they say; whether they check out is another matter.

    Args:
        model: Inventory id.
        leaves: Exact leaf bytes by index, in order.
        tree: Proves them; its root was compared with the checkpoint's.
        checkpoint: From `open_checkpoint`, so that its signature was checked.
        trust: Whose keys count.
        disclose: Reads what opens an entry's commitments.

    Raises:
        LedgerIntegrityError: One does not stand under the checkpoint; a retry does not help.
    """

    def __init__(
        self,
        model: str,
        leaves: Mapping[int, bytes],
        tree: SubtreeForest,
        checkpoint: Checkpoint,
        trust: TrustRoot,
        disclose: Disclose,
    ) -> None:
        self.model = model
        self.tree = tree
        self.checkpoint = checkpoint
        self._proven = {
            index: (leaf, _checked_proof(tree, index, leaf, checkpoint))
            for index, leaf in leaves.items()
        }
        labels = {index: label_of(leaf) for index, leaf in leaves.items()}
        self.indices = [index for index, listed in labels.items() if listed == model]
        self.rotations = [index for index, listed in labels.items() if listed == ROTATIONS]
        keyring = Keyring(trust)
        for index in self.rotations:
            keyring = keyring.after(index, leaves[index])
        self._entries = [
            entry
            for index in self.indices
            if (entry := _entry_or_none(index, leaves[index], keyring, disclose)) is not None
        ]

    def select(self, *kinds: str, version: Digest | None = None) -> list[SealedEntry]:
        """Return the entries about the model that check out, in the ledger's order.

        Args:
            kinds: Only these kinds; all if none is given.
            version: Only of this manifest digest.
        """
        return [
            entry
            for entry in self._entries
            if (not kinds or entry.kind in kinds) and (version is None or entry.version == version)
        ]

    def proven(self, index: int) -> tuple[bytes, tuple[bytes, ...]]:
        """Return an entry's exact bytes and its inclusion proof, which was verified."""
        return self._proven[index]

    @property
    def counts(self) -> list[SealedEntry]:
        """The entries in which the log key counts the model's entries, oldest first."""
        return self.select("model.indexed")

    def count(self, size: int | None = None) -> ModelCount:
        """Return the count of the model's entries in the first `size` leaves (default all)."""
        counted = ModelIndex()
        for index in self.indices:
            counted.add(index, leaf_hash(self._proven[index][0]))
        return counted.count(self.checkpoint.size if size is None else size, self.rotations)


def read_model(
    store: LedgerStore, checkpoint: Checkpoint, trust: TrustRoot, model: str
) -> ModelView:
    """Return all entries about a model under a checkpoint.

    Args:
        store: Where they are kept.
        checkpoint: From `open_checkpoint`, so that its signature was checked.
        trust: Whose keys count.
        model: Inventory id; of one that there are no entries about, the view is empty.

    Raises:
        LedgerIntegrityError: What the store's index finds is not all there is, or does not stand
            under the checkpoint; a retry does not help.
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    size = checkpoint.size
    forest = SubtreeForest(size, store.subtrees(size // SUBTREE_LEAVES), store.leaf_hashes)
    if forest.root().hex() != checkpoint.root_hash:
        raise index_misfit("Its subtrees do not give the root hash that was signed.")
    names = (model, ROTATIONS) if is_identifier(model) else (ROTATIONS,)
    listed = (takewhile(lambda row: row[0] < size, store.about(name)) for name in names)
    leaves = dict(sorted({**dict(enumerate(store.leaves(0, 1))), **dict(chain(*listed))}.items()))
    view = ModelView(model, leaves, forest, checkpoint, trust, store.disclosures)
    start = _counted_up_to(view)
    found = _read_on(store, forest, checkpoint, start, model)
    held = sorted(view.indices + view.rotations)
    if found != [index for index in held if index >= start]:
        raise index_misfit(f"It lists other entries than are about {model} or rotate a key.")
    return view


def _counted_up_to(view: ModelView) -> int:
    """Return up to which index the log key vouches for what is in view, and for no more."""
    for entry in reversed(view.counts):
        said = ModelCount.of_body(entry.body)
        if said.size <= entry.index and view.count(said.size) == said:
            return said.size
    return 0


def _read_on(
    store: LedgerStore, forest: SubtreeForest, checkpoint: Checkpoint, start: int, model: str
) -> list[int]:
    """Return which entries from `start` on are about a model or rotate a key, proven to be all.

    The peaks at `start` are the index's: only the right ones, with only the right leaves after
    them, give the signed root.
    """
    found = []

    def hashes() -> Iterator[bytes]:
        for index, leaf in enumerate(store.leaves(start, checkpoint.size), start):
            if label_of(leaf) in {model, ROTATIONS}:
                found.append(index)
            yield leaf_hash(leaf)

    grown = append_leaves(forest.peaks(start), start, hashes())
    root = root_of_peaks(grown.peaks, grown.size).hex()
    if (grown.size, root) != (checkpoint.size, checkpoint.root_hash):
        raise index_misfit(f"The entries from {start} on do not give the root that was signed.")
    return found


def _checked_proof(
    tree: SubtreeForest, index: int, leaf: bytes, checkpoint: Checkpoint
) -> tuple[bytes, ...]:
    proof = tuple(tree.inclusion_proof(index))
    root = bytes.fromhex(checkpoint.root_hash)
    try:
        verify_inclusion(leaf_hash(leaf), index, checkpoint.size, proof, root)
    except LedgerIntegrityError as error:
        raise index_misfit(f"With its subtrees, entry {index} is not in the tree.") from error
    return proof


def _entry_or_none(
    index: int, leaf: bytes, keyring: Keyring, disclose: Disclose
) -> SealedEntry | None:
    try:
        return read_entry(index, leaf, keyring, disclose)
    except LedgerIntegrityError:
        return None  # it counts for nothing, and stands in the bundle all the same
