"""Make a virtual environment with this project, its extras and its tools; run by the Makefile.

Needs Python 3.11 or newer and pip; the standard library only. On Python 3.11 it takes the versions
of `constraints/py311.txt`, on others the newest that the floors in `pyproject.toml` allow.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ("demo", "test", "lint")
COMPILE = """
import compileall, sysconfig
# Some packages bring files that are no Python, which is no matter here.
compileall.compile_dir(sysconfig.get_paths()["purelib"], quiet=2, workers=0)
"""
CHECK = """
import sys
from importlib.metadata import version
from packaging.requirements import Requirement
broken = []
for line in sys.stdin.read().splitlines():
    wanted = Requirement(line)
    if wanted.marker is None or wanted.marker.evaluate():
        found = version(wanted.name)
        if not wanted.specifier.contains(found, prereleases=True):
            broken.append(f"{line}: found {found}")
sys.exit("\\n".join(broken) or 0)
"""


def main(venv: str, extras: str, *more_groups: str) -> int:
    """Install; 0 if what is installed is what `pyproject.toml` asks for."""
    groups = (*GROUPS, *more_groups)
    if sys.version_info < (3, 11):
        print("Python 3.11 or newer is needed: make PYTHON=python3.11 ...", file=sys.stderr)
        return 2
    folder = ROOT / venv
    uv = _uv(folder)
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"Making {venv} ...", flush=True)
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    print("Installing; the first time takes a few minutes ...", flush=True)
    command = [*uv, "pip", "install", "-q", "--python", str(python), *_versions()]
    for group in groups:
        command += ["--group", group]
    subprocess.run([*command, "--editable", f".[{extras}]"], cwd=ROOT, check=True)
    # pip does this and uv does not: without it each start of Airflow compiles it anew, for seconds.
    writing = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([str(python), "-c", COMPILE], env=writing, check=True)
    checked = subprocess.run(
        [str(python), "-c", CHECK],
        input="\n".join(_requirements(extras.split(","), groups)),
        text=True,
        check=False,
    )
    return checked.returncode


def _uv(folder: Path) -> list[str]:
    """Return a command that runs uv, which is installed beside the environment if it is missing."""
    found = shutil.which("uv")
    if found:
        return [found]
    own = folder.with_name(f"{folder.name}-uv")
    if not (own / "bin" / "uv").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(own), "uv"], check=True)
    return [str(own / "bin" / "uv")]


def _versions() -> list[str]:
    if sys.version_info[:2] == (3, 11):
        return ["--constraint", "constraints/py311.txt"]
    here = ".".join(map(str, sys.version_info[:2]))
    print(f"constraints/py311.txt is for Python 3.11; on {here} only the floors hold.", flush=True)
    return []


def _requirements(extras: list[str], groups: Iterable[str]) -> list[str]:
    import tomllib  # from Python 3.11 on, which has to be said before it is missed

    with (ROOT / "pyproject.toml").open("rb") as file:
        document = tomllib.load(file)
    project = document["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for group in groups:
        wanted += document["dependency-groups"][group]
    return wanted


if __name__ == "__main__":
    os.environ.pop("VIRTUAL_ENV", None)
    sys.exit(main(*sys.argv[1:]))
