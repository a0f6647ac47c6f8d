"""Where a worker keeps lineage events while the store is away: one small file a call, on its disk.

``<folder>/<time>-<number>-<random>.json``: a line with the SHA-256 of the rest, and the rest as
JSON. A name that begins with a dot is a file that its writer has not finished, and never
acknowledged. What cannot be read back as it was written is moved to ``damaged/`` and reported.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError, LedgerUnavailableError
from airflow_mlgov.service.durable_file import make_folder, sync_folder
from airflow_mlgov.service.outbox import Outbox, OutboxItem

FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Permissions of what is made, less what the umask takes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"000\d{17}-\d{20}-[0-9a-f]{16}\.json")
_KEY = re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spooled:
    """What a spool holds.

    Attributes:
        waiting: Files that are not in the outbox yet; each holds the events of one call.
        oldest_at: When the events of the oldest were to be appended; None if there is none.
        damaged: Files that were moved aside because they are not as they were written.
    """

    waiting: int
    oldest_at: datetime | None
    damaged: int


class LineageSpool:
    """Keeps events on this machine until the outbox can be reached.

    Args:
        folder: Absolute path on the machine's own disk; made when there is something to keep.

    Raises:
        ConfigurationError: The path is relative, so that each process would use another folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_absolute():
            raise ConfigurationError(
                f"[mlgov] lineage_spool_dir is {str(folder)!r}, which is not an absolute path.",
                remedy="Name a folder on this machine's own disk by its absolute path.",
            )
        self.folder = folder

    def keep(self, items: Sequence[OutboxItem], at: datetime) -> None:
        """Keep events durably, all or none; the same ones twice do no harm.

        Args:
            items: Events that could not be appended.
            at: When they were to be appended.

        Raises:
            LedgerUnavailableError: They are not kept: the disk is full, or the folder cannot be
                written; a retry may help.
        """
        if not items:
            return
        micros = (at - _EPOCH) // timedelta(microseconds=1)
        name = f"{max(micros, 0):020d}-{time.time_ns():020d}-{secrets.token_hex(8)}.json"
        with self._usable():
            make_folder(self.folder, FOLDER_MODE)
            _write(self.folder / name, _encoded(items, at))

    def adopt(self, outbox: Outbox) -> int:
        """Append what is kept, oldest first, and return how many events that were.

        A file is removed once its events are in the outbox. Whoever does the same at the same time
        does no harm.

        Raises:
            LedgerUnavailableError: The outbox or the folder cannot be used; what is left waits, and
                a retry may help.
        """
        adopted = 0
        with self._usable():
            files = self._files()
        for file in files:
            with self._usable():
                kept = self._read(file)
            if kept is not None:
                items, at = kept
                outbox.append(items, at)
                adopted += len(items)
                with self._usable():
                    file.unlink(missing_ok=True)
        return adopted

    def waiting(self) -> Spooled:
        """Return what is kept.

        Raises:
            LedgerUnavailableError: The folder cannot be read; a retry may help.
        """
        with self._usable():
            files = self._files()
            damaged = len(_listed(self._damaged))
        oldest_at = _time_of(files[0].name) if files else None
        return Spooled(len(files), oldest_at, damaged)

    @property
    def _damaged(self) -> Path:
        return self.folder / "damaged"

    def _files(self) -> list[Path]:
        return [self.folder / name for name in _listed(self.folder) if _NAME.fullmatch(name)]

    def _read(self, file: Path) -> tuple[list[OutboxItem], datetime] | None:
        """Return what a file keeps; None if another process was faster, or it is damaged."""
        try:
            kept = _decoded(file.read_bytes())
            if kept is None:
                self._put_aside(file)
        except FileNotFoundError:
            return None
        return kept

    def _put_aside(self, file: Path) -> None:
        make_folder(self._damaged, FOLDER_MODE)
        aside = file.replace(self._damaged / file.name)
        log.error(
            "Lineage events that were kept in %s are not as they were written, and are not in the "
            "outbox. See what can be read of them in %s, and check the disk.",
            self.folder,
            aside,
        )

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise LedgerUnavailableError(
                f"The lineage spool {self.folder} cannot be used: {error.strerror or error}.",
                remedy="Free space on its disk, or let [mlgov] lineage_spool_dir name another."
                if is_full
                else "Check the folder, its owner and [mlgov] lineage_spool_dir.",
            ) from error


def _encoded(items: Sequence[OutboxItem], at: datetime) -> bytes:
    events = [[item.key, base64.b64encode(item.event).decode()] for item in items]
    rest = json.dumps({"at": at.isoformat(), "events": events}).encode()
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def _decoded(data: bytes) -> tuple[list[OutboxItem], datetime] | None:
    digest, _, rest = data.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        return None
    try:
        kept = json.loads(rest)
        at = datetime.fromisoformat(kept["at"])
        items = [
            OutboxItem(key, base64.b64decode(event, validate=True)) for key, event in kept["events"]
        ]
        is_ours = all(_KEY.fullmatch(item.key) for item in items)
    except (KeyError, TypeError, ValueError):
        return None
    return (items, at) if is_ours else None


def _time_of(name: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(name[:20]))


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        return []


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}")  # the name is nobody else's, and so is this one
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink()
