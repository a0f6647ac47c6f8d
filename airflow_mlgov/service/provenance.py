"""Where a model comes from: its code, environment and data, as they were when it was trained."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_mlgov.errors import ConfigurationError, DataError, TrainingError
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.artefacts import fingerprint_file

_GIT_S = 10
_MAX_CODE_FILES = 500


@dataclass(frozen=True, slots=True)
class TrainingInput:
    """A file that a model learns from.

    Attributes:
        name: What the script calls it.
        path: Absolute.
        sha256: Digest of its bytes.
        size_bytes: Length.
    """

    name: str
    path: Path
    sha256: Digest
    size_bytes: int

    @property
    def uri(self) -> str:
        """Its address, ``file:///...``."""
        return self.path.as_uri()


def read_input(name: str, location: str) -> TrainingInput:
    """Return an input with its fingerprint.

    Args:
        name: What the script calls it.
        location: Path, or ``file://`` URI.

    Raises:
        DataError: There is no such file, or it cannot be read; a retry does not help.
        ConfigurationError: It is no local file; a retry does not help.
    """
    path = _local(name, location)
    try:
        sha256, size_bytes = fingerprint_file(path)
    except OSError as error:
        raise DataError(
            f"Input {name!r} cannot be read from {path}: {error.strerror or error}.",
            remedy="Correct the path, or run what writes the file first.",
        ) from error
    return TrainingInput(name, path, sha256, size_bytes)


def refuse_changed(item: TrainingInput) -> None:
    """Do nothing if an input still is what its fingerprint says.

    Raises:
        DataError: It changed while it was learnt from; a retry does not help.
    """
    if read_input(item.name, str(item.path)).sha256 != item.sha256:
        raise DataError(
            f"Input {item.name!r} ({item.path}) changed while the script learnt from it.",
            remedy="Give each run files of its own.",
        )


def hash_script(script: Path) -> Digest:
    """Return the digest of a training script.

    Raises:
        TrainingError: It cannot be read; a retry does not help.
    """
    try:
        return Digest.of(script.read_bytes())
    except OSError as error:
        raise TrainingError(
            f"Training script {script} cannot be read: {error.strerror or error}.",
            remedy="Correct the path 'script'.",
        ) from error


def describe_code(script: Path) -> dict[str, Any]:
    """Return what is known about a script's code beyond its own bytes.

    Args:
        script: A file that exists.

    Returns:
        ``code_files``: digests of the Python files beside it, which it can import. ``git_commit``:
            of the
        work tree it stands in, None if it stands in none. ``git_is_clean``: whether its folder is
        as committed.
    """
    folder = script.resolve().parent
    beside = sorted(folder.glob("*.py"))[:_MAX_CODE_FILES]
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".") if commit else None
    return {
        "code_files": {path.name: str(hash_script(path)) for path in beside if path.is_file()},
        "git_commit": commit,
        "git_is_clean": None if changes is None else not changes,
    }


def describe_environment() -> dict[str, Any]:
    """Return the interpreter, the system and every installed package as ``name==version``."""
    packages = {
        f"{distribution.name.lower().replace('_', '-')}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "packages": sorted(packages),
    }


def _local(name: str, location: str) -> Path:
    parts = urlsplit(location)
    if "://" not in location:
        return Path(location).absolute()
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ConfigurationError(
            f"Input {name!r} is at {parts.scheme}://, not a local file.",
            remedy="Copy the file where the worker can read it.",
        )
    return Path(unquote(parts.path))


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says; None where there is no git, no work tree or no answer."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - wherever git is
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()
