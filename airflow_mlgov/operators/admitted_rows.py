"""What a task shows of the rows that it is about to score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from airflow_mlgov.errors import DataError

if TYPE_CHECKING:
    from airflow_mlgov.service.conditions import Rows

_MISSING = frozenset({"None", "nan", "NaT", "<NA>"})


def shown_rows(rows: Any, columns: Iterable[str]) -> Rows:
    """Return how many rows there are, and what stands in columns.

    Args:
        rows: A pandas DataFrame, or a list of mappings.
        columns: Those to look at; one that is not there is left out.

    Raises:
        DataError: It is neither; a retry does not help.
    """
    from airflow_mlgov.service.conditions import Rows

    if hasattr(rows, "columns") and hasattr(rows, "to_numpy"):
        there = [column for column in columns if column in rows.columns]
        found = {column: _texts(rows[column].to_numpy().ravel()) for column in there}
        return Rows(len(rows), found)
    is_list = isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows)
    if not is_list:
        raise DataError(
            f"Rows to be scored are shown as a DataFrame or a list of mappings, not as a "
            f"{type(rows).__name__}.",
            remedy="Call `governed_model.admit` with the frame before it is scored.",
        )
    there = [column for column in columns if all(column in row for row in rows)]
    return Rows(len(rows), {column: _texts(row[column] for row in rows) for column in there})


def _texts(values: Iterable[Any]) -> frozenset[str]:
    return frozenset(map(value_text, values))


def value_text(value: Any) -> str:
    """Return a value as a policy pack writes it: 2.0 as ``2``, and what is missing as nothing."""
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        return f"{float(value):.0f}"
    text = normalize("NFC", str(value))
    return "" if text in _MISSING else text
