"""The tables of a ledger's file, change by change, and the index over its entries.

To change them, append a step to `_STEPS`: a new file takes all of them, an older one those that it
lacks when its owner runs ``airflow mlgov db migrate``. A step that was released never changes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_mlgov.errors import ConfigurationError

APPLICATION_ID = 0x6D6C6776  # "mlgv": marks the file as ours

# 16384 is MAX_LEAF_BYTES as it was when this step was written; another needs another step.
_TABLES = (
    """CREATE TABLE inbox (
    n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,
    leaf BLOB NOT NULL CHECK (length(leaf) <= 16384),
    leaf_hash BLOB NOT NULL, received_at TEXT NOT NULL)""",
    """CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, leaf BLOB NOT NULL, leaf_hash BLOB NOT NULL,
    received_at TEXT NOT NULL)""",
    "CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL, peaks BLOB NOT NULL)",
    """CREATE TABLE disclosures (
    key TEXT NOT NULL, field TEXT NOT NULL, salt BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (key, field)) WITHOUT ROWID""",
)
_INDEX = (
    "CREATE TABLE models (seq INTEGER PRIMARY KEY, model TEXT NOT NULL)",
    "CREATE INDEX models_by_model ON models (model, seq)",
    "CREATE TABLE subtrees (n INTEGER PRIMARY KEY, hash BLOB NOT NULL)",
)

_ANCHORED = """CREATE TABLE anchored (
    anchor TEXT NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL, note BLOB NOT NULL,
    data BLOB NOT NULL, at TEXT NOT NULL, PRIMARY KEY (size, anchor)) WITHOUT ROWID"""

_OUTBOX = (
    """CREATE TABLE lineage_inbox (
    n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, event BLOB NOT NULL,
    received_at TEXT NOT NULL)""",
    """CREATE TABLE lineage_events (
    seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, run_id TEXT NOT NULL,
    received_at TEXT NOT NULL, event BLOB NOT NULL)""",
    "CREATE INDEX lineage_events_by_run ON lineage_events (run_id, seq)",
    """CREATE TABLE lineage_datasets (
    dataset BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (dataset, seq)) WITHOUT ROWID""",
    """CREATE TABLE lineage_deliveries (
    target TEXT NOT NULL, seq INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    at TEXT NOT NULL, PRIMARY KEY (target, seq)) WITHOUT ROWID""",
    """CREATE INDEX lineage_deliveries_not_sent ON lineage_deliveries (target, state, seq)
    WHERE state <> 'delivered'""",
    """CREATE TABLE lineage_targets (
    target TEXT PRIMARY KEY, settled_to INTEGER NOT NULL) WITHOUT ROWID""",
)


def create(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in a file that has none; leave any other file alone.

    Raises:
        ConfigurationError: SQLite cannot keep a write-ahead log there; a retry does not help.
    """
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return  # another process was faster, or it is somebody's database: check_schema says so
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise ConfigurationError(
            f"SQLite cannot keep a write-ahead log for {path}.",
            remedy="Keep the ledger on a local disk.",
        )
    _upgrade(connection)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a ledger's tables to this version, all or nothing; twice is fine.

    Args:
        connection: Of the file; no other process may write meanwhile.
        path: The file, for messages.

    Raises:
        ConfigurationError: It is no ledger, or of a newer release; a retry does not help.
        LedgerIntegrityError: An entry is damaged or missing; a retry does not help.
    """
    _refuse_foreign(connection, path)
    if version_of(connection) > SCHEMA_VERSION:
        check_schema(connection, path)
    _upgrade(connection)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Do nothing if a file has the tables that this code reads and writes.

    Raises:
        ConfigurationError: It has not; a retry does not help.
    """
    _refuse_foreign(connection, path)
    version = version_of(connection)
    if version == SCHEMA_VERSION:
        return
    raise ConfigurationError(
        f"The ledger {path} has schema version {version}; this code reads {SCHEMA_VERSION}.",
        remedy="Stop what writes to it, keep a backup, and run `airflow mlgov db migrate` with "
        "[mlgov] ledger_url naming it."
        if 0 < version < SCHEMA_VERSION
        else "Use the release of airflow-mlgov that wrote it, or a newer one.",
    )


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a file's tables; 0 if it has none."""
    return _pragma(connection, "user_version")


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _add_index(connection: sqlite3.Connection) -> None:
    for statement in _INDEX:
        connection.execute(statement)
    # Here, not above: whoever only appends an event would load the whole of what entries are.
    from airflow_mlgov.stores.sqlite.index import fill_index

    fill_index(connection)


def _add_anchored(connection: sqlite3.Connection) -> None:
    connection.execute(_ANCHORED)


def _add_outbox(connection: sqlite3.Connection) -> None:
    for statement in _OUTBOX:
        connection.execute(statement)


_STEPS: Sequence[Callable[[sqlite3.Connection], None]] = (
    _make_tables,
    _add_index,
    _add_anchored,
    _add_outbox,
)

SCHEMA_VERSION = len(_STEPS)


def _upgrade(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for step in _STEPS[version_of(connection) :]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise ConfigurationError(f"{path} is a database, but not a ledger of airflow-mlgov.")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
