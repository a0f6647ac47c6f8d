"""Checkpoints in a folder that somebody else keeps: another team's disk, an object-lock bucket."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airflow_mlgov.errors import AnchorError, AnchorUnavailableError, LedgerIntegrityError
from airflow_mlgov.ledger.checkpoint import MAX_NOTE_BYTES, Checkpoint
from airflow_mlgov.ledger.merkle import MerkleTree

KIND = "directory"
LATEST = "latest"

_FILE = re.compile(r"(?P<size>0|[1-9][0-9]{0,18})-(?P<root>[0-9a-f]{16})\.note")
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class DirectoryAnchor:
    """Writes each checkpoint to a file of its own, and never other bytes over it.

    Attributes:
        name: What the settings call it.
        folder: Absolute path; it must be there, so that a mount that is not makes itself felt.
    """

    name: str
    folder: Path

    @property
    def kind(self) -> str:
        """``directory``."""
        return KIND

    def place(self, origin: str) -> Path:
        """Return the folder of a log's checkpoints."""
        # Two origins that differ in unusual characters only must not share a folder.
        digest = hashlib.sha256(origin.encode("utf-8")).hexdigest()[:16]
        return self.folder / f"{_UNUSUAL.sub('_', origin)[:80]}-{digest}"

    def take(self, checkpoint: Checkpoint, tree: Callable[[], MerkleTree], since: int) -> bytes:  # noqa: ARG002
        """Write a checkpoint, if it extends the newest one that is there; return nothing."""
        place, note = self.place(checkpoint.origin), checkpoint.note.encode("utf-8")
        path = place / f"{checkpoint.size}-{checkpoint.root_hash[:16]}.note"
        try:
            self._check_is_there()
            place.mkdir(exist_ok=True)
            self._check_extends(place, checkpoint, tree)
            if not path.exists():
                _write(path, note)
            elif path.read_bytes() != note:
                raise LedgerIntegrityError(
                    f"{path} holds other bytes than the checkpoint over {checkpoint.size} entries."
                )
            _write(place / LATEST, note)
        except OSError as error:
            raise self._unavailable(error) from error
        return b""

    def check(self, note: bytes, data: bytes) -> datetime | None:
        """Check that a checkpoint is still there; a folder vouches for no time."""
        origin, size, *_ = note.decode("utf-8", errors="replace").split("\n")
        if data or note not in self._notes(origin, f"{size}-*.note"):
            raise LedgerIntegrityError(
                f"The checkpoint over {size} entries is not in {self.place(origin)}, or is another."
            )
        return None

    def notes(self, origin: str) -> list[bytes]:
        """Return the checkpoints of a log that are there, in the order of their names."""
        return self._notes(origin, "*.note")

    def _notes(self, origin: str, pattern: str) -> list[bytes]:
        try:
            self._check_is_there()
            paths = sorted(self.place(origin).glob(pattern))
            return [_read(path) for path in paths if _FILE.fullmatch(path.name)]
        except OSError as error:
            raise self._unavailable(error) from error

    def _check_is_there(self) -> None:
        if not self.folder.is_dir():
            raise AnchorUnavailableError(
                f"Anchor {self.name}: there is no folder {self.folder}.",
                remedy="Make or mount it; it is not made here, where it would be the ledger's own.",
            )

    def _check_extends(
        self, place: Path, checkpoint: Checkpoint, tree: Callable[[], MerkleTree]
    ) -> None:
        found = [match for path in place.iterdir() if (match := _FILE.fullmatch(path.name))]
        newest = max((int(match["size"]) for match in found), default=0)
        roots = {match["root"] for match in found if int(match["size"]) == newest}
        if newest == checkpoint.size:
            extends = roots <= {checkpoint.root_hash[:16]}
        else:
            extends = newest < checkpoint.size and (
                not newest or roots == {tree().root(newest).hex()[:16]}
            )
        if not extends:
            raise LedgerIntegrityError(
                f"Anchor {self.name} keeps a signed checkpoint over {newest} entries in {place}, "
                f"which the ledger's over {checkpoint.size} entries does not extend: entries that "
                "were signed are gone or are others."
            )

    def _unavailable(self, error: OSError) -> AnchorError:
        return AnchorUnavailableError(
            f"Anchor {self.name}: {self.folder} cannot be used: {error.strerror or error}."
        )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_NOTE_BYTES + 1)


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some mounts have nothing to sync in a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
