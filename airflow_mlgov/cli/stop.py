"""``airflow mlgov stop``: the kill switch."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from airflow_mlgov.cli.run import (
    command,
    option,
    positional,
    print_rows,
    reports_errors,
    who_runs_this,
)

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


@reports_errors
def stop(args: Namespace) -> None:
    """Stop a model, with the writer's key of the machine where this runs."""
    from airflow_mlgov.service.stop import stop_model
    from airflow_mlgov.wiring import open_governance

    person = who_runs_this()
    receipt = stop_model(open_governance(), args.model, args.reason, person)
    row = {"model": args.model, "entry": receipt.index, "stopped_by": person.name}
    print_rows([row], args.output)


def stop_command() -> ActionCommand:
    """Return the command."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return command(
        stop,
        "Stop a model: every guard of it refuses until it is resumed",
        positional("model", "Id of the model"),
        option("reason", "Why", required=True),
        ARG_OUTPUT,
    )
