"""``airflow mlgov breakglass``: use a version without its approval in an emergency; confirm it."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from airflow_mlgov.cli.api_server import TOKEN_VARIABLE, tell_api_server
from airflow_mlgov.cli.run import command, option, positional, print_rows, reports_errors
from airflow_mlgov.records.digest import Digest

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


@reports_errors
def use(args: Namespace) -> None:
    """Let the api-server open a version, in the name of whose token it is."""
    said: dict[str, str | int] = {"version": str(Digest.parse(args.version)), "target": args.target}
    if args.hours is not None:
        said["hours"] = args.hours
    told = tell_api_server(args.url, "models", args.model, "breakglass", reason=args.reason, **said)
    print_rows([told], args.output)


@reports_errors
def confirm(args: Namespace) -> None:
    """Let the api-server confirm an emergency, in the name of whose token it is."""
    path = ("models", args.model, "breakglass", args.finding, "confirm")
    print_rows([tell_api_server(args.url, *path, reason=args.reason)], args.output)


def breakglass_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov breakglass``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    url = option("url", "Address of the api-server (default: [api] base_url)")
    asked = f"The api-server is asked with the token in {TOKEN_VARIABLE}. The policy pack says"
    return [
        command(
            use,
            "Let a version be promoted once and used for some hours without an approval",
            positional("model", "Id of the model"),
            option("version", "Its manifest digest, sha256:...", required=True),
            option("target", "Environment, such as production", required=True),
            option("reason", "Why it cannot wait", required=True),
            option("hours", "For how long (default: as long as the policy pack allows)", type=int),
            url,
            ARG_OUTPUT,
            description=f"{asked} who may. It is an open High finding until enough other "
            "people confirm it.",
        ),
        command(
            confirm,
            "Say afterwards that it was right to break glass",
            positional("finding", "Id of its finding, F-..., as `finding list` shows it"),
            option("model", "Id of its model", required=True),
            option("reason", "Why it was right", required=True),
            url,
            ARG_OUTPUT,
            description=f"{asked} how many must: others with a seat, who did not build the "
            "version.",
        ),
    ]
