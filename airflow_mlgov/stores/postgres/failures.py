"""What PostgreSQL's errors mean for a ledger; no message repeats any part of the URL."""

from __future__ import annotations

import psycopg
from psycopg import errors

from airflow_mlgov.errors import (
    ConfigurationError,
    LedgerIntegrityError,
    LedgerUnavailableError,
    MlgovError,
)

_MISSING = (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn)
_COME_BACK = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.InFailedSqlTransaction,
)
# libpq's own text names host and user; of a mistyped URL they can be parts of the password.
_UNREACHED = {
    "Connection refused": "nothing listens at its address",
    "timeout expired": "it did not answer in time",
    "authentication failed": "it refused the login",
    "no password supplied": "it wants a password",
    "does not exist": "there is no such database or role",
    "translate host name": "its host name is not known",
    "No such file or directory": "nothing listens at its socket",
    "starting up": "it is starting",
    "shutting down": "it is stopping",
    "too many": "it has no connection left",
    "no pg_hba.conf entry": "it refuses logins from here",
}


def unreached(error: psycopg.Error) -> LedgerUnavailableError:
    """Return our error for a connection that could not be made."""
    text = str(error)
    reason = next((ours for theirs, ours in _UNREACHED.items() if theirs in text), "no connection")
    return LedgerUnavailableError(
        f"The ledger's database cannot be reached: {reason}.",
        remedy="Check the server, and [mlgov] ledger_url.",
    )


def translation(error: psycopg.Error) -> MlgovError:
    """Return our error for one that a statement raised."""
    said = error.diag.message_primary or type(error).__name__
    if isinstance(error, errors.InsufficientPrivilege):
        return ConfigurationError(
            f"The role in [mlgov] ledger_url may not do this: {said}.",
            remedy="Let the owner run `airflow mlgov db grant`, or use the sequencer's role.",
        )
    if isinstance(error, _MISSING):
        return unmigrated()
    if isinstance(error, _COME_BACK):
        return LedgerUnavailableError(f"The ledger's database cannot be used: {said}.")
    return LedgerIntegrityError(f"The ledger's database is damaged or was altered: {said}.")


def unmigrated() -> ConfigurationError:
    """Return the error for a database without our tables."""
    return ConfigurationError(
        "The ledger's database has no tables of a ledger.",
        remedy="Let its owner run `airflow mlgov db migrate`.",
    )
