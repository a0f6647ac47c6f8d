"""``airflow mlgov inbox``: open requests and findings that are due, for everybody or for one."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.run import FOR_PROGRAMS, command, option, print_rows, reports_errors, tell
from airflow_mlgov.records.people import Person

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


def inbox_command() -> ActionCommand:
    """Return the command."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return command(
        inbox,
        "Show what waits for people: open requests, and findings that are due",
        option("user", "Id or name of one person (default: what waits for anybody)"),
        option("model", "Id of one model in the inventory (default: all of them)"),
        ARG_OUTPUT,
    )


@reports_errors
def inbox(args: Namespace) -> None:
    """Print what waits."""
    from airflow_mlgov.service.inbox import collect_inbox
    from airflow_mlgov.wiring import open_governance, open_site

    gov = open_governance()
    reader = Person(args.user, args.user) if args.user else None
    found = collect_inbox(gov, gov.ledger.view(), reader=reader, model=args.model)
    said = found.as_json(open_site())
    del said["hidden"]  # nothing is, from whoever reads the ledger itself
    if args.output in FOR_PROGRAMS:
        print_rows([said], args.output)
        return
    if not found.requests and not found.findings:
        tell("Nothing waits.")
        return
    rows = [_row(asked, is_for_one=reader is not None) for asked in said["requests"]]
    print_rows(rows, args.output, title="Open requests")
    print_rows(said["findings"], args.output, title="Findings that are due")


def _row(asked: dict[str, Any], *, is_for_one: bool) -> dict[str, Any]:
    row = {name: asked[name] for name in ("model", "target", "asked_at", "asked_by", "decide_by")}
    row["open_seats"] = [
        f"{seat['role']} ({seat['open']}): {' or '.join(seat['who_may']) or 'nobody'}"
        for seat in asked["open_seats"]
    ]
    if is_for_one:
        row["you"] = "asked" if asked["waits_for_you"] else _voted(asked["you_voted"])
    return row | {"answer_at": asked["answer_at"]}


def _voted(votes: list[dict[str, Any]]) -> str:
    if not votes:
        return ""
    last = votes[-1]
    not_counted = ", not counted" if last["not_counted_because"] else ""
    return f"{last['choice']} {last['voted_at']}{not_counted}"
