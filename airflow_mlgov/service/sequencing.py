"""One round of sequencing: what is checked before the log key signs, and after."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError, LedgerUnavailableError
from airflow_mlgov.ledger.checkpoint import Checkpoint, Vkey, sign_checkpoint
from airflow_mlgov.ledger.entry import Entry, decode_leaf, encode_leaf, entry_key
from airflow_mlgov.ledger.keyring import Keyring
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.ledger.view import read_entry
from airflow_mlgov.records.kinds import KeyRole
from airflow_mlgov.service.ports import InboxItem, Sequenced, Signer, TreeHead

GENESIS_KEY = entry_key("airflow-mlgov", "genesis")
"""Key of the entry that gives a log its origin; the only key that does not depend on the origin."""


def new_genesis(signer: Signer, at: datetime) -> bytes:
    """Return a genesis leaf that the log key signs, with a name that no other log has."""
    origin = f"airflow-mlgov/{uuid.uuid4()}"
    entry = Entry(origin, "genesis", GENESIS_KEY, at, "", None, {"origin": origin})
    return encode_leaf(entry, signer.public_key, signer.sign)


def origin_in(genesis: bytes) -> str:
    """Return the name that the leaf of a genesis entry gives its log; no signature is checked.

    Raises:
        LedgerIntegrityError: It is no such leaf; a retry does not help.
    """
    entry, _ = decode_leaf(genesis)
    if (entry.kind, entry.key, entry.body) != ("genesis", GENESIS_KEY, {"origin": entry.origin}):
        raise LedgerIntegrityError("The ledger's genesis entry is not one: it was altered.")
    return entry.origin


def checked_head(head: TreeHead, keyring: Keyring) -> Checkpoint:
    """Return the checkpoint of a head, its signature checked and its peaks compared with its root.

    Raises:
        UnknownKeyError: No log key that the keyring knows of signed it; a retry does not help.
        LedgerIntegrityError: It does not verify; a retry does not help.
    """
    checkpoint = keyring.open(head.note)
    root = root_of_peaks(head.peaks, head.size)
    if checkpoint.size != head.size or checkpoint.root_hash != root.hex():
        raise LedgerIntegrityError(
            "The stored nodes of the tree are not those of the newest signed checkpoint: the "
            "store was altered."
        )
    return checkpoint


def nothing_signed() -> LedgerUnavailableError:
    """Return the error for a ledger without a checkpoint."""
    return LedgerUnavailableError(
        "The ledger has no signed checkpoint yet.", remedy="Check that the sequencer runs."
    )


def integrate(
    head: TreeHead,
    items: Sequence[InboxItem],
    *,
    keyring: Keyring,
    signer: Signer,
    last: Checkpoint | None = None,
) -> Sequenced:
    """Return the tree's head after the items, signed, and its signature checked.

    Args:
        head: What the store says was signed last.
        items: At least one; their leaves are hashed here, from the bytes that will be kept.
        keyring: The keys in force at the head.
        signer: The log key.
        last: The newest checkpoint that this process knows of; the head may not be behind it.

    Raises:
        ConfigurationError: The log key was rotated out; a retry does not help.
        LedgerIntegrityError: What is kept does not fit what was signed last; a retry does not help.
    """
    _check_beginning(head, items, keyring, last)
    hashes = tuple(leaf_hash(item.leaf) for item in items)
    grown = append_leaves(head.peaks, head.size, hashes)
    for number, item in enumerate(items):
        keyring = keyring.after(head.size + number, item.leaf)
    check_in_force(keyring, signer, grown.size)
    origin = keyring.trust.origin
    key = Vkey(origin, signer.public_key)
    root = root_of_peaks(grown.peaks, grown.size)
    note = sign_checkpoint(origin, grown.size, root, key, signer.sign)
    signed = TreeHead(grown.size, grown.peaks, note)
    checked_head(signed, keyring)
    return Sequenced(hashes, signed)


def check_in_force(keyring: Keyring, signer: Signer, index: int) -> None:
    """Refuse to sign with a key that was rotated out before an index.

    Raises:
        ConfigurationError: It was; a retry does not help.
    """
    ended = keyring.retired_at(signer.public_key, index)
    if ended is not None:
        raise ConfigurationError(
            f"The {signer.role} key that this process holds was rotated out by entry {ended}: what "
            "it signs counts for nothing.",
            remedy="Start with the new key. If the rotation was interrupted, run `airflow mlgov "
            f"keys rotate --role {signer.role}` again.",
        )


def _check_beginning(
    head: TreeHead, items: Sequence[InboxItem], keyring: Keyring, last: Checkpoint | None
) -> None:
    if head.note:
        _check_not_behind(checked_head(head, keyring), last)
        return
    if last is not None or head.size or head.peaks or items[0].key != GENESIS_KEY:
        raise LedgerIntegrityError(
            "The ledger has entries without a signed checkpoint: the store was altered."
        )
    # Whoever may insert could name the log; only who holds its key may.
    genesis = read_entry(0, items[0].leaf, keyring, lambda _: {})
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
