"""Public keys and signatures: one form each, and the key alone says the algorithm."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.signatures import (
    Algorithm,
    algorithm_of,
    check_signature,
    in_one_form,
    is_signature,
)

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = ec.derive_private_key(7, ec.SECP256R1())
EDWARDS = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def der(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, form))


PUBLIC = der(KEY)
SIGNED = in_one_form(KEY.sign(b"m", ec.ECDSA(hashes.SHA256())))
R, S = decode_dss_signature(SIGNED)


def test_a_p256_signature_is_checked() -> None:
    assert (algorithm_of(PUBLIC), len(PUBLIC)) == (Algorithm.ECDSA_P256, 91)
    check_signature(PUBLIC, SIGNED, b"m")
    assert is_signature(SIGNED)
    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        check_signature(PUBLIC, SIGNED, b"n")
    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        check_signature(der(ec.derive_private_key(8, ec.SECP256R1())), SIGNED, b"m")


def raw(integer: int, padding: bytes = b"") -> bytes:
    body = padding + integer.to_bytes(integer.bit_length() // 8 + 1)
    return b"\x02" + bytes([len(body)]) + body


def sequence(content: bytes, length: bytes | None = None) -> bytes:
    return b"\x30" + (length or bytes([len(content)])) + content


FORMS = {
    "the other s": encode_dss_signature(R, ORDER - S),
    "bytes after it": SIGNED + b"\x00",
    "cut": SIGNED[:-1],
    "empty": b"",
    "zero": encode_dss_signature(0, 0),
    "r is 0": encode_dss_signature(0, S),
    "s is 0": encode_dss_signature(R, 0),
    "r of the order": encode_dss_signature(ORDER, S),
    "r and the order": encode_dss_signature(R + ORDER, S),
    "raw": R.to_bytes(32) + S.to_bytes(32),
    "long length": sequence(SIGNED[2:], b"\x81" + SIGNED[1:2]),
    "padded r": sequence(raw(R, b"\x00\x00") + raw(S)),
    "nested": sequence(SIGNED),
    "indefinite": b"\x30\x80" + SIGNED[2:] + b"\x00\x00",
    "huge": encode_dss_signature(R << 4096, S),
    "negative r": sequence(b"\x02\x01\xff" + raw(S)),
    "Ed25519": EDWARDS.sign(b"m"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_p256_signature_has_one_form(name: str) -> None:
    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        check_signature(PUBLIC, FORMS[name], b"m")
    assert is_signature(FORMS[name]) == (len(FORMS[name]) == 64)


def test_r_and_s_may_be_all_that_they_can_be() -> None:
    half = ORDER // 2
    for r, s in ((1, 1), (ORDER - 1, half)):
        assert is_signature(encode_dss_signature(r, s))
    for r, s in ((ORDER, half), (1, half + 1)):
        assert not is_signature(encode_dss_signature(r, s))


def test_the_one_form_is_found() -> None:
    assert in_one_form(FORMS["the other s"]) == SIGNED == in_one_form(SIGNED)
    with pytest.raises(ValueError, match="pars"):
        in_one_form(b"nonsense")


def test_an_ecdsa_signature_says_nothing_to_an_ed25519_key() -> None:
    public = EDWARDS.public_key().public_bytes_raw()
    for signature in (SIGNED, FORMS["raw"]):
        with pytest.raises(LedgerIntegrityError, match="does not fit"):
            check_signature(public, signature, b"m")


OTHER_KEYS = {
    "P-384": der(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": der(ec.generate_private_key(ec.SECP256K1())),
    "Ed25519 in DER": der(EDWARDS),
    "bytes after it": PUBLIC + b"\x00",
    "cut": PUBLIC[:-1],
    "no point": PUBLIC[:-1] + bytes([PUBLIC[-1] ^ 1]),
    "compressed": PUBLIC[:26] + b"\x02" + PUBLIC[27:59],
    "of another type": b"\x30\x58" + PUBLIC[2:],
    "nothing": b"",
}


@pytest.mark.parametrize("name", OTHER_KEYS)
def test_other_public_keys_are_none(name: str) -> None:
    for check in (algorithm_of, lambda key: check_signature(key, SIGNED, b"m")):
        with pytest.raises(LedgerIntegrityError, match="public key"):
            check(OTHER_KEYS[name])
    with pytest.raises(LedgerIntegrityError, match="public key"):
        Vkey("log", OTHER_KEYS[name])


@pytest.mark.parametrize("name", ["bytes after it", "cut"])
def test_a_key_of_another_length_is_of_no_algorithm(name: str) -> None:
    with pytest.raises(LedgerIntegrityError, match="neither an Ed25519 key"):
        algorithm_of(OTHER_KEYS[name])


def test_algorithms_bear_the_names_that_people_know() -> None:
    assert [str(algorithm) for algorithm in Algorithm] == ["Ed25519", "ECDSA P-256"]


def test_a_p256_key_in_note_form_is_as_others_write_it() -> None:
    # The public key of Sigstore's log Rekor, whose log id begins with this hash.
    encoded = (
        "AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7n"
        "wZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc="
    )
    key = Vkey.parse(f"rekor.sigstore.dev+c0d23d6a+{encoded}")
    assert key.algorithm is Algorithm.ECDSA_P256
    assert str(key) == f"rekor.sigstore.dev+c0d23d6a+{encoded}"
    with pytest.raises(LedgerIntegrityError, match="hash"):
        Vkey.parse(f"rekor.sigstore.dev+12345678+{encoded}")


@pytest.mark.parametrize(
    ("kind", "said"),
    [(0, "type 1 or 2"), (1, "not of the type"), (3, "type 1 or 2"), (4, "type 1 or 2")],
)
def test_a_type_byte_that_is_not_the_keys_is_refused(kind: int, said: str) -> None:
    typed = base64.b64encode(bytes([kind]) + PUBLIC).decode()
    with pytest.raises(LedgerIntegrityError, match=said):
        Vkey.parse(f"log+{Vkey('log', PUBLIC).key_hash.hex()}+{typed}")
