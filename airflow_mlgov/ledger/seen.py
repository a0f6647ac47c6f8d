"""The newest checkpoint that somebody saw of a log, and whether a later one extends it.

Kept beside the checkpoint are the peaks of its tree. With them, the entries that were added since
prove that the new tree extends the old one: no older entry needs to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Checkpoint, Vkey, open_checkpoint
from airflow_mlgov.ledger.merkle import append_leaves, leaf_hash, root_of_peaks
from airflow_mlgov.records.canonical import canonical_bytes, parse_canonical

VERSION = 1

_PEAK = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SeenCheckpoint:
    """A checkpoint whose signature was checked, and the peaks of its tree.

    Attributes:
        checkpoint: What the log said.
        peaks: Roots of the perfect subtrees of its tree, largest first.
    """

    checkpoint: Checkpoint
    peaks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        root = root_of_peaks(self.peaks, self.checkpoint.size)
        if root.hex() != self.checkpoint.root_hash:
            raise LedgerIntegrityError("The peaks are not those of the checkpoint's tree.")

    def as_bytes(self) -> bytes:
        """Return what a file holds of it: canonical JSON, version 1 of its format."""
        value = {
            "v": VERSION,
            "note": self.checkpoint.note,
            "peaks": [peak.hex() for peak in self.peaks],
        }
        return canonical_bytes(value)

    @classmethod
    def parse(cls, data: bytes, keys: Iterable[Vkey], *, origin: str) -> SeenCheckpoint:
        """Return what `as_bytes` wrote, the signature checked anew.

        Args:
            data: The file's bytes.
            keys: Log keys that the reader trusts.
            origin: The log that the reader means.

        Raises:
            UnknownKeyError: No trusted key signed the checkpoint; a retry does not help.
            LedgerIntegrityError: Anything but what `as_bytes` writes, or another log's.
        """
        value = parse_canonical(data)
        if not isinstance(value, dict) or value.keys() != {"v", "note", "peaks"}:
            raise LedgerIntegrityError("A remembered checkpoint holds v, note, peaks, no more.")
        if value["v"] != VERSION or isinstance(value["v"], bool):
            raise LedgerIntegrityError(
                f"Version {value['v']!r} of a remembered checkpoint is not known; this code "
                f"reads {VERSION}."
            )
        if not isinstance(value["note"], str) or not _are_peaks(value["peaks"]):
            raise LedgerIntegrityError("The note or peaks of a remembered checkpoint are no such.")
        checkpoint = open_checkpoint(value["note"].encode("utf-8"), keys, origin=origin)
        return cls(checkpoint, tuple(bytes.fromhex(peak) for peak in value["peaks"]))

    def is_extended_by(self, newest: Checkpoint, added: Iterable[bytes]) -> bool:
        """Return whether a later checkpoint's tree begins with this one's.

        Args:
            newest: A checkpoint of the same log whose signature was checked.
            added: Exact leaf bytes of the indices from this size up to `newest`'s, in order.

        Raises:
            LedgerIntegrityError: There are fewer or more leaves than the checkpoint says.
        """
        size = self.checkpoint.size
        if newest.origin != self.checkpoint.origin or newest.size < size:
            return False
        grown = append_leaves(self.peaks, size, map(leaf_hash, added))
        if grown.size != newest.size:
            raise LedgerIntegrityError(
                f"The ledger holds {grown.size} entries where its signed checkpoint says "
                f"{newest.size}: "
                "entries were removed or added."
            )
        return root_of_peaks(grown.peaks, grown.size).hex() == newest.root_hash


def _are_peaks(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(peak, str) and _PEAK.fullmatch(peak) for peak in value
    )
