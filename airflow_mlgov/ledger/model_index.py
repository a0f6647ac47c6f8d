"""How many entries are about one model, so that none of them can be left out unseen.

A ``model.indexed`` entry, signed by the log key, says for the first `size` entries of the log how
many are about its model, and the digest of the canonical JSON list of ``[index, leaf hash]`` of
them, and, if there are any, how many entries rotate a key. Whoever has the whole log can check
that; whoever has the model's entries and the rotations only can hold them against it.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.ledger.merkle import HASH_BYTES


@dataclass(frozen=True, slots=True)
class ModelCount:
    """What a ``model.indexed`` entry says.

    Attributes:
        size: Entries of the log that were looked at: indices 0..size-1.
        count: How many of them are about the model.
        leaves_sha256: Digest of the list of them, ``sha256:<hex>``.
        rotations: How many of the first `size` entries say that they rotate a key.
    """

    size: int
    count: int
    leaves_sha256: str
    rotations: int = 0

    def as_body(self) -> dict[str, Any]:
        """Return the body of the entry that says so; without ``rotations`` if there are none."""
        body = {"size": self.size, "count": self.count, "leaves_sha256": self.leaves_sha256}
        return body | ({"rotations": self.rotations} if self.rotations else {})

    @classmethod
    def of_body(cls, body: dict[str, Any]) -> ModelCount:
        """Return the count in an entry's body, whose shape was checked when it was read."""
        return cls(body["size"], body["count"], body["leaves_sha256"], body.get("rotations", 0))


class ModelIndex:
    """The entries about one model, in the log's order; 40 bytes of memory each."""

    def __init__(self) -> None:
        self._indices = array("Q")
        self._hashes = bytearray()
        # The list's digest up to the last size asked for: later sizes go on from there.
        self._done = 0
        self._hasher = hashlib.sha256(b"[")

    def add(self, index: int, leaf: bytes) -> None:
        """Add an entry after all that were added so far.

        Args:
            index: Its position in the log.
            leaf: Its leaf hash, 32 bytes.
        """
        self._indices.append(index)
        self._hashes += leaf

    def count(self, size: int, rotations: Sequence[int] = ()) -> ModelCount:
        """Return what is true of the first `size` entries of the log.

        Args:
            size: How many.
            rotations: Indices of entries that say that they rotate a key, in order.
        """
        below = bisect_left(self._indices, size)
        if below < self._done:
            self._done, self._hasher = 0, hashlib.sha256(b"[")
        for number in range(self._done, below):
            hashed = self._hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES].hex()
            comma = "," if number else ""
            self._hasher.update(f'{comma}[{self._indices[number]},"{hashed}"]'.encode("ascii"))
        self._done = below
        whole = self._hasher.copy()
        whole.update(b"]")
        rotated = bisect_left(rotations, size)
        return ModelCount(size, below, f"sha256:{whole.hexdigest()}", rotated)
