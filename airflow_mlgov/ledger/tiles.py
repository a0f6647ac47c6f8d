"""The files of a log as transparency-log tools read them: C2SP tlog-tiles.

Source:
    C2SP tlog-tiles v1.0.0: tiles of height 8, ``tile/<level>/<n>[.p/<width>]``; entry bundles,
    ``tile/entries/<n>[.p/<width>]``, each entry after its length as a big-endian uint16.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from airflow_mlgov.ledger.merkle import leaf_hash, node_hash

TILE_WIDTH = 256
_GROUP = 1000


def tile_files(leaves: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield every tile and entry bundle of a log, in little memory.

    Partial ones come last: those at the right edge of the tree, at most one a level.

    Args:
        leaves: Exact leaf bytes in order, each at most 65,535 bytes.

    Yields:
        Path below the log's folder, and the file's bytes.

    Raises:
        OverflowError: A leaf is longer than tlog-tiles can hold.
    """
    bundle: list[bytes] = []
    tiles = _Tiles()
    for index, leaf in enumerate(leaves):
        bundle.append(len(leaf).to_bytes(2, "big") + leaf)
        if len(bundle) == TILE_WIDTH:
            yield tile_path("entries", index // TILE_WIDTH, TILE_WIDTH), b"".join(bundle)
            bundle.clear()
        yield from tiles.add(leaf_hash(leaf))
    if bundle:
        yield tile_path("entries", index // TILE_WIDTH, len(bundle)), b"".join(bundle)
    yield from tiles.partial()


def tile_path(level: str, index: int, width: int) -> str:
    """Return the path of a tile.

    Args:
        level: ``0`` to ``63``, or ``entries``.
        index: Which tile of its level, from 0.
        width: Hashes or entries in it, 1 to 256; under 256 it is a partial one.
    """
    groups = [f"{index % _GROUP:03d}"]
    while index := index // _GROUP:
        groups.append(f"x{index % _GROUP:03d}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


class _Tiles:
    """The hash tiles of a tree that grows: one open tile a level."""

    def __init__(self) -> None:
        self._open: defaultdict[int, list[bytes]] = defaultdict(list)
        self._full: Counter[int] = Counter()

    def add(self, hashed: bytes, level: int = 0) -> Iterator[tuple[str, bytes]]:
        """Add a hash; yield the tiles that it fills."""
        tile = self._open[level]
        tile.append(hashed)
        if len(tile) == TILE_WIDTH:
            yield tile_path(str(level), self._full[level], TILE_WIDTH), b"".join(tile)
            root = _root_of_tile(tile)
            self._full[level] += 1
            self._open[level] = []
            yield from self.add(root, level + 1)

    def partial(self) -> Iterator[tuple[str, bytes]]:
        """Yield the tiles that are not full yet; none of them is empty."""
        for level, tile in self._open.items():
            if tile:
                yield tile_path(str(level), self._full[level], len(tile)), b"".join(tile)


def _root_of_tile(hashes: Sequence[bytes]) -> bytes:
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]
