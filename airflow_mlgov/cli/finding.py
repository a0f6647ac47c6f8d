"""``airflow mlgov finding``: what was found wrong, and settling it."""

from __future__ import annotations

from argparse import Namespace
from datetime import date
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.api_server import TOKEN_VARIABLE, tell_api_server
from airflow_mlgov.cli.run import (
    FOR_PROGRAMS,
    command,
    option,
    positional,
    print_rows,
    reports_errors,
    tell,
)
from airflow_mlgov.errors import ConfigurationError
from airflow_mlgov.records.clock import to_text

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.records.governance import Finding


def finding_commands() -> list[ActionCommand]:
    """Return the commands of ``airflow mlgov finding``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return [
        command(
            list_findings,
            "List open findings, worst and soonest due first",
            option("model", "Id of one model in the inventory (default: all of them)"),
            option("all", "Show closed findings too", action="store_true"),
            ARG_OUTPUT,
            name="list",
            description="A finding is opened by a failed validation test. An open High finding "
            "keeps the approval gate from asking.",
        ),
        *_settling_commands(),
    ]


def _settling_commands() -> list[ActionCommand]:
    from airflow.cli.cli_config import ARG_OUTPUT

    finding = positional("finding", "Its id, F-..., as `finding list` shows it")
    model = option("model", "Id of its model", required=True)
    url = option("url", "Address of the api-server (default: [api] base_url)")
    who = f"The api-server is asked with the token in {TOKEN_VARIABLE}. The policy pack names who "
    who += "may; nobody may who built the version."
    return [
        command(
            close_finding,
            "Close a finding that is remedied",
            finding,
            model,
            option("reason", "How it was remedied", required=True),
            url,
            ARG_OUTPUT,
            name="close",
            description=who,
        ),
        command(
            accept_finding,
            "Accept the risk of a finding until a day; then it is open again",
            finding,
            model,
            option("until", "Last day, such as 2026-12-31", required=True),
            option("reason", "Why its risk can be carried", required=True),
            url,
            ARG_OUTPUT,
            name="accept",
            description=who,
        ),
    ]


@reports_errors
def close_finding(args: Namespace) -> None:
    """Let the api-server close a finding, in the name of whose token it is."""
    path = ("models", args.model, "findings", args.finding, "close")
    print_rows([tell_api_server(args.url, *path, reason=args.reason)], args.output)


@reports_errors
def accept_finding(args: Namespace) -> None:
    """Let the api-server accept a finding, in the name of whose token it is."""
    try:
        date.fromisoformat(args.until)
    except ValueError as error:
        raise ConfigurationError(
            f"--until {args.until!r} is no day.", remedy="Write it as 2026-12-31."
        ) from error
    path = ("models", args.model, "findings", args.finding, "accept")
    said = tell_api_server(args.url, *path, reason=args.reason, until=args.until)
    print_rows([said], args.output)


@reports_errors
def list_findings(args: Namespace) -> None:
    """List findings from the ledger."""
    from airflow_mlgov.service.findings import all_findings, severity_rank
    from airflow_mlgov.wiring import open_governance

    gov = open_governance()
    if args.model:
        gov.model(args.model)
    found = [f for f in all_findings(gov.ledger.view(), args.model) if args.all or f.is_open]
    found.sort(key=lambda f: (not f.is_open, -severity_rank(f.severity), f.due_at, f.id))
    if not found and args.output not in FOR_PROGRAMS:
        tell("No findings." if args.all else "No open findings.")
        return
    now = gov.clock.now()
    print_rows([_row(finding, now) for finding in found], args.output)


def _row(finding: Finding, now: datetime) -> dict[str, Any]:
    return {
        "finding": finding.id,
        "model": finding.model,
        "version": str(finding.version or ""),
        "severity": finding.severity.value,
        "state": _state(finding, now),
        "due_at": to_text(finding.due_at),
        "owner": finding.owner,
        "test": finding.test,
        "summary": finding.summary,
        "settled_by": finding.settled_by,
        "reason": finding.reason,
    }


def _state(finding: Finding, now: datetime) -> str:
    if not finding.is_open:
        return "closed"
    if finding.accepted_until is not None and finding.is_accepted(now):
        return f"accepted until {to_text(finding.accepted_until)}"
    return "overdue" if finding.due_at < now else "open"
