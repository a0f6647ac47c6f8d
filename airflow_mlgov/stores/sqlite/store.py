"""The ledger in one SQLite file, for one machine.

WAL with ``synchronous=FULL``: what was acknowledged survives a power cut. Every writer first takes
an advisory lock on ``<file>.lock``: with SQLite's own busy handler alone, one of sixteen writers
waited four seconds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.leaf_index import index_rows
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.service.stored import (
    checked_head,
    checked_leaf,
    checked_leaves,
    hashed_leaves,
)
from airflow_mlgov.stores.sqlite.anchored import keep_anchored, read_anchored
from airflow_mlgov.stores.sqlite.disclosures import (
    delete_disclosures,
    empty_log,
    keep_disclosures,
    read_disclosures,
)
from airflow_mlgov.stores.sqlite.failures import translation
from airflow_mlgov.stores.sqlite.file_lock import file_lock
from airflow_mlgov.stores.sqlite.file_system import FOLDER_MODE, make_private, refuse_network
from airflow_mlgov.stores.sqlite.index import (
    add_to_index,
    fill_index,
    read_about,
    read_indexed,
    read_subtrees,
)
from airflow_mlgov.stores.sqlite.schema import (
    check_schema,
    create,
    migrate,
    transaction,
    version_of,
)

URL_PREFIX = "sqlite:///"
_REMEDY = "Set [mlgov] ledger_url to sqlite:////absolute/path/ledger.db (four slashes)."

_KEPT = """
SELECT leaf, leaf_hash, NULL AS seq FROM inbox WHERE key = :key
UNION ALL SELECT leaf, leaf_hash, seq FROM entries WHERE key = :key
"""
_INBOX = "SELECT n, key, leaf, leaf_hash, received_at FROM inbox ORDER BY n"
_ADD = "INSERT INTO entries (seq, key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?, ?)"
_SIGN = "INSERT INTO checkpoints (size, note, peaks) VALUES (?, ?, ?)"
_NEWEST = "SELECT size, note, peaks FROM checkpoints ORDER BY size DESC LIMIT 1"
_ENTRIES = "SELECT seq, leaf, leaf_hash FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
_LEAVES = "SELECT seq, leaf FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq"
_AT_ONCE = 256  # what stays in a processor's cache until it is hashed


@dataclass(frozen=True)
class _Opened:
    """A connection, and what it belongs to: a fork or a replaced file makes it somebody else's."""

    connection: sqlite3.Connection
    pid: int
    file: tuple[int, int]


_INHERITED: list[sqlite3.Connection] = []
"""Connections of a parent process; closing one here could remove its write-ahead log."""


