"""What ``airflow mlgov doctor`` says of the platform file, its platforms and its registries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlgov.cli.installed import OK, REMARK, WRONG, Diagnosis
from airflow_mlgov.errors import MlgovError, PlatformError, RegistryError

if TYPE_CHECKING:
    from airflow_mlgov.service.job_platform import JobPlatform
    from airflow_mlgov.service.ports import Registry


def diagnose_platforms() -> Iterator[Diagnosis]:
    """Look at every entry of the platform file, each by itself; nothing without a file."""
    from airflow_mlgov.wiring import platforms_file

    try:
        known = platforms_file()
    except MlgovError as error:
        yield Diagnosis("platform file", WRONG, error.problem, error.remedy)
        return
    for name in known.platforms:
        yield from _tried(f"platform {name}", partial(_see_platform, name))
    for name, terms in known.registries.items():
        yield from _tried(f"registry {name}", partial(_see_registry, name, terms.kind))


def _tried(check: str, see: Callable[[], list[tuple[str, str, str]]]) -> Iterator[Diagnosis]:
    try:
        for state, detail, remedy in see():
            yield Diagnosis(check, state, detail, remedy)
    except MlgovError as error:
        yield Diagnosis(check, WRONG, error.problem, error.remedy)


def _see_platform(name: str) -> list[tuple[str, str, str]]:
    from airflow_mlgov.wiring import open_jobs, platform_terms, runs_here

    terms = platform_terms(name)
    if runs_here(terms):
        if terms.python and not Path(terms.python).exists():
            remedy = f"Correct 'python' at {terms.file}:{terms.line}."
            return [(WRONG, f"there is no {terms.python}", remedy)]
        return [(OK, terms.python or "the worker's own interpreter", "")]
    return _see_account(open_jobs(terms), terms.kind)


def _see_registry(name: str, kind: str) -> list[tuple[str, str, str]]:
    from airflow_mlgov.wiring import open_registry

    return _see_account(open_registry(name), kind)


_PAGES = {"sagemaker": "aws", "vertex": "gcp", "azureml": "azure"}


def _see_account(entry: JobPlatform | Registry, kind: str) -> list[tuple[str, str, str]]:
    """Ask an account who we are there, and what we may not do."""
    found = [(OK, entry.check(), "")]
    try:
        missing = entry.missing_permissions()
    except (PlatformError, RegistryError) as error:
        return [*found, (REMARK, f"permissions were not looked at: {error.problem}", error.remedy)]
    if missing:
        remedy = f"docs/how-to/train-on-{_PAGES[kind]}.md has the whole list."
        found.append((WRONG, f"we may not: {', '.join(missing)}", remedy))
    return found
