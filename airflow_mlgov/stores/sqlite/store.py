"""The ledger in one SQLite file, for one machine.

WAL with ``synchronous=FULL``: what was acknowledged survives a power cut. Every writer first takes
an advisory lock on ``<file>.lock``: with SQLite's own busy handler alone, one of sixteen writers
waited four seconds.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerError,
    LedgerIntegrityError,
    LedgerUnavailableError,
)
from airflow_mlgov.ledger.entry import MAX_LEAF_BYTES
from airflow_mlgov.ledger.merkle import leaf_hash
from airflow_mlgov.records.canonical import canonical_bytes
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.people import Disclosure
from airflow_mlgov.service.ports import Anchored, InboxItem, Sequenced, TreeHead
from airflow_mlgov.service.stored import checked_head, checked_leaf, checked_leaves
from airflow_mlgov.stores.sqlite.anchored import keep_anchored, read_anchored
from airflow_mlgov.stores.sqlite.disclosures import (
    delete_disclosures,
    empty_log,
    read_disclosures,
)
from airflow_mlgov.stores.sqlite.failures import translation
from airflow_mlgov.stores.sqlite.file_lock import file_lock
from airflow_mlgov.stores.sqlite.file_system import refuse_network

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6D6C6776  # "mlgv": marks the file as ours
URL_PREFIX = "sqlite:///"
FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Permissions of what we make, less what the umask takes: a ledger holds names and comments."""
_REMEDY = "Set [mlgov] ledger_url to sqlite:////absolute/path/ledger.db (four slashes)."

_SCHEMA = f"""
CREATE TABLE inbox (
    n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    leaf BLOB NOT NULL CHECK (length(leaf) <= {MAX_LEAF_BYTES}),
    leaf_hash BLOB NOT NULL, received_at TEXT NOT NULL);
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, leaf BLOB NOT NULL, leaf_hash BLOB NOT NULL,
    received_at TEXT NOT NULL);
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL, peaks BLOB NOT NULL);
CREATE TABLE disclosures (
    key TEXT NOT NULL, field TEXT NOT NULL, salt BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (key, field)) WITHOUT ROWID;
"""
_KEPT = """
SELECT leaf, leaf_hash, NULL AS seq FROM inbox WHERE key = :key
UNION ALL SELECT leaf, leaf_hash, seq FROM entries WHERE key = :key
"""
_NEWEST = "SELECT size, note, peaks FROM checkpoints ORDER BY size DESC LIMIT 1"
_LEAVES_AT_ONCE = 1_000


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
            connection.executemany(
                "INSERT INTO disclosures (key, field, salt, value) VALUES (?, ?, ?, ?)",
                [
                    (item.key, name, d.salt, canonical_bytes(d.value))
                    for name, d in disclosures.items()
                ],
            )
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
            rows = connection.execute(
                "SELECT n, key, leaf, leaf_hash, received_at FROM inbox ORDER BY n"
            ).fetchall()
            if not rows:
                return head  # another process was faster
            sequenced = integrate(
                head, [InboxItem(row[1], checked_leaf(row[2], row[3])) for row in rows]
            )
            entries = zip(
                range(head.size, sequenced.head.size), rows, sequenced.leaf_hashes, strict=True
            )
            connection.executemany(
                "INSERT INTO entries (seq, key, leaf, leaf_hash, received_at) VALUES (?, ?, ?, ?, "
                "?)",
                [(seq, row[1], row[2], hashed, row[4]) for seq, row, hashed in entries],
            )
            connection.executemany("DELETE FROM inbox WHERE n = ?", [(row[0],) for row in rows])
            connection.execute(
                "INSERT INTO checkpoints (size, note, peaks) VALUES (?, ?, ?)",
                (sequenced.head.size, sequenced.head.note, b"".join(sequenced.head.peaks)),
            )
            return sequenced.head

    def head(self) -> TreeHead:
        """Return the newest signed head."""
        with self._reading() as connection:
            return _head_of(connection)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the exact leaf bytes of indices start..end-1, or as many as there are.

        Raises:
            LedgerIntegrityError: One is missing, or its bytes are not those that were kept.
        """
        for first in range(start, end, _LEAVES_AT_ONCE):
            last = min(end, first + _LEAVES_AT_ONCE)
            with self._reading() as connection:
                rows = connection.execute(
                    "SELECT seq, leaf, leaf_hash FROM entries WHERE seq >= ? AND seq < ? ORDER BY "
                    "seq",
                    (first, last),
                ).fetchall()
            yield from checked_leaves(rows, first)
            if len(rows) < last - first:
                return

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
            with file_lock(self.path.with_name(self.path.name + ".lock"), self._timeout_s):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise

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

    def _open(self) -> _Opened:
        if self._read_only:
            return self._open_for_reading()
        refuse_network(self.path)
        self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _make_private(self.path)
        connection = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None)
        try:
            if _pragma(connection, "user_version") != SCHEMA_VERSION:
                with file_lock(self.path.with_name(self.path.name + ".lock"), self._timeout_s):
                    _create(connection, self.path)
            _check_schema(connection, self.path)
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
            _check_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return _Opened(connection, os.getpid(), self._file_now())


def _make_private(path: Path) -> None:
    """Make an empty file that others cannot read; SQLite gives its companions the same rights."""
    if path.exists():
        return
    # Made under another name: to close the ledger's own file, here, would free the POSIX locks that
    # other threads hold on it through SQLite.
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    os.close(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    try:
        with suppress(FileExistsError):  # another process was faster
            os.link(own, path)
    finally:
        own.unlink()


def _create(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "user_version") == SCHEMA_VERSION:
        return  # another process was faster
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return  # somebody's database: _check_schema says so
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise ConfigurationError(
            f"SQLite cannot keep a write-ahead log for {path}.",
            remedy="Keep the ledger on a local disk.",
        )
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigurationError(f"{path} is a database, but not a ledger of airflow-mlgov.")
    version = _pragma(connection, "user_version")
    if version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"The ledger {path} has schema version {version}; this code reads {SCHEMA_VERSION}.",
            remedy="Use the release of airflow-mlgov that wrote it, or a newer one.",
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _head_of(connection: sqlite3.Connection) -> TreeHead:
    row = connection.execute(_NEWEST).fetchone()
    if row is None:
        return TreeHead(0, (), b"")
    return checked_head(*row)
