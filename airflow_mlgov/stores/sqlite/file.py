"""A ledger's SQLite file: its connections, its lock and its errors, for whatever is kept in it.

WAL with ``synchronous=FULL``: what was acknowledged survives a power cut. Every writer first takes
an advisory lock on ``<file>.lock``: with SQLite's own busy handler alone, one of sixteen writers
waited four seconds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.stores.sqlite.failures import translation
from airflow_mlgov.stores.sqlite.file_lock import file_lock
from airflow_mlgov.stores.sqlite.file_system import FOLDER_MODE, make_private, refuse_network
from airflow_mlgov.stores.sqlite.schema import (
    check_schema,
    create,
    migrate,
    transaction,
    version_of,
)

URL_PREFIX = "sqlite:///"
_REMEDY = "Set [mlgov] ledger_url to sqlite:////absolute/path/ledger.db (four slashes)."


@dataclass(frozen=True)
class _Opened:
    """A connection, and what it belongs to: a fork or a replaced file makes it somebody else's."""

    connection: sqlite3.Connection
    pid: int
    file: tuple[int, int]


_INHERITED: list[sqlite3.Connection] = []
"""Connections of a parent process; closing one here could remove its write-ahead log."""


class LedgerFile:
    """The file, as each thread of a process has it open.

    Args:
        path: Absolute path; the folder and the file are made on first use, unreadable to others.
        timeout_s: How long to wait for other writers, in seconds.
        read_only: Refuse to write, and to make a file that is not there.

    Raises:
        ConfigurationError: The path is relative or ``:memory:``, which no other process would see.
    """

    def __init__(
        self, path: Path | str, *, timeout_s: float = 30.0, read_only: bool = False
    ) -> None:
        self.path = Path(path)
        if not self.path.is_absolute() or str(path).startswith(":"):
            raise ConfigurationError(
                f"The ledger's file {str(path)!r} is not an absolute path, so processes would not "
                "share it.",
                remedy=_REMEDY,
            )
        self._timeout_s = timeout_s
        self._read_only = read_only
        self._local = threading.local()

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float = 30.0) -> Self:
        """Return what is kept in the file that ``sqlite:////absolute/path`` names.

        Raises:
            ConfigurationError: Another kind of URL, or not an absolute path.
        """
        if not url.startswith(URL_PREFIX):
            raise ConfigurationError(  # without the URL: it may hold another database's password
                "The ledger's URL does not name a SQLite file.",
                remedy=_REMEDY,
            )
        return cls(url.removeprefix(URL_PREFIX), timeout_s=timeout_s)

    def migrate(self) -> None:
        """Make the file, or bring its tables to the version that this code needs.

        Raises:
            ConfigurationError: It is no ledger, or of a newer release; a retry does not help.
            LedgerIntegrityError: An entry is damaged or missing, and nothing was changed.
        """
        self.close()
        with self._translated():
            opened = self._open(migrating=True)
            try:
                with self._locked():
                    migrate(opened.connection, self.path)
            finally:
                opened.connection.close()

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        opened: _Opened | None = getattr(self._local, "opened", None)
        self._local.opened = None
        if opened is None:
            return
        if opened.pid != os.getpid():
            _INHERITED.append(opened.connection)
            return
        with suppress(sqlite3.Error):
            opened.connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._translated():
            yield self._connection()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._read_only:
            raise LedgerUnavailableError(f"The ledger {self.path} was opened for reading only.")
        with self._translated():
            connection = self._connection()
            with self._locked(), transaction(connection):
                yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise translation(self.path, error) from error

    def _connection(self) -> sqlite3.Connection:
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is not None and (opened.pid != os.getpid() or opened.file != self._file_now()):
            self.close()
            opened = None
        if opened is None:
            opened = self._open()
            self._local.opened = opened
        return opened.connection

    def _file_now(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            raise LedgerIntegrityError(
                f"The ledger's file {self.path} was removed while this process used it.",
                remedy="Restore it from a backup and check it against a checkpoint kept elsewhere.",
            ) from error
        return status.st_dev, status.st_ino

    def _locked(self) -> AbstractContextManager[None]:
        return file_lock(self.path.with_name(self.path.name + ".lock"), self._timeout_s)

    def _open(self, *, migrating: bool = False) -> _Opened:
        if self._read_only:
            return self._open_for_reading()
        refuse_network(self.path)
        self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        make_private(self.path)
        connection = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None)
        try:
            if version_of(connection) == 0:
                with self._locked():
                    create(connection, self.path)
            if not migrating:
                check_schema(connection, self.path)
            connection.execute("PRAGMA synchronous = FULL")
            # SQLite overwrites what it frees; without this, erased names would stay in the file.
            connection.execute("PRAGMA secure_delete = ON")
        except BaseException:
            connection.close()
            raise
        return _Opened(connection, os.getpid(), self._file_now())

    def _open_for_reading(self) -> _Opened:
        if not self.path.is_file():
            raise ConfigurationError(f"There is no ledger at {self.path}.")
        # Beside a file in a folder that cannot be written, SQLite can't make the shared memory that
        # WAL needs.
        wal = self.path.with_name(self.path.name + "-wal")
        mode = (
            "mode=ro"
            if wal.exists() or os.access(self.path.parent, os.W_OK)
            else "mode=ro&immutable=1"
        )
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?{mode}", uri=True, timeout=self._timeout_s, isolation_level=None
        )
        try:
            check_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return _Opened(connection, os.getpid(), self._file_now())
