"""Finding pickles: files that run code when they are loaded, whatever they are called.

A pickle can call any function while it is read, so a model that holds one cannot be judged by its
bytes. Looked for by name and by content: bare pickles of every protocol, compressed ones as joblib
writes them, object arrays of NumPy, and zip and tar archives that hold any of these (PyTorch's
``.pt`` is a zip). Only the first 64 KiB of a file, and of each member of an archive, are looked at.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import re
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO, cast

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"})

_HEAD_BYTES = 64 * 1024
_MAX_NESTING = 3
_HEADER = re.compile(rb"\x80[\x02-\x05]")
_CALLS = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "BUILD"}
)
_ZIP = b"PK\x03\x04"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_LZ4 = b"\x04\x22\x4d\x18"
_LZMA = (b"\xfd7zXZ\x00", b"\x5d\x00\x00")
_UNSEARCHABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
)


def find_pickle(name: str, file: IO[bytes], nesting: int = 0) -> str | None:
    """Tell in words where a file holds a pickle, or return None.

    Args:
        name: Name of the file, for its ending; empty if it has none.
        file: Seekable and at its start; left at an arbitrary position.
        nesting: How many archives it stands in; what is nested deeper than 3 is refused unsearched.

    Source:
        CWE-502; the opcodes that `pickletools` describes; the NPY format (arrays of objects).
    """
    if PurePosixPath(name).suffix.lower() in PICKLE_SUFFIXES:
        return "is called a pickle"
    head = file.read(_HEAD_BYTES)
    if found := _in_head(head):
        return found
    if not _is_archive(head):
        unpacked = _unpacked(head, file)
        found = _in_member("", unpacked, nesting) if unpacked else None
        return f"is compressed, and its content {found}" if found else None
    try:
        return _in_archive(head, file, nesting)
    except _UNSEARCHABLE as error:
        return f"is an archive that cannot be searched for pickles ({error})"


def _in_head(head: bytes) -> str | None:
    if _HEADER.match(head):
        return "starts like a pickle"
    if head.startswith(b"\x93NUMPY") and re.search(rb"'\|?O'", head.split(b"\n", 1)[0]):
        return "is a NumPy array of objects, which are pickled"
    if head.startswith(_LZ4):
        return "is LZ4-compressed, which hides pickles from this check"
    return "is a pickle without a header" if _is_old_pickle(head) else None


def _is_old_pickle(head: bytes) -> bool:
    """Protocols 0 and 1 have no header: what decodes up to STOP and calls something is a pickle."""
    stream = io.BytesIO(head)
    calls = False
    try:
        for opcode, _, position in pickletools.genops(stream):
            if position == 0 and opcode.stack_before:
                return False  # it would take from an empty stack: most text is told apart here
            calls = calls or opcode.name in _CALLS
    except Exception:  # noqa: BLE001 - genops raises whatever its argument readers raise
        return calls and len(head) == _HEAD_BYTES and stream.tell() == len(head)
    return calls


def _is_archive(head: bytes) -> bool:
    return head.startswith(_ZIP) or head[257:262] == b"ustar"


def _unpacked(head: bytes, file: IO[bytes]) -> IO[bytes] | None:
    """Return what a compressed file holds, as a file; None if it is not compressed."""
    if head.startswith(_ZLIB):
        try:
            return io.BytesIO(zlib.decompressobj().decompress(head, _HEAD_BYTES))
        except zlib.error:
            return None
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if head.startswith(_LZMA) else None


def _in_member(name: str, member: IO[bytes], nesting: int) -> str | None:
    if nesting >= _MAX_NESTING:
        return "is nested too deep to be searched for pickles"
    try:
        return find_pickle(name, member, nesting + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return None  # it only began like a compressed file: nothing can unpack it


def _in_archive(head: bytes, file: IO[bytes], nesting: int) -> str | None:
    file.seek(0)
    if head.startswith(_ZIP):
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as member:
                    if found := _in_member(entry.filename, member, nesting):
                        return f"is a zip archive in which {entry.filename!r} {found}"
        return None
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            extracted = tar.extractfile(info) if info.isfile() else None
            if extracted and (found := _in_member(info.name, extracted, nesting)):
                return f"is a tar archive in which {info.name!r} {found}"
    return None
