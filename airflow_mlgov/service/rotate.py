"""Putting a new key in the place of an old one, on record in the log."""

from __future__ import annotations

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.records.kinds import ROTATION
from airflow_mlgov.service.drafts import EntryDraft, SealedReceipt
from airflow_mlgov.service.ledger import Ledger
from airflow_mlgov.service.log_root import vkey_of
from airflow_mlgov.service.ports import Signer

__all__ = ["rotate_key", "rotation_draft", "vkey_of"]


WAIT_S = 30.0
"""How long a sequencer elsewhere has to cover a rotation."""


def rotation_draft(origin: str, old: Signer, new: Signer) -> EntryDraft:
    """Return the entry by which a new key takes the place of an old one of the same role.

    The same two keys give the same entry, so that a rotation that was interrupted goes on.

    Raises:
        ConfigurationError: Both are one key; a retry does not help.
    """
    if old.public_key == new.public_key:
        raise ConfigurationError(
            f"The new {old.role} key is the present one.", remedy="Name another key."
        )
    return EntryDraft(
        kind=ROTATION,
        model="",
        version=None,
        body={"role": old.role.value, "vkey": str(vkey_of(new, origin))},
        identity=(old.role.value, keyid(old.public_key), keyid(new.public_key)),
    )


def rotate_key(before: Ledger, after: Ledger, old: Signer, new: Signer) -> SealedReceipt:
    """Put a rotation on record and under a signed checkpoint; doing it twice is fine.

    Args:
        before: The ledger with the old key.
        after: The same with the new key in its place; it believes the old one.
        old: The key that is rotated out.
        new: The key that takes its place.

    Raises:
        ConfigurationError: Both are one key, or a key cannot sign; a retry does not help.
        LedgerIntegrityError: The ledger does not verify, or the old key was rotated out by another
            entry; a retry does not help.
        LedgerUnavailableError: The store or a KMS cannot be reached, or no sequencer covered the
            entry in time; a retry may help.
    """
    draft = rotation_draft(before.origin, old, new)
    receipt = before.append(draft, role=old.role, cosigner=new)
    sealed = after.seal(receipt, timeout_s=WAIT_S)
    if after.keyring().retired_at(old.public_key, sealed.tree_size) != sealed.index:
        raise LedgerIntegrityError(
            f"The rotation in entry {sealed.index} counts for nothing, or another came before it."
        )
    return sealed
