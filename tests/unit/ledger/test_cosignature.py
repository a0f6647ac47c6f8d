"""Cosignatures of witnesses, written by other code than reads them."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.cosignature import LATEST, WitnessKey, cosignatures_of, joined
from airflow_mlgov.ledger.trust import TrustRoot

NAME = "witness.example.com/w1"


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


def public(key: Ed25519PrivateKey, name: str = NAME) -> WitnessKey:
    return WitnessKey(name, key.public_key().public_bytes_raw())


def line(key: Ed25519PrivateKey, note: bytes, seconds: int = 1_700_000_000, **more) -> bytes:
    name, header = more.get("name", NAME), more.get("header", "cosignature/v1")
    body = note.decode().rpartition("\n\n")[0] + "\n"
    raw = key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(name.encode() + b"\n" + more.get("kind", b"\x04") + raw).digest()[:4]
    signature = key.sign(f"{header}\ntime {seconds}\n{body}".encode())
    data = key_id + seconds.to_bytes(8, "big") + signature + more.get("tail", b"")
    return f"\u2014 {name} {base64.b64encode(data).decode()}\n".encode()


def test_a_cosignature_says_who_and_when(golden, key) -> None:
    given = line(key, golden.note)
    (said,) = cosignatures_of(golden.note, given, [public(key)])
    assert (said.witness.name, said.at.isoformat()) == (NAME, "2023-11-14T22:13:20+00:00")
    assert said.line == given


def test_lines_of_others_are_not_looked_at(golden, key) -> None:
    other = Ed25519PrivateKey.generate()
    lines = line(other, b"x\n\n", name="other.example") + line(key, golden.note)
    assert len(cosignatures_of(golden.note, lines, [public(key)])) == 1
    assert cosignatures_of(golden.note, lines, [public(other, "third.example")]) == []
    assert cosignatures_of(golden.note, b"", [public(key)]) == []
    # The log's own key is no witness, and a key of another type is another key.
    assert cosignatures_of(golden.note, line(key, golden.note, kind=b"\x01"), [public(key)]) == []


def test_what_does_not_fit(golden, key) -> None:
    note = golden.note
    for lines in (
        line(key, note.replace(b"\n3\n", b"\n4\n")),
        line(key, note, header="cosignature/v2"),
        line(key, note, tail=b"\0"),
        line(key, note, LATEST + 1),
        line(key, note, 2**64 - 1),
        line(key, note) * 2,
        b"\n" + line(key, note),
        b"more\n\n" + line(key, note),
        line(key, note)[:-1],
        b"x",
    ):
        with pytest.raises(LedgerIntegrityError):
            cosignatures_of(note, lines, [public(key)])
    assert cosignatures_of(note, line(key, note, LATEST), [public(key)])


def test_each_bit_counts(golden, key) -> None:
    good = line(key, golden.note)
    mark, name, encoded = good.decode().strip().split(" ")
    raw = base64.b64decode(encoded)
    for byte in range(4, len(raw)):
        bad = raw[:byte] + bytes([raw[byte] ^ 1]) + raw[byte + 1 :]
        lines = f"{mark} {name} {base64.b64encode(bad).decode()}\n".encode()
        with pytest.raises(LedgerIntegrityError):
            cosignatures_of(golden.note, lines, [public(key)])


def test_parts_are_joined_with_each_key_once(golden, key) -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x08" * 32)
    first, later = line(key, golden.note), line(key, golden.note, 1_800_000_000)
    second = line(other, golden.note, name="w2.example")
    assert joined(golden.note, [first, later, second]) == first + second
    assert joined(golden.note, []) == b""
    with pytest.raises(LedgerIntegrityError, match="not signature lines"):
        joined(golden.note, [b"\n" + first])


def test_a_key_is_written_as_c2sp_does(key) -> None:
    written = str(public(key))
    assert WitnessKey.parse(written) == public(key)
    name, key_id, encoded = written.split("+", 2)
    raw = base64.b64decode(encoded)
    assert raw[0] == 4
    assert hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-2],
        lambda text: text.replace("w1", "w2"),
        lambda text: text.replace("+", " ", 1),
        lambda text: text.replace("/w1+", "/w1+0", 1),
        lambda text: "",
        lambda text: str(Vkey("a", b"\x01" * 32)),
        lambda text: text.replace("witness", "wit ness"),
    ],
)
def test_what_is_no_key(key, change) -> None:
    with pytest.raises(LedgerIntegrityError):
        WitnessKey.parse(change(str(public(key))))


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\n", "\u00e9"])
def test_what_is_no_name(key, name) -> None:
    with pytest.raises(LedgerIntegrityError, match="not the name of a witness's key"):
        public(key, name)


def test_a_key_with_a_plus_in_its_base64_is_read_back() -> None:
    keys = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(256))
    found = next(written for key in keys if (written := str(public(key))).count("+") > 2)
    assert str(WitnessKey.parse(found)) == found


def test_a_cosignature_has_one_length(golden, key) -> None:
    with pytest.raises(LedgerIntegrityError, match="has the wrong length"):
        cosignatures_of(golden.note, line(key, golden.note, tail=b"\0"), [public(key)])


def test_a_key_of_another_length() -> None:
    with pytest.raises(LedgerIntegrityError, match="31 bytes"):
        WitnessKey("a", b"x" * 31)


def test_trust_files_hold_witnesses_as_they_publish_themselves(golden, key) -> None:
    root = golden.trust.with_witnesses([public(key)])
    assert TrustRoot.parse(root.as_bytes()) == root
    assert root.with_witnesses([public(key)]) == root
    with pytest.raises(LedgerIntegrityError, match="C2SP type 4"):
        TrustRoot.parse(
            root.as_bytes().replace(
                str(public(key)).encode(),
                b"a+00000000+" + str(root.log_keys[0]).rpartition("+")[2].encode(),
            )
        )
    with pytest.raises(LedgerIntegrityError, match="each key has one role"):
        golden.trust.with_witnesses([WitnessKey(NAME, root.log_keys[0].public_key)])
