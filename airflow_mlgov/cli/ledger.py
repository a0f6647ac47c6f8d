"""``airflow mlgov ledger``: verify it, export it, write down whose keys count."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.cli.files import read_whole, write_whole
from airflow_mlgov.cli.ledger_reading import reading_commands
from airflow_mlgov.cli.run import (
    FOR_PROGRAMS,
    command,
    option,
    positional,
    print_rows,
    printable,
    reports_errors,
    tell,
)

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.ledger.trust import TrustRoot


@reports_errors
def verify(args: Namespace) -> None:
    """Check a whole ledger; exit 0 if it is fine, 1 if altered, 3 if a key is unknown."""
    from airflow_mlgov.service.ledger import Ledger
    from airflow_mlgov.wiring import open_ledger
    from airflow_mlgov.wiring.ledger_file import open_ledger_file

    trust = _trust_in(args.trust) if args.trust else open_ledger().trust_root()
    ledger = Ledger(open_ledger_file(Path(args.file)), {}) if args.file else open_ledger()
    files = args.checkpoint or ()
    earlier = [ledger.keyring(trust).open(read_whole(Path(file))) for file in files]
    report = ledger.verify(trust, earlier=earlier)
    if args.output in FOR_PROGRAMS:
        print_rows([report.as_json()], args.output)
    else:
        print(printable("\n".join(report.lines())))
        if not args.trust:
            print(
                "  anything against whoever holds this deployment's own keys: name a file with "
                "--trust"
            )
    if report.exit_code:
        raise SystemExit(report.exit_code)


@reports_errors
def trust(args: Namespace) -> None:
    """Write the file that tells a verifier which log is meant and whose keys count."""
    from airflow_mlgov.wiring import open_ledger

    root = open_ledger().trust_root()
    write_whole(Path(args.file), root.as_bytes())
    tell(f"Wrote {args.file}: log {root.origin}. Hand it on by another way than the ledger.")
    if args.vkey:
        write_whole(Path(args.vkey), b"".join(f"{key}\n".encode("ascii") for key in root.log_keys))
        tell(f"Wrote {args.vkey}: the log's public key in note form.")


@reports_errors
def checkpoint(args: Namespace) -> None:
    """Write the newest signed checkpoint to a file, to keep elsewhere and verify against."""
    from airflow_mlgov.wiring import open_ledger

    ledger = open_ledger()
    ledger.drain()
    newest = ledger.checkpoint()
    write_whole(Path(args.file), newest.note.encode("utf-8"))
    tell(f"Wrote {args.file} over {newest.size} entries. Keep it where the ledger is not.")


@reports_errors
def export_tiles(args: Namespace) -> None:
    """Write everything under the newest signed checkpoint in C2SP tlog-tiles form."""
    from airflow_mlgov.service.export_tiles import export_tiles as write_tiles
    from airflow_mlgov.wiring import open_ledger

    view = open_ledger().view()
    new = write_tiles(view, Path(args.folder))
    tell(f"Wrote {new} new files over {view.checkpoint.size} entries to {args.folder}.")


def ledger_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov ledger``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    to_file = option("file", "File to write", required=True)
    return [
        command(
            verify,
            "Check the whole ledger: exit 0 fine, 1 altered, 3 signed by an unknown key",
            option("trust", "Trust file, kept elsewhere (default: this deployment's own keys)"),
            option("file", "SQLite file of a ledger (default: the configured ledger)"),
            option("checkpoint", "Checkpoint kept elsewhere; repeat for more", action="append"),
            ARG_OUTPUT,
        ),
        command(
            trust,
            "Write the trust file that `verify --trust` reads",
            to_file,
            option("vkey", "Also write the log's public key to this file, in C2SP note form"),
        ),
        command(checkpoint, "Write the newest signed checkpoint, to keep elsewhere", to_file),
        command(
            export_tiles,
            "Write the whole ledger as C2SP tlog-tiles, for tools of transparency logs",
            positional("folder", "Folder to write to; an earlier export there is extended"),
        ),
        *reading_commands(),
    ]


def _trust_in(file: str) -> TrustRoot:
    from airflow_mlgov.ledger.trust import TrustRoot

    return TrustRoot.parse(read_whole(Path(file)))
