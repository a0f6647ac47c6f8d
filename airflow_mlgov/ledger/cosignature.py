"""Cosignatures of witnesses: somebody else saw this checkpoint, at a time, and it fitted the last.

Source:
    C2SP tlog-cosignature v1, Ed25519 (``cosignature/v1``). ML-DSA-44 is not read: such lines count
    for nothing, as those of unknown keys do.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import KEY_HASH_BYTES, body_and_signatures
from airflow_mlgov.ledger.dsse import from_base64
from airflow_mlgov.ledger.signatures import ED25519_BYTES, SIGNATURE_BYTES, check_signature

ED25519_COSIGNATURE_TYPE = 0x04
LATEST = 253_402_300_799
"""The last second of the year 9999: a later one is no time that a person could read."""

_TIME_BYTES = 8
# What any note may call a key: a witness's name is not ours to choose.
_NAME = re.compile(r"[!-*,-~]{1,256}")
_KEY_HASH = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's public key with its name, as C2SP writes it: ``name+hash+base64``.

    A key of another kind than `Vkey`: what the one signs can never pass for what the other does.

    Attributes:
        name: Printable ASCII without blanks and ``+``, as the witness publishes it.
        public_key: 32 bytes, Ed25519.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LedgerIntegrityError(f"{self.name!r} is not the name of a witness's key.")
        if len(self.public_key) != ED25519_BYTES:
            raise LedgerIntegrityError(
                f"Key {self.name} has {len(self.public_key)} bytes, not {ED25519_BYTES}."
            )

    @property
    def key_hash(self) -> bytes:
        """First 4 bytes of SHA-256(name || 0x0A || 0x04 || public key): a hint, never proof."""
        text = self.name.encode("ascii") + b"\n" + self._typed
        return hashlib.sha256(text).digest()[:KEY_HASH_BYTES]

    @property
    def _typed(self) -> bytes:
        return bytes([ED25519_COSIGNATURE_TYPE]) + self.public_key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(self._typed).decode('ascii')}"

    @classmethod
    def parse(cls, text: str) -> WitnessKey:
        """Return the key that ``name+hash+base64`` stands for.

        Raises:
            LedgerIntegrityError: Malformed, another algorithm, or a hash that is not this key's.
        """
        name, _, rest = text.partition("+")
        key_hash, _, encoded = rest.partition("+")
        typed = from_base64(encoded)
        if len(typed) != 1 + ED25519_BYTES or typed[0] != ED25519_COSIGNATURE_TYPE:
            raise LedgerIntegrityError(
                f"Key {name!r} is not a witness's Ed25519 key of C2SP type 4."
            )
        key = cls(name, typed[1:])
        if not _KEY_HASH.fullmatch(key_hash) or bytes.fromhex(key_hash) != key.key_hash:
            raise LedgerIntegrityError(
                f"Key {name!r} does not have the hash that it is written with."
            )
        return key


@dataclass(frozen=True, slots=True)
class Cosignature:
    """What a witness said of a checkpoint, its signature checked.

    Attributes:
        witness: Who.
        at: When, by the witness's clock.
        line: The note's signature line that says so, with its newline.
    """

    witness: WitnessKey
    at: datetime
    line: bytes


def cosignatures_of(
    note: bytes, lines: bytes, witnesses: Iterable[WitnessKey]
) -> list[Cosignature]:
    """Return what the given witnesses say of a checkpoint; lines of others are not looked at.

    Args:
        note: The checkpoint as the log's key signed it.
        lines: Signature lines to go after the log's own.
        witnesses: Keys that the reader trusts.

    Raises:
        LedgerIntegrityError: The note is malformed, or a line of one of these witnesses does not
            fit it; a retry does not help.
    """
    body, signatures = _cosigned(note, lines)
    return [
        _opened(body, key, signatures[key.name, key.key_hash])
        for key in witnesses
        if (key.name, key.key_hash) in signatures
    ]


def joined(note: bytes, parts: Iterable[bytes]) -> bytes:
    """Return the signature lines in several parts as one, each key's once, to go after a note.

    Raises:
        LedgerIntegrityError: A part is not signature lines; a retry does not help.
    """
    _, own = body_and_signatures(note)
    lines: dict[tuple[str, bytes], bytes] = {}
    for part in parts:
        _, signatures = _cosigned(note, part)
        for key, signed in signatures.items():
            if key not in own:
                lines.setdefault(key, _line(*key, signed))
    return b"".join(lines.values())


def _cosigned(note: bytes, lines: bytes) -> tuple[str, dict[tuple[str, bytes], bytes]]:
    body, _ = body_and_signatures(note)
    cosigned, signatures = body_and_signatures(note + lines)
    if cosigned != body:
        raise LedgerIntegrityError("What stands for cosignatures is not signature lines.")
    return body, signatures


def _line(name: str, key_hash: bytes, signed: bytes) -> bytes:
    encoded = base64.b64encode(key_hash + signed).decode("ascii")
    return f"\u2014 {name} {encoded}\n".encode()


def _opened(body: str, key: WitnessKey, signed: bytes) -> Cosignature:
    if len(signed) != _TIME_BYTES + SIGNATURE_BYTES:
        raise LedgerIntegrityError(f"The cosignature of {key.name} has the wrong length.")
    seconds = int.from_bytes(signed[:_TIME_BYTES], "big")
    if seconds > LATEST:
        raise LedgerIntegrityError(f"The cosignature of {key.name} is of no time that there is.")
    message = f"cosignature/v1\ntime {seconds}\n{body}".encode()
    try:
        check_signature(key.public_key, signed[_TIME_BYTES:], message)
    except LedgerIntegrityError as error:
        raise LedgerIntegrityError(
            f"The cosignature of {key.name} does not fit the checkpoint."
        ) from error
    line = _line(key.name, key.key_hash, signed)
    return Cosignature(key, datetime.fromtimestamp(seconds, UTC), line)
