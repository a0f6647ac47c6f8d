"""What an auditor runs: ``mlgov-verify.pyz BUNDLE --trust FILE``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography.x509 import Certificate, load_pem_x509_certificates

from airflow_mlgov.errors import ConfigurationError, LedgerIntegrityError
from airflow_mlgov.ledger.bundle import MAX_BUNDLE_BYTES
from airflow_mlgov.ledger.bundle_anchors import Demands
from airflow_mlgov.ledger.bundle_check import check_bundle
from airflow_mlgov.ledger.trust import MAX_BYTES, TrustRoot

EXIT_WRONG_USE = 64
_AGE = re.compile(r"([0-9]{1,6})([dhm])")
_COUNT = re.compile(r"[0-9]{1,2}")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}
_CODES = (
    "exit codes: 0 fine, 1 altered, 2 incomplete, 3 unknown key, 4 too old, 5 an entry that no "
    "checkpoint covers yet, 64 wrong use; of several the gravest, in the order 1 3 2 5 4"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle, print what was found, and return the exit code."""
    parser = _Parser(prog="mlgov-verify.pyz", description=_DESCRIPTION, epilog=_CODES)
    parser.add_argument("bundle", help="the bundle to check")
    parser.add_argument("--trust", required=True, help="trust file, from another place than it")
    parser.add_argument("--max-age", type=_age, help="such as 7d, 12h or 30m (default: any age)")
    parser.add_argument(
        "--witnesses",
        type=_count,
        default=0,
        help="so many witnesses in the trust file must have cosigned all entries (default: 0)",
    )
    parser.add_argument(
        "--tsa-certificate",
        action="append",
        default=[],
        help="PEM file of certificates that sign time-stamps; one must have stamped the log",
    )
    args = parser.parse_args(arguments)
    try:
        data = _read(args.bundle, MAX_BUNDLE_BYTES)
        trust = TrustRoot.parse(_read(args.trust, MAX_BYTES))
        authorities = tuple(c for name in args.tsa_certificate for c in _certificates(name))
    except ConfigurationError as error:
        parser.error(str(error))
    except LedgerIntegrityError as error:
        parser.error(f"{args.trust} is no trust file: {error}")
    demands = Demands(args.witnesses, authorities)
    report = check_bundle(data, trust, now=datetime.now(UTC), max_age=args.max_age, demands=demands)
    sys.stdout.write("".join(f"{_printable(line)}\n" for line in report.lines()))
    return int(report.verdict)


_DESCRIPTION = "Check a bundle of one model's ledger entries; nothing is written or fetched."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_WRONG_USE, f"{self.prog}: {_printable(message)}\n")


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 7d, 12h or 30m")
    return int(match[1]) * _UNITS[match[2]]


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 99")
    return int(text)


def _certificates(name: str) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(_read(name, MAX_BYTES))
    except ValueError as error:
        raise ConfigurationError(f"{name} holds no PEM certificates: {error}.") from error


def _read(name: str, limit: int) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name} cannot be read: {error}.") from error
    if len(data) > limit:
        raise ConfigurationError(f"{name} is longer than {limit} bytes.")
    return data


def _printable(text: str) -> str:
    # What a bundle holds must not move a terminal's cursor or forge a line of this report.
    return "".join(
        c if " " <= c <= "~" else repr(c)[1:-1] if not c.isprintable() else c for c in text
    )
