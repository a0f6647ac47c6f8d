"""``airflow mlgov finding``: what validation found wrong, and who must deal with it."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.run import FOR_PROGRAMS, command, option, print_rows, reports_errors, tell
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
        )
    ]


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
    overdue = finding.is_open and finding.due_at < now
    state = "overdue" if overdue else "open" if finding.is_open else "closed"
    return {
        "finding": finding.id,
        "model": finding.model,
        "version": str(finding.version or ""),
        "severity": finding.severity.value,
        "state": state,
        "due_at": to_text(finding.due_at),
        "owner": finding.owner,
        "test": finding.test,
        "summary": finding.summary,
    }
