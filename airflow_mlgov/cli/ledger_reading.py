"""``airflow mlgov ledger show|log|tail|stats|diff``: reading what stands in a ledger."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from airflow_mlgov.records.clock import to_text
from airflow_mlgov.records.kinds import KINDS

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.ledger.view import LedgerView, SealedEntry

_FOLLOW_S = 1.0


def reading_commands() -> list[ActionCommand]:
    """Return the commands that read a ledger and change nothing in it."""
    from airflow.cli.cli_config import ARG_OUTPUT, positive_int

    filters = (
        option("model", "Only entries about this model"),
        option("kind", "Only entries of this kind, such as approval.voted"),
        option("since", "Only from this time on, by the writers' clocks: 2026-01-31T08:00Z"),
        option("until", "Only before this time"),
    )
    at_least_one = positive_int(allow_zero=False)  # type: ignore[no-untyped-call]
    limit = option("limit", "At most so many (default: 20)", type=at_least_one, default=20)
    follow = option("follow", "Go on showing what comes, until interrupted", action="store_true")
    return [
        command(show, "List entries under the newest signed checkpoint", *filters, ARG_OUTPUT),
        command(log, "List entries, the newest first", *filters, limit, ARG_OUTPUT),
        command(tail, "List the last entries", *filters, limit, follow, ARG_OUTPUT),
        command(stats, "Count entries by kind", *filters, ARG_OUTPUT),
        command(
            diff,
            "Compare with another copy of the ledger: exit 0 equal, 1 one is longer or they differ",
            option("file", "SQLite file of the other copy", required=True),
            ARG_OUTPUT,
        ),
    ]


@reports_errors
def show(args: Namespace) -> None:
    """List the entries of a ledger in its order."""
    view = _view()
    _print(list(_wanted(view, args)), args.output)
    if not any((args.model, args.kind, args.since, args.until)) and view.violations:
        count = len(view.violations)
        tell(f"{count} more entries count for nothing; `airflow mlgov ledger verify` says why.")


@reports_errors
def log(args: Namespace) -> None:
    """List the newest entries first."""
    _print(list(_wanted(_view(), args))[: -args.limit - 1 : -1], args.output)


@reports_errors
def tail(args: Namespace) -> None:
    """List the last entries in order, and with ``--follow`` those that come."""
    view = _view()
    _print(list(_wanted(view, args))[-args.limit :], args.output)
    try:
        while args.follow:
            time.sleep(_FOLLOW_S)
            seen, view = view.checkpoint.size, _view()
            new = [entry for entry in _wanted(view, args) if entry.index >= seen]
            if new:
                _print(new, args.output)
    except KeyboardInterrupt:
        return


@reports_errors
def stats(args: Namespace) -> None:
    """Count entries by kind, with their first and last times."""
    view = _view()
    by_kind: dict[str, list[SealedEntry]] = {}
    for entry in _wanted(view, args):
        by_kind.setdefault(entry.kind, []).append(entry)
    print_rows([_count_row(kind, by_kind[kind]) for kind in sorted(by_kind)], args.output)
    tell(f"{view.checkpoint.size} entries in all, root {view.checkpoint.root_hash}.")


@reports_errors
def diff(args: Namespace) -> None:
    """Say from where on two copies of a ledger differ, and list what only one of them has."""
    from airflow_mlgov.service.ledger import Ledger
    from airflow_mlgov.wiring import open_ledger
    from airflow_mlgov.wiring.ledger_file import open_ledger_file

    ledger = open_ledger()
    ours = ledger.view()
    other = Ledger(open_ledger_file(Path(args.file)), {}, trust=ledger.trust_root())
    theirs = other.view()
    common = _common_size(ours.leaves, theirs.leaves)
    rows = [
        {"copy": copy, **_row(entry, args.output)}
        for copy, view in (("ours", ours), ("theirs", theirs))
        for entry in view.select()
        if entry.index >= common
    ]
    tell(_said(common, len(ours.leaves), len(theirs.leaves)))
    if rows or args.output in FOR_PROGRAMS:
        print_rows(rows, args.output)
    if len(ours.leaves) != common or len(theirs.leaves) != common:
        raise SystemExit(1)


def _view() -> LedgerView:
    from airflow_mlgov.wiring import open_ledger

    return open_ledger().view()


def _wanted(view: LedgerView, args: Namespace) -> Iterator[SealedEntry]:
    if args.kind and args.kind not in KINDS:
        raise ConfigurationError(
            f"{args.kind!r} is not a kind of ledger entry.", remedy=f"There is: {', '.join(KINDS)}."
        )
    since, until = _moment(args.since), _moment(args.until)
    for entry in view.select(*([args.kind] if args.kind else []), model=args.model):
        if (since is None or entry.at >= since) and (until is None or entry.at < until):
            yield entry


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    remedy = "Write it as 2026-01-31 or 2026-01-31T08:00Z."
    return moment_of(text, ConfigurationError(f"{text!r} is not a time.", remedy=remedy))


def _common_size(ours: Sequence[bytes], theirs: Sequence[bytes]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _said(common: int, ours: int, theirs: int) -> str:
    if common == ours == theirs:
        return f"Both copies hold the same {common} entries."
    if common < min(ours, theirs):
        return (
            f"THE COPIES CONTRADICT EACH OTHER from entry {common} on, and the log's key has signed"
            " both. Keep both: together they prove it."
        )
    longer, more = ("ours", ours - common) if ours > theirs else ("theirs", theirs - common)
    return f"The first {common} entries are the same; {longer} holds {more} more."


def _print(entries: Sequence[SealedEntry], output: str) -> None:
    print_rows([_row(entry, output) for entry in entries], output)


def _row(entry: SealedEntry, output: str) -> dict[str, Any]:
    return _full_row(entry) if output in FOR_PROGRAMS else _short_row(entry)


def _count_row(kind: str, entries: Sequence[SealedEntry]) -> dict[str, Any]:
    times = [entry.at for entry in entries]
    signed = Counter(entry.signed_by.value for entry in entries)
    return {
        "kind": kind,
        "entries": len(entries),
        "models": len({entry.model for entry in entries if entry.model}),
        "first": to_text(min(times)),
        "last": to_text(max(times)),
        "signed by": [f"{role} {count}" for role, count in sorted(signed.items())],
    }


def _short_row(entry: SealedEntry) -> dict[str, Any]:
    people = [entry.person(field) for field in sorted(entry.people)]
    return {
        "index": entry.index,
        "at": to_text(entry.at),
        "kind": entry.kind,
        "model": entry.model,
        "version": entry.version.short if entry.version else "",
        "people": [person.name if person else "(erased)" for person in people],
        "signed by": entry.signed_by.value,
        "leaf hash": entry.leaf_hash[:12],
    }


def _full_row(entry: SealedEntry) -> dict[str, Any]:
    people = {field: entry.person(field) for field in sorted(entry.people)}
    return {
        "index": entry.index,
        "at": to_text(entry.at),
        "kind": entry.kind,
        "model": entry.model,
        "version": str(entry.version) if entry.version else None,
        "body": entry.body,
        "people": {field: person.as_json() if person else None for field, person in people.items()},
        "texts": {field: entry.text(field) for field in sorted(entry.texts)},
        "source": entry.source.as_json(),
        "signed_by": entry.signed_by.value,
        "key": entry.key,
        "leaf_hash": entry.leaf_hash,
    }
