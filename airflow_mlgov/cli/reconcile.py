"""``airflow mlgov reconcile``: what the ledger cannot prove, that nothing was left out."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.api_server import TOKEN_VARIABLE, api_server_address, cli_token
from airflow_mlgov.cli.run import (
    FOR_PROGRAMS,
    command,
    moment_of,
    option,
    print_rows,
    reports_errors,
    tell,
)
from airflow_mlgov.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.service.reconcile import Found, Reconciliation


def reconcile_command() -> ActionCommand:
    """Return the command."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return command(
        reconcile,
        "Compare Airflow and the registry with the ledger, and open findings",
        option("model", "Id of one model in the inventory (default: all of them)"),
        option(
            "since",
            "From when on, as 2026-06-01 or 2026-06-01T12:00+00:00 (default: a day before the end "
            "of the last complete comparison)",
        ),
        option(
            "repair-alias",
            "Put an alias that was moved by hand back to the last promotion on record, if its "
            "approval is still in force",
            action="store_true",
        ),
        option("url", "Address of the api-server (default: [api] base_url)"),
        option(
            "registry",
            "Registry of the platform file, or Airflow connection of type mlflow; may be given "
            "several times (default: mlflow_default)",
            action="append",
        ),
        ARG_OUTPUT,
        description=f"The api-server is read with the token in {TOKEN_VARIABLE}; a user who may "
        "only read is enough.",
    )


@reports_errors
def reconcile(args: Namespace) -> None:
    """Compare, print what is said differently, and end with 1 if anything is."""
    from airflow_mlgov.hooks.airflow_api import AirflowApi
    from airflow_mlgov.hooks.lineage_outbox import open_lineage_records
    from airflow_mlgov.service.reconcile import Scope
    from airflow_mlgov.service.reconcile import reconcile as compare
    from airflow_mlgov.wiring import open_either, open_governance, open_registries

    scope = Scope(args.model, _moment(args.since), args.repair_alias)
    cli_token()  # refused before anything is read
    airflow = AirflowApi(api_server_address(args.url), cli_token)
    lineage = open_lineage_records()
    registries = open_registries(args.registry or "mlflow_default")
    gov = open_governance()
    compared = compare(gov, airflow, registries, scope, lineage, open_jobs=open_either)
    if args.output in FOR_PROGRAMS:
        print_rows([_as_json(compared)], args.output)
    else:
        _print_for_people(compared, args.output)
    if not compared.is_clean:
        raise SystemExit(1)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    remedy = "Write it as 2026-06-01T12:00+00:00."
    wrong = ConfigurationError(f"--since {text!r} is no moment.", remedy=remedy)
    moment = moment_of(text, wrong)
    if moment > datetime.now(UTC):
        raise ConfigurationError(f"--since {text!r} is in the future.")
    return moment


def _as_json(compared: Reconciliation) -> dict[str, Any]:
    from airflow_mlgov.records.clock import to_text

    return {
        "since": to_text(compared.since),
        "until": to_text(compared.until),
        "airflow": compared.airflow,
        "entry": compared.receipt.index,
        "counts": compared.counts,
        "found": [_row(found) for found in compared.found],
        "unchecked": list(compared.unchecked),
    }


def _row(found: Found) -> dict[str, Any]:
    wrong = found.discrepancy
    return {
        "finding": found.finding,
        "state": "new" if found.is_new else "open" if found.is_open else "closed",
        "severity": wrong.severity.value,
        "test": wrong.test,
        "model": wrong.model,
        "version": str(wrong.version or ""),
        "summary": wrong.summary,
        "repair": found.repair,
    }


def _print_for_people(compared: Reconciliation, output: str) -> None:
    from airflow_mlgov.records.clock import to_text

    counts = ", ".join(f"{count} {what}" for what, count in compared.counts.items() if count)
    tell(
        f"Compared {to_text(compared.since)} to {to_text(compared.until)}: {counts}. "
        f"On record as entry {compared.receipt.index}."
    )
    if "events" not in compared.counts:
        tell("Lineage was not compared: [openlineage] transport is not the outbox.")
    if compared.found:
        print_rows([_row(found) for found in compared.found], output, title="Said differently")
    else:
        tell("Nothing is said differently.")
    for what in compared.unchecked:
        tell(f"Could not be compared: {what}")
