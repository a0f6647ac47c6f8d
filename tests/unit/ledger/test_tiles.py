"""Tiles, read back by a reader that shares no code with what wrote them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from airflow_mlgov.ledger.tiles import tile_files, tile_path

_FILE = Path(__file__).resolve().parents[2] / "assets" / "tiles_reader.py"
_SPEC = importlib.util.spec_from_file_location("tiles_reader", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
reader: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reader)


def write(folder: Path, leaves: list[bytes]) -> set[str]:
    paths = set()
    for path, data in tile_files(leaves):
        assert path not in paths
        paths.add(path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return paths


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_793])
def test_every_tile_is_there_and_no_other(tmp_path: Path, size: int) -> None:
    leaves = [b"%d" % i for i in range(size)]
    paths = write(tmp_path, leaves)
    assert reader.read_entries(tmp_path, size) == leaves
    entries = {path for path in paths if path.startswith("tile/entries/")}
    assert len(entries) == -(-size // 256)
    assert reader.check_tiles(tmp_path, leaves) == paths - entries


def test_a_log_without_entries_has_no_files() -> None:
    assert list(tile_files([])) == []


def test_entries_of_any_length(tmp_path: Path) -> None:
    leaves = [b"", b"\x00\x01", b"x" * 65_535]
    write(tmp_path, leaves)
    assert reader.read_entries(tmp_path, 3) == leaves
    with pytest.raises(OverflowError):
        list(tile_files([b"x" * 65_536]))


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"),
        (0, 7, "tile/0/000.p/7"),
        (999, 256, "tile/0/999"),
        (1000, 256, "tile/0/x001/000"),
        (1234067, 1, "tile/0/x001/x234/067.p/1"),
    ],
)
def test_paths_are_those_of_the_specification(index: int, width: int, path: str) -> None:
    assert tile_path("0", index, width) == path
