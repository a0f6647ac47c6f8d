"""The newest checkpoint that this machine saw of each log, one small file a log.

``<folder>/<log>.json``, and beside it ``<log>.kept/`` with notes that contradict each other, if
there ever were any. Nobody but the user of the process can read or write them.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.service.durable_file import replace_file

FILE_MODE, FOLDER_MODE = 0o600, 0o700
MAX_BYTES = 128 * 1024
MAX_KEPT = 20
"""Files of evidence a log at most: a ledger that goes on contradicting itself fills no disk."""
LOCK_TIMEOUT_S = 1.0

_UNUSUAL = re.compile(r"[^A-Za-z0-9.-]")
log = logging.getLogger(__name__)


class SeenFolder:
    """Remembers checkpoints in a folder of this machine.

    A folder or file that cannot be used is warned about once, and then nothing is remembered.

    Args:
        folder: Absolute path; made with mode 0700 when there is something to remember.

    Raises:
        ConfigurationError: The path is relative, so that each process would use another folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_absolute():
            raise ConfigurationError(
                f"[mlgov] seen_dir is {str(folder)!r}, which is not an absolute path.",
                remedy="Name a folder on this machine's own disk by its absolute path.",
            )
        self._folder = folder
        self._has_warned = False

    def path(self, origin: str) -> Path:
        """Return the file that remembers a log."""
        return self._folder / f"{_stem(origin)}.json"

    def read(self, origin: str) -> bytes | None:
        """Return what is remembered of a log; None if nothing is, or it cannot be read."""
        try:
            with self.path(origin).open("rb") as file:
                return file.read(MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None

    def replace(self, origin: str, data: bytes, *, instead_of: bytes | None) -> bool:
        """Remember something else of a log, if what is remembered is still `instead_of`."""
        try:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            with self._lock(origin) as is_held:
                if not is_held or self.read(origin) != instead_of:
                    return False
                replace_file(self.path(origin), data, FILE_MODE)
        except OSError as error:
            self._warn(error)
            return False
        return True

    def keep(self, origin: str, name: str, data: bytes) -> str:
        """Keep evidence beside what is remembered of a log; return where, for people."""
        folder = self._evidence(origin)
        path = folder / name
        try:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            if not path.exists():
                if sum(1 for _ in folder.iterdir()) >= MAX_KEPT:
                    return f"(not kept: {folder} holds {MAX_KEPT} files already)"
                replace_file(path, data, FILE_MODE)
        except OSError as error:
            return f"(not kept: {path} cannot be written: {error.strerror or error})"
        return str(path)

    def evidence(self) -> list[str]:
        """Return where evidence is kept, of any log, for people; empty if there is none."""
        return sorted(str(path) for path in self._folder.glob("*.kept/*"))

    def _evidence(self, origin: str) -> Path:
        return self._folder / f"{_stem(origin)}.kept"

    @contextmanager
    def _lock(self, origin: str) -> Iterator[bool]:
        path = self._folder / f"{_stem(origin)}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            yield _acquire(descriptor)
        finally:
            os.close(descriptor)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "The newest checkpoint of the ledger cannot be remembered in %s (%s): a ledger "
                "that is set back will not be noticed here. Check [mlgov] seen_dir.",
                self._folder,
                error.strerror or error,
            )


def _stem(origin: str) -> str:
    digest = hashlib.sha256(origin.encode("utf-8")).hexdigest()[:16]
    return f"{_UNUSUAL.sub('_', origin)[:80]}-{digest}"


def _acquire(descriptor: int) -> bool:
    # Whoever holds it writes a few hundred bytes: a second is long, and a gate does not wait more.
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        else:
            return True
