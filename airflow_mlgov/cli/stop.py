"""``airflow mlgov stop``, ``resume`` and ``revoke``: the kill switch, and taking approvals back."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from airflow_mlgov.cli.api_server import TOKEN_VARIABLE, tell_api_server
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


@reports_errors
def resume(args: Namespace) -> None:
    """Let the api-server resume a model, in the name of whose token it is."""
    said = tell_api_server(args.url, "models", args.model, "resume", reason=args.reason)
    print_rows([said], args.output)


@reports_errors
def revoke(args: Namespace) -> None:
    """Let the api-server revoke an approval, in the name of whose token it is."""
    said = tell_api_server(args.url, "approvals", args.request, "revoke", reason=args.reason)
    print_rows([said], args.output)


def stop_commands() -> list[ActionCommand]:
    """Return the commands."""
    from airflow.cli.cli_config import ARG_OUTPUT

    model = positional("model", "Id of the model")
    reason = option("reason", "Why", required=True)
    url = option("url", "Address of the api-server (default: [api] base_url)")
    with_token = f"The api-server is asked with the token in {TOKEN_VARIABLE}."
    return [
        command(
            stop,
            "Stop a model: every guard of it refuses until it is resumed",
            model,
            reason,
            ARG_OUTPUT,
        ),
        command(
            resume,
            "Resume a stopped model",
            model,
            reason,
            url,
            ARG_OUTPUT,
            description=with_token,
        ),
        command(
            revoke,
            "Revoke an approval, for good",
            positional("request", "Digest of its request, sha256:..., as `status` shows it"),
            reason,
            url,
            ARG_OUTPUT,
            description=with_token,
        ),
    ]
