"""Where data to be validated comes from: a file, a function, or a table of a database."""

from __future__ import annotations

import csv
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_mlgov.errors import ConfigurationError, DataError, DataUnavailableError, MlgovError
from airflow_mlgov.operators.expectations import check_frame, check_table, engine_name
from airflow_mlgov.service.fingerprint import (
    Column,
    Fingerprint,
    fingerprint_stream,
    fingerprint_table,
)
from airflow_mlgov.service.suite_file import Suite
from airflow_mlgov.service.validate_data import Checked

if TYPE_CHECKING:
    from pandas import DataFrame
    from sqlalchemy import Connection, Engine, Table

_BLOCK_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class FileData:
    """A CSV file (UTF-8, with or without byte-order mark) or a Parquet file on a mounted disk.

    Attributes:
        path: Path or ``file:///`` URL; ends in ``.csv``, ``.parquet`` or ``.pq``.
    """

    path: str

    @property
    def file(self) -> Path:
        """The file itself."""
        url = urlsplit(self.path)
        return Path(unquote(url.path) if url.scheme == "file" else self.path)

    @property
    def uri(self) -> str:
        """The file's absolute URL."""
        return self.file.absolute().as_uri()

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.stem

    def check(self, suite: Suite) -> Checked:
        """Read and check the file; `CheckableData.check` says what it raises."""
        engine = engine_name()
        read = _reader_of(self.path)
        with self._opened() as file:
            digest = fingerprint_stream(file)
            file.seek(0)
            frame = read(file, self.path)
            if fingerprint_stream(file) != digest:
                raise DataError(
                    f"Data file {self.path} changed while it was read.",
                    remedy="Validate it once nothing writes to it any more.",
                )
        columns = _columns_of(frame, self.path)
        fingerprint = Fingerprint(digest, "file", len(frame), columns)
        return Checked(fingerprint, check_frame(frame, suite), engine)

    @contextmanager
    def _opened(self) -> Iterator[BufferedReader]:
        try:
            with self.file.open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise DataError(f"Data file {self.path} is not a regular file.")
                yield file
        except OSError as error:
            raise DataError(
                f"Data file {self.path} cannot be read: {error.strerror or error}.",
                remedy="Check the path and its permissions on the machine where tasks run.",
            ) from error


@dataclass(frozen=True, slots=True)
class FrameData:
    """What a function returns, called when the task runs.

    Attributes:
        load: Takes nothing, returns a pandas DataFrame.
    """

    load: Callable[[], Any]

    @property
    def uri(self) -> str:
        """The function's place in its module."""
        module = getattr(self.load, "__module__", "") or ""
        return f"python:{module}.{self.name}".replace("<", "").replace(">", "")

    @property
    def name(self) -> str:
        """The function's name."""
        named = getattr(self.load, "__qualname__", "") or type(self.load).__name__
        return named.rpartition(".")[2].strip("<>")

    def check(self, suite: Suite) -> Checked:
        """Call the function and check its answer; `CheckableData.check` says what it raises."""
        engine = engine_name()
        frame = self._called()
        columns = _columns_of(frame, self.uri)
        cells = [frame.iloc[:, index].tolist() for index in range(len(columns))]
        return Checked(fingerprint_table(columns, [cells]), check_frame(frame, suite), engine)

    def _called(self) -> DataFrame:
        from airflow.sdk.exceptions import AirflowException
        from pandas import DataFrame

        try:
            frame = self.load()
        except (AirflowException, MlgovError):
            raise
        except Exception as error:
            # It may have asked a database or a service, so another try may help.
            raise DataUnavailableError(
                f"Data function {self.uri} raised {type(error).__name__}: {error}.",
                remedy="Its traceback is in the task's log.",
            ) from error
        if not isinstance(frame, DataFrame):
            raise DataError(
                f"Data function {self.uri} returned {type(frame).__name__}, no pandas DataFrame.",
                remedy="Return a pandas.DataFrame.",
            )
        return frame


