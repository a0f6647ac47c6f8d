"""``airflow mlgov erase``: remove a person from the ledger's side table, proofs untouched."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from airflow_mlgov.cli.run import FOR_PROGRAMS, command, option, print_rows, reports_errors, tell
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.governance import EraseReason

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.service.erase import Erasure, OpenField

_LISTED = 20


@reports_errors
def erase(args: Namespace) -> None:
    """Say what may be erased of a person; with ``--yes``, erase it."""
    from airflow_mlgov.service.erase import erase_person, plan_erasure
    from airflow_mlgov.wiring import open_governance, open_ledger_store, setting

    gov = open_governance()
    if args.yes:
        store = open_ledger_store(setting("ledger_url"))
        found, erased = erase_person(gov, store, args.person, EraseReason(args.because))
    else:
        found, erased = plan_erasure(gov, args.person), []
    done = {field.place for field in erased}
    rows = [_row(field, is_erased=field.place in done) for field in found.fields]
    if rows or args.output in FOR_PROGRAMS:
        print_rows(rows, args.output)
    _tell_more(args, found, len(done))
    if found.unread:
        raise SystemExit(1)


def erase_command() -> ActionCommand:
    """Return the command ``airflow mlgov erase``."""
    from airflow.cli.cli_config import ARG_OUTPUT

    return command(
        erase,
        "Erase a person's name and texts; say what may not be erased yet, and why",
        option("person", "Id of the person, as `ledger show` has it", required=True),
        option(
            "because",
            "Reason that is put on record (default: request)",
            choices=[reason.value for reason in EraseReason],
            default=EraseReason.REQUEST.value,
        ),
        option("yes", "Erase; without it nothing is changed", action="store_true"),
        ARG_OUTPUT,
        description="Proofs stay valid: entries hold salted commitments only. This needs the log "
        "key, and cannot be undone.",
    )


def _row(field: OpenField, *, is_erased: bool) -> dict[str, Any]:
    obstacle, entry = field.obstacle, field.entry
    state = "erased" if is_erased else "erasable" if obstacle is None else "kept"
    return {
        "index": entry.index,
        "kind": entry.kind,
        "model": entry.model,
        "field": field.name,
        "state": state,
        "from": to_text(obstacle.until) if obstacle and obstacle.until else None,
        "why": obstacle.reason if obstacle else "",
    }


def _tell_more(args: Namespace, found: Erasure, erased: int) -> None:
    if args.yes:
        tell(f"Erased {erased} field(s), kept {len(found.kept)}.")
    elif found.erasable:
        tell(
            f"Nothing was changed. With --yes, {len(found.erasable)} field(s) are erased for good."
        )
    else:
        tell("Nothing of this person may be erased now." if found.kept else "Nothing was found.")
    if found.other_ids:
        tell(f"Somebody of the same name stands under other ids: {', '.join(found.other_ids)}.")
    if found.unread:
        some = ", ".join(map(str, found.unread[:_LISTED]))
        tell(
            f"{len(found.unread)} entries cannot be believed, so whom they name is not known "
            f"(first: {some}).\nwhat to do: airflow mlgov ledger verify"
        )
