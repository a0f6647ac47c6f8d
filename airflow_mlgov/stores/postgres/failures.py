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
    "does not exist": "there is no such database or role",
    "translate host name": "its host name is not known",
    "No such file or directory": "nothing listens at its socket",
    "starting up": "it is starting",
    "shutting down": "it is stopping",
    "too many": "it has no connection left",
    "no pg_hba.conf entry": "it refuses logins from here",
}

# Of a password only: what LDAP, RADIUS or PAM answer may pass.
_REFUSED = "password authentication failed"


def unreached(error: psycopg.Error) -> ConfigurationError | LedgerUnavailableError:
    """Return our error for a connection that could not be made.

    libpq passes on no SQLSTATE of a login, only a text: of a server that speaks another language
    than English, a wrong password is taken for something that may pass.
    """
    text = str(error)
    session = error.pgconn
    if session is not None and session.needs_password:
        return ConfigurationError(
            "The ledger's database wants a password, and none was given.",
            remedy="Put it into [mlgov] ledger_url.",
        )
    if session is not None and session.used_password and _REFUSED in text:
        return ConfigurationError(
            "The ledger's database refused the password.",
            remedy="Correct the role or the password in [mlgov] ledger_url.",
        )
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