@dataclass(frozen=True, slots=True)
class TableData:
    """A table or view, checked where it stands through an Airflow connection.

    Attributes:
        conn_id: Connection whose provider gives a SQLAlchemy URL.
        table: ``table`` or ``schema.table``.
    """

    conn_id: str
    table: str

    @property
    def name(self) -> str:
        """The table, with its schema if it was given."""
        return self.table

    @property
    def uri(self) -> str:
        """The database's address without user, password and options, and the table."""
        url = self._engine().url
        system = {"postgresql": "postgres"}.get(url.get_backend_name(), url.get_backend_name())
        if not url.host:
            path = str(Path(url.database or "").absolute()).lstrip("/")
            return f"{system}:///{path}.{self.table}"
        port = f":{url.port}" if url.port else ""
        return f"{system}://{url.host}{port}/{url.database}.{self.table}"

    def check(self, suite: Suite) -> Checked:
        """Check the table where it stands; `CheckableData.check` says what it raises."""
        engine_used = engine_name()
        engine = self._engine()
        schema, _, table = self.table.rpartition(".")
        try:
            before = self._fingerprint(engine, schema or None, table)
            observed = check_table(engine.url, schema or None, table, suite)
            after = self._fingerprint(engine, schema or None, table)
        finally:
            engine.dispose()
        if before != after:
            raise DataError(
                f"Table {self.table} ({self.conn_id}) changed while it was validated.",
                remedy="Validate a snapshot, or a time when nothing writes to it.",
            )
        return Checked(before, observed, engine_used)

    def _engine(self) -> Engine:
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowException

        try:
            hook = BaseHook.get_hook(self.conn_id)
        except (AirflowException, ImportError) as error:
            raise ConfigurationError(
                f"Airflow connection {self.conn_id!r} cannot be used: {error}.",
                remedy="Add the connection, and install the provider of its type "
                "(such as apache-airflow-providers-postgres).",
            ) from error
        if not hasattr(hook, "get_sqlalchemy_engine"):
            raise ConfigurationError(
                f"Airflow connection {self.conn_id!r} ({type(hook).__name__}) is no SQL database.",
                remedy="Name a connection of a database that SQLAlchemy can open.",
            )
        try:
            engine: Engine = hook.get_sqlalchemy_engine()
        except Exception as error:  # noqa: BLE001 - each provider's hook fails in its own way
            # Without its text and cause, which may hold the URL with its password.
            raise ConfigurationError(
                f"Airflow connection {self.conn_id!r} gives no SQLAlchemy engine "
                f"({type(error).__name__}).",
                remedy="Install the database's driver and check the connection's fields.",
            ) from None
        return engine

    def _fingerprint(self, engine: Engine, schema: str | None, table: str) -> Fingerprint:
        from sqlalchemy import MetaData
        from sqlalchemy import Table as SqlTable
        from sqlalchemy.exc import NoSuchTableError, OperationalError, SQLAlchemyError

        try:
            with engine.connect() as connection:
                found = SqlTable(table, MetaData(), schema=schema, autoload_with=connection)
                columns = tuple(Column(str(c.name), str(c.type)) for c in found.columns)
                fingerprint = fingerprint_table(columns, _blocks(connection, found))
        except NoSuchTableError:
            raise DataError(
                f"There is no table {self.table!r} behind connection {self.conn_id!r}.",
                remedy="Write it as schema.table, in the case that the database uses.",
            ) from None
        except OperationalError as error:
            raise DataUnavailableError(
                f"The database behind connection {self.conn_id!r} cannot be read "
                f"({_cause(error)}).",
                remedy="Check that it runs and that the connection may read the table.",
            ) from None
        except SQLAlchemyError as error:
            raise DataError(
                f"Table {self.table!r} of connection {self.conn_id!r} cannot be read "
                f"({_cause(error)})."
            ) from None
        if not fingerprint.rows:
            raise _no_rows(f"Table {self.table} ({self.conn_id})")
        return fingerprint


