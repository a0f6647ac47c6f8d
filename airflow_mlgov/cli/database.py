"""``airflow mlgov db``: the tables of the ledger, and who may do what in them."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from airflow_mlgov.cli.run import command, option, print_rows, reports_errors, tell

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


@reports_errors
def migrate(args: Namespace) -> None:  # noqa: ARG001
    """Make the ledger's tables, or bring them to the revision that this release needs."""
    from airflow_mlgov.wiring.ledger_store import migrate_ledger

    tell(f"The ledger's tables are at revision {migrate_ledger()}.")


@reports_errors
def reindex(args: Namespace) -> None:  # noqa: ARG001
    """Throw the index over the ledger's entries away and make it anew from them."""
    from airflow_mlgov.wiring.ledger_store import reindex_ledger

    reindex_ledger()
    tell("The index was made anew from the entries. `airflow mlgov ledger verify` checks both.")


@reports_errors
def check(args: Namespace) -> None:
    """Show revision, rights and durability of the ledger's database; exit 1 if one is wrong."""
    from airflow_mlgov.wiring.ledger_store import check_ledger

    found = check_ledger()
    print_rows(
        [
            {"what": what, "result": "ok" if fine else "wrong", "detail": detail}
            for what, fine, detail in found
        ],
        args.output,
    )
    if not all(fine for _, fine, _ in found):
        raise SystemExit(1)


@reports_errors
def grant(args: Namespace) -> None:
    """Give the roles of writers and of the sequencer what they need, and take the rest."""
    from airflow_mlgov.wiring.ledger_store import grant_ledger

    grant_ledger(args.writer, args.sequencer)
    tell(f"{args.writer} may append and read.")
    if args.sequencer is not None:
        tell(f"{args.sequencer} may append, read and sequence.")


def database_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov db``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return [
        command(migrate, "Make the ledger's tables, or bring them up to date (as their owner)"),
        command(reindex, "Make the index over the entries anew from them (as the tables' owner)"),
        command(check, "Show revision, rights and durability: exit 1 if wrong", ARG_OUTPUT),
        command(
            grant,
            "Give two PostgreSQL roles their rights (as the owner)",
            option("writer", "Role of tasks and the api-server", required=True),
            option("sequencer", "Role of the sequencer (default: the tables' owner)"),
        ),
    ]
