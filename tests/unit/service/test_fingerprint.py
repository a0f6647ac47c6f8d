from __future__ import annotations

import hashlib
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from airflow_mlgov.errors import DataError
from airflow_mlgov.service.fingerprint import (
    Column,
    Fingerprint,
    fingerprint_stream,
    fingerprint_table,
)

COLUMNS = [Column("id", "int64"), Column("name", "str")]
NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001 - databases hold such times
ROWS = [[1, 2, 3], ["a", "b", None]]


def _of(cells: list[Any]) -> str:
    return fingerprint_table([Column("c", "object")], [[cells]]).sha256.hex


def test_a_file_is_its_bytes_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"\xef\xbb\xbfid\n1\n" * 100_000)
    with path.open("rb") as file:
        file.read(10)
        assert fingerprint_stream(file).hex == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_documented_form_by_hand() -> None:
    ids = hashlib.sha256(b"i1;i2;i3;").hexdigest()
    names = hashlib.sha256(b"s1:as1:bn").hexdigest()
    text = (
        f'{{"columns":[{{"name":"id","sha256":"{ids}","type":"int64"}},'
        f'{{"name":"name","sha256":"{names}","type":"str"}}],"form":"columns-1","rows":3}}'
    )

    found = fingerprint_table(COLUMNS, [ROWS])

    assert found.sha256.hex == hashlib.sha256(text.encode()).hexdigest()
    assert (found.form, found.rows, found.columns) == ("columns-1", 3, tuple(COLUMNS))


def test_the_form_never_changes() -> None:
    everything = [
        True, 7, 1.5, -0.0, "é", b"\x00", Decimal("1.10"), NAIVE.replace(hour=3, microsecond=6),
        NAIVE.replace(tzinfo=UTC), date(2026, 1, 2), time(3, 4), timedelta(days=-1, seconds=2),
        UUID(int=5), None, float("nan"), float("inf"), 10**20,
    ]  # fmt: skip
    bytes_by_hand = (
        b"ti7;d1.5;d-0.0;s2:\xc3\xa9b1:\x00m4:1.10T26:2026-01-02T03:00:00.000006"
        b"T25:2026-01-02T00:00:00+00:00D10:2026-01-02C8:03:04:00P11:-1d2s0us0ns"
        b"u32:00000000000000000000000000000005nndinf;i100000000000000000000;"
    )
    column = {"name": "c", "sha256": hashlib.sha256(bytes_by_hand).hexdigest(), "type": "object"}
    form = {"columns": [column], "form": "columns-1", "rows": len(everything)}
    text = json.dumps(form, sort_keys=True, separators=(",", ":"))

    assert _of(everything) == hashlib.sha256(text.encode()).hexdigest()
    assert _of(everything) == "f128bf1bfccc7db5a40408f8b4ebf4a4aaeabbd5f99d3222ba37c5566555e6a8"


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (COLUMNS, [[1, 2, 4], ["a", "b", None]]),
        (COLUMNS, [[1, 2, 3], ["a", "b", ""]]),
        (COLUMNS, [[2, 1, 3], ["b", "a", None]]),
        (COLUMNS, [[1, 2], ["a", "b"]]),
        (COLUMNS, [[True, 2, 3], ["a", "b", None]]),
        (COLUMNS, [[1.0, 2.0, 3.0], ["a", "b", None]]),
        (COLUMNS, [["1", "2", "3"], ["a", "b", None]]),
        (COLUMNS, [[1, 2, 3], ["ab", "", None]]),
        (COLUMNS, [ROWS[1], ROWS[0]]),
        (COLUMNS[::-1], ROWS[::-1]),
        ([Column("ID", "int64"), COLUMNS[1]], ROWS),
        ([Column("id", "int32"), COLUMNS[1]], ROWS),
    ],
    ids=[
        "changed cell", "empty for missing", "row order", "fewer rows", "true for 1",
        "float for int",
        "text for int", "moved letter", "swapped content", "column order", "name", "type",
    ],
)  # fmt: skip
def test_anything_that_matters_changes_it(columns: list[Column], rows: list[list[Any]]) -> None:
    assert fingerprint_table(columns, [rows]).sha256 != fingerprint_table(COLUMNS, [ROWS]).sha256


def test_the_size_of_blocks_changes_nothing() -> None:
    whole = fingerprint_table(COLUMNS, [ROWS])
    pieces = fingerprint_table(COLUMNS, ([[cells[i]] for cells in ROWS] for i in range(3)))

    assert pieces == whole


def test_a_mixed_column_has_the_bytes_of_its_cells() -> None:
    mixed = fingerprint_table([Column("c", "t")], [[[1, 2]], [[None, 3]]])
    assert mixed == fingerprint_table([Column("c", "t")], [[[1, 2, None, 3]]])


def test_no_rows_and_no_columns_are_told_apart() -> None:
    empty = fingerprint_table([Column("c", "t")], [])
    assert empty.rows == 0
    assert empty.sha256 != fingerprint_table([], []).sha256


def test_what_has_no_fixed_bytes_is_refused() -> None:
    with pytest.raises(DataError, match="Column 'c' holds a list"):
        _of([[1, 2]])


def test_numpy_and_pandas_values_count_as_what_they_are() -> None:
    import numpy as np
    import pandas as pd

    assert _of([np.int64(1), np.float64(0.1), np.bool_(True)]) == _of([1, 0.1, True])
    assert _of([pd.NA, pd.NaT, np.float32("nan")]) == _of([None, None, None])
    assert _of([pd.Timestamp("2026-01-02")]) == _of([NAIVE])
    assert _of([pd.Timestamp(1)]) != _of([pd.Timestamp(0)])
    assert _of([pd.Timedelta(1)]) != _of([pd.Timedelta(0)])
    with pytest.raises(DataError, match="ndarray"):
        _of([np.array([1])])


def test_as_json_is_what_evidence_holds() -> None:
    found: Fingerprint = fingerprint_table(COLUMNS, [ROWS])
    assert found.as_json() == {
        "sha256": str(found.sha256),
        "form": "columns-1",
        "rows": 3,
        "columns": 2,
        "schema": [{"name": "id", "type": "int64"}, {"name": "name", "type": "str"}],
    }
