"""One connection for each thread and process, made anew after every failure."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.stores.postgres.failures import translation, unmigrated, unreached
from airflow_mlgov.stores.postgres.trip import Call, Trips

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

URL_PREFIXES = ("postgresql://", "postgres://")
SCHEMA = "mlgov"
REVISION = "v0004"
"""Alembic's name for the tables that this code reads and writes."""

UNDONE = (errors.UniqueViolation, errors.DivisionByZero)
"""How a statement in `Connections.one_trip` refuses to be committed."""

_DURABLE = ("on", "remote_apply")
_SETTINGS = """
SELECT set_config('lock_timeout', %s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    CASE WHEN NOT current_setting('synchronous_commit') = ANY(%s)
        THEN set_config('synchronous_commit', 'on', false) END
"""
_INHERITED: list[Connection] = []
"""Connections of a parent process; closing one here would end the parent's session."""


class _Session(NamedTuple):
    connection: Connection
    trips: Trips
    pid: int


class Connections:
    """Opens sessions in which what is committed is on disk.

    Args:
        url: ``postgresql://...``; it may hold a password, so it is in no message.
        timeout_s: How long to wait for a connection, and for a lock, in seconds, at least 1.

    Raises:
        ConfigurationError: It is no such URL; a retry does not help.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._parameters = parameters_of(url)
        self._timeout_s = timeout_s
        self._local = threading.local()

    def __repr__(self) -> str:
        return "Connections(...)"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a session in a transaction, READ COMMITTED whatever the server's default is.

        Each statement sees what was committed before it began: taking the lock and checking for a
        key both rest on that.

        Raises:
            LedgerUnavailableError: The server cannot be reached or stopped; a retry may help.
            LedgerIntegrityError: A constraint does not hold; a retry does not help.
            ConfigurationError: The role lacks a right, or there are no tables.
        """
        connection = self._connection()
        try:
            with connection.transaction():
                yield connection
        except psycopg.Error as error:
            self.close()
            raise translation(error) from error

    def one_trip(self, *calls: Call) -> list[PGresult]:
        """Send all calls at once, as one READ COMMITTED transaction, and return their answers.

        Each statement sees what was committed before it began. Returns once it is committed; the
        first statement that fails undoes them all.

        Raises:
            UNDONE: A statement refused; the session can be used on.
            LedgerUnavailableError: The server cannot be reached or stopped; a retry may help.
            LedgerIntegrityError: A constraint does not hold; a retry does not help.
            ConfigurationError: The role lacks a right, or there are no tables.
        """
        trips = self._session().trips
        try:
            return trips.make(*calls)
        except UNDONE:
            raise
        except psycopg.Error as error:
            self.close()
            raise translation(error) from error
        except BaseException:
            self.close()  # somebody broke in: answers may be under way still
            raise

    def outside_transaction(self, statement: LiteralString) -> None:
        """Execute what PostgreSQL allows in no transaction.

        Raises:
            LedgerUnavailableError: The server cannot be reached or stopped; a retry may help.
            ConfigurationError: The role lacks a right.
        """
        connection = self._connection()
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            self.close()
            raise translation(error) from error

    def own_session(self) -> Connection:
        """Open one more session, for what lasts; whoever calls closes it.

        Raises:
            ConfigurationError: The password is wrong or missing; a retry does not help.
            LedgerUnavailableError: The server cannot be reached; a retry may help.
        """
        return connect(self._parameters, self._timeout_s)

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        opened: _Session | None = getattr(self._local, "opened", None)
        self._local.opened = None
        if opened is None:
            return
        if opened.pid != os.getpid():
            _INHERITED.append(opened.connection)
            return
        with suppress(psycopg.Error):
            opened.connection.close()

    def _connection(self) -> Connection:
        return self._session().connection

    def _session(self) -> _Session:
        opened: _Session | None = getattr(self._local, "opened", None)
        if opened is not None and opened.pid == os.getpid() and not opened.connection.closed:
            return opened
        self.close()
        connection = connect(self._parameters, self._timeout_s)
        try:
            check_revision(connection)
        except BaseException:
            connection.close()
            raise
        opened = _Session(connection, Trips(connection), os.getpid())
        self._local.opened = opened
        return opened


def parameters_of(url: str) -> dict[str, Any]:
    """Return libpq's parameters in a URL.

    Raises:
        ConfigurationError: It is no URL of a PostgreSQL database; a retry does not help.
    """
    try:
        if url.startswith(URL_PREFIXES):
            parameters = conninfo_to_dict(url)
            ports = str(parameters.get("port") or "5432").split(",")
            if parameters.get("dbname") and all(port.isdecimal() for port in ports):
                return dict(parameters)
    except psycopg.Error:
        pass  # its text repeats parts of the URL
    raise ConfigurationError(
        "[mlgov] ledger_url is no URL of a PostgreSQL database.",
        remedy="Use postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters "
        "percent-encoded.",
    )


def connect(parameters: dict[str, Any], timeout_s: float) -> Connection:
    """Open a session; whoever calls closes it.

    Raises:
        ConfigurationError: The password is wrong or missing; a retry does not help.
        LedgerUnavailableError: The server cannot be reached; a retry may help.
    """
    given = {"connect_timeout": max(1, int(timeout_s)), "application_name": "airflow-mlgov"}
    try:
        connection: Connection = psycopg.connect(
            **{**given, **parameters, "client_encoding": "utf8"}, autocommit=True
        )
    except psycopg.Error as error:
        raise unreached(error) from None
    try:
        connection.execute(_SETTINGS, (str(int(timeout_s * 1000)), list(_DURABLE)))
    except psycopg.Error as error:
        connection.close()
        raise translation(error) from error
    return connection


def check_revision(connection: Connection) -> None:
    """Do nothing if the tables are those that this code reads and writes.

    Raises:
        ConfigurationError: They are not, or may not be read; a retry does not help.
        LedgerUnavailableError: The server stopped; a retry may help.
    """
    try:
        rows = connection.execute("SELECT version_num FROM mlgov.schema_version").fetchall()
    except psycopg.Error as error:
        raise translation(error) from error
    if not rows:
        raise unmigrated()
    if rows != [(REVISION,)]:
        raise ConfigurationError(
            f"The ledger's database has tables of revision {rows[0][0]}; this code needs "
            f"{REVISION}.",
            remedy="Let its owner run `airflow mlgov db migrate` with the newest release in use.",
        )
