"""``airflow mlgov ledger``: verify it, show it, write down whose keys count."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.files import read_whole, write_whole
from airflow_mlgov.cli.run import FOR_PROGRAMS, print_rows, printable, reports_errors, tell
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand, Arg

    from airflow_mlgov.ledger.checkpoint import Checkpoint
    from airflow_mlgov.ledger.trust import TrustRoot
    from airflow_mlgov.ledger.view import SealedEntry


@reports_errors
def verify(args: Namespace) -> None:
    """Check a whole ledger; exit 0 if it is fine, 1 if altered, 3 if a key is unknown."""
    from airflow_mlgov.service.ledger import Ledger
    from airflow_mlgov.wiring import open_ledger
    from airflow_mlgov.wiring.ledger_file import open_ledger_file

    trust = _trust_in(args.trust) if args.trust else open_ledger().trust_root()
    ledger = Ledger(open_ledger_file(Path(args.file)), {}) if args.file else open_ledger()
    earlier = [_checkpoint_in(file, trust) for file in args.checkpoint or ()]
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
def show(args: Namespace) -> None:
    """List the entries of a ledger, all or by model and kind, in its order."""
    from airflow_mlgov.wiring import open_ledger

    view = open_ledger().view()
    kinds = [args.kind] if args.kind else []
    to_row = _full_row if args.output in FOR_PROGRAMS else _short_row
    print_rows([to_row(entry) for entry in view.select(*kinds, model=args.model)], args.output)
    if not kinds and args.model is None and view.violations:
        count = len(view.violations)
        tell(f"{count} more entries count for nothing; `airflow mlgov ledger verify` says why.")


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


def ledger_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov ledger``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    to_file = _option("file", "File to write", required=True)
    return [
        _command(
            "verify",
            "Check the whole ledger: exit 0 fine, 1 altered, 3 signed by an unknown key",
            _option("trust", "Trust file, kept elsewhere (default: this deployment's own keys)"),
            _option("file", "SQLite file of a ledger (default: the configured ledger)"),
            _option("checkpoint", "Checkpoint kept elsewhere; repeat for more", action="append"),
            ARG_OUTPUT,
        ),
        _command(
            "show",
            "List entries under the newest signed checkpoint",
            _option("model", "Only entries about this model"),
            _option("kind", "Only entries of this kind, such as approval.voted"),
            ARG_OUTPUT,
        ),
        _command(
            "trust",
            "Write the trust file that `verify --trust` reads",
            to_file,
            _option("vkey", "Also write the log's public key to this file, in C2SP note form"),
        ),
        _command("checkpoint", "Write the newest signed checkpoint, to keep elsewhere", to_file),
    ]


def _command(name: str, summary: str, *args: Arg) -> ActionCommand:
    from airflow.cli.cli_config import ActionCommand, lazy_load_command

    return ActionCommand(name, summary, lazy_load_command(f"{__name__}.{name}"), args)


def _option(name: str, summary: str, **more: Any) -> Arg:
    from airflow.cli.cli_config import Arg

    return Arg((f"--{name}",), help=summary, **more)  # type: ignore[no-untyped-call]


def _short_row(entry: SealedEntry) -> dict[str, Any]:
    people = [entry.person(field) for field in sorted(entry.people)]
    return {
        "index": entry.index,
        "at": to_text(entry.at),
        "kind": entry.kind,
        "model": entry.model,
        "version": entry.version.short if entry.version else "",
        "people": [person.name if person else "(erased)" for person in people],
        "signed by": entry.signed_by.value,
        "leaf hash": entry.leaf_hash[:12],
    }


def _full_row(entry: SealedEntry) -> dict[str, Any]:
    people = {field: entry.person(field) for field in sorted(entry.people)}
    return {
        "index": entry.index,
        "at": to_text(entry.at),
        "kind": entry.kind,
        "model": entry.model,
        "version": str(entry.version) if entry.version else None,
        "body": entry.body,
        "people": {field: person.as_json() if person else None for field, person in people.items()},
        "texts": {field: entry.text(field) for field in sorted(entry.texts)},
        "source": entry.source.as_json(),
        "signed_by": entry.signed_by.value,
        "key": entry.key,
        "leaf_hash": entry.leaf_hash,
    }


def _trust_in(file: str) -> TrustRoot:
    from airflow_mlgov.ledger.trust import TrustRoot

    return TrustRoot.parse(read_whole(Path(file)))


def _checkpoint_in(file: str, trust: TrustRoot) -> Checkpoint:
    from airflow_mlgov.ledger.checkpoint import open_checkpoint

    return open_checkpoint(read_whole(Path(file)), trust.log_keys, origin=trust.origin)
