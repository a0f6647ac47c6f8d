"""A reader of C2SP tlog-tiles that shares no code with the package; `check_log` or AssertionError.

It follows the specifications (tlog-tiles, tlog-checkpoint, signed-note, RFC 6962 section 2.1), and
is slow on purpose: the root comes from RFC 6962's recursive definition over the entries alone, and
every tile is compared with the definition of the hashes that it should hold.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962's MTH, as it is written there."""
    if not leaves:
        return _sha256(b"")
    if len(leaves) == 1:
        return _sha256(b"\x00" + leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return _sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:]))


def path_of(level: str, index: int, width: int) -> str:
    digits = str(index)
    digits = digits.zfill((len(digits) + 2) // 3 * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{name}" + ("" if width == 256 else f".p/{width}")


def open_note(note: bytes, vkey: str) -> tuple[str, int, bytes]:
    """Origin, size and root hash of a checkpoint that this key has signed."""
    name, key_hash, encoded = vkey.strip().split("+", 2)
    typed = base64.b64decode(encoded)
    assert typed[0] == 1
    assert _sha256(name.encode() + b"\n" + typed)[:4].hex() == key_hash
    text, signatures = note.decode().split("\n\n")
    body = text + "\n"
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        assert dash == "\u2014"
        raw = base64.b64decode(signature)
        if signer == name and raw[:4].hex() == key_hash:
            Ed25519PublicKey.from_public_bytes(typed[1:]).verify(raw[4:], body.encode())
            origin, size, root = body.splitlines()
            return origin, int(size), base64.b64decode(root)
    raise AssertionError("the key has not signed this checkpoint")


def read_entries(folder: Path, size: int) -> list[bytes]:
    entries: list[bytes] = []
    while len(entries) < size:
        width = min(256, size - len(entries))
        bundle = (folder / path_of("entries", len(entries) // 256, width)).read_bytes()
        for _ in range(width):
            length = int.from_bytes(bundle[:2], "big")
            assert len(bundle) >= 2 + length
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
        assert bundle == b""
    return entries


def check_tiles(folder: Path, entries: list[bytes]) -> set[str]:
    """Compare every tile of a log of these entries; the paths that it must have."""
    level, span, paths = 0, 1, set()
    while len(entries) // span:
        count = len(entries) // span
        hashes = [tree_hash(entries[i * span : (i + 1) * span]) for i in range(count)]
        for index in range(0, count, 256):
            tile = hashes[index : index + 256]
            path = path_of(str(level), index // 256, len(tile))
            assert (folder / path).read_bytes() == b"".join(tile), path
            paths.add(path)
        level, span = level + 1, span * 256
    return paths


def check_log(folder: Path, vkey: str) -> tuple[str, list[bytes]]:
    """Check a whole export against a key; its origin and entries."""
    origin, size, root = open_note((folder / "checkpoint").read_bytes(), vkey)
    entries = read_entries(folder, size)
    assert tree_hash(entries) == root
    check_tiles(folder, entries)
    return origin, entries
