"""Runs commands as Airflow's own parser would, on a ledger of the service's tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from airflow.cli.cli_config import DefaultHelpParser
from airflow.cli.cli_parser import _add_command

from airflow_mlgov import wiring
from airflow_mlgov.cli.definition import get_cli_commands

ROOT = Path(__file__).parents[3]
SETTINGS = ("ledger_url", "evidence_url", "inventory_path", "policy_path", "keys_dir")


def _load(place: str):
    spec = importlib.util.spec_from_file_location(Path(place).stem + "_of_service", ROOT / place)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_service = _load("tests/unit/service/conftest.py")
world = _service.world
candidate = _service.candidate


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def airflow(capsys):
    """Return a function that runs ``airflow mlgov ARGUMENTS``."""
    parser = DefaultHelpParser(prog="airflow")
    subparsers = parser.add_subparsers()
    for command in get_cli_commands():
        _add_command(subparsers, command)

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        args = parser.parse_args(["mlgov", *map(str, arguments)])
        code = 0
        try:
            args.func(args)
        except SystemExit as end:
            code = end.code
        seen = capsys.readouterr()
        return Ended(code, seen.out, seen.err)

    return run


@pytest.fixture
def configure(monkeypatch):
    """Return a function that sets values of ``[mlgov]``; all others are unset."""
    for name in SETTINGS:
        monkeypatch.delenv(f"AIRFLOW__MLGOV__{name.upper()}", raising=False)

    def to(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"AIRFLOW__MLGOV__{name.upper()}", str(value))

    to()
    return to


@pytest.fixture
def governed(candidate, monkeypatch):
    """A world that the commands see instead of the settings' one."""
    monkeypatch.setattr(wiring, "open_governance", lambda: candidate.gov)
    monkeypatch.setattr(wiring, "open_registry", lambda conn_id: candidate.registry)
    monkeypatch.setattr(wiring, "open_registries", lambda names: [candidate.registry])
    return candidate
