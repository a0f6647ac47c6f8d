"""Signed checkpoints in C2SP form: what the log vouches for at one moment.

Source:
    C2SP signed-note v1.0.0, tlog-checkpoint v1.0.0. Extension lines are refused, as tlog-checkpoint
    recommends none. How the key of an ECDSA signature is written, signed-note leaves to others:
    here as transparency-dev/formats does (type byte 2, then the DER form).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.dsse import from_base64
from airflow_mlgov.ledger.merkle import HASH_BYTES
from airflow_mlgov.ledger.signatures import Algorithm, algorithm_of, check_signature

ED25519_TYPE, ECDSA_TYPE = 0x01, 0x02
KEY_HASH_BYTES = 4
MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 100
MAX_SIZE = 2**63 - 1

_NAME = re.compile(r"[A-Za-z0-9._:@/-]{1,256}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_HASH = re.compile(r"[0-9a-f]{8}")
_SIGNATURE_LINE = re.compile(r"\u2014 (?P<name>[^ \n]+) (?P<signature>[A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class Vkey:
    """A public key with its name, as C2SP writes it: ``name+hash+base64``.

    Attributes:
        name: ASCII letters, digits and ``._:@/-``; the origin for a log's key.
        public_key: As `airflow_mlgov.ledger.signatures` describes it.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LedgerIntegrityError(
                f"{self.name!r} is not a key name: ASCII letters, digits and ._:@/- only."
            )
        algorithm_of(self.public_key)

    @property
    def algorithm(self) -> Algorithm:
        """What the key signs with."""
        return algorithm_of(self.public_key)

    @property
    def key_hash(self) -> bytes:
        """4 bytes that tell keys apart: a hint, never proof.

        The first of SHA-256(name || 0x0A || 0x01 || public key), or for ECDSA of SHA-256(DER form).
        """
        hashed = self.public_key
        if self.algorithm is Algorithm.ED25519:
            hashed = self.name.encode("ascii") + b"\n" + self._typed
        return hashlib.sha256(hashed).digest()[:KEY_HASH_BYTES]

    @property
    def _typed(self) -> bytes:
        is_ed25519 = self.algorithm is Algorithm.ED25519
        return bytes([ED25519_TYPE if is_ed25519 else ECDSA_TYPE]) + self.public_key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(self._typed).decode('ascii')}"

    @classmethod
    def parse(cls, text: str) -> Vkey:
        """Return the key that ``name+hash+base64`` stands for.

        Raises:
            LedgerIntegrityError: Malformed, another algorithm, or a hash that is not this key's.
        """
        name, _, rest = text.partition("+")
        key_hash, _, encoded = rest.partition("+")
        typed = from_base64(encoded)
        if not typed or typed[0] not in (ED25519_TYPE, ECDSA_TYPE):
            raise LedgerIntegrityError(f"Key {name!r} is not a key of C2SP type 1 or 2.")
        key = cls(name, typed[1:])
        if key._typed != typed:
            raise LedgerIntegrityError(f"Key {name!r} is not of the type that it is written with.")
        if not _KEY_HASH.fullmatch(key_hash) or bytes.fromhex(key_hash) != key.key_hash:
            raise LedgerIntegrityError(
                f"Key {name!r} does not have the hash that it is written with."
            )
        return key


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says about itself.

    Attributes:
        origin: Which log.
        size: Leaves in its tree.
        root_hash: Root of that tree, 64 hexadecimal characters.
        note: The signed note that says so, exactly as it was read.
    """

    origin: str
    size: int
    root_hash: str
    note: str


def sign_checkpoint(
    origin: str, size: int, root: bytes, key: Vkey, sign: Callable[[bytes], bytes]
) -> bytes:
    """Return a signed note over a tree.

    Args:
        origin: Which log.
        size: Leaves in its tree, at least 0.
        root: Root hash, 32 bytes.
        key: Public half of the log's key; its name should be the origin.
        sign: Returns the signature of a message.
    """
    body = f"{origin}\n{size}\n{base64.b64encode(root).decode('ascii')}\n".encode("ascii")
    signature = base64.b64encode(key.key_hash + sign(body)).decode("ascii")
    return body + f"\n\u2014 {key.name} {signature}\n".encode()


def open_checkpoint(note: bytes, keys: Iterable[Vkey], *, origin: str) -> Checkpoint:
    """Return what a signed note says, after checking that a trusted key of this log signed it.

    Signature lines of other keys (a witness's) are allowed and not looked at.

    Args:
        note: The note's exact bytes.
        keys: Log keys that the reader trusts.
        origin: The log that the reader means.

    Raises:
        UnknownKeyError: No trusted key signed it; a retry does not help.
        LedgerIntegrityError: Malformed, another origin, or a signature that does not fit.
    """
    text = _text_of(note)
    body, tail = _parted(text)
    checkpoint = _body_of(body, text)
    if checkpoint.origin != origin:
        raise LedgerIntegrityError(
            f"The checkpoint is of log {checkpoint.origin!r}, not of {origin!r}."
        )
    signatures = _signatures_of(tail)
    known = [
        (key, signatures[key.name, key.key_hash])
        for key in keys
        if (key.name, key.key_hash) in signatures
    ]
    if not known:
        names = ", ".join(sorted({name for name, _ in signatures}))
        raise UnknownKeyError(
            f"The checkpoint is signed by {names}; none of these keys is in the trust file."
        )
    for key, signature in known:
        check_signature(key.public_key, signature, body.encode("ascii"))
    return checkpoint


def body_and_signatures(note: bytes) -> tuple[str, dict[tuple[str, bytes], bytes]]:
    """Return what the signatures of a note are over, and each by its key's name and hash.

    Raises:
        LedgerIntegrityError: Not a signed note; a retry does not help.
    """
    body, tail = _parted(_text_of(note))
    return body, _signatures_of(tail)


def _parted(text: str) -> tuple[str, str]:
    body, _, tail = text.rpartition("\n\n")
    return body + "\n", tail


def _text_of(note: bytes) -> str:
    if len(note) > MAX_NOTE_BYTES:
        raise LedgerIntegrityError(
            f"A checkpoint of {len(note)} bytes is longer than {MAX_NOTE_BYTES}."
        )
    try:
        text = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LedgerIntegrityError(f"The checkpoint is not UTF-8: {error}.") from error
    if any(character < " " and character != "\n" for character in text):
        raise LedgerIntegrityError(
            "The checkpoint holds control characters (a carriage return, for example)."
        )
    if not text.endswith("\n") or "\n\n" not in text:
        raise LedgerIntegrityError(
            "The checkpoint is not a signed note: text, an empty line, signatures."
        )
    return text


def _body_of(body: str, note: str) -> Checkpoint:
    lines = body.split("\n")
    if len(lines) != 4:  # the last is empty, as the body ends with a newline
        raise LedgerIntegrityError(
            "A checkpoint has three lines (origin, size, root hash) and no extension."
        )
    origin, size, root = lines[:3]
    if not _NAME.fullmatch(origin) or not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise LedgerIntegrityError("The checkpoint's origin or size is malformed.")
    hashed = from_base64(root)
    if len(hashed) != HASH_BYTES:
        raise LedgerIntegrityError(f"The checkpoint's root hash does not have {HASH_BYTES} bytes.")
    return Checkpoint(origin, int(size), hashed.hex(), note)


def _signatures_of(tail: str) -> dict[tuple[str, bytes], bytes]:
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise LedgerIntegrityError(
            f"The checkpoint has {len(lines)} signatures, more than {MAX_SIGNATURES}."
        )
    signatures: dict[tuple[str, bytes], bytes] = {}
    for line in lines:
        match = _SIGNATURE_LINE.fullmatch(line)
        if match is None:
            raise LedgerIntegrityError(
                "The checkpoint has a malformed signature line, or bytes after the last one."
            )
        data = from_base64(match["signature"])
        name = (match["name"], data[:KEY_HASH_BYTES])
        if name in signatures:
            raise LedgerIntegrityError(
                f"The checkpoint has two signatures of the same key {match['name']!r}."
            )
        signatures[name] = data[KEY_HASH_BYTES:]
    return signatures
