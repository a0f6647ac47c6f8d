"""Canonical JSON for everything that is hashed or signed.

RFC 8785 (JCS) over the subset that signed payloads may hold: objects with string keys, arrays,
strings, integers within ±(2^53-1), booleans and null. Floats are refused: a metric goes in as a
decimal string. The verifier ships this file, so it uses the standard library only.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any, NoReturn, TypeAlias

from airflow_mlgov.errors import LedgerIntegrityError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | bool | None"

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DEPTH = 32
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def canonical_bytes(value: Any) -> bytes:
    """Return the one canonical UTF-8 encoding of a value.

    Args:
        value: Objects, arrays, NFC strings, integers within ±(2^53-1), booleans, null; at most 32
            levels deep.

    Raises:
        LedgerIntegrityError: The value holds something outside that subset; a retry does not help.

    Source:
        RFC 8785 sections 3.2.2 and 3.2.3 (keys sorted by UTF-16 code units).
    """
    return _ENCODER.encode(_ordered(value, MAX_DEPTH)).encode("utf-8")


def parse_canonical(data: bytes) -> Any:
    """Return the value that canonical bytes stand for; any other encoding is refused.

    Args:
        data: UTF-8 JSON as `canonical_bytes` writes it.

    Raises:
        LedgerIntegrityError: Not JSON, duplicate keys, floats, NaN, or not in canonical form.
    """
    value = parse_json(data)
    if canonical_bytes(value) != data:
        raise LedgerIntegrityError(
            "Not canonical JSON: the same value has another canonical encoding."
        )
    return value


def parse_json(data: bytes) -> Any:
    """Return the value of UTF-8 JSON in any layout, as strictly as what is signed.

    Args:
        data: UTF-8 without a byte order mark.

    Raises:
        LedgerIntegrityError: Not JSON, duplicate keys, floats or NaN.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_pairs,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (
        ValueError,
        RecursionError,
    ) as error:  # ValueError: also integers of more than 4,300 digits
        raise LedgerIntegrityError(f"Not canonical JSON: {error}.") from error


def signable_text(text: str, limit: int) -> str:
    """Return foreign text as a signed payload may hold it: no lone surrogates, NFC, cut.

    Args:
        text: Anything.
        limit: Characters to keep, at least 0.
    """
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return unicodedata.normalize("NFC", clean)[:limit]


def _ordered(value: Any, depth: int) -> Json:
    if depth < 0:
        raise LedgerIntegrityError(f"Nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        raise LedgerIntegrityError(f"Integer {value} is outside ±(2^53-1); write it as a string.")
    if value is None or isinstance(value, int):  # true and false are integers
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return [_ordered(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return _ordered_object(value, depth)
    raise LedgerIntegrityError(
        f"{type(value).__name__} {value!r} cannot be signed; write it as a string."
    )


def _ordered_object(value: dict[Any, Any], depth: int) -> Json:
    if not all(isinstance(key, str) for key in value):
        raise LedgerIntegrityError("An object key is not a string.")
    if all(map(str.isascii, value)):  # sorts alike in every encoding
        keys = sorted(value)
    else:
        keys = sorted(value, key=lambda key: _text(key).encode("utf-16-be"))
    return {key: _ordered(value[key], depth - 1) for key in keys}


def _text(value: str) -> str:
    if value.isascii():
        return value
    if not unicodedata.is_normalized("NFC", value):
        raise LedgerIntegrityError(f"Text {value!r} is not in Unicode normalisation form C.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LedgerIntegrityError(f"Text {value!r} holds a lone surrogate.") from error
    return value


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise LedgerIntegrityError("An object key stands twice.")
    return result


def _refuse_number(text: str) -> NoReturn:
    raise LedgerIntegrityError(f"Number {text} is not an integer; signed payloads hold no floats.")
