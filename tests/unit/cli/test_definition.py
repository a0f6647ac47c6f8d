from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, GroupCommand

from airflow_mlgov.cli.definition import get_cli_commands
from airflow_mlgov.provider import get_provider_info


def actions(command, prefix: str = "") -> dict[str, ActionCommand]:
    name = f"{prefix} {command.name}".strip()
    if isinstance(command, GroupCommand):
        found = {}
        for sub in command.subcommands:
            found |= actions(sub, name)
        return found
    return {name: command}


def test_provider_names_this_function() -> None:
    (dotted,) = get_provider_info()["cli"]
    module, _, name = dotted.rpartition(".")
    assert getattr(import_module(module), name) is get_cli_commands


def test_the_commands() -> None:
    (group,) = get_cli_commands()
    found = actions(group)
    assert {
        "mlgov init",
        "mlgov inventory check",
        "mlgov policy check",
        "mlgov status",
        "mlgov inbox",
        "mlgov doctor",
        "mlgov finding list",
        "mlgov ledger verify",
        "mlgov ledger show",
        "mlgov ledger trust",
    } <= set(found)
    for command in found.values():
        assert command.help
    for name in ("init", "inventory check", "policy check", "status", "doctor", "finding list"):
        assert ARG_OUTPUT in found[f"mlgov {name}"].args, name


@pytest.mark.parametrize(
    "dotted",
    [
        "airflow_mlgov.cli.skeleton.init",
        "airflow_mlgov.cli.rules.check_inventory_files",
        "airflow_mlgov.cli.rules.check_policy_files",
        "airflow_mlgov.cli.status.status",
        "airflow_mlgov.cli.doctor.doctor",
    ],
)
def test_what_is_loaded_when_called_is_there(dotted: str) -> None:
    module, _, name = dotted.rpartition(".")
    assert callable(getattr(import_module(module), name))


def test_help_needs_no_settings(airflow, configure, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        airflow("status", "--help")
    assert end.value.code == 0
    assert "--alias" in capsys.readouterr().out


def test_the_reference_page_has_every_command_and_argument() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "command-line.md").read_text("utf-8")
    sections = {part.split("`", 1)[0]: part for part in page.split("\n## `")[1:]}
    (group,) = get_cli_commands()
    commands = {name.removeprefix("mlgov "): each for name, each in actions(group).items()}
    assert set(sections) == set(commands)
    for name, command in commands.items():
        flags = {argument.flags[-1] for argument in command.args} - {"--output"}
        shown = set(re.findall(r"^\| `([^`]+)` \|", sections[name], flags=re.MULTILINE))
        assert shown == flags, name
