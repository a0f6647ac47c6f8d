"""DSSE envelopes with one signature or two, written as canonical JSON bytes.

Source:
    DSSE v1.0 (secure-systems-lab/dsse): protocol.md (PAE) and envelope.md.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.signatures import check_signature, is_signature, keyid
from airflow_mlgov.records.canonical import parse_canonical

PAYLOAD_TYPE = "application/vnd.airflow-mlgov.entry.v1+json"

Cosigner: TypeAlias = tuple[bytes, Callable[[bytes], bytes]]
"""A public key, and what returns the signature of a message by it."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload.

    Attributes:
        payload: The exact bytes that were signed.
        keyid: Which key signed, as `keyid` names it; a hint until the signature was checked.
        signature: As `airflow_mlgov.ledger.signatures` describes it.
        cosigned: Keyid and signature of a second key; None if one key signed.
    """

    payload: bytes
    keyid: str
    signature: bytes
    cosigned: tuple[str, bytes] | None = None

    def check(self, public_key: bytes) -> None:
        """Check the signature; the first of two.

        Raises:
            LedgerIntegrityError: It is not this key's over this payload; a retry does not help.
        """
        self._check(self.keyid, self.signature, public_key)

    def check_cosigned(self, public_key: bytes) -> None:
        """Check the second signature.

        Raises:
            LedgerIntegrityError: There is none, or it is not this key's over this payload.
        """
        if self.cosigned is None:
            raise LedgerIntegrityError("The envelope has no second signature.")
        self._check(*self.cosigned, public_key)

    def _check(self, named: str, signature: bytes, public_key: bytes) -> None:
        if keyid(public_key) != named:
            raise LedgerIntegrityError(
                f"The envelope names key {named}, not the key it is checked with."
            )
        check_signature(public_key, signature, pae(self.payload))


def pae(payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    payload_type = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(payload), payload)


def seal_envelope(
    payload: bytes,
    public_key: bytes,
    sign: Callable[[bytes], bytes],
    *,
    cosigner: Cosigner | None = None,
) -> bytes:
    """Return the envelope's canonical JSON bytes over a payload.

    Args:
        payload: What is signed.
        public_key: The public half of the key that `sign` uses.
        sign: Returns the signature of a message.
        cosigner: A second key, whose signature stands after the first.
    """
    signers = [(public_key, sign), *([] if cosigner is None else [cosigner])]
    signatures = ",".join(
        f'{{"keyid":"{keyid(public)}","sig":"{_to_base64(signed_by(pae(payload)))}"}}'
        for public, signed_by in signers
    )
    # Canonical as it stands: keys in order, and nothing in the texts that JSON escapes.
    return (
        f'{{"payload":"{_to_base64(payload)}","payloadType":"{PAYLOAD_TYPE}",'
        f'"signatures":[{signatures}]}}'
    ).encode("ascii")


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
    first, *more = _signatures(value["signatures"])
    return Envelope(from_base64(value["payload"]), *first, more[0] if more else None)


def from_base64(text: Any) -> bytes:
    """Return what standard, padded base64 without any whitespace or stray bits stands for.

    Raises:
        LedgerIntegrityError: Anything else; a retry does not help.
    """
    if not isinstance(text, str):
        raise LedgerIntegrityError("Base64 text is expected.")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise LedgerIntegrityError(f"Not base64: {error}.") from error
    if _to_base64(data) != text:
        raise LedgerIntegrityError("Not base64 in its one canonical spelling.")
    return data


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _signatures(signatures: Any) -> list[tuple[str, bytes]]:
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= 2:
        raise LedgerIntegrityError("An envelope has one signature, or two.")
    found = [_signature(signed) for signed in signatures]
    if len({named for named, _ in found}) != len(found):
        raise LedgerIntegrityError("An envelope has two signatures of one key.")
    return found


def _signature(signed: Any) -> tuple[str, bytes]:
    if not isinstance(signed, dict) or signed.keys() != {"keyid", "sig"}:
        raise LedgerIntegrityError("A signature needs keyid and sig, nothing else.")
    signature = from_base64(signed["sig"])
    if not isinstance(signed["keyid"], str) or not is_signature(signature):
        raise LedgerIntegrityError(
            "The envelope's signature is not an Ed25519 or ECDSA signature with a keyid."
        )
    return signed["keyid"], signature
