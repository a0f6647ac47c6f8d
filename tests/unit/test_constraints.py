"""`constraints/py311.txt` pins all that `make` installs, as `pyproject.toml` allows it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
EXTRAS = (
    "mlflow",
    "gx",
    "lineage",
    "validation",
    "postgres",
    "awskms",
    "tsa",
    "aws",
    "gcp",
    "azure",
)
GROUPS = ("demo", "test", "lint")
LINES = (ROOT / "constraints" / "py311.txt").read_text().splitlines()
PINS = [Requirement(line) for line in LINES if line and not line.startswith("#")]


def wanted() -> list[str]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    lines = list(project["dependencies"])
    for extra in EXTRAS:
        lines += project["optional-dependencies"][extra]
    for group in (*GROUPS, "long"):  # the last by `make test-long` alone
        lines += document["dependency-groups"][group]
    return sorted(set(lines))


@pytest.mark.parametrize("line", wanted())
def test_what_is_required_is_pinned_at_a_version_that_will_do(line):
    requirement = Requirement(line)
    name = canonicalize_name(requirement.name)
    (pin,) = [pin for pin in PINS if canonicalize_name(pin.name) == name]
    (exact,) = pin.specifier
    assert exact.operator == "=="
    assert requirement.specifier.contains(Version(exact.version))


def test_a_constraints_file_names_versions_and_no_place_to_fetch_them_from():
    assert [line for line in LINES if "://" in line or line.startswith("-")] == []
    assert len({canonicalize_name(pin.name) for pin in PINS}) == len(PINS)


def test_makes_installer_takes_the_extras_and_groups_that_are_pinned():
    assert f"EXTRAS := {','.join(EXTRAS)}" in (ROOT / "Makefile").read_text().splitlines()
    assert (
        f"GROUPS = {GROUPS}".replace("'", '"')
        in (ROOT / "constraints" / "install.py").read_text().splitlines()
    )
