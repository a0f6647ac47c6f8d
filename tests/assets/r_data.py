"""Data sets of R packages that published test vectors rest on, from Debian when a test needs them.

Both packages are under the GPL, so they are fetched and never committed. R is not needed to read
them. They are fetched once, into the ignored ``build/``.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

CACHE = Path(__file__).parents[2] / "build" / "test-data"
ASAH = ("r-cran-proc", "usr/lib/R/site-library/pROC/data/Rdata.rdb")
MASS = ("r-cran-mass", "usr/lib/R/library/MASS/data/Rdata.rdb")

_SYMBOL, _PAIRS, _CHARS, _INTEGERS, _DOUBLES, _STRINGS, _LIST = 1, 2, 9, 13, 14, 16, 19
_NIL, _REFERENCE = 254, 255


class NotFetchedError(Exception):
    """The package cannot be had here."""


def read_asah() -> dict[str, list]:
    """Return pROC's aneurysm data, columns by name, factors as integers from 1.

    Raises:
        NotFetchedError: No ``apt-get``, or the package cannot be downloaded.
    """
    return _read(*ASAH, {"outcome", "wfns", "s100b", "ndka"})


def read_birth_weights() -> dict[str, list]:
    """Return MASS's birthwt (Hosmer and Lemeshow's low birth weights), columns by name.

    Raises:
        NotFetchedError: No ``apt-get``, or the package cannot be downloaded.
    """
    return _read(*MASS, {"low", "lwt", "ptl", "ftv"})


def _read(package: str, member: str, columns: set[str]) -> dict[str, list]:
    """Return the data frame of a package with these columns; objects stand one after another."""
    cache = CACHE / f"{package}.rdb"
    if not cache.exists():
        _fetch(package, member, cache)
    data = cache.read_bytes()
    while data:
        size = struct.unpack(">I", data[:4])[0]
        stream = zlib.decompressobj()
        serialised = stream.decompress(data[4:])
        assert len(serialised) == size
        if all(name.encode() in serialised for name in columns):
            return Serialised(serialised).data_frame()
        data = stream.unused_data
    raise AssertionError(f"{package} holds no data with the columns {sorted(columns)}")


def _fetch(package: str, member: str, cache: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "download", package]
        if not _run(download, folder) and _run(["apt-get", "update"], folder):
            _run(download, folder)
        packages = list(Path(folder).glob(f"{package}_*.deb"))
        if not packages:
            raise NotFetchedError(f"Debian's package {package} cannot be downloaded here.")
        _run(["dpkg-deb", "--extract", str(packages[0]), f"{folder}/x"], folder)
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}.part")
        shutil.copy(Path(folder) / "x" / member, partial)
        partial.replace(cache)


def _run(command: list[str], folder: str) -> bool:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class Serialised:
    """As much of R's XDR serialisation as a data frame of numbers, texts and factors needs.

    Source:
        R Internals, section 1.8, serialization formats.
    """

    def __init__(self, data: bytes) -> None:
        assert data[:2] == b"X\n", "not R's XDR format"
        self.data, self.at, self.symbols = data, 2, []
        version = self._int()
        self.at += 8
        if version == 3:
            self.at += 4 + struct.unpack_from(">i", data, self.at)[0]

    def data_frame(self) -> dict[str, list]:
        columns, attributes = self._item()
        return dict(zip(attributes["names"], columns, strict=True))

    def _int(self) -> int:
        self.at += 4
        return struct.unpack_from(">i", self.data, self.at - 4)[0]

    def _numbers(self, letter: str, width: int) -> list:
        count = self._int()
        self.at += count * width
        return list(struct.unpack_from(f">{count}{letter}", self.data, self.at - count * width))

    def _item(self):
        """Return a value and its attributes."""
        flags = self._int()
        kind, has_attributes = flags & 0xFF, bool(flags & 0x200)
        if kind == _NIL:
            return None, {}
        if kind == _REFERENCE:
            return self.symbols[(flags >> 8) - 1], {}
        if kind == _SYMBOL:
            self.symbols.append(self._item()[0])
            return self.symbols[-1], {}
        if kind == _CHARS:
            length = self._int()
            self.at += length
            return self.data[self.at - length : self.at].decode(), {}
        if kind == _PAIRS:
            return self._pairs(flags), {}
        value = self._vector(kind)
        return value, (self._item()[0] or {}) if has_attributes else {}

    def _vector(self, kind: int) -> list:
        if kind == _INTEGERS:
            return self._numbers("i", 4)
        if kind == _DOUBLES:
            return self._numbers("d", 8)
        assert kind in {_STRINGS, _LIST}, f"R type {kind} is not read"
        return [self._item()[0] for _ in range(self._int())]

    def _pairs(self, flags: int) -> dict:
        pairs = {}
        while flags & 0xFF == _PAIRS:
            assert flags & 0x400, "a pair without a tag"
            tag = self._item()[0]
            pairs[tag] = self._item()[0]
            flags = self._int()
        return pairs
