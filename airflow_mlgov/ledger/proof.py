"""The proof of one entry as text: index, inclusion proof and signed checkpoint.

Source:
    C2SP tlog-proof v1. A proof with an ``extra`` line is refused: nothing signs that line.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import MAX_NOTE_BYTES, MAX_SIZE
from airflow_mlgov.ledger.dsse import from_base64
from airflow_mlgov.ledger.merkle import HASH_BYTES

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
"""A tree of 2^63 - 1 leaves needs no more."""
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 4 * 1024

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class TlogProof:
    """That an entry stands in a log.

    Attributes:
        index: Position of the entry, at least 0.
        hashes: Inclusion proof, leaf side first, 32 bytes each.
        checkpoint: The signed note's exact bytes; nothing of it is checked here.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def as_bytes(self) -> bytes:
        """Return the file's bytes."""
        hashes = [base64.b64encode(hashed).decode("ascii") for hashed in self.hashes]
        head = "\n".join([HEADER, f"index {self.index}", *hashes])
        return head.encode("ascii") + b"\n\n" + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> TlogProof:
        """Return the proof that a file's bytes stand for; its hashes are not checked yet.

        Raises:
            LedgerIntegrityError: Anything but what `as_bytes` writes; a retry does not help.
        """
        if len(data) > MAX_PROOF_BYTES:
            raise LedgerIntegrityError(
                f"A proof of {len(data)} bytes is longer than {MAX_PROOF_BYTES}."
            )
        head, gap, checkpoint = data.partition(b"\n\n")
        if not gap or not head.isascii():
            raise LedgerIntegrityError("Not a tlog-proof: proof, an empty line, checkpoint.")
        header, *lines = head.decode("ascii").split("\n")
        if header != HEADER:
            raise LedgerIntegrityError(f"Not a tlog-proof: its first line is not {HEADER}.")
        if lines and lines[0].startswith("extra "):
            raise LedgerIntegrityError("The proof has an extra line, which nothing signs.")
        return cls(_index_of(lines), _hashes_of(lines[1:]), checkpoint)


def _index_of(lines: list[str]) -> int:
    match = _INDEX.fullmatch(lines[0]) if lines else None
    if match is None or int(match[1]) > MAX_SIZE:
        raise LedgerIntegrityError("The proof's second line is not 'index' and a number.")
    return int(match[1])


def _hashes_of(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_HASHES:
        raise LedgerIntegrityError(f"The proof has {len(lines)} hashes, more than {MAX_HASHES}.")
    hashes = tuple(from_base64(line) for line in lines)
    if any(len(hashed) != HASH_BYTES for hashed in hashes):
        raise LedgerIntegrityError(f"A hash of the proof does not have {HASH_BYTES} bytes.")
    return hashes
