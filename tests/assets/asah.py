"""The aneurysm data of pROC's own tests, read from Debian's package of pROC when a test needs it.

The data is under the GPL, so it is fetched and never committed. R is not needed to read it. It is
fetched once, into the ignored ``build/``.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

CACHE = Path(__file__).parents[2] / "build" / "test-data" / "asah.rdb"
MEMBER = "usr/lib/R/site-library/pROC/data/Rdata.rdb"

_SYMBOL, _PAIRS, _CHARS, _INTEGERS, _DOUBLES, _STRINGS, _LIST = 1, 2, 9, 13, 14, 16, 19
_NIL, _REFERENCE = 254, 255


class NotFetchedError(Exception):
    """The package cannot be had here."""


def read_asah() -> dict[str, list]:
    """Return the columns by name, factors as integers from 1.

    Raises:
        NotFetchedError: No ``apt-get``, or the package cannot be downloaded.
    """
    if not CACHE.exists():
        _fetch()
    data = CACHE.read_bytes()
    size = struct.unpack(">I", data[:4])[0]
    serialised = zlib.decompress(data[4 : 4 + len(data)])
    assert len(serialised) == size
    return Serialised(serialised).data_frame()


def _fetch() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not _download(folder) and _run(["apt-get", "update"], folder):
            _download(folder)
        packages = list(Path(folder).glob("r-cran-proc_*.deb"))
        if not packages:
            raise NotFetchedError("Debian's package r-cran-proc cannot be downloaded here.")
        _run(["dpkg-deb", "--extract", str(packages[0]), f"{folder}/x"], folder)
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        partial = CACHE.with_suffix(".part")
        shutil.copy(Path(folder) / "x" / MEMBER, partial)
        partial.replace(CACHE)


def _download(folder: str) -> bool:
    return _run(["apt-get", "download", "r-cran-proc"], folder)


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
