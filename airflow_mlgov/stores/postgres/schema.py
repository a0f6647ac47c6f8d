"""Makes the tables, gives roles their rights, and says what is wrong with either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.stores.postgres.connections import (
    REVISION,
    Connection,
    check_revision,
    connect,
    parameters_of,
)
from airflow_mlgov.stores.postgres.failures import translation
from airflow_mlgov.stores.postgres.index import fill_index

_TIMEOUT_S = 30.0
_TABLES = (
    *("inbox", "entries", "models", "subtrees", "checkpoints", "disclosures", "anchored"),
    *("sequencing", "schema_version", "lineage_inbox", "lineage_events", "lineage_datasets"),
    *("lineage_deliveries", "lineage_targets", "lineage_numbering"),
)
_WRITES: Mapping[str, tuple[str, ...]] = {
    "inbox": ("INSERT",),
    "disclosures": ("INSERT",),
    "lineage_inbox": ("INSERT",),
}
_SEQUENCES: Mapping[str, tuple[str, ...]] = {
    "inbox": ("INSERT", "DELETE"),
    "disclosures": ("INSERT",),
    "entries": ("INSERT",),
    "models": ("INSERT", "UPDATE"),
    "subtrees": ("INSERT", "UPDATE"),
    "checkpoints": ("INSERT",),
    "anchored": ("INSERT",),
    "sequencing": ("UPDATE",),
    "lineage_inbox": ("INSERT", "DELETE"),
    "lineage_events": ("INSERT",),
    "lineage_datasets": ("INSERT",),
    "lineage_deliveries": ("INSERT", "UPDATE", "DELETE"),
    "lineage_targets": ("INSERT", "UPDATE"),
    "lineage_numbering": ("UPDATE",),
}
_AIRFLOWS = """
SELECT to_regclass('public.dag_run') IS NOT NULL AND to_regclass('public.task_instance') IS NOT NULL
"""
_HOLDS_ALL = """
SELECT r.rolsuper OR pg_has_role(r.oid, n.nspowner, 'MEMBER')
FROM pg_roles r, pg_namespace n WHERE r.rolname = %s AND n.nspname = 'mlgov'
"""
_MAY = "SELECT has_table_privilege(current_user, %s, %s)"


def migrate(url: str) -> str:
    """Bring the tables to the revision that this code needs, and return it; twice is fine.

    Args:
        url: ``postgresql://...`` of the role that is to own the tables.

    Raises:
        ConfigurationError: It is Airflow's own database, or the role may not make tables.
        LedgerUnavailableError: The server cannot be reached; a retry may help.
    """
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    parameters = parameters_of(url)
    with _session(url) as connection:
        _refuse_airflows(connection)
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**parameters), poolclass=NullPool
    )
    config = Config()
    folder = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    try:
        with engine.begin() as alchemy:
            # Two owners who migrate at once: the second finds the work done.
            alchemy.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('mlgov migrate'))")
            alchemy.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS mlgov")
            config.attributes["connection"] = alchemy
            command.upgrade(config, "head")
    except psycopg.Error as error:  # of what fills the index, without SQLAlchemy between
        raise translation(error) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise translation(error.orig) from error.orig
        raise
    return REVISION


def reindex(url: str) -> None:
    """Make the index anew from the entries; nothing is changed if one of them is damaged.

    Args:
        url: ``postgresql://...`` of the tables' owner.

    Raises:
        ConfigurationError: The tables are of another revision, or the role may not.
        LedgerIntegrityError: An entry is damaged or missing; a retry does not help.
        LedgerUnavailableError: The server cannot be reached; a retry may help.
    """
    with _session(url) as connection, connection.transaction():
        check_revision(connection)
        fill_index(connection)


def grant(url: str, *, writer: str, sequencer: str | None = None) -> None:
    """Give two roles the rights they need, and take every other right on the tables from them.

    Args:
        url: ``postgresql://...`` of the tables' owner.
        writer: Role of tasks and the api-server: adds to the inboxes, reads.
        sequencer: Role that moves the inbox into the tree, and ships lineage; None if the owner
            does.

    Raises:
        ConfigurationError: A role does not exist or holds more than it may, or the caller is not
            the owner.
        LedgerUnavailableError: The server cannot be reached; a retry may help.
    """
    with _session(url) as connection, connection.transaction():
        _give(connection, writer, _WRITES)
        if sequencer is not None:
            _give(connection, sequencer, _SEQUENCES)


def findings(url: str) -> list[tuple[str, bool, str]]:
    """Return what `airflow mlgov db check` shows: what was looked at, whether it is fine, detail.

    Raises:
        ConfigurationError: The role may not read the tables.
        LedgerUnavailableError: The server cannot be reached; a retry may help.
    """
    with _session(url) as connection:
        revision = _revision(connection)
        found = [
            ("revision", revision == REVISION, f"{revision or 'none'}; needed: {REVISION}"),
            ("database", not _is_airflows(connection), "apart from Airflow's own"),
            *(_switched_on(connection, name) for name in ("fsync", "full_page_writes")),
        ]
        if revision == REVISION:
            lacking = _lacking(connection, _WRITES)
            found.append(("may write", not lacking, lacking or "yes"))
            # A writer's role may not, and should not.
            may_sequence = "no" if _lacking(connection, _SEQUENCES) else "yes"
            found.append(("may sequence", True, may_sequence))
    return found


def _give(connection: Connection, role: str, rights: Mapping[str, tuple[str, ...]]) -> None:
    row = connection.execute(_HOLDS_ALL, (role,)).fetchone()
    if row is None:
        raise ConfigurationError(
            f"There is no role {role!r} on this server, or no table of a ledger.",
            remedy="CREATE ROLE makes the one, `airflow mlgov db migrate` the other.",
        )
    if row[0]:
        raise ConfigurationError(
            f"The role {role!r} is a superuser or belongs to the tables' owner, so nothing can be "
            "kept from it.",
            remedy="Name another role.",
        )
    name = sql.Identifier(role)
    statements = [
        sql.SQL("REVOKE ALL ON SCHEMA mlgov FROM {}").format(name),
        sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA mlgov FROM {}").format(name),
        sql.SQL("GRANT USAGE ON SCHEMA mlgov TO {}").format(name),
        sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA mlgov TO {}").format(name),
    ]
    for table, privileges in rights.items():
        statements.append(
            sql.SQL("GRANT {} ON {} TO {}").format(
                sql.SQL(", ").join(map(sql.SQL, privileges)),
                sql.Identifier("mlgov", table),
                name,
            )
        )
    for statement in statements:
        connection.execute(statement)


def _lacking(connection: Connection, rights: Mapping[str, tuple[str, ...]]) -> str:
    wanted = [(table, "SELECT") for table in _TABLES]
    wanted += [(table, right) for table, given in rights.items() for right in given]
    lacking = [
        f"{right} on {table}"
        for table, right in wanted
        if not _one(connection, _MAY, (f"mlgov.{table}", right))
    ]
    return f"lacks {', '.join(lacking)}" if lacking else ""


def _switched_on(connection: Connection, name: str) -> tuple[str, bool, str]:
    value = _one(connection, "SELECT current_setting(%s)", (name,))
    text = "on" if value == "on" else f"{value}: a power cut can lose what was acknowledged"
    return name, value == "on", text


def _revision(connection: Connection) -> str | None:
    if _one(connection, "SELECT to_regnamespace('mlgov') IS NULL"):
        return None
    if _one(connection, "SELECT to_regclass('mlgov.schema_version') IS NULL"):
        return None
    revision = _one(connection, "SELECT max(version_num) FROM mlgov.schema_version")
    return None if revision is None else str(revision)


def _is_airflows(connection: Connection) -> bool:
    return bool(_one(connection, _AIRFLOWS))


def _refuse_airflows(connection: Connection) -> None:
    if _is_airflows(connection):
        raise ConfigurationError(
            "[mlgov] ledger_url names Airflow's own metadata database: its tables are there.",
            remedy="Give the ledger a database of its own, which no Airflow component owns.",
        )


def _one(connection: Connection, statement: str, values: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(statement, values).fetchone()
    return row[0] if row else None


@contextmanager
def _session(url: str) -> Iterator[Connection]:
    connection = connect(parameters_of(url), _TIMEOUT_S)
    try:
        yield connection
    except psycopg.Error as error:
        raise translation(error) from error
    finally:
        connection.close()
