"""A bundle: one model's entries and what proves them, in one file of which each byte is fixed.

The file is a ZIP archive with nothing compressed, names sorted and dates fixed, so the same content
has one encoding. Reading it means taking it apart, putting it together again and comparing: what a
hostile archive could hide (comments, links, overlapping or repeated files, bytes before or after)
makes another file. Format version 1.

Source:
    PKWARE APPNOTE 6.3.10 sections 4.3.7, 4.3.12 and 4.3.16 (headers of a ZIP archive).
"""

from __future__ import annotations

import binascii
import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlgov.errors import LedgerIntegrityError
from airflow_mlgov.ledger.view import SealedEntry
from airflow_mlgov.records.canonical import canonical_bytes, parse_canonical
from airflow_mlgov.records.digest import Digest

VERSION = 1
MAX_BUNDLE_BYTES = 512 * 1024 * 1024
MAX_FILES = 60_000
HEADER_FILE = "bundle.json"
CHECKPOINT_FILE = "checkpoint"

_NAME = re.compile(
    r"bundle\.json|checkpoint|entries/(0|[1-9][0-9]{0,18})\.dsse"
    r"|proofs/(0|[1-9][0-9]{0,18})\.tlog-proof|disclosures/(0|[1-9][0-9]{0,18})\.json"
    r"|anchored/(0|[1-9][0-9]{0,18})\.(note|proof|cosignatures)|timestamps/[0-9a-f]{64}\.tsr"
    r"|evidence/[0-9a-f]{64}|model/[0-9a-f]{64}\.json|waiting/[0-9a-f]{64}\.dsse"
)
_FIELDS = frozenset(
    ["v", "origin", "model", "version", "size", "root_hash", "files", "could_not_be_had"]
)
_DATE_1980 = (0, 0x21)
_MADE_BY_UNIX, _REGULAR_FILE = 3 << 8 | 20, 0o100644 << 16
_FILE, _LISTED, _LAST = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_LOCAL = struct.Struct("<5H3L2H")
_CENTRAL = struct.Struct("<6H3L5H2L")
_END = struct.Struct("<4H2LH")


@dataclass(frozen=True)
class BundleHeader:
    """What a bundle says about itself; nothing signs it, so nothing rests on it alone.

    Attributes:
        origin: The log.
        model: Inventory id.
        version: The version that was asked for; None for the whole model.
        size: Leaves under the checkpoint.
        root_hash: Root of their tree, 64 hexadecimal characters.
        could_not_be_had: Names of files that belong into it and that its maker could not get.
    """

    origin: str
    model: str
    version: Digest | None
    size: int
    root_hash: str
    could_not_be_had: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """A bundle that was taken apart; nothing that it holds was believed yet.

    Attributes:
        header: What it says about itself.
        files: Content by name, ``bundle.json`` aside.
        lacking: Names that its own list has and it has not.
    """

    header: BundleHeader
    files: Mapping[str, bytes]
    lacking: tuple[str, ...] = ()


def entry_file(index: int) -> str:
    """Return the name of an entry's file."""
    return f"entries/{index}.dsse"


def proof_file(index: int) -> str:
    """Return the name of an entry's inclusion proof."""
    return f"proofs/{index}.tlog-proof"


def disclosures_file(index: int) -> str:
    """Return the name of what opens an entry's commitments."""
    return f"disclosures/{index}.json"


def evidence_file(digest: Digest) -> str:
    """Return the name of an evidence document."""
    return f"evidence/{digest.hex}"


def manifest_file(version: Digest) -> str:
    """Return the name of a version's manifest."""
    return f"model/{version.hex}.json"


def waiting_file(key: str) -> str:
    """Return the name of an acknowledged entry that no checkpoint covers yet."""
    return f"waiting/{key.removeprefix('sha256:')}.dsse"


def anchored_file(size: int, kind: str) -> str:
    """Return the name of a checkpoint that anchors took, or of what belongs to it.

    Args:
        size: Leaves under it.
        kind: ``note`` for itself, ``proof`` that the bundle's checkpoint extends it, or
            ``cosignatures``: lines to go after the note's own.
    """
    return f"anchored/{size}.{kind}"


def timestamp_file(data: bytes) -> str:
    """Return the name of a time-stamp over an anchored checkpoint's note."""
    return f"timestamps/{hashlib.sha256(data).hexdigest()}.tsr"


def numbers_in(files: Iterable[str], folder: str) -> list[int]:
    """Return the numbers that stand in the names of a folder's files, in order.

    Args:
        files: Names that may be in a bundle.
        folder: ``entries/``, ``proofs/``, ``disclosures/`` or ``anchored/``.
    """
    names = (name.removeprefix(folder) for name in files if name.startswith(folder))
    return sorted({int(name.split(".")[0]) for name in names})


def files_due(entries: Iterable[SealedEntry], version: Digest | None) -> dict[str, int]:
    """Return which documents and manifests belong into a bundle, by name.

    Args:
        entries: Sound entries of the model.
        version: Only what entries about this version name; None for all.

    Returns:
        The index of the first entry that names each. Documents are what a body names under
        ``evidence_sha256``, ``policy_sha256`` and ``evidence``; manifests those of versions that
        were registered.
    """
    due: dict[str, int] = {}
    for entry in entries:
        if version is not None and entry.version != version:
            continue
        fields = ("evidence_sha256", "policy_sha256")
        named = [entry.body[field] for field in fields if field in entry.body]
        named += [digest for _, digest in entry.body.get("evidence", ())]
        for text in named:
            due.setdefault(evidence_file(Digest.parse(text)), entry.index)
        if entry.kind == "model.registered" and entry.version is not None:
            due.setdefault(manifest_file(entry.version), entry.index)
    return due


