"""``airflow mlgov hold``: keep everything about a model, whatever its retention."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.run import (
    FOR_PROGRAMS,
    command,
    option,
    print_rows,
    reports_errors,
    tell,
    who_runs_this,
)
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.service.holds import Hold


@reports_errors
def place(args: Namespace) -> None:
    """Place a hold on a model."""
    from airflow_mlgov.service.holds import place_hold
    from airflow_mlgov.wiring import open_governance

    held = place_hold(open_governance(), args.model, args.reason, who_runs_this())
    print_rows([_row(held)], args.output)


@reports_errors
def lift(args: Namespace) -> None:
    """Lift a hold."""
    from airflow_mlgov.service.holds import lift_hold
    from airflow_mlgov.wiring import open_governance

    gov = open_governance()
    lifted = lift_hold(gov, args.model, args.reason, who_runs_this(), args.hold)
    print_rows([_row(lifted)], args.output)


@reports_errors
def list_holds(args: Namespace) -> None:
    """List holds from the ledger."""
    from airflow_mlgov.service.holds import all_holds
    from airflow_mlgov.wiring import open_governance

    view = open_governance().ledger.view()
    found = [h for h in all_holds(view, args.model) if args.all or h.lifted_at is None]
    if not found and args.output not in FOR_PROGRAMS:
        tell("No holds.")
        return
    print_rows([_row(hold) for hold in found], args.output)


def hold_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov hold``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    model = option("model", "Id of the model", required=True)
    return [
        command(
            place,
            "Place a hold: nobody named in the model's entries is erased while it lasts",
            option("reason", "Why it is placed", required=True),
            model,
            ARG_OUTPUT,
        ),
        command(
            lift,
            "Lift a hold",
            option("reason", "Why", required=True),
            model,
            option("hold", "Id of the hold (default: the only one on the model)"),
            ARG_OUTPUT,
        ),
        command(
            list_holds,
            "List holds",
            option("model", "Only holds on this model (default: all)"),
            option("all", "Show lifted holds too", action="store_true"),
            ARG_OUTPUT,
            name="list",
        ),
    ]


def _row(hold: Hold) -> dict[str, Any]:
    return {
        "hold": hold.id,
        "model": hold.model,
        "placed_at": to_text(hold.placed_at),
        "placed_by": hold.placed_by,
        "reason": hold.reason,
        "lifted_at": to_text(hold.lifted_at) if hold.lifted_at else None,
    }
