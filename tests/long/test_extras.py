"""Each cloud's extra alone, and all extras together, installed into an environment of its own.

A resolver that meets a conflict does not fail but walks back, to versions from years ago, unless a
floor stops it. So what came out is looked at, with the constraints and without.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CLOUDS = ("aws", "gcp", "azure")
FLOORS = {
    "apache-airflow": "3.3",
    "aws": {"apache-airflow-providers-amazon": "9.39", "boto3": "1.40", "aiobotocore": "3"},
    "gcp": {"apache-airflow-providers-google": "22.8", "google-cloud-aiplatform": "2"},
    "azure": {
        "apache-airflow-providers-microsoft-azure": "15.2.1",
        "azure-core": "1.35",
        "azure-identity": "1.25",
        "azure-storage-blob": "12.28",
    },
    "all": {"mlflow-skinny": "3.17", "great-expectations": "1.22", "marshmallow": "3.26"},
}
"""What no resolution may fall beneath; apart from pyproject.toml, whose floors are tested by it."""
USED = {"aws": "aiobotocore", "gcp": "google.cloud.aiplatform_v1", "azure": "azure.storage.blob"}
"""A module of each cloud that is there if its extra is installed, and not loaded by us."""
THERE = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name)]))
"""


def _load(place: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(place).stem, ROOT / place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = _load("constraints/install.py")
PROBE = _load("tests/bench/bench_imports.py").PROBE


def extras_of(name: str) -> list[str]:
    """The extra itself, or those of which ``all`` consists."""
    if name != "all":
        return [name]
    (line,) = install._requirements(["all"], ())[len(install._requirements([], ())) :]
    return sorted(Requirement(line).extras)


def floors_of(name: str) -> dict[str, Version]:
    """Least version by distribution."""
    parts = [*CLOUDS, "all"] if name == "all" else [name]
    found = {"apache-airflow": FLOORS["apache-airflow"]}
    for part in parts:
        found |= FLOORS[part]
    return {each: Version(least) for each, least in found.items()}


def beneath(name: str, versions: dict[str, Version]) -> list[str]:
    """What is missing or older than it may be."""
    return [
        f"{each} {versions.get(each)} < {least}"
        for each, least in floors_of(name).items()
        if each not in versions or versions[each] < least
    ]


def uv(*arguments: str) -> str:
    done = subprocess.run(
        [*install._uv((ROOT / ".venv").resolve()), *arguments],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Environment:
    extra: str
    python: Path

    def ask(self, code: str, *arguments: str, said: str = "") -> str:
        done = subprocess.run(
            [str(self.python), "-c", code, *arguments],
            input=said,
            cwd=self.python.parent,
            env={"PATH": os.environ["PATH"], "HOME": str(self.python.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=[*CLOUDS, "all"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """An environment with one extra, as `make` would install it, and no tools for tests."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("constraints/py311.txt is for Python 3.11")
    folder = tmp_path_factory.mktemp(request.param)
    uv("venv", "-q", "--python", sys.executable, str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    wanted = f".[{request.param}]"
    uv("pip", "install", "-q", "--python", str(python), *install._versions(), "--editable", wanted)
    yield Environment(request.param, python)
    uv("venv", "-q", "--clear", "--python", sys.executable, str(folder / "venv"))


def test_what_is_installed_is_what_is_asked_for(environment: Environment) -> None:
    requirements = install._requirements(extras_of(environment.extra), ())
    environment.ask(install.CHECK, said="\n".join(requirements))
    listed = json.loads(uv("pip", "list", "--python", str(environment.python), "--format", "json"))
    versions = {canonicalize_name(each["name"]): Version(each["version"]) for each in listed}
    assert beneath(environment.extra, versions) == []


def test_no_requirement_of_what_is_installed_is_unmet(environment: Environment) -> None:
    uv("pip", "check", "--python", str(environment.python))


def test_our_public_names_load_nothing_of_a_cloud(environment: Environment) -> None:
    names = [USED[each] for each in extras_of(environment.extra) if each in USED]
    assert json.loads(environment.ask(THERE, *names)) == names
    added = json.loads(environment.ask(PROBE).splitlines()[-1])["added"]
    assert "airflow_mlgov.operators.train_model" in added
    assert [each for each in added if each.partition(".")[0] != "airflow_mlgov"] == []


@pytest.mark.parametrize("extra", [*CLOUDS, "all"])
def test_without_constraints_no_resolution_falls_beneath_the_floors(extra: str) -> None:
    lines = uv("pip", "compile", "-q", "--no-annotate", "--no-header", "--extra", extra,
               "--python-version", "3.11", "pyproject.toml")  # fmt: skip
    pins = [re.split(r"==|;", line) for line in lines.splitlines() if "==" in line]
    versions = {canonicalize_name(pin[0].partition("[")[0].strip()): Version(pin[1].strip())
                for pin in pins}  # fmt: skip
    assert beneath(extra, versions) == []


def test_all_is_every_extra() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*extras_of("all"), "all"} == set(project["optional-dependencies"])
