"""Envelopes: golden bytes, and everything that must not pass as one (threats 29 and 32)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.dsse import (
    PAYLOAD_TYPE,
    open_envelope,
    pae,
    seal_envelope,
)
from airflow_mlgov.ledger.signatures import check_signature, keyid
from airflow_mlgov.records.canonical import canonical_bytes

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def changed(**changes: Any) -> bytes:
    value = json.loads(seal_envelope(b'{"a":1}', PUBLIC, KEY.sign))
    return canonical_bytes({**value, **changes})


def test_golden_envelopes_are_written_byte_for_byte(golden: Any) -> None:
    for leaf, role in zip(golden.leaves, ("log", "writer", "attestor"), strict=True):
        envelope = open_envelope(leaf)
        envelope.check(golden.public(role))
        assert seal_envelope(envelope.payload, golden.public(role), golden.key(role).sign) == leaf


def test_pae_is_the_specification_s() -> None:
    assert pae(b"hello") == b"DSSEv1 43 application/vnd.airflow-mlgov.entry.v1+json 5 hello"


@pytest.mark.attack(1)
def test_threat_1_another_payload_under_the_same_signature_is_refused() -> None:
    forged = open_envelope(changed(payload=base64.b64encode(b'{"a":2}').decode()))
    with pytest.raises(LedgerIntegrityError, match="altered"):
        forged.check(PUBLIC)


def test_another_key_is_refused_whether_or_not_it_is_named() -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32).public_key().public_bytes_raw()
    with pytest.raises(LedgerIntegrityError, match="names key"):
        open_envelope(changed()).check(other)
    signature = json.loads(changed())["signatures"][0]["sig"]
    renamed = open_envelope(changed(signatures=[{"keyid": keyid(other), "sig": signature}]))
    with pytest.raises(LedgerIntegrityError, match="altered"):
        renamed.check(other)


SIGNED = json.loads(changed())["signatures"][0]


@pytest.mark.attack(32)
def test_threat_32_signatures_are_a_list_of_one_or_two() -> None:
    for signatures in ([], [SIGNED] * 3, {"one": SIGNED}, "x", None):
        with pytest.raises(LedgerIntegrityError, match="has one signature, or two"):
            open_envelope(changed(signatures=signatures))


@pytest.mark.attack(32)
@pytest.mark.parametrize(
    "data",
    [
        changed(signatures=[]),
        changed(signatures=[SIGNED, SIGNED]),
        changed(signatures=SIGNED),
        changed(signatures=[{**SIGNED, "alg": "none"}]),
        changed(signatures=[{"sig": SIGNED["sig"]}]),
        changed(signatures=[{**SIGNED, "keyid": 1}]),
        changed(signatures=[{**SIGNED, "sig": ""}]),
        changed(signatures=[{**SIGNED, "sig": SIGNED["sig"][:-4]}]),
        changed(signatures=["x"]),
        changed(payloadType="application/json"),
        changed(payloadType=PAYLOAD_TYPE.upper()),
        changed(payloadType=None),
        changed(extra=1),
        changed(payload=None),
        changed(payload="eyJhIjoxfR=="),
        changed(payload="eyJhIjoxfQ"),
        changed(payload="eyJhIjoxfQ==\n"),
        changed(payload="eyJh IjoxfQ=="),
        changed(payload="eyJh-joxfQ=="),
        canonical_bytes([1]),
        changed() + b"\n",
        json.dumps(json.loads(changed())).encode(),
        b"",
        b"\x00" * 100,
    ],
)
def test_threat_32_what_is_no_envelope_of_ours(data: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        open_envelope(data)


@pytest.mark.parametrize("public_key", [b"", b"\x00" * 31, b"\x00" * 32, b"\xff" * 32])
def test_malformed_public_keys_verify_nothing(public_key: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        check_signature(public_key, b"\x00" * 64, b"message")


OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_PUBLIC = OTHER.public_key().public_bytes_raw()


def test_a_second_key_may_sign_after_the_first() -> None:
    leaf = seal_envelope(b'{"a":1}', PUBLIC, KEY.sign, cosigner=(OTHER_PUBLIC, OTHER.sign))
    envelope = open_envelope(leaf)
    envelope.check(PUBLIC)
    envelope.check_cosigned(OTHER_PUBLIC)
    for check, public_key in ((envelope.check, OTHER_PUBLIC), (envelope.check_cosigned, PUBLIC)):
        with pytest.raises(LedgerIntegrityError, match="names key"):
            check(public_key)
    with pytest.raises(LedgerIntegrityError, match="no second signature"):
        open_envelope(changed()).check_cosigned(OTHER_PUBLIC)
    value = json.loads(leaf)
    third = {"keyid": keyid(b"k" * 32), "sig": SIGNED["sig"]}
    with pytest.raises(LedgerIntegrityError, match="one signature, or two"):
        open_envelope(canonical_bytes(value | {"signatures": [*value["signatures"], third]}))
