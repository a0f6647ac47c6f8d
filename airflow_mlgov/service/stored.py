"""What every store checks about the rows it reads back, before anybody relies on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.merkle import HASH_BYTES, leaf_hash, leaf_hashes
from airflow_mlgov.records.canonical import parse_canonical
from airflow_mlgov.records.clock import from_text
from airflow_mlgov.records.people import SALT_BYTES, Disclosure
from airflow_mlgov.service.ports import Anchored, TreeHead


def checked_leaf(leaf: Any, hashed: Any) -> bytes:
    """Return a leaf's bytes if they have the hash that was kept beside them.

    Raises:
        LedgerIntegrityError: They have not; a retry does not help.
    """
    # A bit that flips between acknowledging and sequencing must not be signed over.
    if not isinstance(leaf, bytes) or leaf_hash(leaf) != hashed:
        raise LedgerIntegrityError(
            "An entry's stored bytes do not have their stored leaf hash: one was altered."
        )
    return leaf


def checked_leaves(rows: Iterable[Sequence[Any]], first: int) -> Iterator[bytes]:
    """Yield the leaves in rows of entries (index, leaf, hash), which must follow each other.

    Args:
        rows: In the order of their indices.
        first: Index that the first one must have.

    Raises:
        LedgerIntegrityError: One is missing, or its bytes are not those that were kept.
    """
    for expected, (seq, leaf, hashed) in enumerate(rows, first):
        if seq != expected:
            raise _missing(expected)
        yield checked_leaf(leaf, hashed)


def hashed_leaves(rows: Sequence[Sequence[Any]], first: int) -> list[bytes]:
    """Return the hashes of the leaves in rows (index, leaf), which must follow each other.

    They are computed from the leaves' bytes, and compared with none that were kept: whoever asks
    holds them against a signed root.

    Args:
        rows: In the order of their indices.
        first: Index that the first one must have.

    Raises:
        LedgerIntegrityError: One is missing, or no bytes.
    """
    for expected, (seq, leaf) in enumerate(rows, first):
        if seq != expected or not isinstance(leaf, bytes):
            raise _missing(expected)
    return leaf_hashes(leaf for _, leaf in rows)


def _missing(index: int) -> LedgerIntegrityError:
    return LedgerIntegrityError(f"Entry {index} is missing: it was removed from the store.")


def checked_subtrees(rows: Sequence[Sequence[Any]], count: int) -> list[bytes]:
    """Return the roots in rows of subtrees (number, hash), in the order of their numbers.

    Raises:
        LedgerIntegrityError: They are not numbers 0..count-1, or a hash is none.
    """
    hashes = [hashed for _, hashed in rows]
    are_hashes = all(isinstance(each, bytes) and len(each) == HASH_BYTES for each in hashes)
    if [number for number, _ in rows] != list(range(count)) or not are_hashes:
        raise index_misfit("It lacks subtrees of the tree, or their hashes are none.")
    return hashes


def index_misfit(what: str) -> LedgerIntegrityError:
    """Return the error for an index that does not fit the entries or the signed checkpoint.

    Args:
        what: What is wrong with it, as a sentence.
    """
    return LedgerIntegrityError(
        f"The index in the ledger's store does not fit its entries. {what}",
        remedy="`airflow mlgov ledger verify` tells whether the entries themselves are as they "
        "were signed. If they are, `airflow mlgov db reindex` makes the index anew from them.",
    )


def checked_head(size: Any, note: Any, peaks: Any) -> TreeHead:
    """Return the tree head in a row of checkpoints; `peaks` are its nodes, joined.

    Raises:
        LedgerIntegrityError: A value is of another type; a retry does not help.
    """
    if not isinstance(size, int) or not isinstance(note, bytes) or not isinstance(peaks, bytes):
        raise LedgerIntegrityError(
            "The newest checkpoint in the store is malformed: it was altered."
        )
    nodes = tuple(peaks[i : i + HASH_BYTES] for i in range(0, len(peaks), HASH_BYTES))
    return TreeHead(size, nodes, note)


def checked_anchored(row: Sequence[Any]) -> Anchored:
    """Return what a row of `anchored` says: its columns are those of `Anchored`, in that order.

    Raises:
        LedgerIntegrityError: A value is of another type; a retry does not help.
    """
    kinds = (str, str, int, bytes, bytes, str)
    if not all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True)):
        raise _altered_anchored()
    anchor, kind, size, note, data, at = row
    try:
        return Anchored(anchor, kind, size, note, data, from_text(at))
    except ValueError as error:
        raise _altered_anchored() from error


def _altered_anchored() -> LedgerIntegrityError:
    return LedgerIntegrityError("What an anchor gave is malformed in the store: it was altered.")


def checked_disclosure(salt: Any, value: Any) -> Disclosure:
    """Return the disclosure in a row; `value` is canonical JSON.

    Raises:
        LedgerIntegrityError: It is malformed; a retry does not help.
    """
    if not isinstance(salt, bytes) or len(salt) != SALT_BYTES or not isinstance(value, bytes):
        raise LedgerIntegrityError("A disclosure in the store is malformed: it was altered.")
    return Disclosure(salt, parse_canonical(value))
