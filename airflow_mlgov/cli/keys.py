"""``airflow mlgov keys``: which keys are here, and putting a new one in the place of an old one."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow_mlgov.cli.run import command, option, print_rows, reports_errors, tell
from airflow_mlgov.records.kinds import KeyRole

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


@reports_errors
def show(args: Namespace) -> None:
    """List the keys in ``keys_dir``; nothing secret."""
    from airflow_mlgov.wiring import key_places

    rows = [asdict(place) | {"role": place.role.value} for place in key_places()]
    print_rows(rows, args.output)


@reports_errors
def rotate(args: Namespace) -> None:
    """Put a new key in the place of a role's present one."""
    from airflow_mlgov.wiring import rotate_role

    index = rotate_role(KeyRole(args.role), args.new_uri)
    tell(f"The {args.role} key was rotated; entry {index} of the ledger says so.")
    tell(
        "Write a new trust file (`airflow mlgov ledger trust`), put it in place, and start the "
        "processes that hold this key."
    )


def keys_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov keys``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return [
        command(show, "List the keys in keys_dir: role, algorithm, name, place", ARG_OUTPUT),
        command(
            rotate,
            "Put a new key in the place of an old one, on record and signed by both",
            option(
                "role",
                "Whose key: log, attestor or writer",
                required=True,
                choices=[role.value for role in KeyRole],
            ),
            option("new-uri", "Where the new key is, such as awskms:... (default: a file is made)"),
            description="Stop what holds the old key first. Run again, it goes on where it was.",
        ),
    ]
