"""The commands of ``airflow mlgov``; each is imported when it is called."""

from __future__ import annotations

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ActionCommand,
    GroupCommand,
    lazy_load_command,
)

from airflow_mlgov.cli.breakglass import breakglass_commands
from airflow_mlgov.cli.bundle import bundle_command
from airflow_mlgov.cli.database import database_commands
from airflow_mlgov.cli.erase import erase_command
from airflow_mlgov.cli.exit_rehearsal import exit_rehearsal_command
from airflow_mlgov.cli.finding import finding_commands
from airflow_mlgov.cli.hold import hold_commands
from airflow_mlgov.cli.inbox import inbox_command
from airflow_mlgov.cli.keys import keys_commands
from airflow_mlgov.cli.ledger import ledger_commands
from airflow_mlgov.cli.lineage import lineage_commands
from airflow_mlgov.cli.pack_changes import pack_change_commands
from airflow_mlgov.cli.reconcile import reconcile_command
from airflow_mlgov.cli.run import option, positional
from airflow_mlgov.cli.sequencer import sequencer_command
from airflow_mlgov.cli.skeleton import STARTING_PACKS
from airflow_mlgov.cli.stop import stop_commands
from airflow_mlgov.cli.trace import trace_command

_FOLDER = option(
    "folder",
    "Folder that gets inventory/example_model.yaml and policy/example_policy.yaml "
    "(default: the current one)",
    default=".",
)
_START = option(
    "pack",
    "Write this pack, whose rules name their sources, in the place of the example",
    choices=STARTING_PACKS,
)
_INVENTORY = positional("path", "File or folder (default: [mlgov] inventory_path)", nargs="?")
_PACKS = positional("path", "File or folder (default: [mlgov] policy_path)", nargs="?")
_AGAINST = option("policy", "Packs to check against (default: [mlgov] policy_path)")
_MODEL = positional("model", "Id of the model in the inventory")
_TARGET = option("target", "Environment, such as production (default: the model's first target)")
_ALIAS = option("alias", "Registry alias of the version in use", default="champion")
_REGISTRY = option(
    "registry",
    "Registry of the platform file, or Airflow connection of type mlflow",
    default="mlflow_default",
)


def get_cli_commands() -> list[GroupCommand]:
    """Return what Airflow adds to its command line."""
    return [
        GroupCommand(
            name="mlgov",
            help="Govern models: rules, approvals, findings, the ledger",
            subcommands=(
                _init(),
                GroupCommand("inventory", "Governed models", (_check_inventory(),)),
                GroupCommand("policy", "Policy packs", (_check_policy(), *pack_change_commands())),
                _status(),
                inbox_command(),
                _doctor(),
                *stop_commands(),
                GroupCommand("breakglass", "Emergencies", tuple(breakglass_commands())),
                GroupCommand("finding", "What validation found wrong", tuple(finding_commands())),
                reconcile_command(),
                trace_command(),
                exit_rehearsal_command(),
                erase_command(),
                GroupCommand("hold", "Legal holds", tuple(hold_commands())),
                GroupCommand("db", "The ledger's database", tuple(database_commands())),
                GroupCommand("keys", "The keys that sign", tuple(keys_commands())),
                GroupCommand("ledger", "The ledger of decisions", tuple(ledger_commands())),
                GroupCommand("lineage", "Lineage on its way out", tuple(lineage_commands())),
                sequencer_command(),
                bundle_command(),
            ),
        )
    ]


def _init() -> ActionCommand:
    return ActionCommand(
        name="init",
        help="Write a commented inventory file and policy pack to start from",
        description="Both pass their own check. Nothing is overwritten.",
        func=lazy_load_command("airflow_mlgov.cli.skeleton.init"),
        args=(_FOLDER, _START, ARG_OUTPUT),
    )


def _check_inventory() -> ActionCommand:
    return ActionCommand(
        name="check",
        help="Say what is wrong with inventory files, with file, line, path and remedy",
        func=lazy_load_command("airflow_mlgov.cli.rules.check_inventory_files"),
        args=(_INVENTORY, _AGAINST, ARG_OUTPUT),
    )


def _check_policy() -> ActionCommand:
    return ActionCommand(
        name="check",
        help="Say what is wrong with policy packs, with file, line, path and remedy",
        func=lazy_load_command("airflow_mlgov.cli.rules.check_policy_files"),
        args=(_PACKS, ARG_OUTPUT),
    )


def _status() -> ActionCommand:
    return ActionCommand(
        name="status",
        help="Show the version in use, what its approval rests on, findings, and who is waited for",
        func=lazy_load_command("airflow_mlgov.cli.status.status"),
        args=(_MODEL, _TARGET, _ALIAS, _REGISTRY, ARG_OUTPUT),
    )


def _doctor() -> ActionCommand:
    return ActionCommand(
        name="doctor",
        help="Show what is installed, set and reachable; never a secret",
        func=lazy_load_command("airflow_mlgov.cli.doctor.doctor"),
        args=(_REGISTRY, ARG_OUTPUT),
    )
