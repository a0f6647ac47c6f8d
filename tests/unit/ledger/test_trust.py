"""The trust file: golden bytes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.cosignature import WitnessKey
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.ledger.trust import TrustRoot
from airflow_mlgov.records.kinds import KeyRole


def test_the_golden_trust_file_is_written_byte_for_byte(golden: Any) -> None:
    assert golden.trust.as_bytes() == golden.trust_bytes
    assert golden.trust.signers == {
        keyid(golden.public(role)): (KeyRole(role), golden.public(role))
        for role in ("log", "attestor", "writer")
    }


def test_keys_are_added_once(golden: Any) -> None:
    new = Vkey("airflow-mlgov-writer", golden.public("second writer"))
    more = golden.trust.with_keys(KeyRole.WRITER, [new, *golden.trust.writer_keys])
    assert more.writer_keys == (*golden.trust.writer_keys, new)
    assert more.with_keys(KeyRole.WRITER, [new]) == more


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"version": "1"},
        {"origin": 1},
        {"log_keys": []},
        {"log_keys": None},
        {"writer_keys": "x"},
        {"writer_keys": [1]},
        {"witnesses": ["nonsense"]},
        {"extra": 1},
    ],
)
def test_what_is_no_trust_file(golden: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(LedgerIntegrityError):
        TrustRoot.parse(json.dumps({**json.loads(golden.trust_bytes), **changes}).encode())


@pytest.mark.parametrize("key", ["log", "writer", "attestor"])
@pytest.mark.parametrize("other", ["log", "writer", "attestor"])
def test_one_key_stands_there_once_whatever_its_role(golden: Any, key: str, other: str) -> None:
    value = json.loads(golden.trust_bytes)
    value[f"{other}_keys"].append(str(Vkey("other-name", golden.public(key))))
    with pytest.raises(LedgerIntegrityError, match="twice"):
        TrustRoot.parse(json.dumps(value).encode())


def test_the_key_of_a_role_is_not_a_witness_s_too(golden: Any) -> None:
    with pytest.raises(LedgerIntegrityError, match="twice"):
        golden.trust.with_witnesses([WitnessKey("w.example", golden.public("writer"))])


def test_two_keys_that_a_note_could_not_tell_apart_are_refused(golden: Any) -> None:
    """Found by trying: C2SP's key hash has 32 bits."""
    alike = [Vkey("airflow-mlgov-writer", n.to_bytes(32, "big")) for n in (26_186, 101_641)]
    assert alike[0].key_hash == alike[1].key_hash
    with pytest.raises(LedgerIntegrityError, match="same name and hash"):
        golden.trust.with_keys(KeyRole.WRITER, alike)
    told_apart = [alike[0], Vkey("another-name", alike[1].public_key)]
    assert len(golden.trust.with_keys(KeyRole.WRITER, told_apart).writer_keys) == 3


def test_a_rotated_key_makes_room_for_the_new_one_and_for_no_other(golden: Any) -> None:
    (old,) = golden.trust.writer_keys
    other, new = (Vkey("airflow-mlgov-writer", bytes([n]) * 32) for n in (1, 2))
    before = golden.trust.with_keys(KeyRole.WRITER, [other])
    after = before.after_rotation(KeyRole.WRITER, old, new)
    assert after == replace(before, writer_keys=(other, new))
    assert after.after_rotation(KeyRole.WRITER, other, new).writer_keys == (new,)


def test_witnesses_are_added_once(golden: Any) -> None:
    known, new = (WitnessKey("w.example", bytes([n]) * 32) for n in (1, 2))
    before = golden.trust.with_witnesses([known])
    assert before.witnesses == (known,)
    after = before.with_witnesses([new, known])
    assert after == replace(golden.trust, witnesses=(known, new))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"\xff", b"{" * 5000, b'{"version":1,"version":1}', b" " * 2**21]
)
def test_any_other_bytes(data: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        TrustRoot.parse(data)


@pytest.mark.parametrize(
    "missing", ["version", "origin", "log_keys", "attestor_keys", "writer_keys", "witnesses"]
)
def test_every_field_is_needed(golden: Any, missing: str) -> None:
    value = json.loads(golden.trust_bytes)
    del value[missing]
    with pytest.raises(LedgerIntegrityError):
        TrustRoot.parse(json.dumps(value).encode())


def test_the_longest_trust_file(golden: Any) -> None:
    longest = golden.trust_bytes + b" " * (1_048_576 - len(golden.trust_bytes))
    assert TrustRoot.parse(longest) == golden.trust
    with pytest.raises(LedgerIntegrityError, match="is longer than"):
        TrustRoot.parse(longest + b" ")


def test_a_list_that_is_none_is_named(golden: Any) -> None:
    value = {**json.loads(golden.trust_bytes), "witnesses": "x"}
    with pytest.raises(LedgerIntegrityError, match="witnesses in the trust file is not a list"):
        TrustRoot.parse(json.dumps(value).encode())


def test_an_origin_that_could_not_be_signed_is_not_written(golden: Any) -> None:
    root = TrustRoot("log \ud800", golden.trust.log_keys)
    with pytest.raises(LedgerIntegrityError):
        root.as_bytes()
