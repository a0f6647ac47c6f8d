"""The trust file: golden bytes, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import Vkey
from airflow_mlgov.ledger.signatures import keyid
from airflow_mlgov.ledger.trust import MAX_BYTES, TrustRoot
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


def test_one_key_cannot_have_two_roles(golden: Any) -> None:
    value = json.loads(golden.trust_bytes)
    value["attestor_keys"] = [str(Vkey("other-name", golden.public("writer")))]
    with pytest.raises(LedgerIntegrityError, match="twice"):
        TrustRoot.parse(json.dumps(value).encode())


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
    longest = golden.trust_bytes + b" " * (MAX_BYTES - len(golden.trust_bytes))
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