def write_bundle(header: BundleHeader, files: Mapping[str, bytes]) -> bytes:
    """Return a bundle's bytes: the same for the same content, wherever and whenever.

    Raises:
        LedgerIntegrityError: More or larger files than a bundle may hold, or a name that may not be
            in it; a retry does not help.
    """
    listed = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items()
    }
    value = {
        "v": VERSION,
        "origin": header.origin,
        "model": header.model,
        "version": None if header.version is None else str(header.version),
        "size": header.size,
        "root_hash": header.root_hash,
        "could_not_be_had": sorted(header.could_not_be_had),
        "files": listed,
    }
    return _pack({**files, HEADER_FILE: canonical_bytes(value)})


def read_bundle(data: bytes) -> Bundle:
    """Return a bundle taken apart, after checking that it is exactly what it says it is.

    Raises:
        LedgerIntegrityError: Not a file that `write_bundle` could have written, or a file in it is
            not as its list says; a retry does not help.
    """
    files = _unpack(data)
    if HEADER_FILE not in files:
        raise LedgerIntegrityError(f"The bundle has no {HEADER_FILE}.")
    value = parse_canonical(files.pop(HEADER_FILE))
    header, listed = _header_of(value)
    for name, content in files.items():
        if name not in listed:
            raise LedgerIntegrityError(f"{name} is in the bundle and not in its list of files.")
        as_found = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if listed[name] != as_found:
            raise LedgerIntegrityError(f"{name} is not as the bundle's list says: it was altered.")
    return Bundle(header, files, tuple(sorted(listed.keys() - files.keys())))


def _header_of(value: Any) -> tuple[BundleHeader, dict[str, Any]]:
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise LedgerIntegrityError(
            f"{HEADER_FILE} holds {', '.join(sorted(_FIELDS))}, nothing else."
        )
    if value["v"] != VERSION or isinstance(value["v"], bool):
        raise LedgerIntegrityError(
            f"Bundle version {value['v']!r} is not known; this code reads {VERSION}."
        )
    for name, kind in _TYPES.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise LedgerIntegrityError(f"{name} in {HEADER_FILE} has the wrong type.")
    version, absent, listed = value["version"], value["could_not_be_had"], value["files"]
    for name in (*absent, *listed):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise LedgerIntegrityError(f"{HEADER_FILE} lists {name!r}, which is in no bundle.")
    if version is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", version):
        raise LedgerIntegrityError(f"version in {HEADER_FILE} is not a manifest digest.")
    header = BundleHeader(
        origin=value["origin"],
        model=value["model"],
        version=None if version is None else Digest.parse(version),
        size=value["size"],
        root_hash=value["root_hash"],
        could_not_be_had=tuple(absent),
    )
    return header, listed


_TYPES: Mapping[str, Any] = {
    "origin": str,
    "model": str,
    "version": str | None,
    "size": int,
    "root_hash": str,
    "could_not_be_had": list,
    "files": dict,
}


def _pack(files: Mapping[str, bytes]) -> bytes:
    _check_limits(len(files), sum(map(len, files.values())))
    body, directory = bytearray(), bytearray()
    for name, content in sorted(files.items()):
        _check_name(name)
        raw = name.encode("ascii")
        sizes = (binascii.crc32(content), len(content), len(content))
        shared = (20, 0, 0, *_DATE_1980, *sizes, len(raw), 0)
        listed = _CENTRAL.pack(_MADE_BY_UNIX, *shared, 0, 0, 0, _REGULAR_FILE, len(body))
        directory += _LISTED + listed + raw
        body += _FILE + _LOCAL.pack(*shared) + raw + content
    count = len(files)
    body += directory + _LAST + _END.pack(0, 0, count, count, len(directory), len(body), 0)
    _check_limits(count, len(body))
    return bytes(body)


def _unpack(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    at = 0
    while data.startswith(_FILE, at):
        _check_limits(len(files) + 1, len(data))
        name, content, at = _next_file(data, at + len(_FILE))
        if name in files:
            raise LedgerIntegrityError(f"{name} stands in the bundle twice.")
        files[name] = content
    if _pack(files) != data:
        raise LedgerIntegrityError(
            "Not a bundle, or not in its one form: something compressed, a link, a comment, "
            "another order, bytes before or after what it lists, or a part cut off."
        )
    return files


def _next_file(data: bytes, at: int) -> tuple[str, bytes, int]:
    try:
        header = _LOCAL.unpack_from(data, at)
    except struct.error:
        raise LedgerIntegrityError("The bundle is cut off in the middle of a file.") from None
    size, name_length = header[7], header[8]
    start = at + _LOCAL.size
    end = start + name_length
    name = data[start:end].decode("latin-1")
    _check_name(name)
    return name, data[end : end + size], end + size


def _check_limits(count: int, size: int) -> None:
    if count > MAX_FILES:
        raise LedgerIntegrityError(f"No bundle has more than {MAX_FILES} files.")
    if size > MAX_BUNDLE_BYTES:
        raise LedgerIntegrityError(f"No bundle has more than {MAX_BUNDLE_BYTES} bytes.")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise LedgerIntegrityError(
            f"{name[:200]!r} may not be in a bundle: it holds entries, proofs, disclosures, "
            "evidence, manifests and what anchors gave under their fixed names, and never a key or "
            "trust file."
        )
