"""How every command of `airflow mlgov` prints, and how it ends."""

from __future__ import annotations

import getpass
import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlgov.errors import ConfigurationError, MlgovError
from airflow_mlgov.records.people import Person

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand, Arg

Handler: TypeAlias = Callable[[Namespace], None]
Row: TypeAlias = Mapping[str, Any]

FOR_PROGRAMS = frozenset({"json", "yaml"})
"""Values of ``--output`` that keep nesting; the others are for people."""


def command(
    handler: Handler, summary: str, *args: Arg, name: str = "", description: str | None = None
) -> ActionCommand:
    """Return a command of Airflow's command line.

    Args:
        handler: A function of a module; it is imported anew when the command is called.
        summary: One line for the list of commands.
        args: What it takes.
        name: Its name; by default the handler's, with dashes.
        description: More for its own help.
    """
    from airflow.cli.cli_config import ActionCommand, lazy_load_command

    loaded = lazy_load_command(f"{handler.__module__}.{handler.__name__}")
    name = name or handler.__name__.replace("_", "-")
    return ActionCommand(name, summary, loaded, args, description=description)


def option(name: str, summary: str, **more: Any) -> Arg:
    """Return an argument ``--name`` of a command."""
    return positional(f"--{name}", summary, **more)


def positional(name: str, summary: str, **more: Any) -> Arg:
    """Return an argument of a command that is given by its place."""
    from airflow.cli.cli_config import Arg

    return Arg((name,), help=summary, **more)  # type: ignore[no-untyped-call]


def reports_errors(handler: Handler) -> Handler:
    """Make a command end with an error's diagnostics on stderr and its exit code, no traceback."""

    @wraps(handler)
    def run(args: Namespace) -> None:
        try:
            with _logs_on_stderr():
                handler(args)
        except MlgovError as error:
            tell(error.diagnostics())
            raise SystemExit(error.exit_code) from None

    return run


def tell(text: str) -> None:
    """Print text for people to stderr, where it does not disturb what is piped on."""
    print(printable(text), file=sys.stderr)


def moment_of(text: str, otherwise: ConfigurationError) -> datetime:
    """Return the moment that somebody typed, in UTC if no time zone is named.

    Args:
        text: ISO 8601; a day alone is its beginning.
        otherwise: Raised if it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise otherwise from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def who_runs_this() -> Person:
    """Return the operating system's user: the command line knows no other."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError) as error:
        raise ConfigurationError(
            "The operating system has no name for the user who runs this.",
            remedy="Set LOGNAME to your user id.",
        ) from error
    return Person(name, name)


def print_rows(rows: Sequence[Row], output: str, *, title: str = "") -> None:
    """Print rows as Airflow's own commands do.

    Args:
        rows: Values by column, the same columns in each.
        output: ``table``, ``json``, ``yaml`` or ``plain``.
        title: Heading for people; not printed for programs.
    """
    from airflow.cli.simple_table import AirflowConsole

    console = AirflowConsole()
    if output in FOR_PROGRAMS:
        console.print_as(data=[dict(row) for row in rows], output=output)
        return
    if title:
        print(f"\n{printable(title)}")
    shown = [{column: _cell(value, output) for column, value in row.items()} for row in rows]
    console.print_as(data=shown, output=output)


def printable(text: str) -> str:
    """Return text without characters that could move a terminal's cursor or forge a colour."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


@contextmanager
def _logs_on_stderr() -> Iterator[None]:
    """Keep Airflow's log lines, which it writes to stdout, out of what a program will parse."""
    root = logging.getLogger()
    handlers = [h for h in root.handlers if isinstance(h, logging.StreamHandler)]
    moved = [handler for handler in handlers if handler.stream is sys.stdout]
    for handler in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(sys.stdout)


def _cell(value: object, output: str) -> str:
    from rich.markup import escape

    parts = value if isinstance(value, list | tuple) else [value]
    text = ", ".join("" if part is None else str(part) for part in parts)
    one_line = printable(" ".join(text.split()))
    return escape(one_line) if output == "table" else one_line
