"""Public keys and signatures: Ed25519, and ECDSA on P-256 with SHA-256 for keys that a KMS keeps.

A public key is bytes: 32 for Ed25519, the 91 of a DER SubjectPublicKeyInfo for P-256. So it says
itself which algorithm it is for, and a reader has it from its trust file: what is to be checked
never has a say in how.

Source:
    RFC 8032 (Ed25519); FIPS 186-5 and SEC 1 (ECDSA); RFC 5480 (its public keys); RFC 3279 section
    2.2.3 (its signatures).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from airflow_mlgov.errors import LedgerIntegrityError

ED25519_BYTES = 32
P256_BYTES = 91
SIGNATURE_BYTES = 64
"""Bytes of an Ed25519 signature."""

# SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING { uncompressed point } }
_P256_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Algorithm(StrEnum):
    """What a key signs with."""

    ED25519 = "Ed25519"
    ECDSA_P256 = "ECDSA P-256"


def algorithm_of(public_key: bytes) -> Algorithm:
    """Return what a public key is for.

    Raises:
        LedgerIntegrityError: Neither 32 bytes nor the DER form of a P-256 key; a retry does not
            help.
    """
    if len(public_key) == ED25519_BYTES:
        return Algorithm.ED25519
    if len(public_key) == P256_BYTES and public_key.startswith(_P256_PREFIX):
        _p256_key(public_key)
        return Algorithm.ECDSA_P256
    raise LedgerIntegrityError(
        f"A public key of {len(public_key)} bytes is neither an Ed25519 key of {ED25519_BYTES} "
        f"bytes nor an ECDSA P-256 key in its DER form of {P256_BYTES}."
    )


def keyid(public_key: bytes) -> str:
    """Return the name of a public key in envelopes: ``sha256:<hex>`` of its bytes."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def check_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check a signature, by the algorithm that the key is for.

    Raises:
        LedgerIntegrityError: It is not this key's over this message, or not in its one form; a
            retry does not help.
    """
    algorithm = algorithm_of(public_key)
    try:
        if algorithm is Algorithm.ED25519:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        else:
            _check_form(signature)
            _p256_key(public_key).verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise LedgerIntegrityError(
            "A signature does not fit: what it signs was altered."
        ) from error


def is_signature(data: bytes) -> bool:
    """Return whether bytes have the form of a signature, of one algorithm or the other."""
    if len(data) == SIGNATURE_BYTES:
        return True
    try:
        _check_form(data)
    except ValueError:
        return False
    return True


def in_one_form(signature: bytes) -> bytes:
    """Return the one form of an ECDSA P-256 signature in DER: its s in the lower half.

    With (r, s) also (r, n - s) verifies. Only one of them is accepted, so that nobody but the key's
    holder can make a second envelope over the same content.

    Raises:
        ValueError: Not an ECDSA signature in DER.
    """
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, _P256_ORDER - s))


def _check_form(signature: bytes) -> None:
    r, s = decode_dss_signature(signature)  # DER and nothing else, so each pair has one encoding
    if not (0 < r < _P256_ORDER and 0 < s <= _P256_ORDER // 2):
        raise ValueError("r or s out of range")


def _p256_key(public_key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        point = b"\x04" + public_key[len(_P256_PREFIX) :]
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise LedgerIntegrityError("A P-256 public key is not a point of the curve.") from error