class SqliteStore:
    """A `LedgerStore` in one file.

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
        """Return the store that ``sqlite:////absolute/path`` names.

        Raises:
            ConfigurationError: Another kind of URL, or not an absolute path.
        """
        if not url.startswith(URL_PREFIX):
            raise ConfigurationError(  # without the URL: it may hold another database's password
                "The ledger's URL does not name a SQLite file.",
                remedy=_REMEDY,
            )
        return cls(url.removeprefix(URL_PREFIX), timeout_s=timeout_s)

    def insert(
        self, item: InboxItem, disclosures: Mapping[str, Disclosure], at: datetime
    ) -> bytes | None:
        """Acknowledge an entry durably; return None, or the leaf that stands there already."""
        with self._writing() as connection:
            kept = connection.execute(_KEPT, {"key": item.key}).fetchone()
            if kept is not None:
                return checked_leaf(kept[0], kept[1])
            connection.execute(
                "INSERT INTO inbox (key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?)",
                (item.key, item.leaf, leaf_hash(item.leaf), to_text(at)),
            )
            keep_disclosures(connection, item.key, disclosures)
            return None

    def get(self, key: str) -> tuple[bytes, int | None] | None:
        """Return the leaf kept under a key and its index (None while it waits), or None."""
        with self._reading() as connection:
            kept = connection.execute(_KEPT, {"key": key}).fetchone()
            return None if kept is None else (checked_leaf(kept[0], kept[1]), kept[2])

    def sequence(self, integrate: Callable[[TreeHead, Sequence[InboxItem]], Sequenced]) -> TreeHead:
        """Under the lock: hand head and inbox to `integrate`, store what it returns."""
        if self.waiting() == 0:
            return self.head()
        with self._writing() as connection:
            head = _head_of(connection)
            rows = connection.execute(_INBOX).fetchall()
            if not rows:
                return head  # another process was faster
            sequenced = integrate(
                head, [InboxItem(row[1], checked_leaf(row[2], row[3])) for row in rows]
            )
            places = range(head.size, sequenced.head.size)
            entries = zip(places, rows, sequenced.leaf_hashes, strict=True)
            connection.executemany(
                _ADD, [(seq, row[1], row[2], hashed, row[4]) for seq, row, hashed in entries]
            )
            index = index_rows(head, (row[2] for row in rows), sequenced)
            add_to_index(connection, places, index)
            connection.executemany("DELETE FROM inbox WHERE n = ?", [(row[0],) for row in rows])
            grown = sequenced.head
            connection.execute(_SIGN, (grown.size, grown.note, b"".join(grown.peaks)))
            return grown

    def head(self) -> TreeHead:
        """Return the newest signed head."""
        with self._reading() as connection:
            return _head_of(connection)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Return the exact leaf bytes of indices start..end-1, or as many as there are.

        Raises:
            LedgerIntegrityError: One is missing, or its bytes are not those that were kept.
        """
        return self._in_parts(_ENTRIES, checked_leaves, start, end)

    def leaf_hashes(self, start: int, end: int) -> Iterator[bytes]:
        """Return the hashes of the leaves of indices start..end-1, computed from their bytes.

        Raises:
            LedgerIntegrityError: One is missing.
        """
        return self._in_parts(_LEAVES, hashed_leaves, start, end)

    def subtrees(self, count: int) -> list[bytes]:
        """Return the roots of the first full subtrees of 256 leaves, as the index has them.

        Raises:
            LedgerIntegrityError: It does not have them.
        """
        with self._reading() as connection:
            return read_subtrees(connection, count)

    def about(self, model: str) -> Iterator[tuple[int, bytes]]:
        """Yield index and leaf of the entries in the tree that the index lists under a model."""
        after = -1
        while True:
            with self._reading() as connection:
                found = read_about(connection, model, after)
            if not found:
                return
            yield from found
            after = found[-1][0]

    def indexed(self, end: int) -> Iterator[tuple[int, str]]:
        """Yield which model the index lists entries under, in order, those below `end`."""
        for first in range(0, end, _AT_ONCE):
            with self._reading() as connection:
                rows = read_indexed(connection, first, min(end, first + _AT_ONCE))
            yield from rows

    def disclosures(self, key: str) -> dict[str, Disclosure]:
        """Return what opens the commitments of an entry, by field; empty once erased."""
        with self._reading() as connection:
            return read_disclosures(connection, key)

    def erase(self, fields: Sequence[tuple[str, str]]) -> int:
        """Delete what opens these fields, its bytes too, and return how many were there still."""
        with self._writing() as connection:
            erased = delete_disclosures(connection, fields)
        with self._reading() as connection:
            empty_log(connection, self.path)
        return erased

    def inbox(self) -> list[InboxItem]:
        """Return the acknowledged entries that are not in the tree yet, oldest first."""
        with self._reading() as connection:
            rows = connection.execute("SELECT key, leaf, leaf_hash FROM inbox ORDER BY n")
            return [InboxItem(row[0], checked_leaf(row[1], row[2])) for row in rows]

    def waiting(self) -> int:
        """Return how many acknowledged entries are not in the tree yet."""
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM inbox").fetchone()[0])

    def keep_anchored(self, anchored: Anchored) -> None:
        """Keep what an anchor gave; if something of this anchor and size is kept, that stays."""
        with self._writing() as connection:
            keep_anchored(connection, anchored)

    def anchored(self, *, newest: bool = False) -> list[Anchored]:
        """Return what anchors gave, by size and name; with `newest` only each anchor's last."""
        with self._reading() as connection:
            return read_anchored(connection, newest=newest)

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

    def reindex(self) -> None:
        """Make the index anew from the entries.

        Raises:
            LedgerIntegrityError: An entry is damaged or missing, and nothing was changed.
        """
        with self._writing() as connection:
            fill_index(connection)

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

    def _in_parts(
        self, statement: str, read: Callable[[Any, int], Iterable[bytes]], start: int, end: int
    ) -> Iterator[bytes]:
        for first in range(start, end, _AT_ONCE):
            last = min(end, first + _AT_ONCE)
            with self._reading() as connection:
                rows = connection.execute(statement, (first, last)).fetchall()
            yield from read(rows, first)
            if len(rows) < last - first:
                return

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


def _head_of(connection: sqlite3.Connection) -> TreeHead:
    row = connection.execute(_NEWEST).fetchone()
    if row is None:
        return TreeHead(0, (), b"")
    return checked_head(*row)
