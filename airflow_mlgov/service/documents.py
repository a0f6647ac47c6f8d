"""Evidence documents as the service reads them: by digest, re-hashed, each value of its type.

A task wrote them, so nothing in them is believed to have the shape that it should have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_mlgov.errors import EvidenceError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.records.governance import TestResult
from airflow_mlgov.service.governance import Governance

_T = TypeVar("_T")
_MOST = 2**63


def document_bytes(value: Mapping[str, Any]) -> bytes:
    """Return JSON values as an evidence document holds them: the same bytes for the same values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False).encode("ascii")


def evidence_document(gov: Governance, digest: Digest) -> dict[str, Any]:
    """Return an evidence document as JSON values.

    Raises:
        EvidenceError: It is missing, altered or not a JSON object; a retry does not help.
    """
    stored = gov.evidence.get(digest)
    try:
        document = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"Evidence document {digest} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise EvidenceError(f"Evidence document {digest} is not a JSON object.")
    return document


def read_document(
    gov: Governance, kind: str, digest: Digest, read: Callable[[dict[str, Any]], _T]
) -> _T:
    """Return what an evidence document of a kind says.

    Args:
        gov: Where it is kept.
        kind: Of the ledger entry that names it.
        digest: Its digest.
        read: Takes what is needed from it; raises what the readers of this module raise.

    Raises:
        EvidenceError: It is missing, altered or not of its kind; a retry does not help.
    """
    document = evidence_document(gov, digest)
    try:
        return read(document)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise EvidenceError(
            f"Evidence document {digest} is no {kind!r} document: {error!r:.200}.",
            remedy=f"Run the step that writes {kind!r} again, then the gate.",
        ) from error


def results_of(document: dict[str, Any]) -> list[TestResult]:
    """Return the test results in a validation report.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: It holds something else.
    """
    return [_result(value) for value in of_type(document["results"], list)]


def _result(value: Any) -> TestResult:
    result = TestResult.from_json(of_type(value, dict))
    for text in (result.title, result.threshold, result.segment):
        of_type(text, str)
    for size in of_type(result.sample_sizes, dict).values():
        count_in(size)
    if result.statistic is not None:
        float(of_type(result.statistic, int | float))
    return result


def of_type(value: Any, kind: Any) -> Any:
    """Return a value of a JSON type; a boolean is no number.

    Raises:
        TypeError: It is of another.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"a {type(value).__name__} stands where a {_name(kind)} must")
    return value


def count_in(value: Any) -> int:
    """Return a value that counts something.

    Raises:
        TypeError, ValueError: It does not.
    """
    number: int = of_type(value, int)
    if not 0 <= number < _MOST:
        raise ValueError("a number of rows or columns is out of range")
    return number


def finite_in(value: Any) -> float:
    """Return a value that is a finite number.

    Raises:
        TypeError, ValueError, OverflowError: It is none.
    """
    number = float(of_type(value, int | float))
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


def share_in(value: Any) -> float:
    """Return a value that is a share or a probability, 0 to 1.

    Raises:
        TypeError, ValueError, OverflowError: It is none.
    """
    number = finite_in(value)
    if not 0 <= number <= 1:
        raise ValueError("a share is not within 0 and 1")
    return number


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
