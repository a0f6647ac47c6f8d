"""Which database the ledger is in, as `[mlgov] ledger_url` says; and which it may not be in."""

from __future__ import annotations

import re
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.wiring.settings import setting

if TYPE_CHECKING:
    from airflow_mlgov.service.ports import LedgerStore

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_ONE_HOST = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})
_THIS_MACHINE = frozenset({"", "localhost", "127.0.0.1", "::1"})
# Only what is surely a scheme is repeated: a URL that was mistyped may start with its password.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,30})://")


def open_ledger_store(url: str) -> LedgerStore:
    """Return the store that a ledger URL names.

    Raises:
        ConfigurationError: The URL's scheme is not known, it names Airflow's own database, or a
            SQLite file is to serve several machines; the message never repeats the URL.
    """
    if is_postgres(url):
        from airflow_mlgov.stores.postgres import PostgresStore

        return PostgresStore(url)
    from airflow_mlgov.stores.sqlite import SqliteStore

    return SqliteStore.from_url(url)


def is_postgres(url: str) -> bool:
    """Return whether a ledger URL names a PostgreSQL database, and not a SQLite file.

    Raises:
        ConfigurationError: As for `open_ledger_store`.
    """
    if url.startswith(_SQLITE):
        _refuse_many_hosts()
        return False
    if url.startswith(_POSTGRES):
        _refuse_metadata_database(url)
        _postgres_schema()
        return True
    scheme = _SCHEME.match(url)
    raise ConfigurationError(
        f"[mlgov] ledger_url has the scheme {scheme[1]!r}, which this version cannot keep a ledger "
        "in."
        if scheme
        else "[mlgov] ledger_url is no URL.",
        remedy="Use sqlite:////absolute/path/ledger.db or postgresql://USER:PASSWORD@HOST/DATABASE.",
    )


def migrate_ledger() -> str:
    """Make or bring up to date the configured ledger's tables; return their revision.

    Raises:
        ConfigurationError: The settings are wrong, or the role may not; a retry does not help.
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    from airflow_mlgov.stores.sqlite import SqliteStore

    url = setting("ledger_url")
    open_ledger_store(url)
    if url.startswith(_POSTGRES):
        return str(_postgres_schema().migrate(url))
    SqliteStore.from_url(url).migrate()
    return _sqlite_revision()


def reindex_ledger() -> None:
    """Make the index of the configured ledger's store anew from its entries.

    Raises:
        ConfigurationError: The settings are wrong, or the role may not; a retry does not help.
        LedgerIntegrityError: An entry is damaged or missing, and nothing was changed.
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    from airflow_mlgov.stores.sqlite import SqliteStore

    url = setting("ledger_url")
    open_ledger_store(url)
    if url.startswith(_POSTGRES):
        _postgres_schema().reindex(url)
    else:
        SqliteStore.from_url(url).reindex()


def check_ledger() -> list[tuple[str, bool, str]]:
    """Return what was looked at in the configured ledger's database, whether it is fine, detail.

    Raises:
        ConfigurationError: The settings are wrong; a retry does not help.
        LedgerUnavailableError: The store cannot be reached; a retry may help.
    """
    url = setting("ledger_url")
    open_ledger_store(url)
    if url.startswith(_POSTGRES):
        return list(_postgres_schema().findings(url))
    from airflow_mlgov.stores.sqlite import SqliteStore
    from airflow_mlgov.stores.sqlite.file_system import network_file_system

    path = SqliteStore.from_url(url).path
    SqliteStore(path, read_only=True).head()
    kind = network_file_system(path.parent)
    return [
        ("revision", True, _sqlite_revision()),
        ("file system", kind is None, kind or "none of the network's"),
    ]


def grant_ledger(writer: str, sequencer: str | None) -> None:
    """Give roles of the configured PostgreSQL database their rights, and no others.

    Raises:
        ConfigurationError: The ledger is not in PostgreSQL, a role does not exist or holds too
            much, or the URL is not the owner's; a retry does not help.
        LedgerUnavailableError: The server cannot be reached; a retry may help.
    """
    url = setting("ledger_url")
    open_ledger_store(url)
    if not url.startswith(_POSTGRES):
        raise ConfigurationError(
            "[mlgov] ledger_url names a SQLite file, which has no roles.",
            remedy="The operating system's permissions of the file and its folder decide.",
        )
    _postgres_schema().grant(url, writer=writer, sequencer=sequencer)


def _postgres_schema() -> ModuleType:
    try:
        from airflow_mlgov.stores.postgres import schema
    except ImportError as error:
        raise ConfigurationError(
            f"A ledger in PostgreSQL needs {error.name or 'psycopg'}, which cannot be imported.",
            remedy="Install airflow-mlgov[postgres].",
        ) from error
    return schema


def _sqlite_revision() -> str:
    from airflow_mlgov.stores.sqlite.schema import SCHEMA_VERSION

    return f"user_version {SCHEMA_VERSION}"


def _refuse_many_hosts() -> None:
    from airflow.sdk.configuration import conf

    configured = conf.get("core", "executor", fallback="") or ""
    # `team=path.Class:Alias` is the long form of one of several names.
    names = [
        part.rpartition("=")[2].partition(":")[0].strip().rpartition(".")[2]
        for part in re.split(r"[,;]", configured)
    ]
    many = [name for name in names if name and name not in _ONE_HOST]
    if many:
        raise ConfigurationError(
            f"[mlgov] ledger_url names a SQLite file, and [core] executor is {', '.join(many)}, "
            "whose tasks may run on other machines than the file.",
            remedy="Set [mlgov] ledger_url to a PostgreSQL database.",
        )


def _refuse_metadata_database(url: str) -> None:
    from airflow.sdk.configuration import conf

    airflows = conf.get("database", "sql_alchemy_conn", fallback="") or ""
    if not airflows.startswith(("postgresql", "postgres:")):
        return
    try:
        same = _place(url) == _place(airflows)
    except ValueError:
        return  # one of them is no URL: who opens it says so
    if same:
        raise ConfigurationError(
            "[mlgov] ledger_url names Airflow's own metadata database.",
            remedy="Give the ledger a database of its own, which no Airflow component owns.",
        )


def _place(url: str) -> tuple[str, int, str]:
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = query.get("host") or unquote(parts.hostname or "")
    port = int(query.get("port") or parts.port or 5432)
    local = host.lower() in _THIS_MACHINE or host.startswith("/")
    name = query.get("dbname") or unquote(parts.path.lstrip("/"))
    return "localhost" if local else host.lower(), port, name
