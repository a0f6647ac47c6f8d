"""DSSE envelopes with exactly one Ed25519 signature, written as canonical JSON bytes.

Source:
    DSSE v1.0 (secure-systems-lab/dsse): protocol.md (PAE) and envelope.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.records.canonical import canonical_bytes, parse_canonical

PAYLOAD_TYPE = "application/vnd.airflow-mlgov.entry.v1+json"
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload.

    Attributes:
        payload: The exact bytes that were signed.
        keyid: Which key signed, as `keyid` names it; a hint until the signature was checked.
        signature: 64 bytes.
    """

    payload: bytes
    keyid: str
    signature: bytes

    def check(self, public_key: bytes) -> None:
        """Check the signature.

        Raises:
            LedgerIntegrityError: It is not this key's over this payload; a retry does not help.
        """
        if keyid(public_key) != self.keyid:
            raise LedgerIntegrityError(
                f"The envelope names key {self.keyid}, not the key it is checked with."
            )
        check_signature(public_key, self.signature, pae(self.payload))


def keyid(public_key: bytes) -> str:
    """Return the name of a public key in envelopes: ``sha256:<hex>`` of its 32 bytes."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def pae(payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    payload_type = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(payload), payload)


def seal_envelope(payload: bytes, public_key: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the envelope's canonical JSON bytes over a payload.

    Args:
        payload: What is signed.
        public_key: 32 bytes, the public half of the key that `sign` uses.
        sign: Returns the 64-byte Ed25519 signature of a message.
    """
    signature = {"keyid": keyid(public_key), "sig": _to_base64(sign(pae(payload)))}
    return canonical_bytes(
        {"payload": _to_base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    )


def open_envelope(data: bytes) -> Envelope:
    """Return the envelope that these bytes are; the signature is not checked yet.

    Args:
        data: Exactly as `seal_envelope` writes it: no other key order, whitespace or base64
            variant.

    Raises:
        LedgerIntegrityError: Anything else; a retry does not help.
    """
    value = parse_canonical(data)
    if not isinstance(value, dict) or value.keys() != {"payload", "payloadType", "signatures"}:
        raise LedgerIntegrityError(
            "Not a DSSE envelope: it needs payload, payloadType and signatures."
        )
    if value["payloadType"] != PAYLOAD_TYPE:
        raise LedgerIntegrityError(
            f"The payload is of type {value['payloadType']!r}, not {PAYLOAD_TYPE}."
        )
    signed = _only_signature(value["signatures"])
    signature = from_base64(signed["sig"])
    if not isinstance(signed["keyid"], str) or len(signature) != SIGNATURE_BYTES:
        raise LedgerIntegrityError(
            "The envelope's signature is not an Ed25519 signature with a keyid."
        )
    return Envelope(from_base64(value["payload"]), signed["keyid"], signature)


def check_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature.

    Raises:
        LedgerIntegrityError: It is not this key's over this message; a retry does not help.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise LedgerIntegrityError(
            "A signature does not fit: what it signs was altered."
        ) from error


def from_base64(text: Any) -> bytes:
    """Return what standard, padded base64 without any whitespace or stray bits stands for.

    Raises:
        LedgerIntegrityError: Anything else; a retry does not help.
    """
    if not isinstance(text, str):
        raise LedgerIntegrityError("Base64 text is expected.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise LedgerIntegrityError(f"Not base64: {error}.") from error
    if _to_base64(data) != text:
        raise LedgerIntegrityError("Not base64 in its one canonical spelling.")
    return data


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _only_signature(signatures: Any) -> dict[str, Any]:
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise LedgerIntegrityError("An entry has exactly one signature.")
    (signed,) = signatures
    if not isinstance(signed, dict) or signed.keys() != {"keyid", "sig"}:
        raise LedgerIntegrityError("A signature needs keyid and sig, nothing else.")
    return signed
