"""Which packages and extras are installed, from the metadata of the distributions themselves."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from airflow_mlgov import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "airflow-mlgov"
OK, MISSING, REMARK, WRONG = "ok", "missing", "remark", "wrong"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        check: What was looked at.
        state: ``ok``, ``missing`` (may well be meant), ``remark`` (worth a look, no fault) or
            ``wrong``.
        detail: What was seen, without secrets.
        remedy: What to do; empty if nothing needs doing.
    """

    check: str
    state: str
    detail: str
    remedy: str = ""


def diagnose_packages() -> Iterator[Diagnosis]:
    """Say which Python, package and extras are here, and whether their versions fit."""
    yield Diagnosis("python", OK, platform.python_version())
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        detail = f"{__version__} runs from its source, so Airflow does not find its plugin"
        yield Diagnosis(DISTRIBUTION, WRONG, detail, f"pip install {DISTRIBUTION}")
        return
    requirements = _requirements(distribution)
    yield _base(distribution, requirements)
    for extra in distribution.metadata.get_all("Provides-Extra") or []:
        wanted = [r for r in requirements if _is_for(r, extra)]
        if wanted:
            yield _extra(extra, wanted)


def _requirements(distribution: metadata.Distribution) -> list[Requirement]:
    from packaging.requirements import Requirement

    return [Requirement(line) for line in distribution.requires or []]


def _is_for(requirement: Requirement, extra: str) -> bool:
    if requirement.name == DISTRIBUTION or requirement.marker is None:
        return False  # the extra `all` names the others
    marker = requirement.marker
    return marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _base(distribution: metadata.Distribution, requirements: list[Requirement]) -> Diagnosis:
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    missing, unfit = _held(needed)
    if missing or unfit:
        remedy = f"pip install {DISTRIBUTION}"
        return Diagnosis(DISTRIBUTION, WRONG, _words(distribution.version, missing, unfit), remedy)
    airflow = metadata.version("apache-airflow")
    return Diagnosis(DISTRIBUTION, OK, f"{distribution.version} on apache-airflow {airflow}")


def _extra(extra: str, wanted: list[Requirement]) -> Diagnosis:
    missing, unfit = _held(wanted)
    check, remedy = f"extra {extra}", f"pip install '{DISTRIBUTION}[{extra}]'"
    if missing:
        return Diagnosis(check, MISSING, _words("", missing, unfit), remedy)
    if unfit:
        return Diagnosis(check, WRONG, _words("", missing, unfit), remedy)
    names = dict.fromkeys(requirement.name for requirement in wanted)
    return Diagnosis(check, OK, ", ".join(f"{name} {metadata.version(name)}" for name in names))


def _held(wanted: list[Requirement]) -> tuple[list[str], list[str]]:
    """Return the distributions that are not installed, and those in a version that does not fit."""
    missing, unfit = [], []
    for requirement in wanted:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unfit.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    return missing, unfit


def _words(version: str, missing: list[str], unfit: list[str]) -> str:
    said = [version] if version else []
    if missing:
        said.append(f"not installed: {', '.join(missing)}")
    if unfit:
        said.append(f"does not fit: {', '.join(unfit)}")
    return "; ".join(said)
