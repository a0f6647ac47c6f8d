"""Canonical JSON against the rfc8785 package, and what must not get through (threat 29)."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.records.canonical import (
    canonical_bytes,
    parse_canonical,
    parse_json,
    signable_text,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"])).map(
    lambda s: unicodedata.normalize("NFC", s)
)
INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_the_same_bytes_as_rfc8785(value: Any) -> None:
    data = canonical_bytes(value)
    assert data == rfc8785.dumps(value)
    assert parse_canonical(data) == value


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda s: s.encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_read_as_canonical_or_refused_with_our_error(data: bytes) -> None:
    try:
        value = parse_canonical(data)
    except LedgerIntegrityError:
        return
    assert rfc8785.dumps(value) == data


def test_keys_are_sorted_by_utf16_code_units() -> None:
    value = {"\U0001f600": 1, "\uff21": 2, "\r": 3, "1": 4, "\u0080": 5}
    assert list(json.loads(canonical_bytes(value))) == ["\r", "1", "\u0080", "\U0001f600", "\uff21"]


@pytest.mark.attack(29)
@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1e0}',
        b'{"a":1E400}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":9007199254740993}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a":"e\xcc\x81"}',
        b'{"e\xcc\x81":1}',
        b'{"a":"\n"}',
        b"",
        b"{",
        b"[" * 10_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"a":1}{"a":1}',
        b"{'a':1}",
    ],
)
def test_threat_29_another_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerIntegrityError):
        parse_canonical(data)


@pytest.mark.attack(29)
@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        b"x",
        {1: 2},
        {"a", "b"},
        "e\u0301",
        "\ud800",
        {"\udfff": 1},
    ],
)
def test_threat_29_what_cannot_be_signed_is_refused(value: Any) -> None:
    with pytest.raises(LedgerIntegrityError):
        canonical_bytes(value)


@pytest.mark.attack(29)
def test_depth_is_bounded_exactly() -> None:
    for wrap in (lambda value: [value], lambda value: {"a": value}):
        deepest: Any = 1
        for _ in range(32):
            deepest = wrap(deepest)
        assert parse_canonical(canonical_bytes(deepest)) == deepest
        with pytest.raises(LedgerIntegrityError, match="deeper than 32"):
            canonical_bytes(wrap(deepest))


@pytest.mark.attack(29)
def test_texts_that_look_alike_stay_different_and_are_kept_exactly() -> None:
    texts = ["a", "a\u200b", "\u202ea", "\ufeffa", "\u0430"]
    assert len({canonical_bytes(text) for text in texts}) == len(texts)
    assert [parse_canonical(canonical_bytes(text)) for text in texts] == texts


def test_parse_json_takes_any_layout_and_nothing_else() -> None:
    assert parse_json(b' {"b": 1,\n "a": [true]} ') == {"b": 1, "a": [True]}
    with pytest.raises(LedgerIntegrityError, match="twice"):
        parse_json(b'{"a": 1, "a": 1}')
    for number in (b"1.0", b"1e400", b"NaN", b"-Infinity"):
        with pytest.raises(LedgerIntegrityError, match=f"Number {number.decode()} is not"):
            parse_json(b'{"a": ' + number + b"}")
    for data in (b"", b"{", b'{"a": 1} x', b"\xff", b"[" * 10_000):
        with pytest.raises(LedgerIntegrityError, match="Not canonical JSON"):
            parse_json(data)


@pytest.mark.parametrize(
    ("foreign", "signable"),
    [
        ("abcdef", "abcd"),
        ("a\ud800b", "a?b"),
        ("e\u0301", "\u00e9"),
        ("e\u0301" * 9, "\u00e9" * 4),
        ("\U0001f600" * 9, "\U0001f600" * 4),
        ("", ""),
    ],
)
def test_foreign_text_is_made_signable_and_cut(foreign: str, signable: str) -> None:
    assert signable_text(foreign, 4) == signable
    assert parse_canonical(canonical_bytes(signable)) == signable
