from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace

import pytest

from airflow_mlgov.cli.run import print_rows, printable, reports_errors
from airflow_mlgov.errors import ConfigurationError, DocumentError, LedgerError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ConfigurationError("No.", remedy="Set it."),
            64,
            "configuration: No.\nwhat to do: Set it.\n",
        ),
        (DocumentError("Bad.", file="f", line=3, path="a.0"), 65, "document: f:3: a.0: Bad.\n"),
        (LedgerError("Gone."), 1, "ledger: Gone.\n"),
    ],
)
def test_errors_end_with_their_code_and_no_traceback(capsys, error, code, said) -> None:
    @reports_errors
    def command(args: Namespace) -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        command(Namespace())
    assert end.value.code == code
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", said)


def test_a_bug_is_not_hidden() -> None:
    @reports_errors
    def command(args: Namespace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command(Namespace())


def test_log_lines_stay_out_of_stdout(capsys) -> None:
    handler = logging.StreamHandler(sys.stdout)
    logging.getLogger().addHandler(handler)

    @reports_errors
    def command(args: Namespace) -> None:
        logging.getLogger("airflow_mlgov.x").warning("careful")
        print_rows([{"a": 1}], "json")

    try:
        command(Namespace())
        assert handler.stream is sys.stdout
    finally:
        logging.getLogger().removeHandler(handler)
    seen = capsys.readouterr()
    assert json.loads(seen.out) == [{"a": "1"}]
    assert "careful" in seen.err


def test_json_keeps_nesting(capsys) -> None:
    print_rows([{"a": [{"b": None}], "c": "x" * 500}], "json", title="Not printed")
    assert json.loads(capsys.readouterr().out) == [{"a": [{"b": None}], "c": "x" * 500}]


@pytest.mark.parametrize("output", ["table", "plain"])
def test_text_for_people_cannot_move_the_cursor_or_forge_markup(capsys, output: str) -> None:
    rows = [{"a": "x\x1b[2Jy\r\nz\u202e", "b": "[red]b[/red]", "c": None, "d": ["p", 1]}]
    print_rows(rows, output, title="T\x1b[2J")
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "\r" not in out
    assert "x\\x1b[2Jy z\\u202e" in out
    assert "[red]b[/red]" in out
    assert "p, 1" in out
    assert "None" not in out
    assert out.startswith("\nT\\x1b[2J\n")


def test_printable_keeps_lines_and_letters() -> None:
    assert printable("ä\nb\tc\x00") == "ä\nb\\tc\\x00"
