"""Fingerprints of data: what exactly was looked at.

A file's fingerprint is the SHA-256 of its bytes. A table (a DataFrame or rows of a database) has no
bytes of its own, so it gets a documented form, ``columns-1``:

1. Each cell becomes bytes: a letter for its kind and its value (see `_ENCODERS`); a missing value
   (None, NaN, NaT, NA) is ``n``.
2. Each column's cells, in row order, are hashed with SHA-256.
3. The fingerprint is the SHA-256 of the JSON text ``{"columns": [{"name", "sha256", "type"}, ...],
   "form": "columns-1", "rows": N}``: sorted keys, no spaces, ASCII only.

So a changed cell, another order of rows or columns, another name and another type are another
fingerprint; a DataFrame's index is none of the data and changes nothing. Rows of a database are
taken in the order of the primary key, or of all columns from left to right where there is none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from io import BufferedReader
from typing import Any
from uuid import UUID

from airflow_mlgov.errors import DataError
from airflow_mlgov.records.digest import Digest

FORM = "columns-1"
_MISSING = frozenset({"NoneType", "NAType", "NaTType"})  # pandas' own, known by name only


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: As the reader gives it.
        type: The reader's name of its type (``int64``, ``VARCHAR(20)``).
    """

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies a data set.

    Attributes:
        sha256: Digest of a file's bytes, or of a table's documented form.
        form: What was hashed: ``file``, or ``columns-1``.
        rows: Number of rows, without a header.
        columns: In order.
    """

    sha256: Digest
    form: str
    rows: int
    columns: tuple[Column, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fingerprint as JSON values."""
        return {
            "sha256": str(self.sha256),
            "form": self.form,
            "rows": self.rows,
            "columns": len(self.columns),
            "schema": [{"name": column.name, "type": column.type} for column in self.columns],
        }


def fingerprint_stream(file: BufferedReader) -> Digest:
    """Return the digest of all bytes of an open file, read in blocks from its start.

    Raises:
        OSError: It cannot be read.
    """
    file.seek(0)
    return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def fingerprint_table(
    columns: Sequence[Column], blocks: Iterable[Sequence[Sequence[Any]]]
) -> Fingerprint:
    """Return the fingerprint of a table in the form ``columns-1``.

    Args:
        columns: In order; no name twice.
        blocks: Blocks of rows, in order; a block is one sequence of cells for each column, all of
            the same length.

    Raises:
        DataError: A cell is of a kind that has no fixed bytes; a retry does not help.
    """
    hashes = [hashlib.sha256() for _ in columns]
    rows = 0
    for block in blocks:
        for column, cells, column_hash in zip(columns, block, hashes, strict=True):
            column_hash.update(_cells_as_bytes(column, cells))
        rows += len(block[0]) if block else 0
    form = {
        "form": FORM,
        "rows": rows,
        "columns": [
            {"name": column.name, "type": column.type, "sha256": column_hash.hexdigest()}
            for column, column_hash in zip(columns, hashes, strict=True)
        ],
    }
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Fingerprint(Digest.of(text.encode("ascii")), FORM, rows, tuple(columns))


def _cells_as_bytes(column: Column, cells: Sequence[Any]) -> bytes:
    kinds = {type(cell) for cell in cells}
    if kinds == {int}:
        # The bytes of `_ENCODERS[int]`, several times faster for what most columns are.
        return ("i" + ";i".join(map(str, cells)) + ";").encode("ascii")
    return b"".join(_cell_as_bytes(column, cell) for cell in cells)


def _cell_as_bytes(column: Column, cell: Any) -> bytes:
    kind = type(cell)
    encode = _ENCODERS.get(kind)
    if encode is not None:
        return encode(cell)
    if kind.__name__ in _MISSING:
        return b"n"
    encode = _encoder_of_base(kind)
    if encode is None and getattr(cell, "shape", None) == ():
        return _cell_as_bytes(column, cell.item())  # numpy's numbers, as Python's
    if encode is None:
        raise DataError(
            f"Column {column.name!r} holds a {kind.__name__}, which has no fingerprint.",
            remedy="Convert the column to numbers, text, booleans, bytes, dates or times.",
        )
    return encode(cell)


def _encoder_of_base(kind: type) -> Callable[[Any], bytes] | None:
    # datetime before date, as it is one; bool cannot be extended.
    return next((encode for base, encode in _ENCODERS.items() if issubclass(kind, base)), None)


def _float(value: float) -> bytes:
    # repr is the shortest text that reads back as the same double, on every platform.
    return b"n" if math.isnan(value) else f"d{float(value)!r};".encode("ascii")


def _text(letter: str, text: str) -> bytes:
    # surrogatepass: a file name read by Python may hold what is not Unicode, and must not stop us.
    encoded = text.encode("utf-8", "surrogatepass")
    return f"{letter}{len(encoded)}:".encode("ascii") + encoded


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: f"i{int(value)};".encode("ascii"),
    float: _float,
    str: lambda value: _text("s", value),
    bytes: lambda value: f"b{len(value)}:".encode("ascii") + value,
    Decimal: lambda value: b"n" if value.is_nan() else _text("m", str(value)),
    datetime: lambda value: _text("T", value.isoformat()),
    date: lambda value: _text("D", value.isoformat()),
    time: lambda value: _text("C", value.isoformat()),
    timedelta: lambda value: _text("P", _duration(value)),
    UUID: lambda value: _text("u", value.hex),
}
"""Cells as bytes. Each kind ends by a mark or states its length, so that two rows cannot be one."""


def _duration(value: timedelta) -> str:
    nanoseconds = getattr(value, "nanoseconds", 0)  # pandas' Timedelta has them
    return f"{value.days}d{value.seconds}s{value.microseconds}us{nanoseconds}ns"
