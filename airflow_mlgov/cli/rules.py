"""``airflow mlgov inventory check`` and ``policy check``: what is wrong with the rules."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from airflow_mlgov.cli.run import FOR_PROGRAMS, print_rows, reports_errors, tell
from airflow_mlgov.errors import ConfigurationError, DocumentError
from airflow_mlgov.policy.checks import Checked, check_inventory, check_packs
from airflow_mlgov.policy.inventory import InventoryEntry
from airflow_mlgov.policy.pack import PolicyPack
from airflow_mlgov.policy.tiers import tier


@reports_errors
def check_inventory_files(args: Namespace) -> None:
    """Check inventory files against their schema, each other and the policy packs."""
    from airflow_mlgov.wiring import setting

    packs = _packs(args.policy)
    path = args.path or setting("inventory_path")
    found = check_inventory(path, packs)
    _report(
        path, found, {e.file: _entry_columns(e, packs) for e in found.good.values()}, args.output
    )


@reports_errors
def check_policy_files(args: Namespace) -> None:
    """Check policy packs against their schema and for sense."""
    from airflow_mlgov.wiring import setting

    path = args.path or setting("policy_path")
    found = check_packs(path)
    _report(path, found, {p.file: _pack_columns(p) for p in found.good.values()}, args.output)


def _packs(named: str | None) -> dict[str, PolicyPack] | None:
    from airflow_mlgov.wiring import setting

    try:
        found = check_packs(named or setting("policy_path"))
    except ConfigurationError:
        tell("note: there are no policy packs to check against; name them with --policy.")
        return None
    if found.errors:
        tell(f"note: {len(found.errors)} errors in policy packs: see `airflow mlgov policy check`.")
    return found.good


def _entry_columns(entry: InventoryEntry, packs: dict[str, PolicyPack] | None) -> dict[str, Any]:
    pack = (packs or {}).get(entry.policy)
    return {
        "id": entry.id,
        "policy": entry.policy,
        "tier": tier(entry, pack) if pack else "",
        "mode": entry.mode.value,
    }


def _pack_columns(pack: PolicyPack) -> dict[str, Any]:
    seats = [f"{seat.role} x{seat.count}" for seat in pack.seats]
    return {"id": pack.id, "seats": seats, "plans": list(pack.plans), "digest": str(pack.digest)}


def _report(
    path: str, found: Checked[Any], columns: dict[str, dict[str, Any]], output: str
) -> None:
    if not found.files:
        raise DocumentError(
            "there is no *.yaml or *.yml file here.",
            file=path,
            remedy="`airflow mlgov init` writes skeletons.",
        )
    for warning in found.warnings:
        tell(f"warning: {warning.problem}\nwhat to do: {warning.remedy}")
    for error in found.errors:
        tell(error.diagnostics())
    empty = dict.fromkeys(next(iter(columns.values()), {"id": ""}), "")
    rows = [_file_row(file, found, columns.get(file, empty)) for file in found.files]
    if output not in FOR_PROGRAMS:
        rows = [_for_people(row) for row in rows]
    print_rows(rows, output)
    if found.errors:
        raise SystemExit(DocumentError.exit_code)


def _file_row(file: str, found: Checked[Any], columns: dict[str, Any]) -> dict[str, Any]:
    errors = [error for error in found.errors if error.file == file]
    warnings = [warning for warning in found.warnings if warning.file == file]
    counted = [f"{len(errors)} error(s)"] * bool(errors)
    counted += [f"{len(warnings)} warning(s)"] * bool(warnings)
    problems = [_problem("error", error) for error in errors]
    problems += [_problem("warning", warning) for warning in warnings]
    return {"file": file, "result": ", ".join(counted) or "ok", **columns, "problems": problems}


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    short = {**row, "digest": row["digest"][:19]} if row.get("digest") else row
    return {key: value for key, value in short.items() if key != "problems"}


def _problem(level: str, error: DocumentError) -> dict[str, Any]:
    return {
        "level": level,
        "file": error.file,
        "line": error.line,
        "path": error.path,
        "problem": error.problem,
        "remedy": error.remedy,
    }