def _blocks(connection: Connection, table: Table) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield a table's rows by primary key (else by all columns), a few thousand at a time."""
    from sqlalchemy import select

    order = list(table.primary_key.columns) or list(table.columns)
    rows = connection.execution_options(yield_per=_BLOCK_ROWS).execute(
        select(table).order_by(*order)
    )
    for block in rows.partitions():
        yield list(zip(*block, strict=True))


def _cause(error: Exception) -> str:
    """Return a database error's class and number, without its text, which may name the password."""
    origin = getattr(error, "orig", None)
    number = getattr(origin, "sqlstate", None) or getattr(origin, "sqlite_errorname", None) or ""
    return f"{type(origin or error).__name__} {number}".strip()


def _reader_of(path: str) -> Callable[[BufferedReader, str], DataFrame]:
    scheme = urlsplit(path).scheme
    if len(scheme) > 1 and scheme != "file":
        raise ConfigurationError(
            f"Data file {path} is not on a disk of this machine.",
            remedy="Hand over a function that fetches it and returns a DataFrame.",
        )
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".pq": _read_parquet}
    ending = Path(path).suffix.lower()
    if ending not in readers:
        raise ConfigurationError(
            f"Data file {path} is of no known kind.",
            remedy="Use .csv or .parquet, or a function that returns a DataFrame.",
        )
    return readers[ending]


def _read_csv(file: BufferedReader, path: str) -> DataFrame:
    import pandas as pd

    _refuse_double_header(file, path)
    try:
        with warnings.catch_warnings():
            # Else a line with too many fields loses them with a mere warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(file, encoding="utf-8-sig", index_col=False, low_memory=False)
    except pd.errors.EmptyDataError:
        raise DataError(f"Data file {path} is empty.", remedy="Check what wrote it.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise DataError(
            f"Data file {path} is no well-formed CSV file: {' '.join(str(error).split())}.",
            remedy="Write it as UTF-8, with as many fields in each line as in the header.",
        ) from error
    return _with_rows(frame, path)


def _refuse_double_header(file: BufferedReader, path: str) -> None:
    """Refuse two columns of one name: pandas would rename the second without a word."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    header = next(csv.reader(text), [])
    text.detach()
    file.seek(0)
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise _double_columns(path, twice)


def _read_parquet(file: BufferedReader, path: str) -> DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        frame: DataFrame = parquet.read_table(file).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"Data file {path} is no readable Parquet file: {' '.join(str(error).split())}.",
            remedy="Check what wrote it.",
        ) from error
    # What pandas wrote as a named index is data: a key, mostly.
    named = [name for name in frame.index.names if name is not None]
    return _with_rows(frame.reset_index(level=named) if named else frame, path)


def _with_rows(frame: DataFrame, what: str) -> DataFrame:
    if frame.empty:
        raise _no_rows(f"Data file {what}")
    return frame


def _columns_of(frame: DataFrame, what: str) -> tuple[Column, ...]:
    if frame.empty:
        raise _no_rows(f"Data {what}")
    names = list(frame.columns)
    if not all(isinstance(name, str) for name in names):
        raise DataError(
            f"Data {what} has columns whose name is no text.",
            remedy="Name them: frame.columns = [...].",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _double_columns(what, twice)
    return tuple(Column(name, str(kind)) for name, kind in zip(names, frame.dtypes, strict=True))


def _no_rows(what: str) -> DataError:
    return DataError(
        f"{what} holds no rows, and so nothing to validate.", remedy="Check what wrote it."
    )


def _double_columns(what: str, names: list[str]) -> DataError:
    return DataError(
        f"Data {what} has more than one column called {', '.join(map(repr, names))}.",
        remedy="Give each column a name of its own.",
    )
