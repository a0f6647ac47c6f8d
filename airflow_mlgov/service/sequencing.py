"""One round of sequencing: what is checked before the log key signs, and after."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint, Vkey, open_checkpoint, sign_checkpoint
from airflow_mlgov.ledger.entry import Entry, encode_leaf, entry_key
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.ledger.view import read_entry
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ports import InboxItem, Sequenced, Signer, TreeHead

GENESIS_KEY = entry_key("airflow-mlgov", "genesis")
"""Key of the entry that gives a log its origin; the only key that does not depend on the origin."""


def checked_head(head: TreeHead, trust: TrustRoot) -> Checkpoint:
    """Return the checkpoint of a head, its signature checked and its peaks compared with its root.

    Raises:
        UnknownKeyError: No trusted log key signed it; a retry does not help.
        LedgerIntegrityError: It does not verify; a retry does not help.
    """
    checkpoint = open_checkpoint(head.note, trust.log_keys, origin=trust.origin)
    root = root_of_peaks(head.peaks, head.size)
    if checkpoint.size != head.size or checkpoint.root_hash != root.hex():
        raise LedgerIntegrityError(
            "The stored nodes of the tree are not those of the newest signed checkpoint: the "
            "store was altered."
        )
    return checkpoint


def genesis_item(signer: Signer, at: datetime) -> InboxItem:
    """Return the entry that begins a log under a name that no other has.

    Args:
        signer: The log key.
        at: The present moment, aware UTC.
    """
    origin = f"airflow-mlgov/{uuid.uuid4()}"
    entry = Entry(origin, "genesis", GENESIS_KEY, at, "", None, {"origin": origin})
    return InboxItem(GENESIS_KEY, encode_leaf(entry, signer.public_key, signer.sign))


def integrate(
    head: TreeHead,
    items: Sequence[InboxItem],
    *,
    trust: TrustRoot,
    signer: Signer,
    last: Checkpoint | None = None,
) -> Sequenced:
    """Return the tree's head after the items, signed, and its signature checked.

    Args:
        head: What the store says was signed last.
        items: At least one; their leaves are hashed here, from the bytes that will be kept.
        trust: Whose keys count.
        signer: The log key.
        last: The newest checkpoint that this process knows of; the head may not be behind it.

    Raises:
        LedgerIntegrityError: What is kept does not fit what was signed last; a retry does not help.
    """
    _check_beginning(head, items, trust, last)
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    key = Vkey(trust.origin, signer.public_key)
    root = root_of_peaks(grown.peaks, grown.size)
    note = sign_checkpoint(trust.origin, grown.size, root, key, signer.sign)
    signed = TreeHead(grown.size, grown.peaks, note)
    checked_head(signed, trust)
    return Sequenced(hashes, signed)


def _check_beginning(
    head: TreeHead, items: Sequence[InboxItem], trust: TrustRoot, last: Checkpoint | None
) -> None:
    if head.note:
        _check_not_behind(checked_head(head, trust), last)
        return
    if last is not None or head.size or head.peaks or items[0].key != GENESIS_KEY:
        raise LedgerIntegrityError(
            "The ledger has entries without a signed checkpoint: the store was altered."
        )
    # Whoever may insert could name the log; only who holds its key may.
    genesis = read_entry(0, items[0].leaf, trust, lambda _: {})
    if genesis.signed_by is not KeyRole.LOG or genesis.kind != "genesis":
        raise LedgerIntegrityError("The first entry is not a genesis entry of the log key.")


def _check_not_behind(newest: Checkpoint, last: Checkpoint | None) -> None:
    if last is None or newest.size > last.size:
        return
    if (newest.size, newest.root_hash) != (last.size, last.root_hash):
        raise LedgerIntegrityError(
            f"The store went back to {newest.size} entries behind a checkpoint over {last.size} "
            "that this process knows of: nothing is signed over it."
        )
