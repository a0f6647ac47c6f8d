"""Signed notes: golden bytes, and threat 25."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlgov.errors import LedgerIntegrityError, UnknownKeyError
from airflow_mlgov.ledger.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    MAX_SIZE,
    Vkey,
    body_and_signatures,
    open_checkpoint,
    sign_checkpoint,
)
from airflow_mlgov.ledger.merkle import MerkleTree, leaf_hash


def test_the_golden_checkpoint_is_over_the_golden_entries(golden: Any) -> None:
    checkpoint = open_checkpoint(golden.note, golden.trust.log_keys, origin=golden.origin)
    tree = MerkleTree(leaf_hash(leaf) for leaf in golden.leaves)
    assert (checkpoint.size, checkpoint.root_hash) == (3, tree.root().hex())
    assert checkpoint.note.encode() == golden.note == golden.sign(golden.leaves)
    assert checkpoint.origin == golden.origin


def lines_of(golden: Any) -> tuple[str, str, str, str]:
    origin, size, root, _, signature, _ = golden.note.decode().split("\n")
    return origin, size, root, signature


@pytest.mark.attack(25)
def test_threat_25_anything_but_the_exact_note_is_refused(golden: Any) -> None:
    origin, size, root, sig = lines_of(golden)
    text = golden.note.decode()
    _, name, encoded = sig.split(" ")
    data = base64.b64decode(encoded)
    forged = [
        b"",
        b"\n",
        b"\n\n",
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r\n", 1).encode(),
        text.encode() + b"\n",
        text.encode() + b"x",
        text.encode() + b"\x00",
        text.encode()[:-1],
        text.encode() + f"{sig}\n".encode(),
        b"\xef\xbb\xbf" + text.encode(),
        text.encode().replace(b"\xe2\x80\x94", b"\xff"),
        text.replace("\u2014", "-").encode(),
        f"{origin}\n{size}\n{root}\nextension\n\n{sig}\n".encode(),
        f"{origin}\n{size}\n\n{sig}\n".encode(),
        f"{origin}\n{size}\n{root}\n\n".encode(),
        f"{origin}\n0{size}\n{root}\n\n{sig}\n".encode(),
        f"{origin}\n+{size}\n{root}\n\n{sig}\n".encode(),
        f"{origin}\n\u0663\n{root}\n\n{sig}\n".encode(),
        f"{origin}\n4\n{root}\n\n{sig}\n".encode(),
        f"{origin}\n{MAX_SIZE + 1}\n{root}\n\n{sig}\n".encode(),
        f"{origin}\n{'9' * 5000}\n{root}\n\n{sig}\n".encode(),
        f"{origin}\n{size}\n{root[:-1]}\n\n{sig}\n".encode(),
        f"{origin}\n{size}\n{base64.b64encode(b'x' * 32).decode()}\n\n{sig}\n".encode(),
        f"{origin}\n{size}\n{base64.b64encode(b'x' * 31).decode()}\n\n{sig}\n".encode(),
        f"{origin}\n{size}\n{root}\n\n{sig}\n{sig}\n".encode(),
        f"{origin}\n{size}\n{root}\n\n{sig} \n".encode(),
        f"{origin}\n{size}\n{root}\n\n {sig}\n".encode(),
        f"{origin}\n{size}\n{root}\n\n\u2014 {name} {encoded[:-2]}\n".encode(),
        f"{origin}\n{size}\n{root}\n\n\u2014 {name} "
        f"{base64.b64encode(data[:-1]).decode()}\n".encode(),
        f"{origin}\n{size}\n{root}\n\n\u2014 {name} "
        f"{base64.b64encode(data[:4] + b'x' * 64).decode()}\n".encode(),
        (
            f"{origin}\n{size}\n{root}\n\n"
            + "".join(f"\u2014 w{i} {encoded}\n" for i in range(100))
            + f"{sig}\n"
        ).encode(),
        b"x" * 70_000,
    ]
    for note in forged:
        with pytest.raises(LedgerIntegrityError):
            open_checkpoint(note, golden.trust.log_keys, origin=golden.origin)


@pytest.mark.attack(25)
@pytest.mark.parametrize("extra", ["extension\n", "\n", "a\nb\n"])
def test_threat_25_extension_lines_are_refused_though_they_are_signed(
    golden: Any, extra: str
) -> None:
    key = golden.trust.log_keys[0]
    body = "\n".join(golden.note.decode().split("\n")[:3]) + "\n" + extra
    signature = base64.b64encode(key.key_hash + golden.key("log").sign(body.encode())).decode()
    with pytest.raises(LedgerIntegrityError):
        open_checkpoint(
            f"{body}\n\u2014 {key.name} {signature}\n".encode(), [key], origin=golden.origin
        )


@pytest.mark.attack(25)
def test_threat_25_a_checkpoint_of_another_log_is_refused_though_the_key_is_right(
    golden: Any,
) -> None:
    note = sign_checkpoint(
        "other/log", 0, b"r" * 32, golden.trust.log_keys[0], golden.key("log").sign
    )
    with pytest.raises(LedgerIntegrityError, match="of log 'other/log'"):
        open_checkpoint(note, golden.trust.log_keys, origin=golden.origin)


@pytest.mark.attack(25)
def test_threat_25_an_unknown_key_has_its_own_error_and_exit_code(golden: Any) -> None:
    note = golden.sign(golden.leaves, role="writer")
    with pytest.raises(UnknownKeyError) as caught:
        open_checkpoint(note, golden.trust.log_keys, origin=golden.origin)
    assert caught.value.exit_code == 3


@pytest.mark.attack(25)
def test_threat_25_the_same_four_byte_hash_does_not_make_a_key_known(golden: Any) -> None:
    ours = golden.trust.log_keys[0]
    body = golden.sign(golden.leaves).split(b"\n\n")[0] + b"\n"
    signature = base64.b64encode(ours.key_hash + golden.key("mallory").sign(body)).decode()
    with pytest.raises(LedgerIntegrityError, match="does not fit"):
        open_checkpoint(
            body + f"\n\u2014 {ours.name} {signature}\n".encode(), [ours], origin=golden.origin
        )


def test_a_witness_may_cosign_and_its_line_proves_nothing(golden: Any) -> None:
    witness = f"\u2014 witness.example {base64.b64encode(b'wxyz' + b's' * 72).decode()}\n".encode()
    note = golden.note + witness
    assert open_checkpoint(note, golden.trust.log_keys, origin=golden.origin).size == 3
    with pytest.raises(LedgerIntegrityError, match="control"):
        open_checkpoint(
            golden.note + witness.replace(b"witness", b"wit\rness"),
            golden.trust.log_keys,
            origin=golden.origin,
        )
    body = golden.note.split(b"\n\n")[0] + b"\n\n"
    with pytest.raises(UnknownKeyError):
        open_checkpoint(body + witness, golden.trust.log_keys, origin=golden.origin)


def test_every_trusted_key_that_signed_must_have_signed_this(golden: Any) -> None:
    keys = [*golden.trust.log_keys, Vkey(golden.origin, golden.public("new log"))]
    body = golden.note.split(b"\n\n")[0] + b"\n"
    good = base64.b64encode(keys[1].key_hash + golden.key("new log").sign(body)).decode()
    bad = base64.b64encode(keys[1].key_hash + golden.key("new log").sign(b"x")).decode()
    line = f"\u2014 {golden.origin} {{}}\n"
    assert (
        open_checkpoint(golden.note + line.format(good).encode(), keys, origin=golden.origin).size
        == 3
    )
    with pytest.raises(LedgerIntegrityError):
        open_checkpoint(golden.note + line.format(bad).encode(), keys, origin=golden.origin)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        open_checkpoint(data, [], origin="o")


@pytest.mark.parametrize("role", ["log", "attestor", "writer"])
def test_keys_in_note_form_are_read_as_written(golden: Any, role: str) -> None:
    key = Vkey("airflow-mlgov-test", golden.public(role))
    assert Vkey.parse(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b",
        "a+b+c",
        "++",
        "{name}+{hash}",
        "{name}+00000000+{key}",
        "{name}+{hash}+{key}+x",
        " {name}+{hash}+{key}",
        "{name}x+{hash}+{key}",
        "{name}+{hash}+{key}\n",
        "a b+{hash}+{key}",
        "{name}+{HASH}+{key}",
        "é+{hash}+{key}",
        "{name}+{hash}+AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "{name}+{hash}+AQAA",
        "{name}+ {hash}+{key}",
    ],
)
def test_malformed_keys_are_refused(golden: Any, text: str) -> None:
    name, key_hash, key = str(golden.trust.writer_keys[0]).split("+", 2)
    with pytest.raises(LedgerIntegrityError):
        Vkey.parse(text.format(name=name, hash=key_hash, HASH=key_hash.upper() + "A", key=key))


def test_a_key_with_a_plus_in_its_base64_is_read_back() -> None:
    keys = [Vkey("log", bytes([0xFB, 0xEF, 0xBE, n]) * 8) for n in range(256)]
    with_plus = [key for key in keys if str(key).count("+") > 2]
    assert len(with_plus) > 10
    assert [Vkey.parse(str(key)) for key in with_plus] == with_plus


def padded(golden: Any, signatures: int, size: int | None = None) -> bytes:
    """The golden note with signature lines of strangers, up to a count or a length in bytes."""
    note: bytes = golden.note
    for number in range(signatures - 1):
        stranger = base64.b64encode(number.to_bytes(4, "big") + bytes(8)).decode()
        note += f"\u2014 s{number} {stranger}\n".encode()
    if size is not None:
        note += "\u2014 s ".encode()
        room = size - len(note) - 1
        filler = room // 4 * 4
        note = note.replace(b" s ", b" " + b"s" * (1 + room - filler) + b" ", 1)
        note += b"A" * filler + b"\n"
    return note


def test_limits_are_where_they_are_said_to_be(golden: Any) -> None:
    assert (MAX_NOTE_BYTES, MAX_SIZE) == (65_536, 9_223_372_036_854_775_807)
    keys = golden.trust.log_keys
    assert open_checkpoint(padded(golden, MAX_SIGNATURES), keys, origin=golden.origin).size == 3
    with pytest.raises(LedgerIntegrityError, match="101 signatures"):
        open_checkpoint(padded(golden, MAX_SIGNATURES + 1), keys, origin=golden.origin)
    longest = padded(golden, 1, MAX_NOTE_BYTES)
    assert len(longest) == MAX_NOTE_BYTES
    assert open_checkpoint(longest, keys, origin=golden.origin).size == 3
    with pytest.raises(LedgerIntegrityError, match="is longer than"):
        open_checkpoint(padded(golden, 1, MAX_NOTE_BYTES + 1), keys, origin=golden.origin)
    signed = sign_checkpoint(golden.origin, MAX_SIZE, bytes(32), keys[0], golden.key("log").sign)
    assert open_checkpoint(signed, keys, origin=golden.origin).size == MAX_SIZE


def test_an_unknown_key_is_named(golden: Any) -> None:
    other = Vkey("another-log", golden.public("other"))
    with pytest.raises(UnknownKeyError, match=f"is signed by {golden.origin}; none"):
        open_checkpoint(golden.note, [other], origin=golden.origin)
    names = [f"elsewhere-{number}" for number in range(9)]
    lines = "".join(f"\u2014 {name} AAAAAAAAAAA=\n" for name in reversed(names))
    said = ", ".join([golden.origin, *names])
    with pytest.raises(UnknownKeyError, match=f"is signed by {said}; none"):
        open_checkpoint(golden.note + lines.encode(), [other], origin=golden.origin)


@pytest.mark.attack(25)
@pytest.mark.parametrize(
    ("origin", "size", "root", "said"),
    [
        ("two words", 3, b"r" * 32, "origin or size is malformed"),
        ("log", MAX_SIZE + 1, b"r" * 32, "origin or size is malformed"),
        ("log", 3, b"r" * 31, "root hash does not have 32 bytes"),
    ],
)
def test_threat_25_what_is_malformed_is_refused_though_it_is_signed(
    golden: Any, origin: str, size: int, root: bytes, said: str
) -> None:
    key = Vkey("log", golden.public("log"))
    note = sign_checkpoint(origin, size, root, key, golden.key("log").sign)
    with pytest.raises(LedgerIntegrityError, match=said):
        open_checkpoint(note, [key], origin=origin)


def test_the_last_empty_line_of_a_note_parts_text_and_signatures() -> None:
    line = "\u2014 somebody AAAAAAAAAAA=\n"
    body, signatures = body_and_signatures(f"a\n\nb\n\n{line}".encode())
    assert (body, signatures) == ("a\n\nb\n", {("somebody", bytes(4)): bytes(4)})
    for note in (line, f"a\n{line}"):
        with pytest.raises(LedgerIntegrityError, match="not a signed note"):
            body_and_signatures(note.encode())
