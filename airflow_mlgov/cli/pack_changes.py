"""``airflow mlgov policy diff`` and ``policy try``: what a new policy pack changes."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ARG_OUTPUT

from airflow_mlgov.cli.run import command, option, positional, print_rows, reports_errors, tell

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand

    from airflow_mlgov.policy.pack import PolicyPack
    from airflow_mlgov.service.try_pack import Trial

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_A_PACK = "a file, or the digest sha256:... of one that was in use"


def pack_change_commands() -> list[ActionCommand]:
    """Return the commands that compare packs."""
    old, new = positional("old", f"Earlier pack: {_A_PACK}"), positional("new", f"Pack: {_A_PACK}")
    model = option("model", "Only requests for this model, whatever the id of their pack")
    return [
        command(
            diff,
            "Say in plain words what a pack changes",
            *(old, new, ARG_OUTPUT),
            description="Comments and layout are left out. Says, too, what becomes of approvals.",
        ),
        command(
            try_policy,
            "Count past requests again under a pack that is not in force",
            *(new, model, ARG_OUTPUT),
            name="try",
            description="Same votes, same people, other rules. Nothing is put on record.",
        ),
    ]


@reports_errors
def diff(args: Namespace) -> None:
    """Print what differs between two packs."""
    from dataclasses import asdict

    from airflow_mlgov.policy.pack_diff import pack_changes

    old, new = _pack(args.old), _pack(args.new)
    changes = pack_changes(old, new)
    if changes:
        print_rows([asdict(change) for change in changes], args.output)
    else:
        print_rows([], args.output)
        tell("The rules are the same." if old.digest != new.digest else "It is the same pack.")
    tell(f"Of approvals under {old.digest}: {_fate(old, new)}")


def _fate(old: PolicyPack, new: PolicyPack) -> str:
    if old.digest == new.digest:
        return "they hold."
    if new.existing_approvals == "end":
        return "they end."
    if old.digest in new.supersedes:
        return "they hold as they were counted, since `supersedes` names it."
    return "they hold if their votes satisfy the new pack; see `airflow mlgov policy try`."


@reports_errors
def try_policy(args: Namespace) -> None:
    """Print what a pack would have decided on past requests."""
    from airflow_mlgov.service.try_pack import try_pack
    from airflow_mlgov.wiring import open_governance

    pack, gov = _pack(args.new), open_governance()
    if args.model:
        gov.model(args.model)
    trials = try_pack(gov, gov.ledger.view(), pack, args.model)
    print_rows([_row(trial) for trial in trials], args.output)
    if not trials:
        named = f"for model {args.model!r}" if args.model else f"under a pack {pack.id!r}"
        tell(f"The ledger holds no request {named} that can be counted.")


def _row(trial: Trial) -> dict[str, Any]:
    from airflow_mlgov.records.clock import to_text

    standing = trial.standing
    return {
        "request_sha256": str(standing.request.digest),
        "model": standing.request.model,
        "target": standing.request.target,
        "asked_at": to_text(standing.entry.at),
        "policy_sha256": str(standing.request.policy),
        "was": standing.decision.value,
        "would": trial.would.value if trial.would else "not asked",
        "because": list(trial.because),
    }


def _pack(named: str) -> PolicyPack:
    from airflow_mlgov.policy.files import read_bytes
    from airflow_mlgov.policy.pack_file import parse_pack
    from airflow_mlgov.records.digest import Digest
    from airflow_mlgov.wiring import open_evidence

    if _DIGEST.fullmatch(named):
        return parse_pack(open_evidence().get(Digest.parse(named)), named)
    return parse_pack(read_bytes(named), named)
