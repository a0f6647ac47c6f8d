"""``airflow mlgov ledger``: verify it, export it, write down whose keys count."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.ledger.trust import TrustRoot
    from airflow_mlgov.service.anchor import AnchorProgress


@reports_errors
def verify(args: Namespace) -> None:
    """Check a whole ledger; exit 0 if it is fine, 1 if altered, 3 if a key is unknown."""
    from airflow_mlgov.service.ledger import Ledger
    from airflow_mlgov.service.verify_anchored import verify_anchored
    from airflow_mlgov.wiring import open_anchors, open_ledger
    from airflow_mlgov.wiring.ledger_file import open_ledger_file

    trust = _trust_in(args.trust) if args.trust else open_ledger().trust_root()
    ledger = Ledger(open_ledger_file(Path(args.file)), {}) if args.file else open_ledger()
    # Which witnesses count is for the trust file to say, if one is given.
    anchors = [due.anchor for due in open_anchors()]
    files = args.checkpoint or ()
    report = verify_anchored(
        ledger,
        trust,
        anchors=[anchor for anchor in anchors if not args.trust or anchor.kind != "witness"],
        earlier=[ledger.keyring(trust).open(read_whole(Path(file))) for file in files],
    )
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
    from airflow_mlgov.wiring import configured_witnesses, open_ledger

    root = open_ledger().trust_root().with_witnesses(configured_witnesses())
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
def anchor(args: Namespace) -> None:
    """Hand the newest checkpoint to the configured anchors; exit 1 if one did not take it."""
    from airflow_mlgov.wiring import open_anchoring, open_ledger

    open_ledger().drain()
    anchoring = open_anchoring(tell)
    if not anchoring.progress:
        raise ConfigurationError(
            "No anchor is configured.", remedy="Name them in the file of [mlgov] anchors_path."
        )
    anchoring.round(only_due=args.due)
    print_rows([_anchor_row(seen) for seen in anchoring.progress], args.output)
    if any(seen.problem for seen in anchoring.progress):
        raise SystemExit(1)


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
            anchor,
            "Hand the newest signed checkpoint to the anchors in [mlgov] anchors_path",
            option(
                "due", "Leave out those that are not due yet, for a cron job", action="store_true"
            ),
            ARG_OUTPUT,
        ),
        command(
            export_tiles,
            "Write the whole ledger as C2SP tlog-tiles, for tools of transparency logs",
            positional("folder", "Folder to write to; an earlier export there is extended"),
        ),
        *reading_commands(),
    ]


def _anchor_row(seen: AnchorProgress) -> dict[str, Any]:
    return {
        "anchor": seen.name,
        "entries": seen.size,
        "taken at": "" if seen.at is None else to_text(seen.at),
        "problem": seen.problem,
    }


def _trust_in(file: str) -> TrustRoot:
    from airflow_mlgov.ledger.trust import TrustRoot

    return TrustRoot.parse(read_whole(Path(file)))
